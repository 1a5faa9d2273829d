//! Volumes that outlived their cluster object: a new one of the same name takes up what is on them.

use crate::bootstrap::{Bootstrap, Stage};
use crate::names::slice_name;
use crate::observed::Observed;
use crate::placement::Place;
use crate::validate::Validated;
use multiraft_api::{
    GROUPS_PER_SLICE, PlannedGroup, PlannedMember, PlannedRole, RaftPartitionSliceSpec, Reason,
};
use multiraft_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// Retained volumes of a cluster of the same name: the intent is rebuilt from what the nodes hold.
pub fn adopt(
    this: &Bootstrap,
    cluster: &Validated,
    observed: &Observed,
    places: &[Place],
) -> Stage {
    let by_id: BTreeMap<u64, &Place> = places.iter().map(|p| (p.node_id, p)).collect();
    let mut groups: BTreeMap<u32, &v1::GroupState> = BTreeMap::new();
    for state in observed.nodes.values().flat_map(|n| n.groups.values()) {
        let newest = groups.entry(state.group_id).or_insert(state);
        if state.config_version > newest.config_version {
            *newest = state;
        }
    }
    if groups.len() != cluster.spec.groups as usize {
        return Stage::Blocked {
            reason: Reason::DataLost,
            message: format!(
                "the volumes hold {} groups, spec.groups asks for {}: create the cluster with the \
                 number that it had",
                groups.len(),
                cluster.spec.groups
            ),
        };
    }
    let members = groups.values().flat_map(|state| &state.members);
    let absent: BTreeSet<u64> =
        members.map(|m| m.node_id).filter(|id| !by_id.contains_key(id)).collect();
    if !absent.is_empty() {
        let absent: Vec<String> = absent.iter().map(|id| format!("{id:016x}")).collect();
        return Stage::Blocked {
            reason: Reason::DataLost,
            message: format!(
                "the volumes lack the data of node {}, which has members of these groups: bring \
                 its volume back; going on without it comes with a later release",
                absent.join(", ")
            ),
        };
    }
    let plan_hash = groups.values().next().map(|g| g.plan_hash.clone()).unwrap_or_default();
    let planned: Vec<PlannedGroup> = groups
        .values()
        .map(|state| {
            let members = state.members.iter().map(|m| {
                let place = by_id.get(&m.node_id);
                PlannedMember {
                    id: m.member_id as i64,
                    node: place.map(|p| p.node.clone()).unwrap_or_default(),
                    node_id: m.node_id as i64,
                    incarnation: format!("{:016x}", place.map_or(0, |p| p.incarnation)),
                    role: match m.role() {
                        v1::MemberRole::Observer => PlannedRole::Learner,
                        _ => PlannedRole::Voter,
                    },
                }
            });
            let present = state.members.iter().map(|m| m.member_id).max().unwrap_or(0);
            let next = present.max(state.member_id_max) + 1;
            PlannedGroup {
                id: state.group_id as i32,
                epoch: 1,
                members: members.collect(),
                next_member_id: next as i64,
            }
        })
        .collect();
    let slices = planned.chunks(GROUPS_PER_SLICE as usize).enumerate().map(|(number, groups)| {
        let spec = RaftPartitionSliceSpec {
            cluster_id: this.cluster_id.clone(),
            plan_hash: plan_hash.clone(),
            replicas: this.slots.all.len() as i32,
            first_group: groups.first().map_or(0, |g| g.id),
            groups: groups.to_vec(),
        };
        (slice_name(&cluster.name, number), spec)
    });
    Stage::Recording { slices: slices.collect() }
}
