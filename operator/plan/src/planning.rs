//! The plan of one pass.

use crate::bootstrap::{self, Bootstrap, Stage};
use crate::observed::{Observed, Surroundings};
use crate::validate::{Invalid, Validated};
use crate::{conditions, infra, status};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use multiraft_api::{
    MultiRaftCluster, MultiRaftClusterStatus, RaftPartitionSlice, RaftPartitionSliceStatus,
};
use multiraft_proto::v1;
use std::time::Duration;

/// Full intent for one object, to be applied on the server's side.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    ServiceAccount(ServiceAccount),
    Service(Service),
    ConfigMap(ConfigMap),
    Volume(PersistentVolumeClaim),
    Slice(RaftPartitionSlice),
    /// Created, never changed: a pod's spec cannot be.
    Pod(Box<Pod>),
    Budget(PodDisruptionBudget),
}

/// An object to delete, only while it is still this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    Pod { name: String, uid: String },
    Budget { name: String, uid: String },
}

/// A call to the node of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeCall {
    Bootstrap { node: String, request: v1::BootstrapRequest },
    Activate { node: String, request: v1::ActivateRequest },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

/// Something to tell in `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeEvent {
    pub severity: Severity,
    pub reason: String,
    pub note: String,
}

/// What to do, in this order: objects, deletes, calls, statuses. Whatever fails ends the pass;
/// the next one starts from what is there.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub objects: Vec<Object>,
    pub deletes: Vec<Delete>,
    pub calls: Vec<NodeCall>,
    pub slice_statuses: Vec<(String, RaftPartitionSliceStatus)>,
    pub status: MultiRaftClusterStatus,
    pub events: Vec<KubeEvent>,
    /// Look again after this long even when nothing is seen to change.
    pub wake_up: Option<Duration>,
}

/// Makes the plan for a cluster.
pub fn plan(
    cluster: &MultiRaftCluster,
    validated: &Result<Validated, Invalid>,
    observed: &Observed,
    env: &Surroundings,
) -> Plan {
    let before = cluster.status.clone().unwrap_or_default();
    let validated = match validated {
        Ok(validated) => validated,
        Err(invalid) => {
            return Plan { status: status::invalid(cluster, invalid, env), ..Default::default() };
        }
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        // Owner references clean up; leaving groups would only take time and may hang.
        return Plan { status: before, ..Default::default() };
    }
    let bootstrap = bootstrap::bootstrap(validated, observed, env);
    let mut plan = Plan::default();
    if !validated.spec.paused {
        infra::plan(validated, observed, env, &bootstrap, &mut plan);
        carry(&bootstrap, validated, &mut plan);
    }
    plan.slice_statuses = status::slices(validated, observed, &bootstrap);
    plan.status = status::status(validated, observed, env, &bootstrap);
    plan.events = conditions::events(&before, &plan.status);
    plan.wake_up = match bootstrap.stage {
        Stage::Active { .. } => None,
        _ => Some(Duration::from_secs(2)),
    };
    plan
}

/// What the stage of bootstrap asks for.
fn carry(bootstrap: &Bootstrap, cluster: &Validated, plan: &mut Plan) {
    match &bootstrap.stage {
        Stage::Recording { slices } => {
            let objects = slices.iter().map(|(name, spec)| {
                Object::Slice(infra::slice(cluster, name.clone(), spec.clone()))
            });
            plan.objects.extend(objects);
        }
        Stage::Forming { calls, .. } | Stage::Active { calls, .. } => {
            plan.calls.clone_from(calls);
        }
        // The latch itself is the status.
        Stage::Latching | Stage::Gathering { .. } | Stage::Blocked { .. } => {}
    }
}
