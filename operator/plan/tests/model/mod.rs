//! The API server, the kubelets and the nodes in memory: what the operator's calls do, call by call,
//! and what must never happen. One step of time is a second.
#![allow(dead_code, reason = "each test uses a part")]

mod calls;
pub mod kube;
mod raft;
pub mod scenarios;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use multiraft_api::{MultiRaftCluster, TlsMode};
use std::collections::{BTreeMap, BTreeSet};

use multiraft_plan::{
    Act, Delete, Disruption, Object, Observed, Plan, Surroundings, plan, validate,
};

pub use kube::Kube;
pub use raft::Nodes;

pub const NODES: i32 = 3;
pub const GROUPS: u32 = 16;
pub const PASSES_MAX: usize = 2_000;

pub struct World {
    pub cluster: MultiRaftCluster,
    pub kube: Kube,
    pub nodes: Nodes,
    /// Seconds since the beginning.
    pub now: i64,
    /// What was seen at each pass, for operators that are behind.
    pub seen: Vec<Observed>,
    /// Operators act on views that are up to seven passes old. Then one can make a pod that those which
    /// it does not see cannot speak to, until somebody sees both.
    pub views_are_old: bool,
    /// Seconds in which there were such pods.
    pub apart: usize,
    /// Minor version of the last node that ran on a disk.
    wrote: BTreeMap<String, i32>,
    /// Tells what happens, for people who replay a failure.
    pub tells: bool,
    /// Whether the operator has one to show to nodes.
    pub certificate: Result<(), String>,
    pub operator_pods: Option<multiraft_plan::OperatorPods>,
    /// Makes calls fail by chance.
    pub unreliable: Option<Dice>,
    /// Calls that were refused, or that were carried out without an answer.
    pub failed: usize,
}

/// A small generator that is the same everywhere (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What becomes of a call.
enum Fate {
    Answered,
    /// A conflict, too many requests, an error before anything was done.
    Refused,
    /// Carried out; the answer is lost, or too late.
    Unanswered,
}

/// Calls that one operator process makes before it is killed.
pub struct Life {
    pub calls: usize,
}

impl Life {
    pub fn endless() -> Self {
        Life { calls: usize::MAX }
    }

    pub fn spend(&mut self) -> Option<()> {
        self.calls = self.calls.checked_sub(1)?;
        Some(())
    }
}

impl World {
    pub fn new() -> Self {
        Self::of(NODES, GROUPS)
    }

    pub fn of(replicas: i32, groups: u32) -> Self {
        let cluster = serde_json::json!({
            "apiVersion": "multiraft.atomix.io/v1beta1",
            "kind": "MultiRaftCluster",
            "metadata": {"name": "orders", "namespace": "n", "uid": "u1", "generation": 1},
            "spec": {"replicas": replicas, "groups": groups, "version": "0.1.0", "storage": {"size": "1Gi"}},
        });
        Self {
            cluster: serde_json::from_value(cluster).expect("the manifest is valid"),
            kube: Kube::default(),
            nodes: Nodes::default(),
            now: 0,
            seen: Vec::new(),
            views_are_old: false,
            apart: 0,
            wrote: BTreeMap::new(),
            tells: false,
            unreliable: None,
            failed: 0,
            certificate: Ok(()),
            operator_pods: None,
        }
    }

    /// A cluster that is formed and at rest.
    pub fn formed(replicas: i32, groups: u32) -> Self {
        let mut world = Self::of(replicas, groups);
        world.settle(1);
        world.assert_well();
        world
    }

    pub fn edit(&mut self, edit: impl FnOnce(&mut multiraft_api::MultiRaftClusterSpec)) {
        edit(&mut self.cluster.spec);
        let generation = self.cluster.metadata.generation.unwrap_or(0) + 1;
        self.cluster.metadata.generation = Some(generation);
    }

