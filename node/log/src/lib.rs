//! The durable log of a node: the entries and states of all its groups, their memberships,
//! what peers acknowledged, and the node's identity.
//!
//! The unit is the *round*: what all groups of a shard must persist together. A round is one
//! record; all rounds that are queued are written together and synced once. Nothing is
//! acknowledged before that sync, and after a failed one the log is poisoned for good.
//!
//! What a snapshot covers is trimmed: rounds that no group needs any more leave the disk, and
//! the log starts at a checkpoint. Snapshots are files of their own beside the database.
//!
//! At open every record is read and verified. A directory that is damaged, cut short, restored
//! from an older copy, of another owner or in use is refused with an error that names the file
//! and the remedy: nothing is ever skipped.
//!
//! This is the only crate that links RocksDB; [`Log`] and [`Reader`] say nothing of it, so that
//! another engine can take its place.

mod beacon;
mod catalog;
mod directory;
mod error;
pub mod failpoints;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod identity;
mod ledger;
pub mod limits;
mod log;
mod meta;
mod open;
mod points;
mod reader;
mod record;
mod round;
mod snapshot;
mod space;
mod store;

pub use error::{LogError, OpenError};
pub use log::{Copied, Log, OldFiles, Options, Sync, Trimming};
pub use reader::Reader;
pub use round::{
    Entry, FreshIdentity, GroupRound, HardState, Identity, PeerMemory, Recovered, RecoveredGroup,
    Round, StoredConfig, Trimmed, Written,
};
pub use snapshot::{
    Incoming, RawSnapshot, SnapshotError, SnapshotId, SnapshotInfo, SnapshotReader, SnapshotWriter,
    Snapshots,
};
pub use space::Space;
