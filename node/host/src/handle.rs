//! The handle that services hold: every way into the node's shards.

use bytes::Bytes;
use multiraft_machine::{Answer, Query};
use multiraft_proto::v1;
use multiraft_shard::{Fence, GroupSpec, Member};
use tokio::sync::{mpsc, watch};

/// Why a call brought no answer of the machine: nothing is known of its effect, except where said.
/// A command may be retried with the same sequence number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Neither this node nor any peer that it hears of holds a member of the group.
    #[error("group {0} is not known to this node or its peers")]
    UnknownGroup(u32),
    #[error("this node is not activated yet: its cluster is still being formed")]
    NotActivated,
    #[error("{0}")]
    Unavailable(String),
    /// Nothing happened: a queue is full.
    #[error("overloaded: {0}; retry later")]
    Overloaded(String),
}

/// Family of an administration error; each maps to one gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminErrorKind {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// A precondition (version, epoch, fence, another incarnation) does not hold.
    FailedPrecondition,
    /// Older epoch or missing fence.
    PermissionDenied,
    /// Retry later.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    pub kind: AdminErrorKind,
    /// Names the field or id and the remedy.
    pub message: String,
}

/// Which state a query may be answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    Linearizable,
    /// This node's own applied state, not older than `max_received_index`.
    Local,
}

/// What the node as a whole is doing; drives the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Opening the log, starting groups from disk.
    Starting,
    /// Serves peers and administration; clients get UNAVAILABLE until it is activated.
    Waiting,
    Serving,
    Stopping,
}

/// Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Handle {}

#[allow(unused_variables, clippy::todo)]
impl Handle {
    /// Proposes an encoded `PartitionInput` and waits for the machine's answer on this node.
    /// Dropping the future abandons the call: when `cancel` names its (session, sequence number),
    /// the command stops waiting.
    pub async fn command(&self, group: u32, input: Bytes, cancel: Option<(u64, u64)>) -> Result<Answer, CallError> {
        todo!()
    }
    /// Asks the machine of a group.
    pub async fn query(&self, group: u32, query: Query, max_received_index: u64, consistency: Consistency) -> Result<Answer, CallError> {
        todo!()
    }
    /// Creates groups with their first configuration. Idempotent; durable when it returns.
    pub async fn bootstrap(&self, groups: Vec<GroupSpec>, fence: Option<Fence>) -> Result<(), AdminError> {
        todo!()
    }
    /// Creates an empty learner here and asks the group's leader to add (and promote) it.
    pub async fn join(&self, group: GroupSpec, auto_promote: bool, fence: Option<Fence>) -> Result<(), AdminError> {
        todo!()
    }
    /// Hands leadership over, leaves the group and deletes its data here.
    pub async fn leave(&self, group: u32, fence: Option<Fence>) -> Result<(), AdminError> {
        todo!()
    }
    pub async fn activate(&self, fence: Option<Fence>) -> Result<(), AdminError> {
        todo!()
    }
    pub async fn add_member(&self, group: u32, member: Member, version: u64, fence: Option<Fence>) -> Result<v1::GroupConfig, AdminError> {
        todo!()
    }
    pub async fn promote_member(&self, group: u32, member_id: u64, version: u64, fence: Option<Fence>) -> Result<v1::GroupConfig, AdminError> {
        todo!()
    }
    pub async fn remove_member(&self, group: u32, member_id: u64, version: u64, fence: Option<Fence>) -> Result<v1::GroupConfig, AdminError> {
        todo!()
    }
    /// Identity, groups, peers, counters.
    pub async fn info(&self) -> v1::GetInfoResponse {
        todo!()
    }
    pub async fn config(&self, group: u32) -> Result<v1::GroupConfig, AdminError> {
        todo!()
    }
    /// Snapshot, synced marker, then deltas and heartbeats (at most 5 s apart); empty `groups` = all.
    /// The channel closes when the subscriber is too slow or the node stops.
    pub fn watch(&self, groups: Vec<u32>) -> mpsc::Receiver<v1::Event> {
        todo!()
    }
    pub fn phase(&self) -> watch::Receiver<Phase> {
        todo!()
    }
}
