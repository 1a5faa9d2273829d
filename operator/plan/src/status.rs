//! What is reported: counts, nodes, groups, and the conditions beside them.

use crate::bootstrap::{Bootstrap, Stage};
use crate::conditions::{Conditions, condition};
use crate::domains::Domain;
use crate::infra;
use crate::names::{node_selector, pod_name, tls_cluster, tls_secret};
use crate::observed::{Node, Observed, Surroundings};
use crate::operation::Work;
use crate::seats::is_serving;
use crate::situation::Situation;
use crate::slots::volume_of;
use crate::validate::{Invalid, Validated};
use crate::{recover, skew, tls};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use multiraft_api::{
    BootstrapStatus, ConditionType, GroupsStatus, MultiRaftCluster, MultiRaftClusterStatus,
    NodeStatus, ObservedGroup, PlannedGroup, REVISION_ANNOTATION, RaftPartitionSliceStatus, Reason,
    TlsMode, TlsStatus, UnhealthyGroup, set_condition,
};
use multiraft_proto::v1;
use std::collections::BTreeMap;

/// Groups named one by one in the status; the slices have all.
const UNHEALTHY_MAX: usize = 20;

/// How one group is.
pub struct GroupHealth {
    id: i32,
    pub leader: Option<String>,
    term: i64,
    connected: usize,
    voters: usize,
}

impl GroupHealth {
    pub fn has_quorum(&self) -> bool {
        self.connected * 2 > self.voters
    }

    fn is_available(&self) -> bool {
        self.leader.is_some() && self.has_quorum()
    }

    /// (worst first, reason).
    fn problem(&self) -> Option<(u8, &'static str)> {
        if !self.has_quorum() {
            Some((0, "QuorumLost"))
        } else if self.leader.is_none() {
            Some((1, "Leaderless"))
        } else if self.connected < self.voters {
            Some((2, "UnderReplicated"))
        } else {
            None
        }
    }
}

fn health(observed: &Observed, group: &PlannedGroup) -> GroupHealth {
    let voters = || group.members.iter().filter(|m| m.role.is_voter());
    let members = || voters().map(|m| (m, observed.nodes.get(&m.node)));
    let id = group.id.unsigned_abs();
    // A node that lost its disk is connected, but holds no member any more.
    let holds = |n: &&Node| {
        let held = n.groups.get(&id);
        n.connected && held.is_some_and(|s| s.phase() != v1::GroupPhase::RolledBack)
    };
    let live = || members().filter_map(|(m, n)| Some((m, n.filter(holds)?)));
    // The newest term that a connected member tells of.
    let states = live().filter_map(|(_, n)| n.groups.get(&id));
    let newest = states.max_by_key(|s| (s.term, s.leader != 0));
    let leader = newest.filter(|s| s.leader != 0).and_then(|s| {
        live().find(|(m, _)| m.node_id as u64 == s.leader).map(|(m, _)| m.node.clone())
    });
    GroupHealth {
        id: group.id,
        leader,
        term: newest.map_or(0, |s| s.term as i64),
        connected: live().count(),
        voters: voters().count(),
    }
}

pub fn slices(
    _: &Validated,
    observed: &Observed,
    _: &Bootstrap,
) -> Vec<(String, RaftPartitionSliceStatus)> {
    let slices = observed.slices.iter();
    slices
        .map(|slice| {
            let groups = slice.spec.groups.iter().map(|g| {
                let h = health(observed, g);
                ObservedGroup {
                    id: h.id,
                    leader: h.leader,
                    term: h.term,
                    connected_voters: h.connected as i32,
                }
            });
            (slice.name_any(), RaftPartitionSliceStatus { groups: groups.collect() })
        })
        .collect()
}

pub fn invalid(
    cluster: &MultiRaftCluster,
    invalid: &Invalid,
    env: &Surroundings,
) -> MultiRaftClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation.unwrap_or(0);
    status.observed_generation = generation;
    let message = invalid.problems.join("; ");
    let mut set = |kind, value, message: &str| {
        let c = condition(kind, value, Reason::InvalidSpec, message.to_owned(), generation, env);
        set_condition(&mut status.conditions, c, &env.now);
    };
    set(ConditionType::Ready, false, &message);
    set(ConditionType::Stalled, true, &message);
    status
}

