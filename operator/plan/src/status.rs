//! What is reported: counts, nodes, conditions with the next action in their messages.

use crate::bootstrap::{Bootstrap, Stage};
use crate::infra;
use crate::names::{node_selector, pod_name};
use crate::observed::{Node, Observed, Surroundings};
use crate::planning::{KubeEvent, Severity};
use crate::validate::{Invalid, Validated};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use multiraft_api::{
    BootstrapStatus, ConditionType, GroupsStatus, MultiRaftCluster, MultiRaftClusterStatus,
    NodeStatus, ObservedGroup, PlannedGroup, REVISION_ANNOTATION, RaftPartitionSliceStatus, Reason,
    UnhealthyGroup, set_condition,
};
use std::collections::BTreeMap;

/// Groups named one by one in the status; the slices have all.
const UNHEALTHY_MAX: usize = 20;

/// How one group is.
struct GroupHealth {
    id: i32,
    leader: Option<String>,
    term: i64,
    connected: usize,
    voters: usize,
}

impl GroupHealth {
    fn has_quorum(&self) -> bool {
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
    let members = || group.members.iter().map(|m| (m, observed.nodes.get(&m.node)));
    let id = group.id.unsigned_abs();
    // A node that lost its disk is connected, but holds no member any more.
    let holds = |n: &&Node| n.connected && n.groups.contains_key(&id);
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
        voters: group.members.len(),
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
) -> MultiRaftClusterStatus {
    let groups: Vec<GroupHealth> = bootstrap.groups.iter().map(|g| health(observed, g)).collect();
    let revision = infra::revision(cluster, env);
    let pods: Vec<&Pod> =
        (0..bootstrap.replicas).filter_map(|slot| pod_of(cluster, observed, slot)).collect();
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
        replication_factor: bootstrap.groups.first().map(|g| g.members.len() as i32),
        bootstrap: latch(cluster, env, bootstrap),
        groups: Some(counts(cluster, &groups, bootstrap)),
        nodes: nodes(cluster, observed, bootstrap, &groups),
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
    Conditions { cluster, observed, env, bootstrap, groups: &groups }.set(&mut status);
    status
}

fn pod_of<'a>(cluster: &Validated, observed: &'a Observed, slot: i32) -> Option<&'a Pod> {
    let name = pod_name(&cluster.name, slot);
    observed.pods.iter().find(|p| p.name_any() == name)
}

/// By the probe and by the node's own stream. The pod's Ready condition says less: after an outage
/// of the API server Kubernetes' node controller finds the kubelets silent and sets it to False on
/// every pod, and kubelets were seen to take 9 to 60 s to mend that.
fn is_ready(pod: &Pod, observed: &Observed) -> bool {
    let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let probed = containers.is_some_and(|all| !all.is_empty() && all.iter().all(|c| c.ready));
    probed && observed.nodes.get(&pod.name_any()).is_some_and(|node| node.connected)
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
    let nodes: Vec<String> =
        (0..bootstrap.replicas).map(|slot| pod_name(&cluster.name, slot)).collect();
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
    groups: &[GroupHealth],
) -> Vec<NodeStatus> {
    let slots = 0..bootstrap.replicas;
    slots
        .map(|slot| {
            let name = pod_name(&cluster.name, slot);
            let pod = pod_of(cluster, observed, slot);
            let node = observed.nodes.get(&name);
            let info = node.and_then(|n| n.identity.as_ref());
            let connected = node.is_some_and(|n| n.connected);
            let state = match (pod, connected, info) {
                (None, _, _) => "Absent",
                (Some(_), true, Some(info)) if info.activated => "Serving",
                (Some(_), true, _) => "Waiting",
                (Some(_), false, Some(_)) => "Unknown",
                (Some(pod), false, None) if is_running(pod) => "Starting",
                (Some(_), false, None) => "Pending",
            };
            let holds =
                bootstrap.groups.iter().filter(|g| g.members.iter().any(|m| m.node == name));
            NodeStatus {
                pod_uid: pod.and_then(|p| p.uid()),
                incarnation: info.map(|i| format!("{:016x}", i.incarnation)),
                version: info.map(|i| i.version.clone()),
                state: state.to_owned(),
                connected,
                leaders: groups.iter().filter(|g| g.leader.as_deref() == Some(&name)).count()
                    as i32,
                voters: holds.count() as i32,
                learners: 0,
                name,
            }
        })
        .collect()
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
}

