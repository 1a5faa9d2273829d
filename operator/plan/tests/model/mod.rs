//! The API server and the nodes in memory, as far as a bootstrap touches them.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multiraft_api::{MultiRaftCluster, RaftPartitionSlice};
use multiraft_plan::{Node, NodeCall, Object, Observed, Plan, Surroundings, plan, validate};
use multiraft_proto::v1;

pub const NODES: usize = 3;
pub const GROUPS: usize = 16;
pub const PASSES_MAX: usize = 60;

pub struct World {
    pub cluster: MultiRaftCluster,
    pub observed: Observed,
    pub epochs: BTreeMap<String, u64>,
    pub members: BTreeMap<u32, Vec<u64>>,
    pub hashes: Vec<String>,
    /// Writes that changed an object.
    pub writes: usize,
    /// Bootstrap calls.
    pub bootstraps: usize,
}

/// Calls that one operator process makes before it is killed.
pub struct Life {
    pub calls: usize,
}

impl Life {
    fn spend(&mut self) -> Option<()> {
        self.calls = self.calls.checked_sub(1)?;
        Some(())
    }
}

impl World {
    pub fn new() -> Self {
        let cluster = serde_json::json!({
            "apiVersion": "multiraft.atomix.io/v1beta1",
            "kind": "MultiRaftCluster",
            "metadata": {"name": "orders", "namespace": "n", "uid": "u1", "generation": 1},
            "spec": {"replicas": NODES, "groups": GROUPS, "version": "0.1.0", "storage": {"size": "1Gi"}},
        });
        Self {
            cluster: serde_json::from_value(cluster).expect("the manifest is valid"),
            observed: Observed::default(),
            epochs: BTreeMap::new(),
            members: BTreeMap::new(),
            hashes: Vec::new(),
            writes: 0,
            bootstraps: 0,
        }
    }

    pub fn plan(&self, epoch: u64) -> Plan {
        let env = Surroundings {
            now: serde_json::from_value::<Time>(serde_json::json!("2026-01-01T00:00:00Z"))
                .expect("a time"),
            operator_epoch: epoch,
            node_image: "multiraft-node".to_owned(),
            node_pull_policy: None,
        };
        plan(&self.cluster, &validate(&self.cluster), &self.observed, &env)
    }

    /// Carries a plan out, call by call; None when the operator was killed on the way.
    pub fn apply(&mut self, plan: Plan, life: &mut Life) -> Option<()> {
        for object in plan.objects {
            life.spend()?;
            self.object(object);
        }
        for call in plan.calls {
            life.spend()?;
            match call {
                NodeCall::Bootstrap { node, request } => self.bootstrap(&node, request),
                NodeCall::Activate { node, request } => self.activate(&node, request),
            }
        }
        life.spend()?;
        self.cluster.status = Some(plan.status);
        Some(())
    }

    fn object(&mut self, object: Object) {
        let o = &mut self.observed;
        self.writes += usize::from(match object {
            Object::ServiceAccount(x) => put(&mut o.service_accounts, x, |x| &x.metadata.name),
            Object::Service(x) => put(&mut o.services, x, |x| &x.metadata.name),
            Object::ConfigMap(x) => put(&mut o.config_maps, x, |x| &x.metadata.name),
            Object::Budget(x) => put(&mut o.budgets, x, |x| &x.metadata.name),
            Object::Volume(x) => {
                put(&mut o.volumes, x, |x: &PersistentVolumeClaim| &x.metadata.name)
            }
            Object::Slice(x) => {
                self.hashes.push(x.spec.plan_hash.clone());
                put(&mut o.slices, x, |x: &RaftPartitionSlice| &x.metadata.name)
            }
            Object::Pod(pod) => {
                self.start(*pod);
                true
            }
        });
    }

    fn start(&mut self, mut pod: Pod) {
        let name = pod.metadata.name.clone().expect("pods are named");
        pod.metadata.uid = Some(format!("uid-{name}"));
        pod.status = serde_json::from_value(serde_json::json!({
            "phase": "Running",
            "containerStatuses": [
                {"name": "node", "ready": true, "restartCount": 0, "image": "", "imageID": ""},
            ],
        }))
        .expect("a pod's status");
        let number = self.observed.nodes.len() as u64 + 1;
        let identity = v1::GetInfoResponse {
            node_id: number,
            incarnation: number + 100,
            ..Default::default()
        };
        let node = Node { connected: true, identity: Some(identity), groups: BTreeMap::new() };
        self.observed.nodes.entry(name).or_insert(node);
        let _ = put(&mut self.observed.pods, pod, |p| &p.metadata.name);
    }

