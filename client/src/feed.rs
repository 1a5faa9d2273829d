//! Streams of outputs: those of commands go on at another node where they broke off; those of queries
//! begin again there.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt, select_all, try_unfold};
use multiraft_proto::v1;
use multiraft_proto::v1::stream_call::Call;
use prost::Message;
use tonic::{Code, Status};
use tracing::debug;

use crate::answers::{Answers, End};
use crate::calls::{Deadline, check_size};
use crate::cluster::Operation;
use crate::limits::{FAN_OUT_MAX, UNSTATED_BYTES_MAX, UNSTATED_OUTPUTS_MAX};
use crate::nodes::Node;
use crate::numbers::Ticket;
use crate::primitive::Primitive;
use crate::session::{Session, decode};
use crate::tries::{Failed, Tries, back_off};
use crate::{Answer, Error};

/// A stream of answers; read it with `futures::StreamExt`. Of a list nothing is fetched that nobody
/// reads, of others 1 MiB at most. It ends behind its first error.
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
    open: Option<Answers>,
    /// It has a stream of its own.
    is_alone: bool,
    /// The last answer of what is open was there.
    is_over: bool,
    /// Outputs so far.
    received: u64,
    unstated: (u64, usize),
    trouble: Trouble,
}

/// What is known of tries that failed since the last output.
struct Trouble {
    node: Option<Arc<Node>>,
    began: Instant,
    tries: Tries,
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
        let (tries, deadline, node) = Default::default();
        let trouble = Trouble { node, began, tries, deadline };
        let (open, is_over, received, unstated) = Default::default();
        // Lists are long and of one point in time: they cannot go on where they overran.
        let is_alone = kind == Kind::List;
        let feed = Self {
            session,
            operation,
            primitive,
            kind,
            ticket,
            open,
            is_alone,
            is_over,
            received,
            unstated,
            trouble,
        };
        check_size(&feed.call())?;
        Ok(feed)
    }

    /// The next output; `None` at the end of a list, or when the session was closed.
    pub async fn next(&mut self) -> Result<Option<Answer<Bytes>>, Error> {
        loop {
            let failed = match self.answer().await {
                Ok(Some(answer)) => match self.accept(answer)? {
                    Some(answer) => return Ok(Some(answer)),
                    None => continue,
                },
                Ok(None) if self.kind == Kind::List || self.session.is_expired() => {
                    return Ok(None);
                }
                Ok(None) => Failed::of_call(Status::unavailable("the stream ended")),
                Err(End::Failed(failed)) => failed,
                Err(End::Overran) => {
                    self.go_alone();
                    continue;
                }
            };
            self.recover(failed).await?;
        }
    }

    /// The next answer; `None`: there is none any more.
    async fn answer(&mut self) -> Result<Option<v1::StreamAnswer>, End> {
        if self.open.is_none() {
            self.open = Some(self.ask().await.map_err(End::Failed)?);
            self.is_over = false;
        }
        let open = self.open.as_mut().expect("set above");
        if self.is_over {
            return Ok(None);
        }
        let answer = match open.next().await {
            // Closed by its session: an end as any other.
            Err(End::Failed(failed)) if failed.is_answer(Code::Cancelled) => return Ok(None),
            other => other?,
        };
        self.is_over = answer.last;
        let is_end = answer.last && answer.output.is_none() && answer.status() == crate::Status::Ok;
        Ok((!is_end).then_some(answer))
    }

    async fn ask(&mut self) -> Result<Answers, Failed> {
        let (partition, nodes) = (self.session.partition(), self.session.nodes());
        let node = self.trouble.tries.node(nodes, partition);
        self.trouble.node = Some(node.clone());
        self.trouble.began = Instant::now();
        let call = self.call();
        if self.is_alone {
            return node.listen_alone(partition, call).await;
        }
        let from = if self.kind == Kind::Events { self.received + 1 } else { 0 };
        node.listen(partition, call, from).await
    }

    fn call(&self) -> Call {
        let (primitive, number) = (self.primitive, self.ticket.number);
        match self.operation.query {
            Some(consistency) => {
                self.session.query(&self.operation, consistency, primitive, number)
            }
            None => self.session.command(number, self.operation.command(primitive)),
        }
    }

    /// Outputs come faster than they are read: goes on over a stream of its own.
    fn go_alone(&mut self) {
        debug!(partition = self.session.partition(), "a stream is read too slowly to be shared");
        self.is_alone = true;
        let Some(open) = self.open.take() else { return };
        if self.kind == Kind::Events {
            // The command is the same: taking this call back would end it.
            open.leave();
        }
    }

    /// `None`: it was received before.
    fn accept(&mut self, answer: v1::StreamAnswer) -> Result<Option<Answer<Bytes>>, Error> {
        let (expected, received) = (self.received + 1, answer.output_sequence_num);
        self.trouble.deadline = None;
        self.trouble.tries.succeeded();
        if self.kind == Kind::Events {
            if received < expected {
                return Ok(None);
            }
            if received > expected {
                let partition = self.session.partition();
                return Err(Error::Gap { partition, expected, received });
            }
            self.state(answer.output.as_ref().map_or(0, Bytes::len));
        }
        self.received = expected;
        self.session.accept(answer).map(Some)
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
    async fn recover(&mut self, failed: Failed) -> Result<(), Error> {
        self.open = None;
        let Trouble { node, began, tries, deadline } = &mut self.trouble;
        let node = node.as_ref().expect("set by the first try");
        let timeout = self.operation.timeout;
        let by = deadline.get_or_insert_with(|| Deadline::of_wait(timeout));
        by.after_try(began.elapsed(), &failed);
        let (partition, nodes) = (self.session.partition(), self.session.nodes());
        let tried = tries.failed(nodes, node, partition, failed);
        let status = tried.map_err(|failure| self.session.failed(failure))?;
        let is_cut = self.kind == Kind::List && self.received > 0;
        if is_cut || by.left().is_zero() {
            let over = by.over(tries.attempts, &node.address, &status);
            return Err(self.session.failed(over));
        }
        tokio::time::sleep(back_off(tries.attempts)).await;
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
    /// The cluster keeps events for whoever may ask for them again: this one does not. Those that are
    /// shared are taken back.
    fn drop(&mut self) {
        if self.kind == Kind::Events && !matches!(self.open, Some(Answers::Shared { .. })) {
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
