//! Bootstrap, once: planned → written down → sent, fenced → formed → latched → activated.
//!
//! Each stage is found again from what is there, so a crash between any two calls costs nothing.
//! After the latch nothing is ever bootstrapped; data that is lost then is reported.

use crate::adopt;
use crate::names::member_host;
use crate::observed::{Node, Observed, Surroundings};
use crate::placement::{self, Place};
use crate::planning::{Call, NodeCall};
use crate::seats;
use crate::slots::Slots;
use crate::validate::Validated;
use kube::ResourceExt;
use multiraft_api::{
    CLUSTER_ID_ANNOTATION, PEER_PORT, PlannedGroup, PlannedMember, RaftPartitionSliceSpec, Reason,
    STATE_ANNOTATION, STATE_BOOTSTRAPPED,
};
use multiraft_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// Groups in one Bootstrap call.
const BATCH_GROUPS_MAX: usize = 32;

/// How far a cluster is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Pods or their nodes are not all there yet.
    Gathering { missing: Vec<String> },
    /// The plan is to be written, or what was written is not seen back yet.
    Recording { slices: Vec<(String, RaftPartitionSliceSpec)> },
    /// Nodes are told; `calls` may be empty while leaders are elected.
    Forming { calls: Vec<NodeCall>, formed: usize },
    /// All groups are formed: the latch is to be set.
    Latching,
    /// Latched; nodes that are not activated yet are to be.
    Active { calls: Vec<NodeCall>, lost: Vec<String> },
    /// A human is needed.
    Blocked { reason: Reason, message: String },
}

/// The stage and what it rests on.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub cluster_id: String,
    pub plan_hash: Option<String>,
    pub latched: bool,
    pub slots: Slots,
    /// Voters that each group is to have.
    pub voters: i32,
    pub groups: Vec<PlannedGroup>,
    pub stage: Stage,
}

pub fn bootstrap(cluster: &Validated, observed: &Observed, env: &Surroundings) -> Bootstrap {
    let volumes = VolumeFacts::of(observed);
    let mut slices: Vec<&RaftPartitionSliceSpec> =
        observed.slices.iter().map(|s| &s.spec).collect();
    slices.sort_by_key(|s| s.first_group);
    let latched_status =
        cluster.status.bootstrap.as_ref().is_some_and(|b| b.completed_at.is_some());
    let latched = latched_status || volumes.latched;
    let recorded = slices.first().map(|s| s.cluster_id.clone());
    let cluster_id = cluster.status.cluster_id.clone().or(recorded);
    let cluster_id = cluster_id.or_else(|| volumes.ids.first().cloned());
    let cluster_id = cluster_id.unwrap_or_else(|| cluster.uid.clone());
    let groups: Vec<PlannedGroup> = slices.iter().flat_map(|s| s.groups.iter().cloned()).collect();
    let voters = voters(cluster, &groups);
    let slots = match slices.first() {
        Some(_) if latched => Slots::formed(cluster, observed, &groups, voters),
        Some(slice) => Slots::first(slice.replicas),
        None if latched && !observed.volumes.is_empty() => {
            Slots::of_volumes(&cluster.name, observed)
        }
        None => Slots::first(cluster.spec.replicas),
    };
    let mut this = Bootstrap {
        cluster_id,
        plan_hash: slices.first().map(|s| s.plan_hash.clone()),
        latched: latched_status,
        slots,
        voters,
        groups,
        stage: Stage::Latching,
    };
    this.stage = stage(&this, cluster, observed, env, &volumes, latched, &slices);
    this
}

/// As asked; else as they are since the bootstrap.
fn voters(cluster: &Validated, groups: &[PlannedGroup]) -> i32 {
    let planned = groups.iter().map(|g| g.members.iter().filter(|m| m.role.is_voter()).count());
    let since = cluster.status.replication_factor.or(planned.max().map(|n| n as i32));
    cluster.spec.replication_factor.or(since).unwrap_or(cluster.spec.voters() as i32)
}

