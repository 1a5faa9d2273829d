//! Single judgements: what is refused, held back, told, and left alone.

mod model;

use model::kube::BROKEN;
use model::{Life, World};
use multiraft_api::{
    DECOMMISSION_ANNOTATION, Image, PAUSED_ANNOTATION, Recovery, ReplacementPolicy, UpdateKind,
};
use multiraft_plan::{Object, Plan};
use std::collections::BTreeSet;

fn pass(world: &mut World) -> Plan {
    let plan = world.plan(1);
    let _ = world.apply(plan.clone(), &mut Life::endless());
    world.tick();
    plan
}

fn passes(world: &mut World, count: usize) {
    (0..count).for_each(|_| drop(pass(world)));
}

fn min_available(plan: &Plan) -> Option<serde_json::Value> {
    let budget = plan.objects.iter().find_map(|o| match o {
        Object::Budget(budget) => Some(budget),
        _ => None,
    });
    Some(serde_json::to_value(budget?).expect("JSON")["spec"]["minAvailable"].clone())
}

fn uids(world: &World) -> Vec<Option<String>> {
    world.kube.pods.values().map(|p| p.metadata.uid.clone()).collect()
}

#[test]
fn fewer_nodes_than_voters_are_refused_in_words() {
    let mut world = World::formed(3, 4);
    world.edit(|s| s.replicas = 2);
    passes(&mut world, 3);
    let (_, reason, message) = world.condition("Stalled").expect("a human is needed");
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("2 nodes cannot hold 3 voters"), "{message}");
    assert_eq!(world.kube.pods.len(), 3, "nothing is removed");
}

#[test]
fn the_annotated_node_goes_first() {
    let mut world = World::formed(5, 4);
    let pod = world.kube.pods.get_mut("orders-1").expect("it runs");
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(DECOMMISSION_ANNOTATION.to_owned(), String::new());
    world.edit(|s| s.replicas = 4);
    world.settle(1);
    world.assert_well();
    let names: Vec<&str> = world.kube.pods.keys().map(String::as_str).collect();
    assert_eq!(names, ["orders-0", "orders-2", "orders-3", "orders-4"]);
}

/// Tags of the images that pods were made with.
fn tags(world: &World) -> BTreeSet<String> {
    world.kube.pods.keys().filter_map(|pod| world.kube.tag(pod)).map(str::to_owned).collect()
}

#[test]
fn a_paused_cluster_is_watched_and_left_alone() {
    let mut world = World::formed(3, 4);
    let annotations = world.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert(PAUSED_ANNOTATION.to_owned(), "true".to_owned());
    world.edit(|s| s.version = "0.2.0".to_owned());
    let before = uids(&world);
    passes(&mut world, 5);
    assert_eq!(uids(&world), before);
    assert_eq!(world.condition("Ready").expect("told").1, "Paused");
    assert_eq!(world.condition("Paused").expect("told").0, "True");
    world.cluster.metadata.annotations = None;
    world.settle(1);
    world.assert_well();
}

#[test]
fn with_on_delete_pods_wait_for_their_owner() {
    let mut world = World::formed(3, 4);
    world.edit(|s| {
        s.update_strategy.kind = UpdateKind::OnDelete;
        s.version = "0.2.0".to_owned();
    });
    let before = uids(&world);
    passes(&mut world, 5);
    assert_eq!(uids(&world), before);
    let (ready, reason, message) = world.condition("Ready").expect("told");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "RollingUpdate"));
    assert!(message.contains("3 pods have an old template: delete them"), "{message}");
    for name in ["orders-0", "orders-1", "orders-2"] {
        world.kube.pods.remove(name);
        world.settle(1);
    }
    world.assert_well();
}

#[test]
fn another_operator_with_other_defaults_restarts_no_pod() {
    let world = World::formed(3, 4);
    let observed = world.observe();
    let env = multiraft_plan::Surroundings {
        now: world.time(),
        operator_epoch: 9,
        node_image: "registry.example.org/another".to_owned(),
        node_pull_policy: Some("Always".to_owned()),
        operator_pods: None,
        certificate: Err("none".to_owned()),
    };
    let validated = multiraft_plan::validate(&world.cluster);
    let plan = multiraft_plan::plan(&world.cluster, &validated, &observed, &env);
    assert_eq!((plan.deletes, plan.disruption, plan.status.operation), (vec![], None, None));
}

