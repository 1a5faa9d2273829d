//! The objects around the nodes, one file per kind.

mod budget;
mod config_map;
mod pod;
mod service;
mod volume;

use crate::bootstrap::{Bootstrap, Stage};
use crate::names::{self, labels};
use crate::observed::{Observed, Surroundings};
use crate::planning::{Delete, Object, Plan};
use crate::validate::Validated;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use multiraft_api::{RaftPartitionSlice, RaftPartitionSliceSpec, Reason};

pub use pod::revision;
pub use volume::request as volume_request;

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
) -> RaftPartitionSlice {
    RaftPartitionSlice { metadata: owned(cluster, name), spec, status: None }
}

pub fn plan(
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
    bootstrap: &Bootstrap,
    plan: &mut Plan,
) {
    plan.objects.push(Object::ServiceAccount(service_account(cluster)));
    plan.objects.push(Object::ConfigMap(config_map::config_map(cluster)));
    plan.objects.push(Object::Service(service::peers(cluster)));
    plan.objects.push(Object::Service(service::clients(cluster)));
    for slot in 0..bootstrap.replicas {
        plan.objects.push(Object::Volume(volume::volume(cluster, observed, bootstrap, slot)));
    }
    pods(cluster, observed, env, bootstrap, plan);
    budget::plan(cluster, observed, bootstrap, plan);
}

/// A pod per slot; one that ended is deleted, one that is gone comes back on its volume.
fn pods(
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
    bootstrap: &Bootstrap,
    plan: &mut Plan,
) {
    let foreign = matches!(bootstrap.stage, Stage::Blocked { reason: Reason::ForeignVolumes, .. });
    for slot in 0..bootstrap.replicas {
        let name = names::pod_name(&cluster.name, slot);
        match observed.pods.iter().find(|p| p.name_any() == name) {
            None if foreign => {}
            None => plan.objects.push(Object::Pod(Box::new(pod::pod(cluster, env, slot)))),
            Some(pod) if has_ended(pod) && pod.metadata.deletion_timestamp.is_none() => {
                plan.deletes.push(Delete::Pod { name, uid: pod.uid().unwrap_or_default() });
            }
            Some(_) => {}
        }
    }
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
