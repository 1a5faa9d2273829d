//! Which slots a cluster has, and which of them go when it shrinks. A slot is a number with a pod, a
//! volume and, most of the time, members of groups.
//!
//! Nothing is remembered: a slot is there while any of its three is.

use crate::names::{self, slot_of};
use crate::observed::Observed;
use crate::validate::Validated;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource, ResourceExt};
use multiraft_api::{DECOMMISSION_ANNOTATION, PlannedGroup, STATE_ANNOTATION, STATE_RETIRED};
use std::collections::BTreeSet;

/// The slots of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// All, ascending; those of `leaving` included.
    pub all: Vec<i32>,
    /// To be emptied and removed, the first one first.
    pub leaving: Vec<i32>,
}

impl Slots {
    /// Before the latch: the first ones.
    pub fn first(count: i32) -> Self {
        Slots { all: (0..count).collect(), leaving: Vec::new() }
    }

    /// Slots whose volumes are there.
    pub fn of_volumes(cluster: &str, observed: &Observed) -> Self {
        let volumes = observed.volumes.iter().filter(|v| !is_retired(v));
        let all: BTreeSet<i32> = volumes.filter_map(|v| volume_slot(cluster, v)).collect();
        Slots { all: all.into_iter().collect(), leaving: Vec::new() }
    }

    /// After the latch: what is there, less or more as `spec.replicas` asks. `voters`: the cluster
    /// never gets smaller than a group.
    pub fn formed(
        cluster: &Validated,
        observed: &Observed,
        groups: &[PlannedGroup],
        voters: i32,
    ) -> Self {
        let name = cluster.name.as_str();
        let holding = holding(name, groups);
        let mut all = holding.clone();
        all.extend(observed.pods.iter().filter_map(|p| slot_of(name, &p.name_any())));
        let kept = observed.volumes.iter().filter(|v| !is_retired(v));
        all.extend(kept.filter_map(|v| volume_slot(name, v)));
        let doomed = |slot: &i32| {
            let ends = |v: &PersistentVolumeClaim| is_retired(v) || is_terminating(v);
            !holding.contains(slot) && volume_of(name, observed, *slot).is_some_and(ends)
        };
        let mut leaving: Vec<i32> = all.iter().copied().filter(doomed).collect();
        let replicas = cluster.spec.replicas;
        if replicas < voters {
            return Slots { all: all.into_iter().collect(), leaving };
        }
        let mut rest: Vec<i32> = all.iter().copied().filter(|s| !doomed(s)).collect();
        // What holds nothing yet goes most cheaply; then whom somebody chose; then the highest.
        let chosen = |slot: i32| is_chosen(name, observed, slot);
        rest.sort_by_key(|s| (holding.contains(s), !chosen(*s), -s));
        let surplus = rest.len().saturating_sub(replicas as usize);
        leaving.extend(rest.iter().take(surplus));
        // A slot that is about to be free is taken again rather than another one.
        if leaving.is_empty() {
            let free = (0..).filter(|s| volume_of(name, observed, *s).is_none());
            let free: Vec<i32> = free.filter(|s| !all.contains(s)).take(99).collect();
            let lacking = (replicas as usize).saturating_sub(all.len());
            all.extend(free.iter().take(lacking));
        }
        Slots { all: all.into_iter().collect(), leaving }
    }

    pub fn names(&self, cluster: &str) -> Vec<String> {
        self.all.iter().map(|slot| names::pod_name(cluster, *slot)).collect()
    }
}

/// Slots that hold members, or are about to.
pub fn holding(cluster: &str, groups: &[PlannedGroup]) -> BTreeSet<i32> {
    let members = groups.iter().flat_map(|g| &g.members);
    members.filter_map(|m| slot_of(cluster, &m.node)).collect()
}

pub fn volume_of<'a>(
    cluster: &str,
    observed: &'a Observed,
    slot: i32,
) -> Option<&'a PersistentVolumeClaim> {
    let name = names::volume_name(cluster, slot);
    observed.volumes.iter().find(|v| v.name_any() == name)
}

pub fn is_retired(volume: &PersistentVolumeClaim) -> bool {
    volume.annotations().get(STATE_ANNOTATION).is_some_and(|s| s == STATE_RETIRED)
}

pub fn is_terminating<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

fn volume_slot(cluster: &str, volume: &PersistentVolumeClaim) -> Option<i32> {
    slot_of(&format!("data-{cluster}"), &volume.name_any())
}

fn is_chosen(cluster: &str, observed: &Observed, slot: i32) -> bool {
    let name = names::pod_name(cluster, slot);
    let pod = observed.pods.iter().find(|p| p.name_any() == name);
    let by_pod = pod.is_some_and(|p| p.annotations().contains_key(DECOMMISSION_ANNOTATION));
    let volume = volume_of(cluster, observed, slot);
    by_pod || volume.is_some_and(|v| v.annotations().contains_key(DECOMMISSION_ANNOTATION))
}
