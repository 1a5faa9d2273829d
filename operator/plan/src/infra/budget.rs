//! The disruption budget, computed from groups: with three members on nine nodes two evictions can
//! still kill a group. A plain minimum, because a percentage re-bases while pods come and go.

use super::owned;
use crate::bootstrap::Bootstrap;
use crate::names::node_selector;
use crate::observed::Observed;
use crate::planning::{Delete, Object, Plan};
use crate::validate::Validated;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

pub fn plan(cluster: &Validated, observed: &Observed, bootstrap: &Bootstrap, plan: &mut Plan) {
    // With one member per group every eviction costs a group: a budget could only block drains
    // for ever.
    if cluster.spec.disruption_budget.enabled && voters(cluster, bootstrap) > 1 {
        let budget = budget(cluster, bootstrap.replicas - allowed(cluster, observed, bootstrap));
        plan.objects.push(Object::Budget(budget));
        return;
    }
    for budget in observed.budgets.iter().filter(|b| b.name_any() == cluster.name) {
        let uid = budget.uid().unwrap_or_default();
        plan.deletes.push(Delete::Budget { name: cluster.name.clone(), uid });
    }
}

fn voters(cluster: &Validated, bootstrap: &Bootstrap) -> usize {
    let planned = bootstrap.groups.first().map(|g| g.members.len());
    planned.unwrap_or(cluster.spec.voters() as usize)
}

/// Nodes that may be evicted now without a group losing its quorum.
fn allowed(cluster: &Validated, observed: &Observed, bootstrap: &Bootstrap) -> i32 {
    let spare = |members: &[multiraft_api::PlannedMember]| {
        let live =
            members.iter().filter(|m| observed.nodes.get(&m.node).is_some_and(|n| n.connected));
        live.count() as i32 - (members.len() as i32 / 2 + 1)
    };
    let groups = bootstrap.groups.iter().map(|g| spare(&g.members));
    let before_the_plan = (voters(cluster, bootstrap) as i32 - 1) / 2;
    groups.min().unwrap_or(before_the_plan).max(0)
}

fn budget(cluster: &Validated, min_available: i32) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned(cluster, cluster.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(LabelSelector {
                match_labels: Some(node_selector(&cluster.name)),
                ..Default::default()
            }),
            // A node that is not ready counts as lost already.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..Default::default()
        }),
        status: None,
    }
}
