//! The volumes of the nodes. Their annotations say whose data they hold, so that a cluster of the
//! same name can take it up again, and a foreign one is noticed.

use super::owned;
use crate::bootstrap::{Bootstrap, Stage};
use crate::names::{pod_name, volume_name};
use crate::observed::Observed;
use crate::validate::Validated;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use multiraft_api::{
    CLUSTER_ID_ANNOTATION, INCARNATION_ANNOTATION, SLOT_LABEL, STATE_ANNOTATION,
    STATE_BOOTSTRAPPED, WhenDeleted,
};
use std::collections::BTreeMap;

pub fn volume(
    cluster: &Validated,
    observed: &Observed,
    bootstrap: &Bootstrap,
    slot: i32,
) -> PersistentVolumeClaim {
    let name = volume_name(&cluster.name, slot);
    let present = observed.volumes.iter().find(|v| v.name_any() == name);
    let storage = cluster.spec.storage.as_ref();
    let mut metadata = owned(cluster, name);
    let retention = storage.map(|s| s.retention.when_deleted).unwrap_or_default();
    if retention == WhenDeleted::Retain {
        metadata.owner_references = None;
    }
    if let Some(labels) = &mut metadata.labels {
        labels.insert(SLOT_LABEL.to_owned(), slot.to_string());
    }
    metadata.annotations = Some(annotations(cluster, observed, bootstrap, present, slot));
    let size = storage.map_or(Quantity("1Gi".into()), |s| s.size.clone());
    let requested = present.and_then(request).unwrap_or(size);
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.and_then(|s| s.class_name.clone()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), requested)])),
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: None,
    }
}

/// The size that a volume asks for.
pub fn request(volume: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = volume.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage").cloned()
}

fn annotations(
    cluster: &Validated,
    observed: &Observed,
    bootstrap: &Bootstrap,
    present: Option<&PersistentVolumeClaim>,
    slot: i32,
) -> BTreeMap<String, String> {
    // What a volume says already is never taken back: applying without it would remove it.
    let said = |key: &str| present.and_then(|v| v.annotations().get(key)).cloned();
    let id = said(CLUSTER_ID_ANNOTATION).unwrap_or_else(|| bootstrap.cluster_id.clone());
    let mut all = BTreeMap::from([(CLUSTER_ID_ANNOTATION.to_owned(), id)]);
    let node = observed.nodes.get(&pod_name(&cluster.name, slot));
    let incarnation = node.and_then(|n| n.id()).map(|(_, i)| format!("{i:016x}"));
    if let Some(incarnation) = said(INCARNATION_ANNOTATION).or(incarnation) {
        all.insert(INCARNATION_ANNOTATION.to_owned(), incarnation);
    }
    let latching = matches!(bootstrap.stage, Stage::Latching | Stage::Active { .. });
    if latching || said(STATE_ANNOTATION).is_some() {
        all.insert(STATE_ANNOTATION.to_owned(), STATE_BOOTSTRAPPED.to_owned());
    }
    all
}
