//! A session with one partition: numbers, keep-alives, primitives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use multiraft_proto::v1;
use prost::Message;
use tokio::sync::{Notify, OnceCell, watch};
use tracing::{debug, warn};

use crate::calls::{Deadline, Failure, call};
use crate::cluster::Operation;
use crate::envelope::{self, Address};
use crate::limits::{CLOSE_TIMEOUT, UNRELEASED_COMMANDS_MAX};
use crate::nodes::Nodes;
use crate::numbers::{Numbers, Ticket};
use crate::version::duration;
use crate::{Answer, Error, Rejection, Status};

const OPEN_SESSION: &str = "/atomix.multiraft.v1.Partition/OpenSession";
const KEEP_ALIVE: &str = "/atomix.multiraft.v1.Partition/KeepAlive";
const CLOSE_SESSION: &str = "/atomix.multiraft.v1.Partition/CloseSession";
const CREATE_PRIMITIVE: &str = "/atomix.multiraft.v1.Session/CreatePrimitive";

/// A primitive by its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    pub service: &'static str,
    pub namespace: String,
    pub name: String,
}

/// What a session needs to know of its client.
#[derive(Clone)]
pub struct Setting {
    pub nodes: Arc<Nodes>,
    pub discovery: Arc<Notify>,
    pub timeout: Duration,
}

/// A session with one partition. While it exists a task keeps it alive.
pub struct Session {
    partition: u32,
    id: u64,
    setting: Setting,
    numbers: Numbers,
    /// When the newest keep-alive that was answered was sent; `None` when the session is over.
    kept: watch::Sender<Option<Instant>>,
    /// Wakes the keeper before its time.
    keep: Arc<Notify>,
    /// Ids of the primitives used so far; each is created once, by the first call that needs it.
    primitives: Mutex<HashMap<Spec, Arc<OnceCell<u64>>>>,
}

