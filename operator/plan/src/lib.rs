//! Every judgement of the operator, as pure functions: what is observed and desired in, a
//! [`Plan`] out. No client, no clock, no chance; time and defaults are arguments.
//!
//! ```text
//! cluster ─ validate ─→ Validated ─┐
//! Observed ────────────────────────┴─ plan ─→ objects, deletes, node calls, status, events
//! ```
//! Once a cluster is formed, a `situation` (its `seats`, one for each slot, and its `groups`) goes
//! through the procedures in the order of their urgency, and `operation` carries the first that has
//! something to do:
//!
//! ```text
//! recover → replace → roll (what does not work) → scale and moves → roll → balance
//! ```
//! A plan may be carried out partly and is made anew from what is there: nothing depends on
//! having been here before. The order of its parts is the order to carry them out.

mod adopt;
mod balance;
mod bootstrap;
mod certificates;
mod conditions;
mod domains;
mod groups;
mod infra;
mod moves;
mod names;
mod observed;
mod operation;
mod placement;
mod planning;
mod recover;
mod replace;
mod roll;
mod scale;
mod seats;
mod situation;
mod skew;
mod slots;
mod status;
mod tls;
mod validate;

pub use names::{member_host, pod_name, tls_secret, volume_name};
pub use observed::{Machine, Node, Observed, OperatorPods, Surroundings};
pub use planning::{
    Act, Call, Check, Delete, Disruption, KubeEvent, NodeCall, Object, Plan, Severity, plan,
};
pub use tls::{is_certificate_wanted, mode_of};
pub use validate::{Invalid, Validated, validate};
