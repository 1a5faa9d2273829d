//! Client of a Multiraft cluster: sharded, linearizable state with commands that take effect once.
//!
//! ```no_run
//! # async fn example() -> Result<(), multiraft_client::Error> {
//! use multiraft_client::Cluster;
//!
//! let cluster = Cluster::connect(["127.0.0.1:5678"]).await?;
//! let visits = cluster.counter("visits");
//! println!("{}", visits.increment(1).await?.value);
//!
//! let users = cluster.map("users");
//! users.put("ada", "1815").await?;
//! let ada = users.get("ada").await?.value.expect("just put");
//! println!("{:?} at version {}", ada.value, ada.version);
//! cluster.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! **Once.** A command has a number within its session, and is sent again under the *same* number,
//! to other nodes too, until it is answered or its deadline is over. However often it arrives, it
//! takes effect at most once. When the deadline ends it first, the outcome is unknown
//! ([`Error::is_outcome_unknown`]): it took effect once or not at all, and may still do so for as
//! long as it is on its way.
//!
//! **Reads** are linearizable unless a handle is made [`Counter::local`] (or [`Map::local`]): then
//! the node that is asked answers from its own state, never older than what this client has seen.
//!
//! **Sessions** are opened when first needed, one for each partition, and kept alive in the
//! background. When one expires (the client was cut off for longer than its timeout), calls in
//! flight end with [`Error::SessionExpired`] and the next call opens a new one.
//!
//! **Connections.** All calls of a [`Cluster`] and its clones to one node share one stream, many to a
//! message: commands, queries, events and keep-alives. When more are made than the node takes at once
//! (4,096), the others wait for a place. Lists, and events that are read too slowly, have streams of
//! their own on a second connection.
//!
//! Dropping the future of any call is allowed at any time; of a command the outcome is then unknown.

mod administration;
mod answers;
mod calls;
mod cluster;
mod counter;
mod counter_map;
mod discovery;
mod election;
mod error;
mod event;
mod feed;
mod held;
mod indexed_map;
mod key_locks;
mod leaders;
mod limits;
mod lock;
mod map;
mod multi_map;
mod nodes;
mod numbers;
mod options;
mod primitive;
mod range;
mod route;
mod session;
mod session_stream;
mod set;
mod tls;
mod transaction;
mod tries;
mod value;
mod version;
mod wire;

pub use administration::{Administration, node_info, node_service};
pub use cluster::Cluster;
pub use counter::Counter;
pub use counter_map::CounterMap;
pub use election::{Election, Leadership, Term};
pub use error::{Error, Rejection};
pub use event::{Change, Event};
pub use feed::Stream;
pub use indexed_map::{IndexedEntry, IndexedMap, Place};
pub use key_locks::LockedKeys;
pub use lock::{FencingToken, Lock, LockGuard};
pub use map::Map;
pub use multi_map::MultiMap;
/// The wire's own messages, for administration.
pub use multiraft_proto::v1;
pub use multiraft_proto::v1::operation_response_headers::Status;
pub use options::{Options, Routing};
pub use range::KeyRange;
pub use route::position;
pub use set::Set;
pub use tls::Tls;
pub use transaction::{Effect, Transaction};
pub use value::Value;
pub use version::{Version, Versioned, Write, Written};

/// The answer of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub value: T,
    /// Group that answered.
    pub partition: u32,
    /// The partition's index (its count of applied commands) when the answer was made.
    pub index: u64,
}

impl<T> Answer<T> {
    /// The same answer with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: change(self.value), partition: self.partition, index: self.index }
    }
}

/// The answers of all partitions to one call, merged. It is not one point in time: each partition
/// answered at an index of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers<T> {
    pub value: T,
    /// Index of each partition's answer, by partition.
    pub indexes: std::collections::BTreeMap<u32, u64>,
}

impl<T> Answers<T> {
    /// The same answers with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answers<U> {
        Answers { value: change(self.value), indexes: self.indexes }
    }
}
