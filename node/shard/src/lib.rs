//! All groups of one thread as a plain value: [`Input`]s in, [`Outputs`] out.
//!
//! No threads, no async, no clock, no IO: the host feeds it and carries out what it asks, and a
//! simulator can stand in for the host. One call of [`Shard::round`] drives every group with work:
//! commands of a round become one entry per group, messages one frame per peer, and everything
//! that must be durable one record.

mod admin;
mod call;
mod calls;
mod changes;
mod context;
mod contract;
mod directory;
mod dispatch;
mod drain;
mod error;
mod frame;
mod io;
mod item;
pub mod limits;
mod liveness;
mod log_clock;
mod membership;
mod memory;
mod pair;
mod peers;
#[cfg(feature = "planted")]
pub mod planted;
mod proposals;
mod proxy;
mod reads;
mod recover;
mod recovery;
mod replica;
mod shard;
mod snapshots;
mod spec;
mod ticks;
mod view;
mod watchers;

pub use changes::Wanted;
pub use context::Counters;
pub use error::{AdminError, AdminErrorKind, CallError};
pub use frame::{Frame, FrameError};
pub use io::{
    AdminAnswer, AdminRequest, Consistency, FetchEntries, GroupPersist, Identity, Input,
    LinkCommand, List, NodeFacts, Now, Outputs, Persist, Remembered, SendSnapshot, TakeSnapshot,
};
pub use multiraft_group::{Entry, EntryKind, HardState, Member, Role, Timing};
pub use recovery::{Recovery, SnapshotMissing, StoredGroup, StoredLog, StoredSnapshot};
pub use shard::Shard;
pub use spec::{Fence, GroupSpec};
