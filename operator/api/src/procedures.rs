//! What the spec says of the procedures that change a running cluster.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where members of groups go.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Label of Kubernetes' nodes that names their zone: members of a group go to different zones
    /// while there are enough.
    #[serde(default = "default_zone_key")]
    #[schemars(length(min = 1, max = 317))]
    pub zone_key: String,
    /// Whether members and leaders are moved only for the sake of an even load.
    #[serde(default)]
    pub rebalance: Rebalance,
    /// Groups whose members change at a time.
    #[serde(default = "default_moves")]
    #[schemars(range(min = 1, max = 16))]
    pub max_concurrent_moves: i32,
}

impl Default for Placement {
    fn default() -> Self {
        Placement {
            zone_key: default_zone_key(),
            rebalance: Rebalance::Auto,
            max_concurrent_moves: default_moves(),
        }
    }
}

fn default_zone_key() -> String {
    "topology.kubernetes.io/zone".into()
}

fn default_moves() -> i32 {
    2
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum Rebalance {
    #[default]
    Auto,
    Manual,
}

/// How a changed template reaches the pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("duration(self.stepTimeout) >= duration(self.leaderDrainTimeout)").message("spec.updateStrategy.stepTimeout: must not be below spec.updateStrategy.leaderDrainTimeout, which is a part of a step"))]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// `OnDelete`: pods keep the template that they were made from until somebody deletes them.
    #[serde(default, rename = "type")]
    pub kind: UpdateKind,
    /// A node that leads groups still is stopped after this long.
    #[serde(default = "default_drain")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub leader_drain_timeout: String,
    /// A step of any procedure without progress for this long is told as `Stalled`.
    #[serde(default = "default_step")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub step_timeout: String,
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        UpdateStrategy {
            kind: UpdateKind::RollingUpdate,
            leader_drain_timeout: default_drain(),
            step_timeout: default_step(),
        }
    }
}

fn default_drain() -> String {
    "30s".into()
}

fn default_step() -> String {
    "10m".into()
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum UpdateKind {
    #[default]
    RollingUpdate,
    OnDelete,
}

/// When a node whose data is gone, or out of reach, gets a new volume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// `Manual`: a lost volume is told of; whoever deletes it and its pod asks for a new one.
    #[serde(default)]
    pub policy: ReplacementPolicy,
    /// A machine that is not ready for this long counts as lost, and the volume on it.
    #[serde(default = "default_lost")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub node_lost_after: String,
}

impl Default for Replacement {
    fn default() -> Self {
        Replacement { policy: ReplacementPolicy::Auto, node_lost_after: default_lost() }
    }
}

fn default_lost() -> String {
    "10m".into()
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum ReplacementPolicy {
    #[default]
    Auto,
    Manual,
}

/// A request to make the most advanced member that is left of each group its only voter. Commands
/// that it does not have are lost, acknowledged or not.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("self.acceptDataLoss").message("spec.recovery.acceptDataLoss: must be true, because commands may be lost that clients saw acknowledged"))]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Names this request; one that was carried out is never repeated.
    #[serde(rename = "requestID")]
    #[schemars(length(min = 1, max = 63))]
    pub request_id: String,
    /// `status.clusterID` of the cluster that is meant.
    #[serde(rename = "clusterID")]
    #[schemars(length(min = 1, max = 63))]
    pub cluster_id: String,
    /// Groups to recover; none = all that have no quorum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub groups: Vec<i32>,
    /// Pods whose members may be the ones to go on with; none = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub keep_nodes: Vec<String>,
    #[serde(default)]
    pub accept_data_loss: bool,
}
