//! `MultiRaftCluster`: what users ask for.

use crate::{
    MultiRaftClusterStatus, NetworkPolicy, Placement, Recovery, Replacement, Tls, UpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, ResourceRequirements, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A cluster of Multiraft nodes: `replicas` processes with a volume each, which run `groups` Raft
/// groups.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "multiraft.atomix.io",
    version = "v1beta1",
    kind = "MultiRaftCluster",
    plural = "multiraftclusters",
    singular = "multiraftcluster",
    shortname = "mrc",
    category = "multiraft",
    namespaced,
    doc = "A cluster of Multiraft nodes.",
    derive = "PartialEq",
    status = "MultiRaftClusterStatus",
    selectable = ".spec.version",
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name: at most 40 characters, because names of pods and their labels are made from it"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(json_path = ".status.conditions[?(@.type=='Ready')].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Ready')].reason", name = "Status", type_ = "string"),
    printcolumn(json_path = ".status.readyReplicas", name = "Nodes", type_ = "integer"),
    printcolumn(json_path = ".spec.replicas", name = "Desired", type_ = "integer"),
    printcolumn(json_path = ".status.groups.available", name = "Groups", type_ = "integer"),
    printcolumn(json_path = ".status.groups.leaderless", name = "Leaderless", type_ = "integer"),
    printcolumn(json_path = ".spec.version", name = "Version", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    printcolumn(json_path = ".status.replicationFactor", name = "RF", type_ = "integer", priority = 1),
    printcolumn(json_path = ".status.operation.type", name = "Operation", type_ = "string", priority = 1)
)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("!has(self.replicationFactor) || self.replicationFactor % 2 == 1").message("spec.replicationFactor: must be odd, because an even one survives no more losses than the odd one below it"))]
#[x_kube(validation = Rule::new("!has(self.replicationFactor) || self.replicationFactor <= self.replicas").message("spec.replicationFactor: must not be above spec.replicas, each member of a group needs a node of its own"))]
#[x_kube(validation = Rule::new("has(self.storage) == has(oldSelf.storage)").message("spec.storage: cannot be added or removed later"))]
#[serde(rename_all = "camelCase")]
pub struct MultiRaftClusterSpec {
    /// Nodes.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 99))]
    pub replicas: i32,

    /// Raft groups (partitions). Keys are hashed onto them, so the number cannot change.
    #[serde(default = "default_groups")]
    #[schemars(range(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.groups: cannot change after creation, because keys are hashed onto groups"))]
    pub groups: i32,

    /// Voters of each group; absent = the largest odd number up to 3 and `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub replication_factor: Option<i32>,

    /// Version of the nodes.
    #[x_kube(validation = Rule::new("self.matches('^[0-9]+\\\\.[0-9]+\\\\.[0-9]+(-[0-9A-Za-z.-]+)?$')").message("spec.version: must be a semantic version such as 0.1.0"))]
    #[x_kube(validation = Rule::new("self.split('.')[0] == oldSelf.split('.')[0] ? int(self.split('.')[1]) - int(oldSelf.split('.')[1]) <= 1 && int(oldSelf.split('.')[1]) - int(self.split('.')[1]) <= 1 : (int(self.split('.')[0]) - int(oldSelf.split('.')[0]) == 1 && self.split('.')[1] == '0') || (int(oldSelf.split('.')[0]) - int(self.split('.')[0]) == 1 && oldSelf.split('.')[1] == '0')").message("spec.version: goes one minor version at a time, up or down, because nodes understand the version beside theirs"))]
    #[schemars(length(max = 63))]
    pub version: String,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,

    /// Volumes of the nodes; absent = 1Gi of the default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    #[serde(default)]
    pub raft: Raft,

    /// Absent = plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,

    #[serde(default)]
    pub network_policy: NetworkPolicy,

    #[serde(default)]
    pub placement: Placement,

    #[serde(default)]
    pub update_strategy: UpdateStrategy,

    #[serde(default)]
    pub replacement: Replacement,

    #[serde(default)]
    pub disruption_budget: DisruptionBudget,

    /// Going on without the members that are lost, for groups without a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,

    /// The operator changes nothing while this is true; status stays live.
    #[serde(default)]
    pub paused: bool,
}

fn default_replicas() -> i32 {
    3
}

fn default_groups() -> i32 {
    1
}

/// Where the nodes' image comes from; `tag` defaults to the version.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub tag: Option<String>,
    /// Takes precedence over the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 127), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pull_secrets: Vec<LocalObjectReference>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)").message("spec.storage.className: cannot change after creation"))]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    #[serde(default = "default_size")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message("spec.storage.size: a volume cannot shrink"))]
    pub size: Quantity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    #[serde(default)]
    pub retention: Retention,
}

fn default_size() -> Quantity {
    Quantity("1Gi".into())
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// What happens to volumes when the cluster is deleted.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
    /// What happens to the volume of a node that is scaled away.
    #[serde(default)]
    pub when_scaled: WhenScaled,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum WhenDeleted {
    #[default]
    Retain,
    Delete,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum WhenScaled {
    #[default]
    Delete,
    /// The volume stays for people to look at; no node takes it up again.
    Retain,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("duration(self.electionTimeout).getMilliseconds() >= 5 * duration(self.heartbeat).getMilliseconds()").message("spec.raft.electionTimeout: must be at least 5 times spec.raft.heartbeat"))]
#[serde(rename_all = "camelCase")]
pub struct Raft {
    /// Least time without a leader before an election.
    #[serde(default = "default_election_timeout")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(ms|s)$"))]
    pub election_timeout: String,
    /// Period of a leader's heartbeats.
    #[serde(default = "default_heartbeat")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(ms|s)$"))]
    pub heartbeat: String,
}

impl Default for Raft {
    fn default() -> Self {
        Raft { election_timeout: default_election_timeout(), heartbeat: default_heartbeat() }
    }
}

fn default_election_timeout() -> String {
    "1s".into()
}

fn default_heartbeat() -> String {
    "100ms".into()
}

/// What may be said of the nodes' pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// Seconds; the node needs up to 10 to hand its leaderships over.
    #[serde(default = "default_grace")]
    #[schemars(range(min = 10, max = 3600))]
    pub termination_grace_period_seconds: i64,
}

fn default_grace() -> i64 {
    60
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// A PodDisruptionBudget computed from the groups.
    #[serde(default = "default_true")]
    pub enabled: bool,
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        DisruptionBudget { enabled: true }
    }
}

fn default_true() -> bool {
    true
}

impl MultiRaftClusterSpec {
    /// Voters of each group: as asked, or the largest odd number up to 3 and `replicas`.
    pub fn voters(&self) -> u32 {
        let voters = self.replication_factor.unwrap_or(if self.replicas >= 3 { 3 } else { 1 });
        voters.max(1).unsigned_abs()
    }
}