fn stage(
    this: &Bootstrap,
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
    volumes: &VolumeFacts,
    latched: bool,
    slices: &[&RaftPartitionSliceSpec],
) -> Stage {
    if let Some(message) = foreign(this, observed, volumes) {
        return Stage::Blocked { reason: Reason::ForeignVolumes, message };
    }
    let hashes: BTreeSet<&str> = slices.iter().map(|s| s.plan_hash.as_str()).collect();
    let complete = this.groups.len() == cluster.spec.groups as usize && hashes.len() == 1;
    let missing = missing(this, cluster, observed);
    if complete && latched {
        return active(this, cluster, observed, env);
    }
    if !missing.is_empty() {
        return Stage::Gathering { missing };
    }
    if complete {
        return forming(this, cluster, observed, env);
    }
    let places = places(this, cluster, observed);
    if latched {
        return adopt::adopt(this, cluster, observed, &places);
    }
    // Nothing, or only a part of the plan, is written: the same plan comes out again as long as
    // the nodes are the same.
    let groups = cluster.spec.groups.unsigned_abs();
    let planned =
        placement::slices(&cluster.name, &this.cluster_id, groups, cluster.spec.voters(), &places);
    let plan_hash = planned.first().map_or("", |(_, s)| s.plan_hash.as_str());
    let strange = holders_of_another_plan(observed, plan_hash);
    if !strange.is_empty() {
        return Stage::Blocked {
            reason: Reason::DataLost,
            message: format!(
                "{} holds groups of a plan that is not recorded any more: delete this cluster and \
                 its volumes, it was never open to clients",
                strange.join(", ")
            ),
        };
    }
    if hashes.iter().any(|h| *h != plan_hash) {
        return Stage::Blocked {
            reason: Reason::DataLost,
            message: "a node changed its data directory while the plan was being written: delete \
                      this cluster and its volumes, no data was in it"
                .into(),
        };
    }
    Stage::Recording { slices: planned }
}

fn holders_of_another_plan(observed: &Observed, plan_hash: &str) -> Vec<String> {
    let strange = |node: &&Node| node.groups.values().any(|state| state.plan_hash != plan_hash);
    let nodes = observed.nodes.iter().filter(|(_, node)| strange(node));
    nodes.map(|(name, _)| name.clone()).collect()
}

