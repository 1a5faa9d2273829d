//! Streams of outputs: those of commands go on at another node where they broke off; those of queries
//! begin again there.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt, select_all, try_unfold};
use multiraft_proto::v1;
use prost::Message;
use tonic::{Status, Streaming};
use tracing::debug;

use crate::calls::{Deadline, Failure, Verdict, back_off, judge, streaming};
use crate::cluster::Operation;
use crate::envelope::{CommandResponse, QueryRequest};
use crate::limits::{FAN_OUT_MAX, UNSTATED_BYTES_MAX, UNSTATED_OUTPUTS_MAX};
use crate::nodes::Node;
use crate::numbers::Ticket;
use crate::primitive::Primitive;
use crate::session::{Session, decode};
use crate::{Answer, Error};

/// A stream of answers; read it with `futures::StreamExt`. Nothing is fetched that nobody reads. It
/// ends behind its first error.
pub type Stream<T> = BoxStream<'static, Result<Answer<T>, Error>>;

/// How a stream goes on when it broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbered outputs of a command: from the first that was not received.
    Events,
    /// A list, which is of one point in time: not at all.
    List,
    /// A state and its changes: with the present state.
    Watch,
}

/// The outputs of one partition.
pub struct Feed {
    session: Arc<Session>,
    operation: Operation,
    primitive: u64,
    kind: Kind,
    ticket: Ticket,
    open: Option<Streaming<CommandResponse>>,
    /// Outputs so far.
    received: u64,
    unstated: (u64, usize),
    trouble: Trouble,
}

/// What is known of tries that failed since the last output.
struct Trouble {
    node: Option<Arc<Node>>,
    began: Instant,
    tried: Vec<String>,
    attempts: u32,
    deadline: Option<Deadline>,
}

impl Feed {
    pub async fn new(
        session: Arc<Session>,
        operation: Operation,
        kind: Kind,
    ) -> Result<Self, Error> {
        let deadline = Deadline::after(operation.timeout);
        let primitive = session.primitive(&operation.spec, deadline).await?;
        let ticket = session.ticket();
        let began = Instant::now();
        let (tried, attempts, deadline) = Default::default();
        let trouble = Trouble { node: None, began, tried, attempts, deadline };
        let (open, received, unstated) = Default::default();
        Ok(Self { session, operation, primitive, kind, ticket, open, received, unstated, trouble })
    }

    /// The next output; `None` at the end of a list, or when the session was closed.
    pub async fn next(&mut self) -> Result<Option<Answer<Bytes>>, Error> {
        loop {
            let status = match self.message().await {
                Ok(Some(response)) => match self.accept(response)? {
                    Some(answer) => return Ok(Some(answer)),
                    None => continue,
                },
                Ok(None) if self.kind == Kind::List || self.session.is_expired() => {
                    return Ok(None);
                }
                Ok(None) => Status::unavailable("the stream ended"),
                Err(status) => status,
            };
            self.recover(status).await?;
        }
    }

