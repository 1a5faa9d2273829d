//! The disruption budget, computed from groups: with three members on nine nodes two evictions can
//! still kill a group. A plain minimum, because a percentage re-bases while pods come and go.

use super::owned;
use crate::bootstrap::Bootstrap;
use crate::names::{node_selector, pod_name};
use crate::observed::Observed;
use crate::planning::{Delete, Object, Plan};
use crate::slots::is_terminating;
use crate::validate::Validated;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use multiraft_api::{PlannedGroup, PlannedMember};
use multiraft_proto::v1;

/// `stops`: a slot that is being taken out of service counts as gone already.
pub fn plan(
    cluster: &Validated,
    observed: &Observed,
    bootstrap: &Bootstrap,
    stops: Option<i32>,
    plan: &mut Plan,
) {
    // With one member per group every eviction costs a group: a budget could only block drains
    // for ever.
    if cluster.spec.disruption_budget.enabled && voters(cluster, bootstrap) > 1 {
        let pods = bootstrap.slots.all.len().max(cluster.spec.replicas as usize) as i32;
        let stops = stops.map(|slot| pod_name(&cluster.name, slot));
        let budget = budget(cluster, pods - allowed(observed, bootstrap, stops.as_deref()));
        plan.objects.push(Object::Budget(budget));
        return;
    }
    for budget in observed.budgets.iter().filter(|b| b.name_any() == cluster.name) {
        let uid = budget.uid().unwrap_or_default();
        plan.deletes.push(Delete::Budget { name: cluster.name.clone(), uid });
    }
}

fn voters(cluster: &Validated, bootstrap: &Bootstrap) -> usize {
    let voters = |g: &PlannedGroup| g.members.iter().filter(|m| m.role.is_voter()).count();
    let planned = bootstrap.groups.iter().map(voters).min();
    planned.unwrap_or(cluster.spec.voters() as usize)
}

/// Nodes that may be evicted now without a group losing its quorum.
fn allowed(observed: &Observed, bootstrap: &Bootstrap, stops: Option<&str>) -> i32 {
    let serves = |group: &PlannedGroup, member: &PlannedMember| {
        let node = observed.nodes.get(&member.node).filter(|n| n.connected);
        let held = node.and_then(|n| n.groups.get(&group.id.unsigned_abs()));
        let caught_up = held
            .is_some_and(|s| s.member_id == member.id as u64 && s.phase() == v1::GroupPhase::Ready);
        caught_up && stops != Some(member.node.as_str()) && !ends(observed, &member.node)
    };
    let spare = |group: &PlannedGroup| {
        let voters = || group.members.iter().filter(|m| m.role.is_voter());
        let live = voters().filter(|m| serves(group, m)).count();
        live as i32 - (voters().count() as i32 / 2 + 1)
    };
    bootstrap.groups.iter().map(spare).min().unwrap_or(0).max(0)
}

fn ends(observed: &Observed, pod: &str) -> bool {
    observed.pods.iter().any(|p| p.name_any() == pod && is_terminating(p))
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
