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
    /// Tells what happens, for people who replay a failure.
    pub tells: bool,
    /// Whether the operator has one to show to nodes.
    pub certificate: Result<(), String>,
    pub operator_pods: Option<multiraft_plan::OperatorPods>,
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
            tells: false,
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
                life.spend()?;
                // Somebody else changed it: the pass ends.
                self.kube.apply(object, &self.nodes).then_some(()).or_else(|| self.behind())?;
            }
        }
        for delete in plan.deletes {
            life.spend()?;
            self.delete(&delete);
        }
        for call in plan.calls {
            life.spend()?;
            done &= self.nodes.call(&call, &self.kube, self.is_latched()).is_ok();
        }
        if let Some(volume) = plan.growth {
            life.spend()?;
            self.kube.apply(Object::Volume(volume), &self.nodes);
        }
        if let Some(disruption) = plan.disruption.filter(|_| done) {
            self.disrupt(disruption, life)?;
        }
        if self.cluster.status.as_ref() != Some(&plan.status) {
            life.spend()?;
            self.kube.writes += 1;
            self.cluster.status = Some(plan.status);
        }
        Some(())
    }

    fn disrupt(&mut self, disruption: Disruption, life: &mut Life) -> Option<()> {
        if disruption.checks.iter().all(|check| self.nodes.passes(check, &self.kube)) {
            life.spend()?;
            match disruption.act {
                Act::Call(call) => drop(self.nodes.call(&call, &self.kube, true)),
                Act::Delete(delete) => self.delete(&delete),
            }
        }
        Some(())
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:4} {}", self.now, what());
        }
    }

    fn behind(&self) -> Option<()> {
        None
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
        assert!(!apart, "nodes that cannot speak to each other");
        self.kube.tick(&mut self.nodes);
        self.nodes.tick(&self.kube);
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
            let _ = self.apply(plan, &mut life);
            self.tick();
            let still = writes == self.kube.writes && calls == self.nodes.calls && !waits;
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
