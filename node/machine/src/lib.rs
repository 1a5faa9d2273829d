//! Sessions and primitives of one group as a pure function: state and entry in, state and effects
//! out.
//!
//! Every replica applies the same entries and so reaches the same state and the same answers.
//! Nothing here reads a clock, draws randomness or does IO; time is the *log time* that leaders
//! stamp into entries. All state lives in persistent maps, so cloning a [`Machine`] is O(1) and the
//! clone is a view that later entries do not touch.

mod administration;
mod answer;
mod bloom;
mod calls;
mod commands;
mod digest;
mod keep_alive;
pub mod limits;
mod machine;
#[cfg(feature = "planted")]
mod planted;
pub mod primitives;
mod quotas;
mod remembered;
mod session;
mod snapshot;
mod timers;
mod watches;

pub use administration::List;
pub use answer::{Answer, Body, Effect, EntryError, Output, Query, Rejection, Status};
pub use commands::Waiter;
pub use digest::Digest;
pub use keep_alive::validate_keep_alive;
pub use machine::{Machine, PrimitiveSummary, SessionSummary};
pub use snapshot::{Restore, RestoreError};
pub use timers::{Timer, Timers};
