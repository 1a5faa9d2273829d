//! What the operator sees at one moment.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multiraft_api::{Certificate, RaftPartitionSlice};
use multiraft_proto::v1;
use std::collections::BTreeMap;

/// One node as its stream tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The stream is live. When it is not, the rest is what was last known.
    pub connected: bool,
    /// Identity, without groups and peers.
    pub identity: Option<v1::GetInfoResponse>,
    pub groups: BTreeMap<u32, v1::GroupState>,
    /// Why the stream is not live.
    pub error: Option<String>,
}

/// Everything of one cluster, selected by its label.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub pods: Vec<Pod>,
    pub volumes: Vec<PersistentVolumeClaim>,
    pub services: Vec<Service>,
    pub config_maps: Vec<ConfigMap>,
    pub service_accounts: Vec<ServiceAccount>,
    pub budgets: Vec<PodDisruptionBudget>,
    pub network_policies: Vec<NetworkPolicy>,
    /// The one that cert-manager was asked for.
    pub certificate: Option<Certificate>,
    pub slices: Vec<RaftPartitionSlice>,
    /// By name of the pod.
    pub nodes: BTreeMap<String, Node>,
    /// Machines by name; none = this operator may not see them.
    pub machines: Option<BTreeMap<String, Machine>>,
    /// Why the disruption of the pass before was held back, for people to read.
    pub held_back: Option<String>,
    /// Why a volume did not grow.
    pub growth_refused: Option<String>,
    /// Why the Certificate was not taken.
    pub certificate_refused: Option<String>,
}

/// A machine of Kubernetes, as far as its pods' fate hangs on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub ready: bool,
    /// Since when it is, or is not.
    pub since: Time,
    /// Somebody declared that it does not come back (taint `out-of-service`).
    pub out_of_service: bool,
    /// No taint and no cordon keeps new pods away.
    pub open: bool,
    pub labels: BTreeMap<String, String>,
}

/// What a plan needs beside the cluster and its objects.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub now: Time,
    /// Rises with every change of the leading operator.
    pub operator_epoch: u64,
    /// Repository of the nodes' image when the spec names none.
    pub node_image: String,
    /// Appended to the cluster's version when the spec names no tag; usually empty.
    pub node_pull_policy: Option<String>,
    /// Where the operator's own pods are, if it runs in some.
    pub operator_pods: Option<OperatorPods>,
    /// Whether the operator has a certificate to show to nodes; else why not, and what helps.
    pub certificate: Result<(), String>,
}

/// Where operators run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPods {
    pub namespace: String,
    /// Labels that select them there.
    pub labels: BTreeMap<String, String>,
}

impl Node {
    /// (node id, incarnation) when both are known.
    pub fn id(&self) -> Option<(u64, u64)> {
        let info = self.identity.as_ref()?;
        (info.node_id != 0 && info.incarnation != 0).then_some((info.node_id, info.incarnation))
    }
}
