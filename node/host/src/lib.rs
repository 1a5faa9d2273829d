//! The shell around the shards: threads, sockets, clock, lifecycle.
//!
//! The only place where the pure loop of crate `shard` meets IO: it feeds inputs, carries out
//! outputs, and hands services a [`Handle`]. The loop is a task on the same `current_thread`
//! runtime as the connections (measured faster than a thread beside the network, and far faster
//! than a multi-thread runtime); the log writer has a thread of its own.

mod handle;
mod inbox;
mod journal;
pub mod limits;
pub mod measures;
mod node;
mod recover;
mod snapshots;
mod streams;
mod watchers;
mod writer;

pub use handle::{Handle, Phase};
pub use measures::Measures;
pub use multiraft_shard::{
    AdminAnswer, AdminError, AdminErrorKind, AdminRequest, CallError, Consistency, Fence,
    GroupSpec, List, Member, Role, Wanted,
};
pub use node::{Broken, Node, Options, StartError};
pub use streams::{Calls, Part};
// For tests of what may be on disk.
#[doc(hidden)]
pub use multiraft_shard::NodeFacts;
#[doc(hidden)]
pub use writer::{decode_facts, encode_facts};