impl Session {
    /// Opens a session. A try that was answered too late leaves a session behind that expires.
    pub async fn open(
        setting: Setting,
        partition: u32,
        deadline: Deadline,
    ) -> Result<Arc<Self>, Error> {
        let since = Instant::now();
        let request = v1::OpenSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: partition }),
            input: Some(v1::OpenSessionInput { timeout: Some(duration(setting.timeout)) }),
        };
        let response: v1::OpenSessionResponse =
            call(&setting.nodes, partition, OPEN_SESSION, &request, deadline).await?;
        let id = response.output.map_or(0, |output| output.session_id);
        debug!(partition, session = id, "opened a session");
        let session = Arc::new(Self {
            partition,
            id,
            setting,
            numbers: Numbers::new(id),
            kept: watch::Sender::new(Some(since)),
            keep: Arc::default(),
            primitives: Mutex::default(),
        });
        let period = session.setting.timeout / 4;
        tokio::spawn(keep_alive(Arc::downgrade(&session), session.keep.clone(), period));
        Ok(session)
    }

    pub fn is_expired(&self) -> bool {
        self.kept.borrow().is_none()
    }

    /// For so long the cluster keeps the session without a keep-alive.
    pub fn timeout(&self) -> Duration {
        self.setting.timeout
    }

    /// Waits until the cluster may have given the session up: it said so, or no keep-alive was
    /// answered for the whole timeout.
    pub async fn lost(&self) {
        let mut kept = self.kept.subscribe();
        loop {
            let Some(since) = *kept.borrow_and_update() else { return };
            tokio::select! {
                // The sender lives in this session.
                _ = kept.changed() => {}
                () = tokio::time::sleep_until((since + self.setting.timeout).into()) => return,
            }
        }
    }

    fn end(&self) {
        self.kept.send_replace(None);
    }

    /// Carries out an operation of a primitive.
    pub async fn operate(
        &self,
        operation: Operation,
        deadline: Deadline,
    ) -> Result<Answer<Bytes>, Error> {
        let Operation { spec, path, input, query, .. } = operation;
        match query {
            None => self.command(&spec, path, input, deadline).await,
            Some(consistency) => self.query(&spec, path, input, consistency, deadline).await,
        }
    }

    /// Carries out a command of a primitive, once.
    async fn command(
        &self,
        spec: &Spec,
        path: &'static str,
        input: Bytes,
        deadline: Deadline,
    ) -> Result<Answer<Bytes>, Error> {
        let primitive = self.primitive(spec, deadline).await?;
        let ticket = self.ticket();
        self.send(primitive, ticket.number, path, input, deadline).await
    }

    async fn query(
        &self,
        spec: &Spec,
        path: &'static str,
        input: Bytes,
        consistency: v1::Consistency,
        deadline: Deadline,
    ) -> Result<Answer<Bytes>, Error> {
        let primitive = self.primitive(spec, deadline).await?;
        let ticket = self.numbers.take();
        let headers = self.query_headers(primitive, ticket.number, consistency);
        let request = envelope::QueryRequest { headers: Some(headers), input };
        let response: envelope::QueryResponse = self.call(path, &request, deadline).await?;
        let headers = response.headers.and_then(|headers| headers.operation).unwrap_or_default();
        self.accept(headers, response.output)
    }

    /// The id of a primitive, which is created if need be.
    pub async fn primitive(&self, spec: &Spec, deadline: Deadline) -> Result<u64, Error> {
        let cell = {
            let mut known = self.primitives.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(spec) {
                Some(cell) => cell.clone(),
                None => known.entry(spec.clone()).or_default().clone(),
            }
        };
        cell.get_or_try_init(|| self.create_primitive(spec, deadline)).await.copied()
    }

    async fn create_primitive(&self, spec: &Spec, deadline: Deadline) -> Result<u64, Error> {
        let spec = v1::PrimitiveSpec {
            service: spec.service.into(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
        };
        let input = v1::CreatePrimitiveInput { spec: Some(spec) }.encode_to_vec().into();
        let ticket = self.ticket();
        let answer = self.send(0, ticket.number, CREATE_PRIMITIVE, input, deadline).await?;
        Ok(decode::<v1::CreatePrimitiveOutput>(&answer.value)?.primitive_id)
    }

    /// A number for a command. While the ticket lives the cluster keeps its answer.
    pub fn ticket(&self) -> Ticket {
        if self.numbers.unreleased() >= UNRELEASED_COMMANDS_MAX {
            self.hurry();
        }
        self.numbers.take()
    }

    /// Sends a command under a number. Sent again under the same one it takes effect once.
    pub async fn send(
        &self,
        primitive: u64,
        sequence_num: u64,
        path: &'static str,
        input: Bytes,
        deadline: Deadline,
    ) -> Result<Answer<Bytes>, Error> {
        let operation = Some(self.address(primitive).headers());
        let headers = v1::CommandRequestHeaders { operation, sequence_num };
        let request = envelope::CommandRequest { headers: Some(headers), input };
        let response: envelope::CommandResponse = self.call(path, &request, deadline).await?;
        let headers = response.headers.and_then(|headers| headers.operation).unwrap_or_default();
        self.accept(headers, response.output)
    }

    /// What the headers of a query say.
    pub fn query_headers(
        &self,
        primitive: u64,
        sequence_num: u64,
        consistency: v1::Consistency,
    ) -> v1::QueryRequestHeaders {
        v1::QueryRequestHeaders {
            operation: Some(self.address(primitive).headers()),
            sequence_num,
            max_received_index: self.numbers.max_received_index(),
            consistency: Some(consistency.into()),
        }
    }

    /// Sends a keep-alive before its time.
    pub fn hurry(&self) {
        self.keep.notify_one();
    }

    pub fn nodes(&self) -> &Nodes {
        &self.setting.nodes
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    pub fn address(&self, primitive: u64) -> Address {
        Address { partition: self.partition, session: self.id, primitive }
    }

    async fn call<Q, R>(&self, path: &'static str, request: &Q, by: Deadline) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        if self.is_expired() {
            return Err(self.expiry());
        }
        match call(&self.setting.nodes, self.partition, path, request, by).await {
            Ok(response) => Ok(response),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// The error of a call in this session that failed for good.
    pub fn failed(&self, failure: Failure) -> Error {
        self.setting.discovery.notify_one();
        let error = failure.in_session(self.partition, self.id);
        if matches!(error, Error::SessionExpired { .. }) {
            self.end();
        }
        error
    }

    fn expiry(&self) -> Error {
        Error::SessionExpired { partition: self.partition, session: self.id }
    }

    /// What an answer says, by its headers.
    pub fn accept(
        &self,
        headers: v1::OperationResponseHeaders,
        output: Bytes,
    ) -> Result<Answer<Bytes>, Error> {
        let index = envelope::index(&headers);
        self.numbers.received(index);
        match headers.status() {
            Status::Ok => Ok(Answer { value: output, partition: self.partition, index }),
            status => Err(Error::Rejected(Rejection {
                status,
                message: headers.message,
                partition: self.partition,
                index,
            })),
        }
    }

    async fn keep_alive(&self, period: Duration) -> Result<(), Error> {
        let since = Instant::now();
        let statement = self.numbers.statement();
        let request = v1::KeepAliveRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: self.partition }),
            input: Some(v1::KeepAliveInput {
                session_id: self.id,
                last_command_sequence_num: statement.last,
                open_sequence_nums: statement.open,
                output_stream_sequence_nums: statement.received,
                exact: true,
                ..Default::default()
            }),
        };
        let _: v1::KeepAliveResponse =
            self.call(KEEP_ALIVE, &request, Deadline::after(period)).await?;
        self.kept.send_modify(|kept| *kept = kept.map(|_| since));
        Ok(())
    }

    /// Closes the session; when that fails it expires by itself.
    pub async fn close(&self) {
        if self.is_expired() {
            return;
        }
        let request = v1::CloseSessionRequest {
            headers: Some(v1::PartitionRequestHeaders { partition_id: self.partition }),
            input: Some(v1::CloseSessionInput { session_id: self.id }),
        };
        let answer: Result<v1::CloseSessionResponse, Error> =
            self.call(CLOSE_SESSION, &request, Deadline::after(CLOSE_TIMEOUT)).await;
        self.end();
        if let Err(error) = answer {
            debug!(partition = self.partition, session = self.id, %error, "session not closed");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keep.notify_one();
    }
}

/// Keeps a session alive until it is dropped or lost.
async fn keep_alive(session: Weak<Session>, early: Arc<Notify>, period: Duration) {
    loop {
        let _ = tokio::time::timeout(period, early.notified()).await;
        let Some(session) = session.upgrade() else { return };
        if session.is_expired() {
            return;
        }
        if let Err(error) = session.keep_alive(period).await {
            warn!(partition = session.partition, session = session.id, %error, "keep-alive failed");
        }
    }
}

pub fn decode<M: Message + Default>(output: &Bytes) -> Result<M, Error> {
    M::decode(output.clone()).map_err(|error| Error::Refused {
        node: "unknown".into(),
        code: tonic::Code::Internal,
        message: format!("its answer does not decode: {error}; use a client of its release"),
    })
}