#[test]
fn a_bad_template_stops_at_the_first_node_and_a_corrected_one_goes_on() {
    let mut world = World::formed(3, 4);
    world.edit(|s| s.version = format!("0.1{BROKEN}"));
    passes(&mut world, 50);
    let operation = world.cluster.status.as_ref().and_then(|s| s.operation.clone());
    assert_eq!(operation.map(|o| o.step).as_deref(), Some("WaitForNode"));
    let down = world.kube.pods.keys().filter(|pod| !world.kube.runs(pod)).count();
    assert_eq!(down, 1, "the others are not touched");
    world.now += 601;
    pass(&mut world);
    let (_, reason, message) = world.condition("Stalled").expect("a human is needed");
    assert_eq!(reason, "StepTimeout");
    assert!(message.contains("look at its pod"), "{message}");
    world.edit(|s| s.version = "0.2.0".to_owned());
    world.settle(1);
    world.assert_well();
}

/// That no two nodes are too far from each other is asserted by the model.
#[test]
fn a_second_minor_version_waits_until_all_nodes_run_the_first() {
    let mut world = World::formed(3, 4);
    assert_eq!(world.condition("Upgradeable").expect("told").1, "UpgradeAllowed");
    world.edit(|s| s.version = "0.2.0".to_owned());
    while tags(&world).len() == 1 {
        pass(&mut world);
    }
    world.edit(|s| s.version = "0.3.0".to_owned());
    pass(&mut world);
    assert_eq!(world.condition("Upgradeable").expect("told").1, "VersionSkew");
    assert_eq!(world.condition("Stalled"), None);
    world.settle(1);
    world.assert_well();
    assert_eq!(tags(&world), BTreeSet::from(["0.3.0".to_owned()]));
}

#[test]
fn a_second_minor_version_waits_for_the_only_node_while_it_is_away() {
    let mut world = World::formed(1, 2);
    world.edit(|s| s.version = "0.2.0".to_owned());
    while !world.kube.pods.is_empty() {
        pass(&mut world);
    }
    world.edit(|s| s.version = "0.3.0".to_owned());
    world.settle(1);
    world.assert_well();
    assert_eq!(tags(&world), BTreeSet::from(["0.3.0".to_owned()]));
}

#[test]
fn a_skipped_version_is_told_with_the_remedy() {
    let mut world = World::formed(3, 4);
    let before = uids(&world);
    world.edit(|s| s.version = "0.3.0".to_owned());
    passes(&mut world, 5);
    assert_eq!(uids(&world), before);
    let (_, reason, message) = world.condition("Stalled").expect("a human is needed");
    assert_eq!(reason, "VersionSkew");
    assert!(message.contains("orders-0 runs 0.1.0") && message.contains("between"), "{message}");
    // One who names images himself knows what is in them.
    world.edit(|s| s.image = Some(Image { tag: Some("mine".to_owned()), ..Image::default() }));
    world.settle(1);
    world.assert_well();
}

#[test]
fn the_budget_follows_the_groups_and_counts_a_node_that_is_to_stop_as_gone() {
    let mut world = World::formed(3, 4);
    assert_eq!(min_available(&pass(&mut world)), Some(2.into()));
    world.edit(|s| s.version = "0.2.0".to_owned());
    let mut least = 9;
    for _ in 0..60 {
        let plan = pass(&mut world);
        let stops = plan.disruption.is_some();
        if stops {
            least = least.min(min_available(&plan).and_then(|m| m.as_i64()).expect("given"));
        }
    }
    assert_eq!(least, 3, "nobody else may be evicted then");
    world.assert_well();
    world.nodes.roll_back("orders-1", &world.kube);
    assert_eq!(min_available(&pass(&mut world)), Some(3.into()), "a closed member is none");
}

#[test]
fn volumes_grow_one_by_one_and_a_class_that_cannot_is_told() {
    let mut world = World::formed(3, 4);
    let size = |s: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(s.to_owned());
    world.edit(|s| s.storage.as_mut().expect("given").size = size("2Gi"));
    let grown = |plan: &Plan| plan.growth.as_ref().and_then(|v| v.metadata.name.clone());
    let names: Vec<Option<String>> = (0..4).map(|_| grown(&pass(&mut world))).collect();
    let name = |slot| Some(format!("data-orders-{slot}"));
    assert_eq!(names, [name(0), name(1), name(2), None]);
    world.edit(|s| s.storage.as_mut().expect("given").size = size("2048Mi"));
    assert_eq!(grown(&pass(&mut world)), None, "the same in other words");
    let mut observed = world.observe();
    observed.growth_refused = Some("the class does not allow it".to_owned());
    let plan = world.plan_of(1, &observed);
    let stalled = plan.status.conditions.iter().find(|c| c.type_ == "Stalled").expect("told");
    assert_eq!(stalled.reason, "VolumeNotResizable");
}

