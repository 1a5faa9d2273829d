//! Kubernetes' own nodes, here called machines: whether their pods can come back, and where they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use multiraft_plan::Machine;

use crate::store::Store;

/// Taint by which somebody says that a machine does not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The machines as last told; clones share it. Their objects change every few minutes without any
/// meaning for us.
#[derive(Clone, Default)]
pub struct Machines {
    pub store: Store<Node>,
    /// False: this operator may not see them.
    watched: bool,
    told: Arc<Mutex<BTreeMap<String, Machine>>>,
}

impl Machines {
    pub fn new(watched: bool) -> Self {
        Self { watched, ..Self::default() }
    }

    /// Takes in what changed; false when it means nothing.
    pub fn changed(&self, node: &Node) -> bool {
        let name = node.name_any();
        let key = crate::store::Key { namespace: String::new(), name: name.clone() };
        let now = self.store.get(&key).map(|node| machine(&node));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&name) == now.as_ref() {
            return false;
        }
        match now {
            Some(machine) => told.insert(name, machine),
            None => told.remove(&name),
        };
        true
    }

    /// All machines, if they may be seen. By the objects themselves: before the first list is
    /// complete nobody plans, so one that is absent here is gone.
    pub fn all(&self) -> Option<BTreeMap<String, Machine>> {
        let all = || self.store.all().iter().map(|n| (n.name_any(), machine(n))).collect();
        self.watched.then(all)
    }
}

fn machine(node: &Node) -> Machine {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let cordoned = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
    let since = ready.and_then(|c| c.last_transition_time.clone());
    Machine {
        ready: ready.is_none_or(|c| c.status == "True"),
        since: since.unwrap_or(Time(Timestamp::UNIX_EPOCH)),
        out_of_service: taints.into_iter().flatten().any(|t| t.key == OUT_OF_SERVICE),
        open: !cordoned && taints.into_iter().flatten().all(|t| t.effect == "PreferNoSchedule"),
        labels: node.labels().clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_is_judged_by_its_ready_condition_and_its_taint() {
        let node = |status: &str, taint: &str| {
            let node = json!({
                "metadata": {"name": "m"},
                "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
                "status": {"conditions": [
                    {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"},
                ]},
            });
            machine(&serde_json::from_value(node).expect("a node"))
        };
        assert!(node("True", "other").ready && !node("True", "other").out_of_service);
        assert!(!node("Unknown", "other").ready);
        assert!(node("True", OUT_OF_SERVICE).out_of_service);
        assert!(!node("True", "other").open, "a taint keeps new pods away");
    }
}
