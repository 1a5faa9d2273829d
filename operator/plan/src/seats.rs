//! The nodes of a formed cluster, slot by slot, as far as procedures ask about them.

use crate::domains::Domain;
use crate::names;
use crate::observed::{Node, Observed};
use crate::planning::Delete;
use crate::slots::{Slots, is_terminating, volume_of};
use crate::validate::Validated;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use multiraft_api::REVISION_ANNOTATION;

/// A slot with what is there.
#[derive(Clone, Debug)]
pub struct Seat<'a> {
    pub slot: i32,
    /// Name of the pod.
    pub name: String,
    pub pod: Option<&'a Pod>,
    pub volume: Option<&'a PersistentVolumeClaim>,
    pub node: Option<&'a Node>,
    pub domain: Domain<'a>,
    /// To be emptied and removed.
    pub leaving: bool,
}

pub fn seats<'a>(cluster: &Validated, observed: &'a Observed, slots: &Slots) -> Vec<Seat<'a>> {
    let zone_key = &cluster.spec.placement.zone_key;
    let seat = |slot: &i32| {
        let name = names::pod_name(&cluster.name, *slot);
        let pod = observed.pods.iter().find(|p| p.name_any() == name);
        let volume = volume_of(&cluster.name, observed, *slot);
        Seat {
            slot: *slot,
            pod,
            volume,
            domain: Domain::of(observed, zone_key, pod, volume),
            node: observed.nodes.get(&name),
            leaving: slots.leaving.contains(slot),
            name,
        }
    };
    slots.all.iter().map(seat).collect()
}

impl Seat<'_> {
    /// (node id, incarnation) of the directory that runs there now, or was last seen there.
    pub fn id(&self) -> Option<(u64, u64)> {
        self.node?.id()
    }

    /// The node runs, is heard of, and nobody asked it to end.
    pub fn is_up(&self) -> bool {
        self.node.is_some_and(|n| n.connected && n.id().is_some())
            && self.pod.is_some_and(|p| !is_terminating(p))
    }

    /// Nobody hears of it.
    pub fn is_silent(&self) -> bool {
        !self.node.is_some_and(|n| n.connected)
    }

    /// Nobody hears of it, and by its probes it does not serve either: it takes part in no quorum.
    pub fn is_dead(&self) -> bool {
        self.is_silent() && !self.pod.is_some_and(is_serving)
    }

    /// Up, by its probe as well, and open for clients.
    pub fn is_ready(&self) -> bool {
        self.is_up()
            && self.pod.is_some_and(is_serving)
            && self.info().is_some_and(|info| info.activated)
    }

    pub fn info(&self) -> Option<&multiraft_proto::v1::GetInfoResponse> {
        self.node?.identity.as_ref()
    }

    pub fn is_draining(&self) -> bool {
        self.is_up() && self.info().is_some_and(|info| info.draining)
    }

    /// Its pod was made from another template.
    pub fn is_outdated(&self, revision: &str) -> bool {
        let made_from = self.pod.and_then(|p| p.annotations().get(REVISION_ANNOTATION));
        self.pod.is_some() && made_from.map(String::as_str) != Some(revision)
    }

    pub fn delete_pod(&self, force: bool) -> Delete {
        Delete::Pod {
            name: self.name.clone(),
            uid: self.pod.and_then(|p| p.uid()).unwrap_or_default(),
            version: self.pod.and_then(|p| p.resource_version()),
            force,
        }
    }
}

/// By the probe. The pod's Ready condition says less: after an outage of the API server Kubernetes'
/// node controller sets it to False on every pod for a while.
pub fn is_serving(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    containers.is_some_and(|all| !all.is_empty() && all.iter().all(|c| c.ready))
}