    /// What every node checks of a fence.
    fn admit(&mut self, node: &str, fence: &v1::Fence) {
        let id = self.observed.nodes[node].id().expect("the node is identified");
        assert_eq!(fence.incarnation, id.1, "fenced for the directory that is there");
        let highest = self.epochs.entry(node.to_owned()).or_default();
        assert!(fence.operator_epoch >= *highest);
        *highest = fence.operator_epoch;
    }

    fn bootstrap(&mut self, name: &str, request: v1::BootstrapRequest) {
        self.bootstraps += 1;
        let fence = request.fence.expect("fenced");
        self.admit(name, &fence);
        assert!(!self.is_latched(), "nothing is bootstrapped after the latch");
        assert!(request.partitions.len() <= 32);
        for p in request.partitions {
            let ids: Vec<u64> = p.members.iter().map(|m| m.node_id).collect();
            let first = self.members.entry(p.partition_id).or_insert_with(|| ids.clone());
            assert_eq!(*first, ids, "group {} formed with other members", p.partition_id);
            let node = self.observed.nodes.get_mut(name).expect("the node runs");
            let state = v1::GroupState {
                group_id: p.partition_id,
                term: 1,
                members: p.members,
                plan_hash: fence.plan_hash.clone(),
                ..Default::default()
            };
            let held = node.groups.entry(p.partition_id).or_insert(state);
            assert_eq!(held.plan_hash, fence.plan_hash, "a second, different Bootstrap");
        }
        let identity = self.observed.nodes.get_mut(name).and_then(|n| n.identity.as_mut());
        identity.expect("the node is identified").cluster_id = fence.cluster_id;
    }

    fn activate(&mut self, name: &str, request: v1::ActivateRequest) {
        self.admit(name, &request.fence.expect("fenced"));
        assert!(self.is_latched(), "no client write can exist before the latch");
        let identity = self.observed.nodes.get_mut(name).and_then(|n| n.identity.as_mut());
        identity.expect("the node is identified").activated = true;
    }

    /// Every group that a majority of its members holds elects one of them.
    pub fn elect(&mut self) {
        for (group, members) in &self.members {
            let nodes = self.observed.nodes.values_mut();
            let mut holders: Vec<_> = nodes.filter(|n| n.groups.contains_key(group)).collect();
            if holders.len() * 2 <= members.len() {
                continue;
            }
            let leader = holders[0].id().expect("the node is identified").0;
            for state in holders.iter_mut().filter_map(|n| n.groups.get_mut(group)) {
                state.leader = leader;
            }
        }
    }

    pub fn is_latched(&self) -> bool {
        let status = self.cluster.status.as_ref();
        status.and_then(|s| s.bootstrap.as_ref()).is_some_and(|b| b.completed_at.is_some())
    }

    /// Runs until nothing is to be done; returns the calls that were made in all.
    pub fn settle(&mut self, epoch: u64) -> usize {
        let mut life = Life { calls: usize::MAX };
        for _ in 0..PASSES_MAX {
            let plan = self.plan(epoch);
            let (before, writes) = (life.calls, self.writes);
            let told = self.cluster.status.clone();
            let quiet = plan.calls.is_empty() && plan.wake_up.is_none();
            self.apply(plan, &mut life).expect("nobody kills this one");
            self.elect();
            if quiet && writes == self.writes && told == self.cluster.status {
                return usize::MAX - before;
            }
        }
        panic!("not settled after {PASSES_MAX} passes: {:?}", self.cluster.status);
    }

    pub fn assert_formed(&self) {
        let status = self.cluster.status.as_ref().expect("reported");
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").expect("Ready is told");
        assert_eq!(ready.status, "True", "{}", ready.message);
        assert!(self.hashes.iter().all(|h| *h == self.hashes[0]), "one plan");
        for (name, node) in &self.observed.nodes {
            assert_eq!(node.groups.len(), GROUPS, "{name} holds every group it was planned for");
            assert!(node.identity.as_ref().is_some_and(|i| i.activated));
        }
    }
}

/// Returns whether anything changed, as an API server does by the resource version.
fn put<K: PartialEq>(all: &mut Vec<K>, object: K, name: impl Fn(&K) -> &Option<String>) -> bool {
    match all.iter_mut().find(|known| name(known) == name(&object)) {
        Some(known) if *known == object => return false,
        Some(known) => *known = object,
        None => all.push(object),
    }
    true
}
