//! The production shard, group and machine in a simulated world.
//!
//! One loop ([`world`]) picks the next event by time. Network, disks, clocks, clients and faults
//! are drawn from one seed, so that a run is the same to the byte whenever it is repeated: no
//! threads, no system calls, no unordered maps. After every step the [`invariants`] are checked,
//! at the end what the clients saw.

mod calls;
mod client;
mod disk;
mod faults;
mod habits;
mod host;
mod invariants;
mod models;
mod moves;
mod network;
mod node;
mod options;
mod oracle;
mod planted;
mod renewal;
mod report;
mod schedule;
mod script;
mod shrink;
mod snapshots;
mod standing;
mod subscriptions;
mod trace;
mod used;
mod user;
mod uses;
mod world;

pub use options::{Options, Shape};
pub use oracle::History;
pub use planted::Defect;
pub use report::Report;
pub use schedule::{Fault, Target};
pub use script::Script;
pub use shrink::shrink;
pub use world::{run, run_recorded};
