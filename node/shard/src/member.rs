//! Who belongs to a group: the vocabulary that configuration calls share.

/// Role of a member. Witnesses do not exist here: they are refused where requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Votes and counts for the quorum.
    Voter,
    /// Receives the log, never votes.
    Learner,
}

/// A replica of a group and where it lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The Raft id: per group, used once and never again.
    pub member_id: u64,
    pub node_id: u64,
    /// Peer address.
    pub host: String,
    pub port: u16,
    pub role: Role,
}

/// The first configuration of a group, as a `Bootstrap` or `Join` states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    pub group: u32,
    /// This node's own member id.
    pub member_id: u64,
    /// All members, ordered by member id. For a join: the members to ask, this node's own included.
    pub members: Vec<Member>,
}

/// Proof of who asks for a change (design: fences). The highest epoch ever seen is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub cluster_id: String,
    pub operator_epoch: u64,
    pub plan_hash: String,
    /// 0 = not checked.
    pub incarnation: u64,
}