pub fn status(
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
    bootstrap: &Bootstrap,
    situation: Option<&Situation>,
    work: Option<&Work>,
) -> MultiRaftClusterStatus {
    // What the groups' own configurations say is newer than the slices of this pass.
    let planned: Vec<&PlannedGroup> = match situation {
        Some(s) => s.groups.iter().map(|g| &g.planned).collect(),
        None => bootstrap.groups.iter().collect(),
    };
    let groups: Vec<GroupHealth> = planned.iter().map(|g| health(observed, g)).collect();
    let revision = infra::revision(cluster);
    let pods: Vec<&Pod> =
        bootstrap.slots.all.iter().filter_map(|slot| pod_of(cluster, observed, *slot)).collect();
    let updated = |p: &&&Pod| p.annotations().get(REVISION_ANNOTATION) == Some(&revision);
    let selector: Vec<String> =
        node_selector(&cluster.name).iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut status = MultiRaftClusterStatus {
        observed_generation: cluster.generation,
        cluster_id: Some(bootstrap.cluster_id.clone()),
        selector: Some(selector.join(",")),
        replicas: pods.len() as i32,
        ready_replicas: pods.iter().filter(|p| is_ready(p, observed)).count() as i32,
        updated_replicas: pods.iter().filter(updated).count() as i32,
        template_revision: Some(revision),
        target_version: Some(cluster.spec.version.clone()),
        replication_factor: (!bootstrap.groups.is_empty()).then_some(bootstrap.voters),
        bootstrap: latch(cluster, env, bootstrap),
        groups: Some(counts(cluster, &groups, bootstrap)),
        tls: tls_status(cluster, observed),
        nodes: nodes(cluster, observed, bootstrap, &planned, &groups),
        operation: situation.zip(work).map(|(situation, work)| work.record(situation)),
        recovery: match situation {
            Some(situation) => recover::status(situation, work),
            None => cluster.status.recovery.clone(),
        },
        conditions: cluster.status.conditions.clone(),
        ..Default::default()
    };
    let mut unhealthy: Vec<(u8, UnhealthyGroup)> = groups
        .iter()
        .filter_map(|g| {
            let (rank, reason) = g.problem()?;
            Some((rank, UnhealthyGroup { id: g.id, reason: reason.to_owned() }))
        })
        .collect();
    unhealthy.sort_by_key(|(rank, g)| (*rank, g.id));
    let omitted = unhealthy.len().saturating_sub(UNHEALTHY_MAX) as i32;
    status.unhealthy_groups_omitted = (omitted > 0).then_some(omitted);
    status.unhealthy_groups = unhealthy.into_iter().take(UNHEALTHY_MAX).map(|(_, g)| g).collect();
    Conditions { cluster, observed, env, bootstrap, situation, groups: &groups }.set(&mut status);
    status
}

/// Absent while neither the spec nor any pod has TLS.
fn tls_status(cluster: &Validated, observed: &Observed) -> Option<TlsStatus> {
    let is_used = |pod: &Pod| tls::mode_of(pod) != TlsMode::Disabled;
    let certificate = (observed.certificate.is_some()
        || tls::is_certificate_wanted(cluster, observed))
    .then(|| tls_secret(&cluster.name));
    let any = tls::wanted(cluster) != TlsMode::Disabled
        || certificate.is_some()
        || observed.pods.iter().any(is_used);
    let name = tls_cluster(&cluster.name, &cluster.namespace);
    any.then_some(TlsStatus { mode: cluster.tls.mode, cluster: name, certificate })
}

pub fn pod_of<'a>(cluster: &Validated, observed: &'a Observed, slot: i32) -> Option<&'a Pod> {
    let name = pod_name(&cluster.name, slot);
    observed.pods.iter().find(|p| p.name_any() == name)
}

