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
    STATE_BOOTSTRAPPED, STATE_RETIRED, WhenDeleted,
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

/// The same volume, asking for more.
pub fn grown(
    cluster: &Validated,
    observed: &Observed,
    bootstrap: &Bootstrap,
    slot: i32,
    size: Quantity,
) -> PersistentVolumeClaim {
    let mut volume = volume(cluster, observed, bootstrap, slot);
    let resources = volume.spec.as_mut().and_then(|spec| spec.resources.as_mut());
    if let Some(requests) = resources.and_then(|r| r.requests.as_mut()) {
        requests.insert("storage".to_owned(), size);
    }
    volume
}

/// A volume that was scaled away and is kept for people to look at: owned by nobody, for nobody.
pub fn retired(present: &PersistentVolumeClaim) -> PersistentVolumeClaim {
    let mut volume = present.clone();
    volume.metadata.managed_fields = None;
    volume.metadata.resource_version = None;
    volume.metadata.owner_references = None;
    let retired = (STATE_ANNOTATION.to_owned(), STATE_RETIRED.to_owned());
    volume.metadata.annotations.get_or_insert_default().extend([retired]);
    volume.status = None;
    volume
}

/// The size that a volume asks for.
pub fn request(volume: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = volume.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage").cloned()
}

/// Bytes of a quantity: 1Gi, 1024Mi and 1073741824 are the same.
pub fn bytes(quantity: &Quantity) -> Option<u128> {
    let text = quantity.0.as_str();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u128 = text[..split].parse().ok()?;
    let (base, powers): (u128, &str) = match text.ends_with('i') {
        true => (1024, "KMGTPE"),
        false => (1000, "kMGTPE"),
    };
    let power = match text[split..].trim_end_matches('i') {
        "" => 0,
        unit => powers.find(unit)? as u32 + 1,
    };
    number.checked_mul(base.pow(power))
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
    // A directory that was wiped is another one, whatever the volume says.
    if let Some(incarnation) = incarnation.or(said(INCARNATION_ANNOTATION)) {
        all.insert(INCARNATION_ANNOTATION.to_owned(), incarnation);
    }
    let latching = matches!(bootstrap.stage, Stage::Latching | Stage::Active { .. });
    if latching || said(STATE_ANNOTATION).is_some() {
        all.insert(STATE_ANNOTATION.to_owned(), STATE_BOOTSTRAPPED.to_owned());
    }
    all
}