    async fn message(&mut self) -> Result<Option<CommandResponse>, Status> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let (partition, nodes) = (self.session.partition(), self.session.nodes());
                let node = nodes.next(partition, &mut self.trouble.tried);
                let channel = node.streams.clone();
                self.trouble.node = Some(node);
                self.trouble.began = Instant::now();
                let request = self.request();
                self.open.insert(streaming(&channel, self.operation.path, request).await?)
            }
        };
        open.message().await
    }

    /// The request of a command is that of a query without the fields that only queries have.
    fn request(&self) -> QueryRequest {
        let (primitive, number) = (self.primitive, self.ticket.number);
        let headers = match self.operation.query {
            Some(consistency) => self.session.query_headers(primitive, number, consistency),
            None => v1::QueryRequestHeaders {
                operation: Some(self.session.address(primitive).headers()),
                sequence_num: number,
                ..Default::default()
            },
        };
        QueryRequest { headers: Some(headers), input: self.operation.input.clone() }
    }

    /// `None`: it was received before. The responses of queries are those of commands without a
    /// number.
    fn accept(&mut self, response: CommandResponse) -> Result<Option<Answer<Bytes>>, Error> {
        let headers = response.headers.unwrap_or_default();
        let (expected, received) = (self.received + 1, headers.output_sequence_num);
        (self.trouble.attempts, self.trouble.deadline) = Default::default();
        self.trouble.tried.clear();
        if self.kind == Kind::Events {
            if received < expected {
                return Ok(None);
            }
            if received > expected {
                let partition = self.session.partition();
                return Err(Error::Gap { partition, expected, received });
            }
            self.state(response.output.len());
        }
        self.received = expected;
        self.session.accept(headers.operation.unwrap_or_default(), response.output).map(Some)
    }

    /// Lets the next keep-alive say that one more output was received.
    fn state(&mut self, bytes: usize) {
        self.ticket.received(self.received + 1);
        self.unstated = (self.unstated.0 + 1, self.unstated.1 + bytes);
        if self.unstated.0 >= UNSTATED_OUTPUTS_MAX || self.unstated.1 >= UNSTATED_BYTES_MAX {
            self.unstated = (0, 0);
            self.session.hurry();
        }
    }

    /// Waits until another try may do better, as long as that makes sense.
    async fn recover(&mut self, status: Status) -> Result<(), Error> {
        let Trouble { node, began, tried, attempts, deadline } = &mut self.trouble;
        self.open = None;
        let (partition, nodes) = (self.session.partition(), self.session.nodes());
        let address = node.as_ref().map_or(String::new(), |node| node.address.clone());
        *attempts += 1;
        let timeout = self.operation.timeout;
        let by = deadline.get_or_insert_with(|| Deadline::of_wait(timeout));
        by.after_try(began.elapsed());
        debug!(path = self.operation.path, partition, address, attempts, %status, "a stream broke off");
        match judge(&status) {
            Verdict::Final => {
                return Err(self.session.failed(Failure::Final { node: address, status }));
            }
            Verdict::Retry => nodes.forget_leader(partition),
            Verdict::Unreachable => {
                nodes.forget_leader(partition);
                node.as_ref().inspect(|node| node.blame());
            }
        }
        let is_cut = self.kind == Kind::List && self.received > 0;
        if is_cut || by.left().is_zero() {
            return Err(self.session.failed(by.over(*attempts, &address, &status)));
        }
        tried.push(address);
        tokio::time::sleep(back_off(*attempts)).await;
        Ok(())
    }

    pub fn stream<O: Message + Default + 'static>(self) -> Stream<O> {
        let next = async |mut feed: Feed| {
            let Some(answer) = feed.next().await? else { return Ok(None) };
            let output = decode(&answer.value)?;
            Ok(Some((answer.map(|_| output), feed)))
        };
        try_unfold(self, next).boxed()
    }
}

impl Drop for Feed {
    /// The cluster keeps events for whoever may ask for them again: this one does not.
    fn drop(&mut self) {
        if self.kind == Kind::Events {
            self.session.hurry();
        }
    }
}

impl Primitive {
    async fn feed(&self, position: usize, operation: Operation, kind: Kind) -> Result<Feed, Error> {
        let session = self.cluster.session(position, self.timeout).await?;
        Feed::new(session, operation, kind).await
    }

    /// Where all partitions stand.
    pub fn all(&self) -> Vec<usize> {
        (0..self.cluster.partitions().len()).collect()
    }

    /// Where the partition of the primitive's name stands.
    pub fn home(&self) -> Vec<usize> {
        vec![self.cluster.position(&self.spec.name)]
    }

    /// Outputs of a command in some partitions from now on. The first of each says that it has begun,
    /// and is waited for.
    pub async fn subscribe<I: Message, O: Message + Default + 'static>(
        &self,
        positions: Vec<usize>,
        number: u32,
        input: &I,
    ) -> Result<Stream<O>, Error> {
        let operation = self.operation(number, input);
        let begun = positions.into_iter().map(|position| {
            let operation = operation.clone();
            async move {
                let mut feed = self.feed(position, operation, Kind::Events).await?;
                feed.next().await?.ok_or(Error::Closed)?;
                Ok::<_, Error>(feed.stream())
            }
        });
        let begun = futures::stream::iter(begun).buffer_unordered(FAN_OUT_MAX);
        Ok(select_all(begun.try_collect::<Vec<_>>().await?).boxed())
    }

    /// Outputs of a query in some partitions, one after the other.
    pub fn list<I: Message, O: Message + Default + 'static>(
        &self,
        positions: Vec<usize>,
        number: u32,
        input: &I,
    ) -> Stream<O> {
        let (primitive, operation) = (self.clone(), self.operation(number, input));
        let feeds = futures::stream::iter(positions).then(move |position| {
            let (primitive, operation) = (primitive.clone(), operation.clone());
            async move {
                let feed = primitive.feed(position, operation, Kind::List).await?;
                Ok::<_, Error>(feed.stream())
            }
        });
        feeds.try_flatten().boxed()
    }

    /// Outputs of a query that begins with the present state, in the partition of the name.
    pub async fn watch<I: Message, O: Message + Default + 'static>(
        &self,
        number: u32,
        input: &I,
    ) -> Result<Stream<O>, Error> {
        let position = self.cluster.position(&self.spec.name);
        let operation = self.operation(number, input);
        Ok(self.feed(position, operation, Kind::Watch).await?.stream())
    }
}