/// By the probe and by the node's own stream.
fn is_ready(pod: &Pod, observed: &Observed) -> bool {
    is_serving(pod) && observed.nodes.get(&pod.name_any()).is_some_and(|node| node.connected)
}

/// Set once all groups are formed, and then for ever.
fn latch(
    cluster: &Validated,
    env: &Surroundings,
    bootstrap: &Bootstrap,
) -> Option<BootstrapStatus> {
    let present = cluster.status.bootstrap.clone();
    if present.as_ref().is_some_and(|b| b.completed_at.is_some()) {
        return present;
    }
    let plan_hash = bootstrap.plan_hash.clone()?;
    let completed_at = (bootstrap.stage == Stage::Latching).then(|| env.now.clone());
    Some(BootstrapStatus { plan_hash, completed_at })
}

fn counts(cluster: &Validated, groups: &[GroupHealth], bootstrap: &Bootstrap) -> GroupsStatus {
    let count = |f: &dyn Fn(&&GroupHealth) -> bool| groups.iter().filter(f).count() as i32;
    let nodes = bootstrap.slots.names(&cluster.name);
    let mut led: BTreeMap<&str, i32> = nodes.iter().map(|n| (n.as_str(), 0)).collect();
    for leader in groups.iter().filter_map(|g| g.leader.as_deref()) {
        *led.entry(leader).or_default() += 1;
    }
    let formed = match bootstrap.stage {
        Stage::Forming { formed, .. } => formed as i32,
        Stage::Latching | Stage::Active { .. } => groups.len() as i32,
        _ => 0,
    };
    GroupsStatus {
        desired: cluster.spec.groups,
        formed,
        available: count(&|g| g.is_available()),
        fully_replicated: count(&|g| g.is_available() && g.connected == g.voters),
        leaderless: count(&|g| g.leader.is_none()),
        quorum_lost: count(&|g| !g.has_quorum()),
        leader_spread_min: led.values().copied().min().unwrap_or(0),
        leader_spread_max: led.values().copied().max().unwrap_or(0),
    }
}

fn nodes(
    cluster: &Validated,
    observed: &Observed,
    bootstrap: &Bootstrap,
    planned: &[&PlannedGroup],
    groups: &[GroupHealth],
) -> Vec<NodeStatus> {
    let slots = bootstrap.slots.all.iter();
    slots
        .map(|&slot| {
            let name = pod_name(&cluster.name, slot);
            let pod = pod_of(cluster, observed, slot);
            let volume = volume_of(&cluster.name, observed, slot);
            let zone_key = &cluster.spec.placement.zone_key;
            let domain = Domain::of(observed, zone_key, pod, volume);
            let node = observed.nodes.get(&name);
            let info = node.and_then(|n| n.identity.as_ref());
            let connected = node.is_some_and(|n| n.connected);
            let state = match (pod, connected, info) {
                (None, _, _) => "Absent",
                (Some(_), true, Some(info)) if info.draining => "Draining",
                (Some(_), true, Some(info)) if info.activated => "Serving",
                (Some(_), true, _) => "Waiting",
                (Some(_), false, Some(_)) => "Unknown",
                (Some(pod), false, None) if is_running(pod) => "Starting",
                (Some(_), false, None) => "Pending",
            };
            let holds = |voter: bool| {
                let members = planned.iter().flat_map(|g| &g.members);
                members.filter(|m| m.node == name && m.role.is_voter() == voter).count() as i32
            };
            NodeStatus {
                pod_uid: pod.and_then(|p| p.uid()),
                machine: domain.machine.map(str::to_owned),
                zone: domain.zone.map(str::to_owned),
                incarnation: info.map(|i| format!("{:016x}", i.incarnation)),
                version: skew::version_of(cluster, observed, &name).map(str::to_owned),
                state: state.to_owned(),
                connected,
                leaders: groups.iter().filter(|g| g.leader.as_deref() == Some(&name)).count()
                    as i32,
                voters: holds(true),
                learners: holds(false),
                name,
            }
        })
        .collect()
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}
