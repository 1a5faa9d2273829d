//! What configuration calls carry.

use multiraft_group::Member;

/// The first configuration of a group, as a `Bootstrap` or `Join` states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    pub group: u32,
    /// This node's own member id.
    pub member_id: u64,
    /// All members, ordered by member id. For a join: the members to ask, this node's own included.
    pub members: Vec<Member>,
}

/// Proof of who asks for a change. The highest epoch ever seen is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub cluster_id: String,
    pub operator_epoch: u64,
    pub plan_hash: String,
    /// Incarnation of the data directory that the caller means; 0 = not checked.
    pub incarnation: u64,
}
