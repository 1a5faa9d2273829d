//! Resource types of Multiraft: what users write, what the operator reports, and the schema of
//! both.
//!
//! A field of the spec exists only if it does something. Defaults and rules live in the schema, so
//! that the API server applies them and `kubectl get -o yaml` shows them.

mod certificate;
mod cluster;
mod conditions;
mod crd;
mod procedures;
mod slice;
mod status;
mod tls;

pub use certificate::*;
pub use cluster::*;
pub use conditions::{ConditionType, Reason, set_condition};
pub use crd::definitions;
pub use procedures::*;
pub use slice::*;
pub use status::*;
pub use tls::*;

/// API group of every kind.
pub const GROUP: &str = "multiraft.atomix.io";
/// Label of everything that belongs to a cluster; its value is the cluster's name.
pub const CLUSTER_LABEL: &str = "multiraft.atomix.io/cluster";
/// Slot of a pod and its volume: 0, 1, …
pub const SLOT_LABEL: &str = "multiraft.atomix.io/slot";
/// What kind of object it is, for selectors: `node`.
pub const ROLE_LABEL: &str = "multiraft.atomix.io/role";
/// On volumes: the cluster whose data they hold, the directory's incarnation, and how far.
pub const CLUSTER_ID_ANNOTATION: &str = "multiraft.atomix.io/cluster-id";
pub const INCARNATION_ANNOTATION: &str = "multiraft.atomix.io/incarnation";
pub const STATE_ANNOTATION: &str = "multiraft.atomix.io/state";
/// Value of [`STATE_ANNOTATION`] after the bootstrap latch.
pub const STATE_BOOTSTRAPPED: &str = "Bootstrapped";
/// Value of [`STATE_ANNOTATION`] of a volume that was scaled away and kept: nobody takes it up.
pub const STATE_RETIRED: &str = "Retired";
/// On a cluster, `true`: like `spec.paused`.
pub const PAUSED_ANNOTATION: &str = "multiraft.atomix.io/paused";
/// On a pod or its volume, any value: this node goes first when the cluster shrinks.
pub const DECOMMISSION_ANNOTATION: &str = "multiraft.atomix.io/decommission";
/// On pods: hash of the template that they were made from.
pub const REVISION_ANNOTATION: &str = "multiraft.atomix.io/template-revision";
/// On pods: the TLS mode that they were made with; absent = Disabled.
pub const TLS_MODE_ANNOTATION: &str = "multiraft.atomix.io/tls-mode";

/// What operators have in certificates in place of a cluster's name, as they look after several:
/// `multiraft://multiraft-operator/operator/<name>`. No cluster has it: theirs end in `.NAMESPACE`.
pub const OPERATORS: &str = "multiraft-operator";

/// Ports of a node.
pub const CLIENT_PORT: u16 = 5678;
pub const PEER_PORT: u16 = 5679;
pub const HTTP_PORT: u16 = 8080;

/// Groups in one [`RaftPartitionSlice`]: a leader change of a third of all groups becomes few
/// writes of about 15 KB (measured: operator.md §3.4).
pub const GROUPS_PER_SLICE: u32 = 64;
