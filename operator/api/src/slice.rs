//! `RaftPartitionSlice`: who belongs to which group, 64 groups a slice.
//!
//! The spec is durable intent, written by the operator alone before the first call that follows
//! from it; the status is the latest view.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "multiraft.atomix.io",
    version = "v1beta1",
    kind = "RaftPartitionSlice",
    plural = "raftpartitionslices",
    shortname = "rps",
    category = "multiraft",
    namespaced,
    doc = "Members and leaders of up to 64 groups of a cluster; written by the operator.",
    derive = "PartialEq",
    derive = "Default",
    status = "RaftPartitionSliceStatus",
    printcolumn(json_path = ".spec.firstGroup", name = "First", type_ = "integer"),
    printcolumn(json_path = ".spec.planHash", name = "Plan", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct RaftPartitionSliceSpec {
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Hash of the whole plan that this slice is a part of.
    pub plan_hash: String,
    /// Nodes of the plan; slices of a plan agree on it.
    pub replicas: i32,
    pub first_group: i32,
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub groups: Vec<PlannedGroup>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedGroup {
    pub id: i32,
    /// Rises when the group is planned anew.
    pub epoch: i64,
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub members: Vec<PlannedMember>,
    /// Member ids are never used again: the next one to give.
    #[serde(rename = "nextMemberID")]
    pub next_member_id: i64,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMember {
    /// Member id.
    pub id: i64,
    /// Name of the pod.
    pub node: String,
    #[serde(rename = "nodeID")]
    pub node_id: i64,
    /// Incarnation of the node's data directory, hexadecimal.
    pub incarnation: String,
    /// Absent = a voter.
    #[serde(default, skip_serializing_if = "PlannedRole::is_voter")]
    pub role: PlannedRole,
}

/// How far a member is on its way into the group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlannedRole {
    #[default]
    Voter,
    /// Part of the group's configuration, without a vote.
    Learner,
    /// To be added; the group may not know of it yet.
    Joining,
}

impl PlannedRole {
    pub fn is_voter(&self) -> bool {
        *self == PlannedRole::Voter
    }
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RaftPartitionSliceStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub groups: Vec<ObservedGroup>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObservedGroup {
    pub id: i32,
    /// Name of the leader's pod; absent = none known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    pub term: i64,
    pub connected_voters: i32,
}
