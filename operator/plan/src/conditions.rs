//! Conditions: what holds, and in words what to do where it does not.

use crate::balance;
use crate::bootstrap::{Bootstrap, Stage};
use crate::certificates;
use crate::groups::Group;
use crate::moves;
use crate::names::pod_name;
use crate::observed::{Observed, Surroundings};
use crate::planning::{KubeEvent, Severity};
use crate::replace;
use crate::seats::Seat;
use crate::situation::Situation;
use crate::skew::Skew;
use crate::status::GroupHealth;
use crate::validate::Validated;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use multiraft_api::{
    ConditionType, MultiRaftClusterStatus, Operation, OperationType, PlannedMember, Reason,
    UpdateKind, set_condition,
};
use std::collections::BTreeSet;

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
    /// Of a cluster that is formed.
    pub situation: Option<&'a Situation<'a>>,
    pub groups: &'a [GroupHealth],
}

impl Conditions<'_> {
    pub fn set(&self, status: &mut MultiRaftClusterStatus) {
        let (available, reason, message) = self.available();
        let unavailable = (!available).then(|| (reason, message.clone()));
        self.put(status, ConditionType::Available, available, reason, message);
        let connected = self.connected(status);
        self.certificates(status);
        let latched = status.bootstrap.as_ref().is_some_and(|b| b.completed_at.is_some());
        let (reason, message) = self.progress();
        let unformed = (!latched).then(|| (reason, message.clone()));
        self.put(status, ConditionType::Bootstrapped, latched, reason, message);
        self.load(status);
        self.upgradeable(status);
        let paused = self.cluster.paused.then(|| {
            let message = "spec.paused or its annotation: the operator changes nothing";
            (Reason::Paused, message.to_owned())
        });
        self.transient(status, ConditionType::Paused, paused.clone());
        let stalled = self.stalled(status);
        self.transient(status, ConditionType::Stalled, stalled.clone());
        let changes = change(status);
        let reconciling = match &unformed {
            Some((_, message)) => Some((Reason::Bootstrapping, message.clone())),
            None => changes.clone(),
        };
        let reconciling = reconciling.filter(|_| stalled.is_none());
        self.transient(status, ConditionType::Reconciling, reconciling);
        let changed = changes.or_else(|| self.outdated(status));
        let waits = certificates::blocking(self.cluster, self.observed, connected);
        let cause = paused.or(stalled).or(waits).or(unformed).or(unavailable).or(changed);
        self.ready(status, cause, connected);
    }

    fn connected(&self, status: &mut MultiRaftClusterStatus) -> bool {
        let down = self.down();
        let connected = down.is_empty();
        let (reason, message) = match connected {
            true => (Reason::AllConnected, "every node's stream is live".to_owned()),
            false => {
                let error = |name| self.observed.nodes.get(name)?.error.as_deref();
                let error = down.iter().find_map(error).map(|why| format!(" ({why})"));
                let hint = certificates::hint(self.cluster);
                (
                    Reason::StreamDown,
                    format!(
                        "no live stream of {}{}: look at the pods; a network policy may keep the \
                         operator out{}",
                        down.join(", "),
                        error.unwrap_or_default(),
                        hint.unwrap_or_default()
                    ),
                )
            }
        };
        self.put(status, ConditionType::NodesConnected, connected, reason, message);
        connected
    }

    fn certificates(&self, status: &mut MultiRaftClusterStatus) {
        let kind = ConditionType::CertificatesReady;
        match certificates::judge(self.cluster, self.observed, self.env) {
            Some((reason, message)) => {
                let well = reason == Reason::CertificatesValid;
                self.put(status, kind, well, reason, message);
            }
            None => self.transient(status, kind, None),
        }
    }

    /// `cause`: why the cluster cannot be ready, when that is known from the other conditions.
    fn ready(
        &self,
        status: &mut MultiRaftClusterStatus,
        cause: Option<(Reason, String)>,
        connected: bool,
    ) {
        let desired = self.bootstrap.slots.all.len() as i32;
        let all_ready = status.ready_replicas == desired;
        let (reason, message) = if let Some(cause) = cause {
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
                format!(
                    "{lost} of {total} groups have no quorum of connected nodes: bring nodes \
                     back; where their data is gone for good, spec.recovery goes on without it"
                ),
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

    /// How well the groups are replicated and spread.
    fn load(&self, status: &mut MultiRaftClusterStatus) {
        let Some(s) = self.situation else { return };
        let whole = s.groups.iter().filter(|g| g.is_whole(s.voters)).count();
        let (total, voters) = (s.groups.len(), s.voters);
        let all = whole == total;
        let reason = if all { Reason::AllReplicated } else { Reason::UnderReplicated };
        let message = format!("{whole} of {total} groups have {voters} voters that are caught up");
        self.put(status, ConditionType::FullyReplicated, all, reason, message);
        let staying = || s.seats.iter().filter(|seat| !seat.leaving);
        let spread = |counts: Vec<usize>| {
            (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0))
        };
        let loads = s.loads();
        let members = spread(staying().filter_map(|t| loads.get(&t.slot).copied()).collect());
        let leaders = spread(staying().map(|t| s.led_by(t.slot, false)).collect());
        let message = format!(
            "each node holds {} to {} members and leads {} to {} groups",
            members.0, members.1, leaders.0, leaders.1
        );
        // What no move betters is as even as zones and machines let it be.
        let rest = staying().all(Seat::is_ready);
        let movable = s.groups.iter().any(|g| moves::gain(s, g, &loads).is_some());
        let members = !movable && (rest || members.1 - members.0 <= 1);
        let leaders = leaders.1 - leaders.0 <= 2 || (rest && balance::transfers(s).is_empty());
        let (reason, message) = match s.shared_machine() {
            _ if !(members && leaders) => (Reason::Uneven, message),
            Some(shared) => (Reason::MachineShared, shared),
            None => (Reason::Balanced, message),
        };
        self.put(status, ConditionType::Balanced, reason == Reason::Balanced, reason, message);
    }

    /// Whether all nodes run one version, and well.
    fn upgradeable(&self, status: &mut MultiRaftClusterStatus) {
        let Some(s) = self.situation else { return };
        let versions: BTreeSet<&str> =
            status.nodes.iter().filter_map(|node| node.version.as_deref()).collect();
        let whole = s.groups.iter().all(|g| g.is_whole(s.voters));
        let (reason, message) = if let Some(skew) = &self.cluster.skew {
            (Reason::VersionSkew, detour(skew))
        } else if let Some((_, message)) = change(status) {
            (Reason::OperationInProgress, format!("something else is under way: {message}"))
        } else if versions.len() > 1 {
            let versions = versions.into_iter().collect::<Vec<_>>().join(" and ");
            (Reason::VersionSkew, format!("nodes run {versions}: the next version waits for all"))
        } else if !whole {
            (Reason::UnderReplicated, "groups have members that are down or behind".to_owned())
        } else {
            (
                Reason::UpgradeAllowed,
                "spec.version may go to a patch version, or to the minor version beside it"
                    .to_owned(),
            )
        };
        let well = reason == Reason::UpgradeAllowed;
        self.put(status, ConditionType::Upgradeable, well, reason, message);
    }

    fn down(&self) -> Vec<String> {
        let names = self.bootstrap.slots.names(&self.cluster.name).into_iter();
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
    fn stalled(&self, status: &MultiRaftClusterStatus) -> Option<(Reason, String)> {
        match &self.bootstrap.stage {
            Stage::Blocked { reason, message } => return Some((*reason, message.clone())),
            Stage::Active { lost, .. }
                if lost.len() == self.bootstrap.slots.all.len() && !lost.is_empty() =>
            {
                let message = "every node runs on an empty directory: restore the volumes; the \
                               operator never forms a cluster twice";
                return Some((Reason::AllDataLost, message.to_owned()));
            }
            _ => {}
        }
        let missing = Reason::OperatorCertificateMissing;
        let held = self.cluster.tls.held.clone().filter(|(reason, _)| *reason == missing);
        let locked_out = certificates::locked_out(self.cluster, self.observed, self.env);
        if let Some(cause) = held.or(locked_out.map(|why| (missing, why))) {
            return Some(cause);
        }
        let s = self.situation?;
        let lost = self.lost(s).or_else(|| self.impossible(s));
        lost.or_else(|| self.too_far(status)).or_else(|| self.overdue(status))
    }

    /// Nodes that are lost and may not be replaced.
    fn lost(&self, s: &Situation) -> Option<(Reason, String)> {
        let losses = replace::losses(s).into_iter();
        let mut kept = losses.filter_map(|loss| {
            let name = pod_name(&self.cluster.name, loss.slot);
            let why_not = replace::may_discard(s, &loss).err()?;
            Some((Reason::DataLost, format!("{name}: {}; {why_not}", loss.why)))
        });
        let gone =
            |g: &Group| g.led.is_none() && g.planned.members.iter().all(|m| self.lacks(m, g));
        let gone = s.groups.iter().filter(|g| gone(g)).count();
        let all_gone = || {
            let words = "groups have no member left on any node: restore the volumes";
            (gone > 0).then(|| (Reason::DataLost, format!("{gone} {words}")))
        };
        kept.next().or_else(all_gone)
    }

    /// Its node is heard of, and runs on a directory that does not have the group.
    fn lacks(&self, member: &PlannedMember, group: &Group) -> bool {
        let node = self.observed.nodes.get(&member.node);
        node.is_some_and(|n| n.connected && !n.groups.contains_key(&group.id))
    }

    /// What the spec asks for and nobody can do.
    fn impossible(&self, s: &Situation) -> Option<(Reason, String)> {
        let replicas = self.cluster.spec.replicas;
        if replicas < self.bootstrap.voters {
            let voters = self.bootstrap.voters;
            return Some((
                Reason::InvalidSpec,
                format!(
                    "spec.replicas: {replicas} nodes cannot hold {voters} voters of a group; ask \
                     for {voters} nodes or lower spec.replicationFactor"
                ),
            ));
        }
        let refused = s.observed.growth_refused.as_ref()?;
        Some((Reason::VolumeNotResizable, format!("spec.storage.size: {refused}")))
    }

    /// A version that no node can go to, because none runs what is between.
    fn too_far(&self, status: &MultiRaftClusterStatus) -> Option<(Reason, String)> {
        let skew = self.cluster.skew.as_ref()?;
        let all_alike = status.updated_replicas == status.replicas;
        all_alike.then(|| (Reason::VersionSkew, format!("{}: set that one", detour(skew))))
    }

    /// A step that makes no progress.
    fn overdue(&self, status: &MultiRaftClusterStatus) -> Option<(Reason, String)> {
        let operation = status.operation.as_ref()?;
        if operation.kind == OperationType::Rebalance || self.env.now.0 < operation.deadline.0 {
            return None;
        }
        let held_back = self.observed.held_back.as_ref();
        let held_back = held_back.map(|why| format!("; {why}")).unwrap_or_default();
        let (kind, step) = (operation.kind, &operation.step);
        let message =
            format!("{kind:?} makes no progress at {step}: {}{held_back}", operation.message);
        Some((Reason::StepTimeout, message))
    }

    /// Pods that wait for somebody to delete them, or for their turn.
    fn outdated(&self, status: &MultiRaftClusterStatus) -> Option<(Reason, String)> {
        let old = status.replicas - status.updated_replicas;
        let by_hand = self.cluster.spec.update_strategy.kind == UpdateKind::OnDelete;
        let how = if by_hand { ": delete them one by one" } else { "" };
        (old > 0).then(|| (Reason::RollingUpdate, format!("{old} pods have an old template{how}")))
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

fn detour(skew: &Skew) -> String {
    let Skew { wanted, pod, runs } = skew;
    format!(
        "spec.version: {pod} runs {runs}, which {wanted} does not understand; all nodes must run the \
         minor version between first"
    )
}

/// What is under way, as the reason why the cluster is not ready. A more even load changes nothing
/// about that.
fn change(status: &MultiRaftClusterStatus) -> Option<(Reason, String)> {
    let operation = status.operation.as_ref()?;
    let reason = match operation.kind {
        OperationType::ScaleUp | OperationType::ScaleDown => Reason::Scaling,
        OperationType::Roll => Reason::RollingUpdate,
        OperationType::Replace => Reason::Replacing,
        OperationType::Recover => Reason::Recovering,
        OperationType::Rebalance => return None,
    };
    Some((reason, operation.message.clone()))
}

/// What is worth telling: conditions that changed, operations that began or ended.
pub fn events(before: &MultiRaftClusterStatus, after: &MultiRaftClusterStatus) -> Vec<KubeEvent> {
    let mut events = changed_conditions(before, after);
    let name = |o: &Operation| format!("{:?} of {}", o.kind, o.subject);
    let (old, new) = (before.operation.as_ref(), after.operation.as_ref());
    let normal = |reason: String, note: String| {
        let severity = Severity::Normal;
        KubeEvent { severity, reason, note }
    };
    if let Some(o) = new.filter(|new| old.map(name) != Some(name(new))) {
        events.push(normal(format!("{:?}", o.kind), format!("{}: {}", name(o), o.message)));
    }
    if let Some(o) = old.filter(|_| new.is_none()) {
        events.push(normal(format!("{:?}Done", o.kind), format!("{} is done", name(o))));
    }
    events
}

fn changed_conditions(
    before: &MultiRaftClusterStatus,
    after: &MultiRaftClusterStatus,
) -> Vec<KubeEvent> {
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