#[test]
fn with_manual_replacement_a_lost_machine_is_told_until_its_claim_is_deleted() {
    let mut world = World::formed(5, 4);
    world.edit(|s| s.replacement.policy = ReplacementPolicy::Manual);
    let machine = world.kube.pods["orders-4"].spec.as_ref().and_then(|s| s.node_name.clone());
    world.kube.machines.remove(&machine.expect("it runs"));
    passes(&mut world, 10);
    let (_, reason, message) = world.condition("Stalled").expect("a human is needed");
    assert_eq!(reason, "DataLost");
    assert!(message.contains("delete the claim data-orders-4"), "{message}");
    world.kube.pods.remove("orders-4");
    world.kube.volumes.remove("data-orders-4");
    world.settle(1);
    world.assert_well();
}

#[test]
fn a_machine_that_is_silent_for_a_while_only_is_waited_for() {
    let mut world = World::formed(5, 4);
    let volumes =
        |w: &World| -> Vec<_> { w.kube.volumes.values().map(|v| v.metadata.uid.clone()).collect() };
    let (before, since) = (volumes(&world), world.time());
    let machine = world.kube.pods["orders-4"].spec.as_ref().and_then(|s| s.node_name.clone());
    let machine = world.kube.machines.get_mut(&machine.expect("it runs")).expect("there");
    (machine.ready, machine.since) = (false, since);
    passes(&mut world, 30);
    assert_eq!(volumes(&world), before);
    world.now += 600;
    world.settle(1);
    world.assert_well();
    assert_ne!(volumes(&world), before, "ten minutes are too long");
}

#[test]
fn lost_quorum_is_told_and_recovered_only_on_request_and_once() {
    let mut world = World::formed(3, 4);
    for pod in ["orders-1", "orders-2"] {
        let machine = world.kube.pods[pod].spec.as_ref().and_then(|s| s.node_name.clone());
        world.kube.machines.remove(&machine.expect("it runs"));
    }
    passes(&mut world, 20);
    let (_, reason, message) = world.condition("Stalled").expect("a human is needed");
    assert_eq!(reason, "DataLost");
    assert!(message.contains("4 groups have no quorum") && message.contains("spec.recovery"));
    let request = |id: &str, cluster: &str| Recovery {
        request_id: id.to_owned(),
        cluster_id: cluster.to_owned(),
        groups: Vec::new(),
        keep_nodes: Vec::new(),
        accept_data_loss: true,
    };
    world.edit(|s| s.recovery = Some(request("a", "another")));
    passes(&mut world, 5);
    let told = |w: &World| w.cluster.status.as_ref().and_then(|s| s.recovery.clone());
    assert!(told(&world).expect("told").message.contains("refused: this is cluster u1"));
    world.edit(|s| s.recovery = Some(request("b", "u1")));
    world.settle(1);
    world.assert_well();
    let recovered = told(&world).expect("told");
    assert!(recovered.completed_at.is_some(), "{recovered:?}");
    assert!(recovered.message.contains("1 (from orders-0"), "{recovered:?}");
    assert!(world.nodes.groups.values().all(|g| g.recovery == 1), "once");
}

#[test]
fn two_nodes_on_one_machine_are_told_while_another_is_free() {
    let mut world = World::formed(3, 4);
    let place = |world: &mut World, machine: &str| {
        let pod = world.kube.pods.get_mut("orders-2").expect("it runs");
        pod.spec.as_mut().expect("it has one").node_name = Some(machine.to_owned());
    };
    place(&mut world, "machine-1");
    passes(&mut world, 2);
    let (value, reason, message) = world.condition("Balanced").expect("told");
    assert_eq!((value.as_str(), reason.as_str()), ("False", "MachineShared"));
    assert!(message.contains("machine machine-1 holds the quorum of 4 groups"), "{message}");
    assert!(message.contains("decommission orders-2"), "{message}");
    world.kube.machines.get_mut("machine-2").expect("there").open = false;
    passes(&mut world, 2);
    assert_eq!(world.condition("Balanced").expect("told").1, "Balanced", "nowhere to go");
}