    pub fn time(&self) -> Time {
        Time(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + self.now))
    }

    pub fn observe(&self) -> Observed {
        let mut observed = self.kube.observe();
        observed.nodes = self.nodes.views(&self.kube);
        observed
    }

    pub fn plan(&mut self, epoch: u64) -> Plan {
        let observed = self.observe();
        let plan = self.plan_of(epoch, &observed);
        self.seen.push(observed);
        plan
    }

    /// The plan of an operator that sees this.
    pub fn plan_of(&self, epoch: u64, observed: &Observed) -> Plan {
        let env = Surroundings {
            now: self.time(),
            operator_epoch: epoch,
            node_image: "multiraft-node".to_owned(),
            node_pull_policy: None,
            operator_pods: self.operator_pods.clone(),
            certificate: self.certificate.clone(),
        };
        plan(&self.cluster, &validate(&self.cluster), observed, &env)
    }

    /// Carries a plan out, call by call; None when the operator was killed on the way.
    pub fn apply(&mut self, plan: Plan, life: &mut Life) -> Option<()> {
        let mut done = true;
        self.tell(|| told(&plan));
        for object in plan.objects {
            if !self.kube.says(&object) {
                // Somebody else changed it: the pass ends.
                self.call(life, |w| w.kube.apply(object, &w.nodes))?.then_some(())?;
            }
        }
        for delete in plan.deletes {
            self.call(life, |w| w.delete(&delete))?;
        }
        for call in plan.calls {
            let latched = self.is_latched();
            done &= self.call(life, |w| w.nodes.call(&call, &w.kube, latched))?.is_ok();
        }
        if let Some(volume) = plan.growth {
            self.call(life, |w| w.kube.apply(Object::Volume(volume), &w.nodes))?;
        }
        if let Some(disruption) = plan.disruption.filter(|_| done) {
            self.disrupt(disruption, life)?;
        }
        if self.cluster.status.as_ref() != Some(&plan.status) {
            self.call(life, |w| {
                w.kube.writes += 1;
                w.cluster.status = Some(plan.status);
            })?;
        }
        Some(())
    }

    /// One call. None: the operator died before it, or it failed as far as the operator knows.
    fn call<T>(&mut self, life: &mut Life, act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        life.spend()?;
        let fate = self.unreliable.as_mut().map_or(Fate::Answered, |dice| match dice.roll(20) {
            0 | 1 => Fate::Refused,
            2 | 3 => Fate::Unanswered,
            _ => Fate::Answered,
        });
        self.failed += usize::from(!matches!(fate, Fate::Answered));
        match fate {
            Fate::Answered => Some(act(self)),
            Fate::Refused => None,
            Fate::Unanswered => {
                act(self);
                None
            }
        }
    }

    fn disrupt(&mut self, disruption: Disruption, life: &mut Life) -> Option<()> {
        if disruption.checks.iter().all(|check| self.nodes.passes(check, &self.kube)) {
            self.call(life, |w| match disruption.act {
                Act::Call(call) => drop(w.nodes.call(&call, &w.kube, true)),
                Act::Delete(delete) => w.delete(&delete),
            })?;
        }
        Some(())
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:4} {}", self.now, what());
        }
    }

    /// A deletion by the operator: no group loses its quorum by it.
    fn delete(&mut self, delete: &Delete) {
        let before = self.nodes.with_quorum(&self.kube);
        self.kube.delete(delete);
        let after = self.nodes.with_quorum(&self.kube);
        let lost: Vec<&u32> = before.difference(&after).collect();
        let alone = |g: &&u32| self.nodes.groups[*g].voters().count() == 1;
        let lost: Vec<&u32> = lost.into_iter().filter(|g| !alone(g)).collect();
        assert!(lost.is_empty(), "{delete:?} takes the quorum of groups {lost:?}");
    }

    /// A second passes for kubelets and nodes.
    pub fn tick(&mut self) {
        self.now += 1;
        let any = |mode| self.kube.pods.values().any(|pod| multiraft_plan::mode_of(pod) == mode);
        let apart = any(TlsMode::Disabled) && any(TlsMode::Strict);
        self.apart += usize::from(apart);
        assert!(!apart || self.views_are_old, "nodes that cannot speak to each other");
        self.kube.tick(&mut self.nodes);
        self.nodes.tick(&self.kube);
        self.assert_versions();
    }

    /// No node runs beside another, or on the data of one, that does not know its version.
    fn assert_versions(&mut self) {
        let minors = self.kube.minors();
        let (oldest, newest) = (minors.values().min(), minors.values().max());
        let near = newest.zip(oldest).is_none_or(|(newest, oldest)| newest - oldest <= 1);
        assert!(near || self.views_are_old, "too far from each other: {minors:?}");
        for (disk, minor) in minors {
            let before = self.wrote.insert(disk.clone(), minor).unwrap_or(minor);
            let near = (minor - before).abs() <= 1;
            assert!(near || self.views_are_old, "{disk} skips from 0.{before} to 0.{minor}");
        }
    }

    pub fn is_latched(&self) -> bool {
        let status = self.cluster.status.as_ref();
        status.and_then(|s| s.bootstrap.as_ref()).is_some_and(|b| b.completed_at.is_some())
    }

    /// Runs until nothing is to be done; returns the calls that were made in all.
    pub fn settle(&mut self, epoch: u64) -> usize {
        let mut life = Life::endless();
        let mut quiet = 0;
        for _ in 0..PASSES_MAX {
            let plan = self.plan(epoch);
            let (writes, calls) = (self.kube.writes, self.nodes.calls);
            let waits = plan.wake_up.is_some();
            // A pass that failed is repeated.
            let whole = self.apply(plan, &mut life).is_some();
            self.tick();
            let same = writes == self.kube.writes && calls == self.nodes.calls;
            let still = whole && same && !waits;
            quiet = if still { quiet + 1 } else { 0 };
            if quiet == 3 {
                return usize::MAX - life.calls;
            }
        }
        panic!("not settled after {PASSES_MAX} passes: {:#?}", self.cluster.status);
    }

    /// Passes until something holds.
    pub fn until(&mut self, epoch: u64, what: &str, holds: impl Fn(&World) -> bool) {
        for _ in 0..PASSES_MAX {
            if holds(self) {
                return;
            }
            let plan = self.plan(epoch);
            let _ = self.apply(plan, &mut Life::endless());
            self.tick();
        }
        panic!("never: {what}: {:#?}", self.cluster.status);
    }

    pub fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let status = self.cluster.status.as_ref().expect("reported");
        let found = status.conditions.iter().find(|c| c.type_ == kind)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }

    /// No two voters of a group are in one zone, if there are enough; within a zone, and without that
    /// everywhere, nodes hold as many as each other.
    fn assert_zones(&self, voters: usize) {
        let nodes = &self.cluster.status.as_ref().expect("reported").nodes;
        let zone = |pod: &str| nodes.iter().find(|n| n.name == pod).and_then(|n| n.zone.clone());
        let all: BTreeSet<_> = nodes.iter().map(|n| n.zone.clone().expect("known")).collect();
        let groups = self.kube.slices.values().flat_map(|s| &s.spec.groups);
        for group in groups.filter(|_| all.len() >= voters) {
            let zones: BTreeSet<_> = group.members.iter().map(|m| zone(&m.node)).collect();
            assert_eq!(zones.len(), voters, "{group:?} among {all:?}");
        }
        for zone in all.iter().map(Some).filter(|_| voters > 1).chain([None]) {
            let held = nodes.iter().filter(|n| zone.is_none_or(|z| n.zone.as_ref() == Some(z)));
            let held: Vec<i32> = held.map(|n| n.voters).collect();
            let spread = held.iter().max().unwrap_or(&0) - held.iter().min().unwrap_or(&0);
            let forced = zone.is_none() && voters > 1;
            assert!(spread <= 1 || forced, "members are uneven in {zone:?}: {nodes:?}");
        }
    }

    /// As a fresh install of the present spec would be.
    pub fn assert_well(&self) {
        let (ready, reason, message) = self.condition("Ready").expect("Ready is told");
        assert_eq!(ready, "True", "{reason}: {message}");
        let spec = &self.cluster.spec;
        let status = self.cluster.status.as_ref().expect("reported");
        assert_eq!(status.operation, None);
        assert_eq!(self.kube.pods.len(), spec.replicas as usize, "pods");
        assert_eq!(self.kube.volumes.len(), spec.replicas as usize, "volumes");
        assert_eq!(status.updated_replicas, spec.replicas, "every pod has the present template");
        let voters = status.replication_factor.expect("told") as usize;
        self.nodes.assert_well(&self.kube, spec.groups as u32, voters);
        self.assert_zones(voters);
        for kind in ["FullyReplicated", "Balanced", "Available", "NodesConnected"] {
            let (value, reason, message) = self.condition(kind).expect("told");
            assert_eq!(value, "True", "{kind} {reason}: {message}");
        }
        for kind in ["Stalled", "Reconciling", "Paused"] {
            assert_eq!(self.condition(kind), None);
        }
    }
}

fn told(plan: &Plan) -> String {
    let operation = plan.status.operation.as_ref();
    let operation =
        operation.map(|o| format!("{:?} {} {}: {}", o.kind, o.subject, o.step, o.message));
    let calls: Vec<String> =
        plan.calls.iter().map(|c| format!("{} {}", c.call.name(), c.node)).collect();
    let disruption = plan.disruption.as_ref().map(|d| match &d.act {
        Act::Call(call) => format!("{} {}", call.call.name(), call.node),
        Act::Delete(delete) => format!("{delete:?}"),
    });
    let operation = operation.unwrap_or_default();
    format!("{operation} | {calls:?} | {:?} | {disruption:?}", plan.deletes)
}
