//! Conditions: what holds, and in words what to do where it does not.

use crate::bootstrap::{Bootstrap, Stage};
use crate::infra;
use crate::names::pod_name;
use crate::observed::{Observed, Surroundings};
use crate::planning::{KubeEvent, Severity};
use crate::status::{GroupHealth, pod_of};
use crate::validate::Validated;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use multiraft_api::{
    ConditionType, MultiRaftClusterStatus, REVISION_ANNOTATION, Reason, set_condition,
};

pub fn condition(
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

/// What the conditions rest on.
pub struct Conditions<'a> {
    pub cluster: &'a Validated,
    pub observed: &'a Observed,
    pub env: &'a Surroundings,
    pub bootstrap: &'a Bootstrap,
    pub groups: &'a [GroupHealth],
}

impl Conditions<'_> {
    pub fn set(&self, status: &mut MultiRaftClusterStatus) {
        let (available, reason, message) = self.available();
        let unavailable = (!available).then(|| (reason, message.clone()));
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
        let unformed = (!latched).then(|| (reason, message.clone()));
        self.put(status, ConditionType::Bootstrapped, latched, reason, message);
        let stalled = self.stalled();
        self.transient(status, ConditionType::Stalled, stalled.clone());
        let reconciling = unformed.clone().filter(|_| stalled.is_none());
        let reconciling = reconciling.map(|(_, message)| (Reason::Bootstrapping, message));
        self.transient(status, ConditionType::Reconciling, reconciling);
        self.ready(status, stalled.or(unformed).or(unavailable), connected);
    }

    /// `cause`: why the cluster cannot be ready, when that is known from the other conditions.
    fn ready(
        &self,
        status: &mut MultiRaftClusterStatus,
        cause: Option<(Reason, String)>,
        connected: bool,
    ) {
        let desired = self.bootstrap.replicas;
        let all_ready = status.ready_replicas == desired;
        let (reason, message) = if self.cluster.spec.paused {
            (Reason::Paused, "spec.paused: the operator changes nothing".to_owned())
        } else if let Some(cause) = cause {
            cause
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
