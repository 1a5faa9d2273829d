//! The machine.

use bytes::Bytes;
use multiraft_proto::v1::KeepAliveInput;

use crate::answer::{Answer, Effect, EntryError, Query, Rejection};

/// State of one group.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    index: u64,
    log_time: u64,
}

/// A session as seen by inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    pub session_id: u64,
    pub timeout_millis: u64,
    /// Log time at which the session expires unless it is kept alive.
    pub expires_at: u64,
    /// Commands whose outputs are not yet released.
    pub commands: usize,
    /// Ids of the primitives that the session is attached to.
    pub primitives: Vec<u64>,
}

/// A primitive as seen by inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimitiveSummary {
    pub primitive_id: u64,
    pub service: &'static str,
    pub namespace: String,
    pub name: String,
}

#[allow(unused_variables)]
impl Machine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Count of applied proposals.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Milliseconds since the Unix epoch, as stamped by leaders; never goes back.
    pub fn log_time(&self) -> u64 {
        self.log_time
    }

    /// Log time at which the earliest timer is due.
    pub fn next_timer(&self) -> Option<u64> {
        None
    }

    /// Applies the payload of one Raft entry (an encoded `LogEntry`) that was replicated in `term`.
    pub fn apply(
        &mut self,
        term: u64,
        payload: &Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), EntryError> {
        Ok(())
    }

    /// Answers from the applied state.
    pub fn query(&self, query: &Query) -> Answer {
        let rejection = Rejection::UnknownSession { session_id: query.session_id };
        Answer { index: self.index, result: Err(rejection) }
    }

    /// A hash of the whole state: equal on replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        0
    }

    pub fn sessions(&self) -> impl Iterator<Item = SessionSummary> + '_ {
        std::iter::empty()
    }

    pub fn primitives(&self) -> impl Iterator<Item = PrimitiveSummary> + '_ {
        std::iter::empty()
    }
}

/// Refuses what the machine would reject, before it is proposed; the message names the field.
#[allow(unused_variables)]
pub fn validate_keep_alive(input: &KeepAliveInput) -> Result<(), String> {
    Ok(())
}
