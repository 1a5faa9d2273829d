//! A session with one partition: numbers, keep-alives, primitives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use multiraft_proto::v1;
use multiraft_proto::v1::stream_call::Call;
use prost::Message;
use tokio::sync::{Notify, OnceCell, watch};
use tracing::{debug, warn};
use v1::partition_input::Payload;

use crate::calls::{Deadline, Failure, call};
use crate::cluster::Operation;
use crate::limits::CLOSE_TIMEOUT;
use crate::nodes::Nodes;
use crate::numbers::{Numbers, Ticket};
use crate::version::duration;
use crate::{Answer, Error, Rejection, Status, wire};

pub use v1::session_input::Payload as Command;

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
    pub timeout: Duration,
    /// Keep-alives of all sessions are sent at the same times, counted from here, and so leave in few
    /// messages.
    pub began: Instant,
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
        let input = v1::OpenSessionInput { timeout: Some(duration(setting.timeout)) };
        let open = wire::partition(Payload::OpenSession(input));
        let id = call(&setting.nodes, partition, &open, deadline).await?.session_id;
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
        tokio::spawn(keep_alive(Arc::downgrade(&session), session.keep.clone()));
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
        let primitive = self.primitive(&operation.spec, deadline).await?;
        match operation.query {
            // The ticket lives until the answer is there.
            None => {
                let ticket = self.ticket();
                self.send(ticket.number, operation.command(primitive), deadline).await
            }
            Some(consistency) => {
                let ticket = self.numbers.query();
                let query = self.query(&operation, consistency, primitive, ticket.number);
                self.accept(self.call(&query, deadline).await?)
            }
        }
    }

    /// A query as it is sent now.
    pub fn query(
        &self,
        operation: &Operation,
        consistency: v1::Consistency,
        primitive_id: u64,
        sequence_num: u64,
    ) -> Call {
        Call::Query(v1::StreamQuery {
            session_id: self.id,
            primitive_id,
            operation: operation.number,
            input: operation.input.clone(),
            max_received_index: self.numbers.max_received_index(),
            consistency: consistency.into(),
            sequence_num,
        })
    }

    /// A command as it is sent.
    pub fn command(&self, sequence_num: u64, command: Command) -> Call {
        wire::command(self.id, sequence_num, command)
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
        let ticket = self.ticket();
        let create = self.command(ticket.number, wire::create_primitive(spec));
        let answer = self.call(&create, deadline).await?;
        let id = answer.primitive_id;
        self.accept(answer).map(|_| id)
    }

    /// A number for a command. While the ticket lives the cluster keeps its answer.
    pub fn ticket(&self) -> Ticket {
        if self.numbers.is_release_due() {
            self.hurry();
        }
        self.numbers.command()
    }

    /// Sends a command under a number. Sent again under the same one it takes effect once.
    pub async fn send(
        &self,
        sequence_num: u64,
        command: Command,
        deadline: Deadline,
    ) -> Result<Answer<Bytes>, Error> {
        let call = self.command(sequence_num, command);
        self.accept(self.call(&call, deadline).await?)
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

    async fn call(&self, request: &Call, by: Deadline) -> Result<v1::StreamAnswer, Error> {
        if self.is_expired() {
            return Err(self.expiry());
        }
        let answered = call(&self.setting.nodes, self.partition, request, by).await;
        answered.map_err(|failure| self.failed(failure))
    }

    /// The error of a call in this session that failed for good.
    pub fn failed(&self, failure: Failure) -> Error {
        self.setting.nodes.leaders.wanted.notify_one();
        let error = failure.in_session(self.partition, self.id);
        if matches!(error, Error::SessionExpired { .. }) {
            self.end();
        }
        error
    }

    fn expiry(&self) -> Error {
        Error::SessionExpired { partition: self.partition, session: self.id }
    }

    /// What an answer says.
    pub fn accept(&self, answer: v1::StreamAnswer) -> Result<Answer<Bytes>, Error> {
        let (partition, index, status) = (self.partition, answer.index, answer.status());
        self.numbers.received(index);
        match status {
            Status::Ok => {
                let value = answer.output.unwrap_or_default();
                Ok(Answer { value, partition, index })
            }
            status => {
                let message = answer.message;
                Err(Error::Rejected(Rejection { status, message, partition, index }))
            }
        }
    }

    async fn keep_alive(&self) -> Result<(), Error> {
        let since = Instant::now();
        let statement = self.numbers.statement();
        let keep = wire::partition(Payload::KeepAlive(v1::KeepAliveInput {
            session_id: self.id,
            last_command_sequence_num: statement.last,
            open_sequence_nums: statement.open,
            output_stream_sequence_nums: statement.received,
            exact: true,
            ..Default::default()
        }));
        self.call(&keep, Deadline::after(self.setting.period())).await?;
        self.kept.send_modify(|kept| *kept = kept.map(|_| since));
        Ok(())
    }

    /// Closes the session; when that fails it expires by itself.
    pub async fn close(&self) {
        if self.is_expired() {
            return;
        }
        let input = v1::CloseSessionInput { session_id: self.id };
        let close = wire::partition(Payload::CloseSession(input));
        let answer = self.call(&close, Deadline::after(CLOSE_TIMEOUT)).await;
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
async fn keep_alive(session: Weak<Session>, early: Arc<Notify>) {
    let mut is_late = false;
    loop {
        let Some(next) = session.upgrade().map(|session| session.setting.next(Instant::now()))
        else {
            return;
        };
        // One that got no answer took its period, which is gone from the session's time.
        if !is_late {
            let _ = tokio::time::timeout_at(next.into(), early.notified()).await;
        }
        let Some(session) = session.upgrade() else { return };
        if session.is_expired() {
            return;
        }
        let kept = session.keep_alive().await;
        is_late = matches!(kept, Err(Error::Unavailable { .. }));
        if let Err(error) = kept {
            warn!(partition = session.partition, session = session.id, %error, "keep-alive failed");
        }
    }
}

impl Setting {
    /// How often a session says that it is alive.
    fn period(&self) -> Duration {
        self.timeout / 4
    }

    /// When the next keep-alives are sent.
    fn next(&self, now: Instant) -> Instant {
        let period = self.period();
        let into = (now - self.began).as_nanos() % period.as_nanos();
        now + (period - Duration::from_nanos(into as u64))
    }
}

pub fn decode<M: Message + Default>(output: &Bytes) -> Result<M, Error> {
    M::decode(output.clone()).map_err(|error| Error::Refused {
        node: "unknown".into(),
        code: tonic::Code::Internal,
        message: format!("its answer does not decode: {error}; use a client of its release"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keep_alives_of_all_sessions_are_sent_at_the_same_times() {
        let endpoints = ["127.0.0.1:1".to_owned()];
        let nodes = Arc::new(Nodes::new(&endpoints, crate::Routing::Leader, None).expect("valid"));
        let began = Instant::now();
        let setting = Setting { nodes, timeout: Duration::from_secs(60), began };
        let next = |seconds| setting.next(began + Duration::from_secs(seconds)) - began;
        assert_eq!([next(0), next(1), next(14)], [Duration::from_secs(15); 3]);
        assert_eq!(next(15), Duration::from_secs(30));
    }
}
