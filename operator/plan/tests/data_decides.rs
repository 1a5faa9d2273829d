//! What the data on the nodes says goes before everything: it is taken up again, or nothing happens
//! and a condition says why.

mod model;

use std::collections::BTreeMap;

use model::World;
use multiraft_api::CLUSTER_ID_ANNOTATION;

/// A formed cluster.
fn formed() -> World {
    let mut world = World::new();
    world.settle(1);
    world.assert_formed();
    world.bootstraps = 0;
    world
}

/// The cluster object is deleted with all that it owned, the volumes stay, and another one of the
/// same name is made.
fn made_again(mut world: World) -> World {
    let fresh = World::new();
    world.cluster = fresh.cluster;
    world.cluster.metadata.uid = Some("u2".to_owned());
    let volumes = std::mem::take(&mut world.observed.volumes);
    let nodes = std::mem::take(&mut world.observed.nodes);
    world.observed = fresh.observed;
    world.observed.volumes = volumes;
    world.observed.nodes = nodes;
    world
}

/// The disk of a node is another one now.
fn lose_disk(world: &mut World, name: &str) {
    let node = world.observed.nodes.get_mut(name).expect("the node runs");
    let identity = node.identity.as_mut().expect("the node is identified");
    identity.incarnation += 1000;
    identity.node_id += 1000;
    identity.cluster_id = String::new();
    identity.activated = false;
    node.groups = BTreeMap::new();
}

/// Settles, and returns (reason, message) of the condition Stalled.
fn stalled(world: &mut World) -> (String, String) {
    for _ in 0..5 {
        let plan = world.plan(9);
        let _ = world.apply(plan, &mut model::Life { calls: usize::MAX });
    }
    let status = world.cluster.status.as_ref().expect("reported");
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
    let stalled = stalled.unwrap_or_else(|| panic!("not stalled: {:?}", status.conditions));
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").expect("Ready is told");
    assert_eq!(ready.status, "False", "{}", ready.message);
    assert_eq!(world.bootstraps, 0, "nothing is formed on it");
    (stalled.reason.clone(), stalled.message.clone())
}

#[test]
fn retained_volumes_are_taken_up_again() {
    let before = formed();
    let members = before.members.clone();
    let mut world = made_again(before);
    world.settle(2);
    world.assert_formed();
    assert_eq!(world.bootstraps, 0, "the groups exist");
    assert_eq!(world.members, members);
    let status = world.cluster.status.expect("reported");
    assert_eq!(status.cluster_id.as_deref(), Some("u1"), "the data keeps its cluster's id");
}

#[test]
fn retained_volumes_with_another_number_of_groups_are_not_touched() {
    let mut world = made_again(formed());
    world.cluster.spec.groups = 8;
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "DataLost");
    assert!(message.contains("hold 16 groups") && message.contains("spec.groups"), "{message}");
}

#[test]
fn retained_volumes_of_which_one_is_gone_are_not_touched() {
    let mut world = made_again(formed());
    world.observed.volumes.remove(1);
    lose_disk(&mut world, "orders-1");
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "DataLost");
    assert!(message.contains("0000000000000002"), "names the node that is missing: {message}");
}

#[test]
fn volumes_of_several_clusters_are_named() {
    let mut world = made_again(formed());
    let annotations = world.observed.volumes[2].metadata.annotations.as_mut();
    annotations.expect("annotated").insert(CLUSTER_ID_ANNOTATION.to_owned(), "u0".to_owned());
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "ForeignVolumes");
    assert!(message.contains("u0") && message.contains("u1"), "{message}");
}

#[test]
fn a_node_with_data_of_another_cluster_is_named() {
    let mut world = World::new();
    let plan = world.plan(1);
    world.apply(plan, &mut model::Life { calls: usize::MAX });
    let node = world.observed.nodes.get_mut("orders-2").expect("the node runs");
    node.identity.as_mut().expect("identified").cluster_id = "u0".to_owned();
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "ForeignVolumes");
    assert!(message.contains("orders-2"), "{message}");
}

#[test]
fn a_disk_that_is_lost_after_the_latch_is_reported_and_stays_out() {
    let mut world = formed();
    lose_disk(&mut world, "orders-1");
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "DataLost");
    assert!(message.contains("orders-1"), "{message}");
    let node = &world.observed.nodes["orders-1"];
    assert!(!node.identity.as_ref().expect("identified").activated, "no client reaches it");
    let status = world.cluster.status.as_ref().expect("reported");
    let groups = status.groups.as_ref().expect("counted");
    assert_eq!((groups.available, groups.fully_replicated), (16, 0), "it holds none of them");
    for name in ["orders-0", "orders-2"] {
        lose_disk(&mut world, name);
    }
    assert_eq!(stalled(&mut world).0, "AllDataLost");
}

#[test]
fn a_plan_that_is_not_seen_is_written_again_as_the_nodes_have_it() {
    let mut world = formed();
    let written = std::mem::take(&mut world.observed.slices);
    world.settle(2);
    world.assert_formed();
    assert_eq!(world.bootstraps, 0);
    let specs = |slices: &[multiraft_api::RaftPartitionSlice]| {
        slices.iter().map(|slice| slice.spec.clone()).collect::<Vec<_>>()
    };
    assert_eq!(specs(&world.observed.slices), specs(&written));
}

#[test]
fn groups_of_a_plan_that_nobody_wrote_down_are_not_overwritten() {
    let mut world = World::new();
    // The operator dies when one node was told.
    while world.bootstraps == 0 {
        let mut plan = world.plan(1);
        plan.calls.truncate(1);
        let _ = world.apply(plan, &mut model::Life { calls: usize::MAX });
    }
    world.bootstraps = 0;
    world.observed.slices.clear();
    lose_disk(&mut world, "orders-2");
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "DataLost");
    assert!(message.contains("orders-0"), "{message}");
}
