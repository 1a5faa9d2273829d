//! Which nodes hold which group: every node holds about the same number of members, and every
//! member is first in about the same number of groups, where a new group's first leader comes from.

use crate::domains::Domain;
use crate::names::{hash, slice_name};
use multiraft_api::{
    GROUPS_PER_SLICE, PlannedGroup, PlannedMember, PlannedRole, RaftPartitionSliceSpec,
};

/// A node that can hold members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Name of the pod.
    pub node: String,
    pub node_id: u64,
    pub incarnation: u64,
    pub domain: Domain<'a>,
}

/// The plan of a whole cluster: (name of the slice, its spec). A function of its arguments only,
/// so that an operator that lost its memory makes the same plan again.
pub fn slices(
    cluster: &str,
    cluster_id: &str,
    groups: u32,
    voters: u32,
    places: &[Place],
) -> Vec<(String, RaftPartitionSliceSpec)> {
    let planned: Vec<PlannedGroup> =
        (1..=groups).map(|id| group(id, voters as usize, places)).collect();
    let content = serde_json::to_vec(&(cluster_id, &planned)).unwrap_or_default();
    let plan_hash = hash(&content);
    planned
        .chunks(GROUPS_PER_SLICE as usize)
        .enumerate()
        .map(|(number, groups)| {
            let spec = RaftPartitionSliceSpec {
                cluster_id: cluster_id.to_owned(),
                plan_hash: plan_hash.clone(),
                replicas: places.len() as i32,
                first_group: groups.first().map_or(0, |g| g.id),
                groups: groups.to_vec(),
            };
            (slice_name(cluster, number), spec)
        })
        .collect()
}

/// Neighbouring groups start at neighbouring nodes and take the following ones, those first that fail
/// with none that was taken already.
fn group(id: u32, voters: usize, places: &[Place]) -> PlannedGroup {
    let start = (id as usize - 1) % places.len();
    let mut left: Vec<&Place> = places.iter().cycle().skip(start).take(places.len()).collect();
    let mut chosen: Vec<&Place> = Vec::new();
    while chosen.len() < voters && !left.is_empty() {
        let shared = |place: &Place| place.domain.overlap(chosen.iter().map(|c| c.domain));
        let next = (0..left.len()).min_by_key(|i| shared(left[*i])).unwrap_or(0);
        chosen.push(left.remove(next));
    }
    let members: Vec<PlannedMember> = chosen
        .into_iter()
        .zip(1..)
        .map(|(place, id)| PlannedMember {
            id,
            node: place.node.clone(),
            node_id: place.node_id as i64,
            incarnation: format!("{:016x}", place.incarnation),
            role: PlannedRole::Voter,
        })
        .collect();
    let next_member_id = members.len() as i64 + 1;
    PlannedGroup { id: id as i32, epoch: 1, members, next_member_id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(n: u64) -> Vec<Place<'static>> {
        let domain = Domain::default();
        let place =
            |i| Place { node: format!("c-{i}"), node_id: i + 1, incarnation: i + 100, domain };
        (0..n).map(place).collect()
    }

    #[test]
    fn members_of_a_group_are_in_different_zones_while_there_are_enough() {
        let zones = ["a", "b", "c", "a", "b"];
        let mut places = places(5);
        for (place, zone) in places.iter_mut().zip(zones) {
            place.domain.zone = Some(zone);
        }
        for (_, slice) in slices("c", "id", 130, 3, &places) {
            for group in slice.groups {
                let of = |m: &PlannedMember| zones[m.node_id as usize - 1];
                let mut used: Vec<&str> = group.members.iter().map(of).collect();
                used.sort_unstable();
                assert_eq!(used, ["a", "b", "c"], "{group:?}");
            }
        }
    }

    #[test]
    fn members_are_spread_evenly_and_the_plan_is_repeatable() {
        let a = slices("c", "id", 130, 3, &places(5));
        assert_eq!(a, slices("c", "id", 130, 3, &places(5)));
        assert_eq!(a.len(), 3);
        let held = |node: &str| {
            let groups = a.iter().flat_map(|(_, s)| &s.groups);
            groups.filter(|g| g.members.iter().any(|m| m.node == node)).count()
        };
        assert!((0..5).all(|i| held(&format!("c-{i}")) == 78), "130 groups of 3 on 5 nodes");
        let other = slices("c", "id", 130, 3, &places(4));
        assert_ne!(a[0].1.plan_hash, other[0].1.plan_hash);
    }
}
