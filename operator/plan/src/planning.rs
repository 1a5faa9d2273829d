//! The plan of one pass.

use crate::bootstrap::{self, Bootstrap, Stage};
use crate::observed::{Observed, Surroundings};
use crate::situation::Situation;
use crate::validate::{Invalid, Validated};
use crate::{conditions, infra, operation, skew, status, tls};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use multiraft_api::{
    Certificate, MultiRaftCluster, MultiRaftClusterStatus, RaftPartitionSlice,
    RaftPartitionSliceStatus,
};
use multiraft_proto::v1;
use std::collections::BTreeSet;
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
    NetworkPolicy(NetworkPolicy),
    /// May be refused, as cert-manager may not be there: then everything else goes on.
    Certificate(Certificate),
}

/// An object to delete, only while it is still this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// Only in the version that was seen: one that came to life since is spared. `force`: without
    /// waiting for a machine that does not answer.
    Pod {
        name: String,
        uid: String,
        version: Option<String>,
        force: bool,
    },
    Volume {
        name: String,
        uid: String,
    },
    Budget {
        name: String,
        uid: String,
    },
    NetworkPolicy {
        name: String,
        uid: String,
    },
    Certificate {
        name: String,
        uid: String,
    },
}

/// A changing call to the node of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCall {
    /// Name of the pod.
    pub node: String,
    pub call: Call,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Bootstrap(v1::BootstrapRequest),
    Activate(v1::ActivateRequest),
    AddMember(v1::AddMemberRequest),
    Join(v1::JoinRequest),
    PromoteMember(v1::PromoteMemberRequest),
    RemoveMember(v1::RemoveMemberRequest),
    TransferLeadership(v1::TransferLeadershipRequest),
    Drain(v1::DrainRequest),
    DeleteData(v1::DeleteDataRequest),
    ForceRecover(v1::ForceRecoverRequest),
}

impl Call {
    pub fn name(&self) -> &'static str {
        match self {
            Call::Bootstrap(_) => "Bootstrap",
            Call::Activate(_) => "Activate",
            Call::AddMember(_) => "AddMember",
            Call::Join(_) => "Join",
            Call::PromoteMember(_) => "PromoteMember",
            Call::RemoveMember(_) => "RemoveMember",
            Call::TransferLeadership(_) => "TransferLeadership",
            Call::Drain(_) => "Drain",
            Call::DeleteData(_) => "DeleteData",
            Call::ForceRecover(_) => "ForceRecover",
        }
    }
}

/// What takes a node out of service: the one such thing of a pass, done last, and only when
/// everything before it was done and every check is passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Disruption {
    pub checks: Vec<Check>,
    pub act: Act,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// The API server would take this pod if it were created now.
    Admissible(Box<Pod>),
    /// A node, asked about another one that is to stop, fears for no group but these.
    NoDanger { node: String, stops: u64, besides: BTreeSet<u32> },
    /// A node says that it holds no member of any group.
    Empty { node: String },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Call(NodeCall),
    Delete(Delete),
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

/// What to do, in this order: objects, deletes, calls, growth, the disruption, statuses. Whatever
/// fails ends the pass; the next one starts from what is there.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub objects: Vec<Object>,
    pub deletes: Vec<Delete>,
    pub calls: Vec<NodeCall>,
    /// A volume that is to grow; its class may refuse that, and everything else goes on.
    pub growth: Option<PersistentVolumeClaim>,
    pub disruption: Option<Disruption>,
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
    let validated = &skew::settled(tls::settled(validated, observed, env), observed);
    let bootstrap = bootstrap::bootstrap(validated, observed, env);
    let formed = matches!(bootstrap.stage, Stage::Active { .. });
    let situation = formed.then(|| Situation::new(validated, observed, env, &bootstrap));
    let work = situation.as_ref().and_then(operation::decide);
    let mut plan = Plan::default();
    if !validated.paused {
        infra::plan(validated, observed, env, &bootstrap, work.as_ref(), &mut plan);
        carry(&bootstrap, validated, observed, &mut plan);
        if let Some(situation) = &situation {
            operation::carry(situation, work.as_ref(), &mut plan);
        }
    }
    let work = work.filter(|_| !validated.paused);
    plan.slice_statuses = status::slices(validated, observed, &bootstrap);
    plan.status =
        status::status(validated, observed, env, &bootstrap, situation.as_ref(), work.as_ref());
    plan.events = conditions::events(&before, &plan.status);
    plan.wake_up = match bootstrap.stage {
        Stage::Active { .. } => {
            let down = situation.as_ref().is_some_and(|s| s.seats.iter().any(|t| !t.is_up()));
            // How long a machine has been silent is told by nobody, nor what cert-manager does.
            let waits = down || tls::unissued(validated, observed).is_some();
            work.and_then(|work| work.wake_up).or(waits.then_some(WAIT_PERIOD))
        }
        _ => Some(Duration::from_secs(2)),
    };
    plan
}

/// While a node is down: how late it may be noticed that it has been so for too long. The same of a
/// certificate that was issued.
const WAIT_PERIOD: Duration = Duration::from_secs(10);

/// What the stage of bootstrap asks for.
fn carry(bootstrap: &Bootstrap, cluster: &Validated, observed: &Observed, plan: &mut Plan) {
    match &bootstrap.stage {
        Stage::Recording { slices } => {
            let objects = slices.iter().map(|(name, spec)| {
                let known = observed.slices.iter().find(|slice| slice.name_any() == *name);
                let seen = known.and_then(|slice| slice.resource_version());
                Object::Slice(infra::slice(cluster, name.clone(), spec.clone(), seen))
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
