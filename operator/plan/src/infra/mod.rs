//! The objects around the nodes, one file per kind.

mod budget;
mod certificate;
mod config_map;
mod network;
mod pod;
mod service;
mod volume;

use crate::bootstrap::{Bootstrap, Stage};
use crate::names::labels;
use crate::observed::{Observed, Surroundings};
use crate::operation::Work;
use crate::planning::{Object, Plan};
use crate::seats::{self, Seat};
use crate::situation::Situation;
use crate::validate::Validated;
use crate::{scale, slots};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use multiraft_api::{RaftPartitionSlice, RaftPartitionSliceSpec, Reason, WhenScaled};

pub use pod::{pod, revision};

/// Metadata of an object that goes with the cluster.
fn owned(cluster: &Validated, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels(&cluster.name)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..Default::default()
    }
}

pub fn slice(
    cluster: &Validated,
    name: String,
    spec: RaftPartitionSliceSpec,
    version: Option<String>,
) -> RaftPartitionSlice {
    let metadata = ObjectMeta { resource_version: version, ..owned(cluster, name) };
    RaftPartitionSlice { metadata, spec, status: None }
}

pub fn plan(
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
    bootstrap: &Bootstrap,
    work: Option<&Work>,
    plan: &mut Plan,
) {
    plan.objects.push(Object::ServiceAccount(service_account(cluster)));
    plan.objects.push(Object::ConfigMap(config_map::config_map(cluster)));
    plan.objects.push(Object::Service(service::peers(cluster)));
    plan.objects.push(Object::Service(service::clients(cluster)));
    network::plan(cluster, observed, env, plan);
    certificate::plan(cluster, observed, plan);
    let holding = slots::holding(&cluster.name, &bootstrap.groups);
    let needed = |slot: &i32| !bootstrap.slots.leaving.contains(slot) || holding.contains(slot);
    for seat in seats::seats(cluster, observed, &bootstrap.slots) {
        let ends = |v: &PersistentVolumeClaim| slots::is_terminating(v) || slots::is_retired(v);
        if needed(&seat.slot) && !seat.volume.is_some_and(ends) {
            let volume = volume::volume(cluster, observed, bootstrap, seat.slot);
            plan.objects.push(Object::Volume(volume));
            pod_of(cluster, env, bootstrap, &seat, plan);
        } else if let Some(volume) = seat.volume.filter(|v| !ends(v))
            && is_retiring(cluster, work, &seat)
        {
            plan.objects.push(Object::Volume(volume::retired(volume)));
        }
    }
    let stops = work.and_then(|work| work.stops);
    budget::plan(cluster, observed, bootstrap, stops, plan);
}

/// A pod that ended is deleted, one that is gone comes back on its volume.
fn pod_of(
    cluster: &Validated,
    env: &Surroundings,
    bootstrap: &Bootstrap,
    seat: &Seat,
    plan: &mut Plan,
) {
    let foreign = matches!(bootstrap.stage, Stage::Blocked { reason: Reason::ForeignVolumes, .. });
    match seat.pod {
        None if foreign => {}
        None => plan.objects.push(Object::Pod(Box::new(pod(cluster, env, seat.slot)))),
        Some(pod) if has_ended(pod) && !slots::is_terminating(pod) => {
            plan.deletes.push(seat.delete_pod(false));
        }
        Some(_) => {}
    }
}

/// Whether a node is being removed whose volume is to be kept.
fn is_retiring(cluster: &Validated, work: Option<&Work>, seat: &Seat) -> bool {
    let storage = cluster.spec.storage.as_ref();
    let retains = storage.is_some_and(|s| s.retention.when_scaled == WhenScaled::Retain);
    let removes = work.is_some_and(|w| w.step == scale::REMOVE && w.subject == seat.name);
    retains && removes
}

/// The first volume that asks for less than the spec.
pub fn growth(s: &Situation) -> Option<PersistentVolumeClaim> {
    let wanted = s.cluster.spec.storage.as_ref()?.size.clone();
    let staying = s.seats.iter().filter(|seat| !seat.leaving);
    let volumes = staying.filter_map(|seat| seat.volume).filter(|v| !slots::is_terminating(*v));
    let bytes = volume::bytes(&wanted)?;
    let size = |v: &PersistentVolumeClaim| volume::request(v).and_then(|r| volume::bytes(&r));
    let mut smaller = volumes.filter(|v| size(v).is_some_and(|size| size < bytes));
    let name = smaller.next()?.name_any();
    let slot = s.seats.iter().find(|seat| seat.volume.is_some_and(|v| v.name_any() == name))?.slot;
    Some(volume::grown(s.cluster, s.observed, s.bootstrap, slot, wanted))
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn service_account(cluster: &Validated) -> ServiceAccount {
    ServiceAccount {
        metadata: owned(cluster, cluster.name.clone()),
        // Nodes never talk to the API server.
        automount_service_account_token: Some(false),
        ..Default::default()
    }
}
