//! What the operator reports of a cluster.

use crate::TlsStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MultiRaftClusterStatus {
    /// Generation of the spec that this status speaks of; -1 = none yet.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// Names the data of this cluster for ever; part of every fence.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clusterID")]
    pub cluster_id: Option<String>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Pods that exist, that are ready, and that were made from the present template.
    #[serde(default)]
    pub replicas: i32,
    #[serde(default)]
    pub ready_replicas: i32,
    #[serde(default)]
    pub updated_replicas: i32,
    /// Hash of the present pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_revision: Option<String>,
    /// Version that pods are made with now: `spec.version`, or one on the way to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// Voters of each group, as decided at bootstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupsStatus>,
    /// What is being changed; absent = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The last request of `spec.recovery` that was taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 99))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub nodes: Vec<NodeStatus>,
    /// Worst first, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub unhealthy_groups: Vec<UnhealthyGroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_groups_omitted: Option<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn never_observed() -> i64 {
    -1
}

/// The latch: once completed, no group of this cluster is ever bootstrapped again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapStatus {
    pub plan_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// The one change under way. Nothing depends on it but times: the next step is found from what is
/// there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// Name of the pod, or the group, that it is about.
    pub subject: String,
    pub step: String,
    pub started_at: Time,
    /// When the step should be done, or make progress.
    pub deadline: Time,
    /// What is waited for, with numbers.
    pub message: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationType {
    ScaleUp,
    ScaleDown,
    Roll,
    Replace,
    Rebalance,
    Recover,
}

/// A recovery from lost quorum.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    #[serde(rename = "requestID")]
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// What was done, or why not.
    pub message: String,
}

/// Counts of groups.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GroupsStatus {
    pub desired: i32,
    /// Bootstrapped on a majority of their nodes, with a leader.
    pub formed: i32,
    /// With a leader and a quorum of connected nodes.
    pub available: i32,
    /// Every voter is connected.
    pub fully_replicated: i32,
    pub leaderless: i32,
    pub quorum_lost: i32,
    /// Least and most leaders on one node.
    pub leader_spread_min: i32,
    pub leader_spread_max: i32,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the pod.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "podUID")]
    pub pod_uid: Option<String>,
    /// Kubernetes' node that it runs on, or that its volume was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Zone of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Incarnation of the data directory, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// What the node ran when it was last heard of: its data is of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `Absent`, `Pending`, `Starting`, `Waiting`, `Serving`, `Draining` or `Unknown`.
    pub state: String,
    /// The node's Watch stream is live.
    pub connected: bool,
    #[serde(default)]
    pub leaders: i32,
    #[serde(default)]
    pub voters: i32,
    #[serde(default)]
    pub learners: i32,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UnhealthyGroup {
    pub id: i32,
    /// `QuorumLost`, `Leaderless` or `UnderReplicated`.
    pub reason: String,
}
