//! What the data on the nodes says goes before everything: it is taken up again, or nothing happens
//! and a condition says why.

mod model;

use model::{GROUPS, Life, World};
use multiraft_api::CLUSTER_ID_ANNOTATION;

/// A formed cluster.
fn formed() -> World {
    let mut world = World::formed(3, GROUPS);
    world.nodes.bootstraps = 0;
    world
}

/// The cluster object is deleted with all that it owned, the volumes stay, and another one of the
/// same name is made.
fn made_again(mut world: World) -> World {
    let fresh = World::new();
    world.cluster = fresh.cluster;
    world.cluster.metadata.uid = Some("u2".to_owned());
    world.kube.pods.clear();
    world.kube.slices.clear();
    world.kube.others.clear();
    world.kube.budgets.clear();
    world
}

/// Settles, and returns (reason, message) of the condition Stalled.
fn stalled(world: &mut World) -> (String, String) {
    for _ in 0..8 {
        let plan = world.plan(9);
        let _ = world.apply(plan, &mut Life::endless());
        world.tick();
    }
    let status = world.cluster.status.as_ref().expect("reported");
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
    let stalled = stalled.unwrap_or_else(|| panic!("not stalled: {:?}", status.conditions));
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").expect("Ready is told");
    assert_eq!(ready.status, "False", "{}", ready.message);
    assert_eq!(world.nodes.bootstraps, 0, "nothing is formed on it");
    (stalled.reason.clone(), stalled.message.clone())
}

fn members_of(world: &World) -> Vec<Vec<(u64, u64)>> {
    let members = world.nodes.groups.values().map(|g| &g.members);
    members.map(|all| all.iter().map(|m| (m.node_id, m.member_id)).collect()).collect()
}

#[test]
fn retained_volumes_are_taken_up_again() {
    let before = formed();
    let members = members_of(&before);
    let mut world = made_again(before);
    world.settle(2);
    world.assert_well();
    assert_eq!(world.nodes.bootstraps, 0, "the groups exist");
    assert_eq!(members_of(&world), members);
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
    world.kube.volumes.remove("data-orders-1");
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "DataLost");
    assert!(message.contains("0000000000000002"), "names the node that is missing: {message}");
}

#[test]
fn volumes_of_several_clusters_are_named() {
    let mut world = made_again(formed());
    let volume = world.kube.volumes.get_mut("data-orders-2").expect("retained");
    let annotations = volume.metadata.annotations.as_mut();
    annotations.expect("annotated").insert(CLUSTER_ID_ANNOTATION.to_owned(), "u0".to_owned());
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "ForeignVolumes");
    assert!(message.contains("u0") && message.contains("u1"), "{message}");
}

#[test]
fn a_node_with_data_of_another_cluster_is_named() {
    let mut world = World::new();
    let plan = world.plan(1);
    let _ = world.apply(plan, &mut Life::endless());
    while world.nodes.node_id("orders-2", &world.kube) == 0 {
        world.tick();
    }
    world.nodes.set_cluster("orders-2", &world.kube, "u0");
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "ForeignVolumes");
    assert!(message.contains("orders-2"), "{message}");
}

#[test]
fn a_plan_that_is_not_seen_is_written_again_as_the_nodes_have_it() {
    let mut world = formed();
    let written = std::mem::take(&mut world.kube.slices);
    world.settle(2);
    world.assert_well();
    assert_eq!(world.nodes.bootstraps, 0);
    for (name, slice) in &world.kube.slices {
        assert_eq!(slice.spec, written[name].spec);
    }
}

#[test]
fn groups_of_a_plan_that_nobody_wrote_down_are_not_overwritten() {
    let mut world = World::new();
    // The operator dies when one node was told.
    while world.nodes.bootstraps == 0 {
        let mut plan = world.plan(1);
        plan.calls.truncate(1);
        let _ = world.apply(plan, &mut Life::endless());
        world.tick();
    }
    world.nodes.bootstraps = 0;
    world.kube.slices.clear();
    world.nodes.wipe("orders-2", &world.kube);
    let (reason, message) = stalled(&mut world);
    assert_eq!(reason, "DataLost");
    assert!(message.contains("orders-0"), "{message}");
}

#[test]
fn when_every_disk_is_lost_nothing_is_formed_and_no_client_is_served() {
    let mut world = formed();
    for name in ["orders-0", "orders-1", "orders-2"] {
        world.nodes.wipe(name, &world.kube);
    }
    assert_eq!(stalled(&mut world).0, "AllDataLost");
    for name in ["orders-0", "orders-1", "orders-2"] {
        assert!(!world.nodes.is_activated(name, &world.kube), "{name} serves an empty cluster");
    }
}