fn condition(
    kind: ConditionType,
    value: bool,
    reason: Reason,
    message: String,
    generation: i64,
    env: &Surroundings,
) -> Condition {
    Condition {
        type_: format!("{kind:?}"),
        status: if value { "True" } else { "False" }.to_owned(),
        reason: format!("{reason:?}"),
        message,
        observed_generation: Some(generation),
        last_transition_time: env.now.clone(),
    }
}

struct Conditions<'a> {
    cluster: &'a Validated,
    observed: &'a Observed,
    env: &'a Surroundings,
    bootstrap: &'a Bootstrap,
    groups: &'a [GroupHealth],
}

impl Conditions<'_> {
    fn set(&self, status: &mut MultiRaftClusterStatus) {
        let (available, reason, message) = self.available();
        self.put(status, ConditionType::Available, available, reason, message);
        let down = self.down();
        let connected = down.is_empty();
        let (reason, message) = match connected {
            true => (Reason::AllConnected, "every node's stream is live".to_owned()),
            false => (
                Reason::StreamDown,
                format!(
                    "no live stream of {}: look at the pods; a network policy may keep the \
                     operator out",
                    down.join(", ")
                ),
            ),
        };
        self.put(status, ConditionType::NodesConnected, connected, reason, message);
        let latched = status.bootstrap.as_ref().is_some_and(|b| b.completed_at.is_some());
        let (reason, message) = self.progress();
        self.put(status, ConditionType::Bootstrapped, latched, reason, message.clone());
        let stalled = self.stalled();
        self.transient(status, ConditionType::Stalled, stalled.clone());
        let reconciling =
            (!latched && stalled.is_none()).then_some((Reason::Bootstrapping, message));
        self.transient(status, ConditionType::Reconciling, reconciling);
        self.ready(status, latched, available, connected);
    }

    fn ready(
        &self,
        status: &mut MultiRaftClusterStatus,
        latched: bool,
        available: bool,
        connected: bool,
    ) {
        let desired = self.bootstrap.replicas;
        let all_ready = status.ready_replicas == desired;
        let (reason, message) = if self.cluster.spec.paused {
            (Reason::Paused, "spec.paused: the operator changes nothing".to_owned())
        } else if let Some(stalled) = self.stalled() {
            stalled
        } else if !latched {
            self.progress()
        } else if !available {
            let (_, reason, message) = self.available();
            (reason, message)
        } else if !connected || !all_ready {
            let message =
                format!("{} of {desired} nodes are ready; all groups work", status.ready_replicas);
            (Reason::Degraded, message)
        } else {
            (Reason::Reconciled, format!("{desired} nodes serve {} groups", self.groups.len()))
        };
        let ready = reason == Reason::Reconciled;
        self.put(status, ConditionType::Ready, ready, reason, message);
    }

    fn available(&self) -> (bool, Reason, String) {
        let total = self.cluster.spec.groups;
        let lost = self.groups.iter().filter(|g| !g.has_quorum()).count();
        let leaderless = self.groups.iter().filter(|g| g.leader.is_none()).count();
        if self.groups.is_empty() {
            (false, Reason::Bootstrapping, "no group exists yet".to_owned())
        } else if lost > 0 {
            (
                false,
                Reason::QuorumLost,
                format!("{lost} of {total} groups have no quorum of connected nodes"),
            )
        } else if leaderless > 0 {
            (
                false,
                Reason::GroupsLeaderless,
                format!("{leaderless} of {total} groups have no leader"),
            )
        } else {
            (true, Reason::AllGroupsAvailable, format!("all {total} groups have a leader"))
        }
    }

    fn down(&self) -> Vec<String> {
        let names = (0..self.bootstrap.replicas).map(|slot| pod_name(&self.cluster.name, slot));
        names.filter(|n| !self.observed.nodes.get(n).is_some_and(|node| node.connected)).collect()
    }

    fn progress(&self) -> (Reason, String) {
        match &self.bootstrap.stage {
            Stage::Gathering { missing } => {
                (Reason::Bootstrapping, format!("waiting for nodes: {}", missing.join(", ")))
            }
            Stage::Recording { .. } => {
                (Reason::Bootstrapping, "writing the plan of all groups down".to_owned())
            }
            Stage::Forming { formed, .. } => (
                Reason::Bootstrapping,
                format!("{formed} of {} groups are formed", self.cluster.spec.groups),
            ),
            Stage::Latching | Stage::Active { .. } => (
                Reason::PlanRecorded,
                "all groups were formed; this never happens again".to_owned(),
            ),
            Stage::Blocked { reason, message } => (*reason, message.clone()),
        }
    }

    /// Why a human is needed.
    fn stalled(&self) -> Option<(Reason, String)> {
        match &self.bootstrap.stage {
            Stage::Blocked { reason, message } => return Some((*reason, message.clone())),
            Stage::Active { lost, .. } if lost.len() as i32 == self.bootstrap.replicas => {
                return Some((
                    Reason::AllDataLost,
                    "every node runs on an empty directory: restore the volumes; the operator \
                     never forms a cluster twice"
                        .to_owned(),
                ));
            }
            Stage::Active { lost, .. } if !lost.is_empty() => {
                return Some((
                    Reason::DataLost,
                    format!(
                        "{} runs on another directory than its groups were formed on and stays \
                         out; replacing a node comes with a later release",
                        lost.join(", ")
                    ),
                ));
            }
            _ => {}
        }
        let changes = self.unsupported();
        (!changes.is_empty()).then(|| (Reason::UnsupportedChange, changes.join("; ")))
    }

    /// Changes that later releases carry out: said, never ignored.
    fn unsupported(&self) -> Vec<String> {
        let (spec, mut all) = (&self.cluster.spec, Vec::new());
        if spec.replicas != self.bootstrap.replicas {
            all.push(format!(
                "spec.replicas: the cluster runs {} nodes, scaling to {} comes with a later \
                 release",
                self.bootstrap.replicas, spec.replicas
            ));
        }
        let voters = self.bootstrap.groups.first().map(|g| g.members.len());
        if let (Some(asked), Some(voters)) = (spec.replication_factor, voters)
            && asked as usize != voters
        {
            all.push(format!(
                "spec.replicationFactor: groups have {voters} voters, changing that comes with a \
                 later release"
            ));
        }
        let size = spec.storage.as_ref().map(|s| s.size.clone());
        let requests: Vec<_> =
            self.observed.volumes.iter().filter_map(crate::infra::volume_request).collect();
        if let Some(size) = size
            && requests.iter().any(|r| *r != size)
        {
            all.push("spec.storage.size: growing volumes comes with a later release".to_owned());
        }
        let revision = infra::revision(self.cluster, self.env);
        let old: Vec<String> = (0..self.bootstrap.replicas)
            .filter_map(|slot| pod_of(self.cluster, self.observed, slot))
            .filter(|p| p.annotations().get(REVISION_ANNOTATION) != Some(&revision))
            .map(|p| p.name_any())
            .collect();
        if !old.is_empty() {
            all.push(format!(
                "the pod template changed: {} keep the old one until they are deleted; rolling \
                 updates come with a later release",
                old.join(", ")
            ));
        }
        all
    }

    fn put(
        &self,
        status: &mut MultiRaftClusterStatus,
        kind: ConditionType,
        value: bool,
        reason: Reason,
        message: String,
    ) {
        let new = condition(kind, value, reason, message, self.cluster.generation, self.env);
        set_condition(&mut status.conditions, new, &self.env.now);
    }

    /// Present only while true.
    fn transient(
        &self,
        status: &mut MultiRaftClusterStatus,
        kind: ConditionType,
        cause: Option<(Reason, String)>,
    ) {
        match cause {
            Some((reason, message)) => self.put(status, kind, true, reason, message),
            None => status.conditions.retain(|c| c.type_ != format!("{kind:?}")),
        }
    }
}

/// What is worth telling: conditions that changed.
pub fn events(before: &MultiRaftClusterStatus, after: &MultiRaftClusterStatus) -> Vec<KubeEvent> {
    let old = |kind: &str| before.conditions.iter().find(|c| c.type_ == kind);
    let told = after.conditions.iter().filter(|c| {
        let changed = old(&c.type_).is_none_or(|o| o.status != c.status || o.reason != c.reason);
        let worth = matches!(c.type_.as_str(), "Ready" | "Bootstrapped" | "Stalled");
        changed && worth && (c.status == "True" || old(&c.type_).is_some())
    });
    told.map(|c| {
        let bad = (c.type_ == "Stalled") == (c.status == "True");
        KubeEvent {
            severity: if bad { Severity::Warning } else { Severity::Normal },
            reason: c.reason.clone(),
            note: format!("{}: {}", c.type_, c.message),
        }
    })
    .collect()
}
