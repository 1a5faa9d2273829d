//! The first step of a pass: everything that is known of one cluster, or nothing at all.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Resource, ResourceExt};
use multiraft_api::{CLUSTER_LABEL, MultiRaftCluster, RaftPartitionSlice, TlsMode};
use multiraft_plan::{Node, Observed, member_host, mode_of};

use crate::apply::Held;
use crate::certificate::Speech;
use crate::machines::Machines;
use crate::nodes::{Nodes, Subject};
use crate::store::{Key, Store};
use crate::view::{Link, NodeView};

/// All stores; clones share them.
#[derive(Clone, Default)]
pub struct Stores {
    pub clusters: Store<MultiRaftCluster>,
    pub slices: Store<RaftPartitionSlice>,
    pub pods: Store<Pod>,
    pub volumes: Store<PersistentVolumeClaim>,
    pub services: Store<Service>,
    pub config_maps: Store<ConfigMap>,
    pub service_accounts: Store<ServiceAccount>,
    pub budgets: Store<PodDisruptionBudget>,
    pub network_policies: Store<NetworkPolicy>,
    pub machines: Machines,
}

impl Stores {
    /// What is known of a cluster's objects and nodes.
    /// `held`: what the pass before did not do.
    pub fn observe(&self, cluster: &Key, nodes: &Nodes, held: Held) -> Observed {
        let pods = of(&self.pods, cluster);
        let views = pods.iter().filter_map(|pod| {
            let view = nodes.view(&pod.uid()?)?;
            Some((pod.name_any(), node(view)))
        });
        Observed {
            nodes: views.collect(),
            pods,
            volumes: of(&self.volumes, cluster),
            services: of(&self.services, cluster),
            config_maps: of(&self.config_maps, cluster),
            service_accounts: of(&self.service_accounts, cluster),
            budgets: of(&self.budgets, cluster),
            network_policies: of(&self.network_policies, cluster),
            // Not watched, as cert-manager may not be there: asked for where it is needed.
            certificate: None,
            slices: of(&self.slices, cluster),
            machines: self.machines.all(),
            held_back: held.disruption,
            growth_refused: held.growth,
            certificate_refused: held.certificate,
        }
    }
}

fn of<K: Resource + ResourceExt + Clone>(store: &Store<K>, cluster: &Key) -> Vec<K> {
    let ours = |object: &K| object.labels().get(CLUSTER_LABEL) == Some(&cluster.name);
    store.select(&cluster.namespace, ours).into_iter().map(Arc::unwrap_or_clone).collect()
}

fn node(view: NodeView) -> Node {
    let NodeView { link, error, identity, groups, .. } = view;
    Node { connected: link == Link::Live, identity, groups, error }
}

/// A pod that runs and has an address, as somebody to follow.
pub fn subject(pod: &Pod) -> Option<Subject> {
    let cluster = crate::watch::cluster_of(pod, CLUSTER_LABEL)?;
    let status = pod.status.as_ref()?;
    let running = status.phase.as_deref() == Some("Running");
    let address: IpAddr = status.pod_ip.as_ref().filter(|_| running)?.parse().ok()?;
    let name = pod.name_any();
    let speech = match mode_of(pod) {
        TlsMode::Disabled => Speech::Plain,
        TlsMode::Permissive => Speech::Either,
        TlsMode::Strict => Speech::Tls,
    };
    let host = member_host(&cluster.name, &cluster.namespace, &name);
    Some(Subject { cluster, pod: name, uid: pod.uid()?, address, host, speech })
}
