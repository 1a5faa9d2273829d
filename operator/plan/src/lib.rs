//! Every judgement of the operator, as pure functions: what is observed and desired in, a
//! [`Plan`] out. No client, no clock, no chance; time and defaults are arguments.
//!
//! ```text
//! cluster ─ validate ─→ Validated ─┐
//! Observed ────────────────────────┴─ plan ─→ objects, deletes, node calls, status, events
//! ```
//! A plan may be carried out partly and is made anew from what is there: nothing depends on
//! having been here before. The order of its parts is the order to carry them out.

mod bootstrap;
mod conditions;
mod infra;
mod names;
mod observed;
mod placement;
mod planning;
mod status;
mod validate;

pub use names::{member_host, pod_name, volume_name};
pub use observed::{Node, Observed, Surroundings};
pub use planning::{Delete, KubeEvent, NodeCall, Object, Plan, Severity, plan};
pub use validate::{Invalid, Validated, validate};