/// Volumes of one name that carry other identities.
fn foreign(this: &Bootstrap, observed: &Observed, volumes: &VolumeFacts) -> Option<String> {
    if volumes.ids.len() > 1 {
        return Some(format!(
            "the volumes of this name belong to several clusters ({}): delete those that are not \
             wanted",
            volumes.ids.iter().cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    let others: Vec<String> = observed
        .nodes
        .iter()
        .filter(|(_, n)| {
            let id = n.identity.as_ref().map_or("", |i| i.cluster_id.as_str());
            !id.is_empty() && id != this.cluster_id
        })
        .map(|(name, _)| name.clone())
        .collect();
    (!others.is_empty()).then(|| {
        format!("the data of {} belongs to another cluster: delete its volume", others.join(", "))
    })
}

fn missing(this: &Bootstrap, cluster: &Validated, observed: &Observed) -> Vec<String> {
    let names = this.slots.names(&cluster.name).into_iter();
    let known =
        |name: &String| observed.nodes.get(name).is_some_and(|n| n.connected && n.id().is_some());
    names.filter(|n| !known(n)).collect()
}

fn places<'a>(this: &Bootstrap, cluster: &Validated, observed: &'a Observed) -> Vec<Place<'a>> {
    seats::seats(cluster, observed, &this.slots)
        .into_iter()
        .filter_map(|seat| {
            let (node_id, incarnation) = seat.id()?;
            Some(Place { node: seat.name, node_id, incarnation, domain: seat.domain })
        })
        .collect()
}

impl Bootstrap {
    pub fn fence(&self, env: &Surroundings, incarnation: u64) -> v1::Fence {
        v1::Fence {
            cluster_id: self.cluster_id.clone(),
            operator_epoch: env.operator_epoch,
            plan_hash: self.plan_hash.clone().unwrap_or_default(),
            incarnation,
        }
    }
}

fn forming(
    this: &Bootstrap,
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
) -> Stage {
    let lost = lost(this, observed);
    if !lost.is_empty() {
        return Stage::Blocked {
            reason: Reason::DataLost,
            message: format!(
                "{} lost data before the cluster was formed: delete this cluster and its volumes \
                 and create it again, no client data was in it",
                lost.join(", ")
            ),
        };
    }
    let formed = this.groups.iter().filter(|g| is_formed(this, g, observed)).count();
    let calls = bootstrap_calls(this, cluster, observed, env);
    // A majority forms a group, but a member that was not told yet would never be told after the
    // latch: an operator that died between two nodes' calls must first send the rest.
    if formed == this.groups.len() && calls.is_empty() {
        return Stage::Latching;
    }
    Stage::Forming { calls, formed }
}

/// What every node still has to be told of its groups.
fn bootstrap_calls(
    this: &Bootstrap,
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
) -> Vec<NodeCall> {
    let mut calls = Vec::new();
    for (name, node) in &observed.nodes {
        let Some((_, incarnation)) = node.id() else { continue };
        let lacks = |g: &&PlannedGroup| {
            let held = node.groups.get(&g.id.unsigned_abs());
            g.members.iter().any(|m| m.node == *name)
                && held.is_none_or(|s| Some(&s.plan_hash) != this.plan_hash.as_ref())
        };
        let todo: Vec<&PlannedGroup> = this.groups.iter().filter(lacks).collect();
        for batch in todo.chunks(BATCH_GROUPS_MAX) {
            let partitions = batch.iter().map(|g| partition(cluster, g)).collect();
            let request = v1::BootstrapRequest {
                group: None,
                partitions,
                fence: Some(this.fence(env, incarnation)),
            };
            calls.push(NodeCall { node: name.clone(), call: Call::Bootstrap(request) });
        }
    }
    calls
}

fn partition(cluster: &Validated, group: &PlannedGroup) -> v1::PartitionConfig {
    let member = |m: &PlannedMember| v1::MemberConfig {
        node_id: m.node_id as u64,
        host: member_host(&cluster.name, &cluster.namespace, &m.node),
        port: i32::from(PEER_PORT),
        role: v1::MemberRole::Member as i32,
        member_id: m.id as u64,
    };
    v1::PartitionConfig {
        partition_id: group.id.unsigned_abs(),
        members: group.members.iter().map(member).collect(),
        ..Default::default()
    }
}

/// A majority reports the plan's group, and somebody knows its leader.
fn is_formed(this: &Bootstrap, group: &PlannedGroup, observed: &Observed) -> bool {
    let states = group.members.iter().filter_map(|m| {
        let node = observed.nodes.get(&m.node)?;
        node.groups.get(&group.id.unsigned_abs())
    });
    let same: Vec<_> = states.filter(|s| Some(&s.plan_hash) == this.plan_hash.as_ref()).collect();
    same.len() * 2 > group.members.len() && same.iter().any(|s| s.leader != 0)
}

/// Nodes that run on another directory than the plan names.
fn lost(this: &Bootstrap, observed: &Observed) -> Vec<String> {
    let planned: BTreeMap<&str, &str> = this
        .groups
        .iter()
        .flat_map(|g| g.members.iter().map(|m| (m.node.as_str(), m.incarnation.as_str())))
        .collect();
    observed
        .nodes
        .iter()
        .filter(|(name, node)| {
            let (Some(planned), Some((_, now))) = (planned.get(name.as_str()), node.id()) else {
                return false;
            };
            format!("{now:016x}") != **planned
        })
        .map(|(name, _)| name.clone())
        .collect()
}

fn active(this: &Bootstrap, cluster: &Validated, observed: &Observed, env: &Surroundings) -> Stage {
    if !this.latched {
        return Stage::Latching;
    }
    let lost = lost(this, observed);
    // Where all is lost, clients must not find an empty cluster.
    let all_lost = lost.len() == this.slots.all.len();
    // A node that was activated by the release before was not told how many groups there are.
    let waits = |i: &v1::GetInfoResponse| !i.activated || i.cluster_groups == Some(0);
    let waiting = observed
        .nodes
        .iter()
        .filter(|(_, n)| n.connected && !all_lost && n.identity.as_ref().is_some_and(waits));
    let calls = waiting
        .filter_map(|(name, node)| {
            let (_, incarnation) = node.id()?;
            let groups = cluster.spec.groups.unsigned_abs();
            let request = v1::ActivateRequest { groups, fence: Some(this.fence(env, incarnation)) };
            Some(NodeCall { node: name.clone(), call: Call::Activate(request) })
        })
        .collect();
    Stage::Active { calls, lost }
}

/// What the volumes say of themselves.
struct VolumeFacts {
    ids: BTreeSet<String>,
    latched: bool,
}

impl VolumeFacts {
    fn of(observed: &Observed) -> Self {
        let id = |v: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
            v.annotations().get(CLUSTER_ID_ANNOTATION).cloned()
        };
        VolumeFacts {
            ids: observed.volumes.iter().filter_map(id).collect(),
            latched: observed.volumes.iter().any(|v| {
                v.annotations().get(STATE_ANNOTATION).is_some_and(|s| s == STATE_BOOTSTRAPPED)
            }),
        }
    }
}
