//! The durable log of a node.

mod error;
mod log;
mod round;

pub use error::{LogError, OpenError};
pub use log::{Log, Options, Reader, Sync};
pub use round::{
    Entry, FreshIdentity, GroupRound, HardState, Identity, PeerMemory, Recovered, RecoveredGroup,
    Round, StoredConfig, Written,
};
