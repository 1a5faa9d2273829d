//! Changes of a formed cluster, each from its beginning to its undisturbed end.

use super::World;

pub struct Scenario {
    pub name: &'static str,
    /// The cluster before.
    pub start: fn() -> World,
    /// What happens to it.
    pub change: fn(&mut World),
    /// What must be true at the end, beside being well.
    pub end: fn(&World),
}

const GROUPS: u32 = 6;

fn three() -> World {
    World::formed(3, GROUPS)
}

fn five() -> World {
    let mut world = World::of(5, GROUPS);
    world.cluster.spec.replication_factor = Some(3);
    world.settle(1);
    world.assert_well();
    world
}

fn nothing(_: &World) {}

pub const ALL: [Scenario; 12] = [
    Scenario { name: "bootstrap", start: || World::of(3, GROUPS), change: |_| {}, end: nothing },
    Scenario { name: "up", start: three, change: |w| w.edit(|s| s.replicas = 5), end: nothing },
    Scenario {
        name: "down",
        start: five,
        change: |w| w.edit(|s| s.replicas = 3),
        end: |w| assert!(w.kube.pods.keys().eq(["orders-0", "orders-1", "orders-2"])),
    },
    Scenario {
        name: "down and back again",
        start: five,
        change: |w| {
            w.edit(|s| s.replicas = 3);
            for _ in 0..7 {
                let plan = w.plan(1);
                let _ = w.apply(plan, &mut super::Life::endless());
                w.tick();
            }
            w.edit(|s| s.replicas = 5);
        },
        end: |w| assert_eq!(w.kube.pods.len(), 5),
    },
    Scenario {
        name: "roll",
        start: three,
        change: |w| w.edit(|s| s.version = "0.2.0".to_owned()),
        end: nothing,
    },
    Scenario {
        name: "lost volume",
        start: three,
        change: |w| {
            let volume = w.kube.volumes.get_mut("data-orders-1").expect("it has one");
            let status = serde_json::json!({"phase": "Lost"});
            volume.status = serde_json::from_value(status).expect("a status");
            w.kube.break_pod("orders-1");
        },
        end: nothing,
    },
    Scenario {
        name: "lost machine",
        start: five,
        change: |w| {
            let pod = w.kube.pods["orders-3"].clone();
            let machine = pod.spec.and_then(|s| s.node_name).expect("bound");
            w.kube.machines.remove(&machine);
        },
        end: nothing,
    },
    Scenario {
        name: "silent machine",
        start: five,
        change: |w| w.kube.silence("orders-3"),
        end: nothing,
    },
    Scenario {
        name: "wiped disk",
        start: three,
        change: |w| w.nodes.wipe("orders-2", &w.kube),
        end: nothing,
    },
    Scenario {
        name: "rolled back disk",
        start: three,
        change: |w| w.nodes.roll_back("orders-0", &w.kube),
        end: nothing,
    },
    Scenario {
        name: "more voters",
        start: five,
        change: |w| w.edit(|s| s.replication_factor = Some(5)),
        end: nothing,
    },
    Scenario {
        name: "recover",
        start: three,
        change: |w| {
            for pod in ["orders-1", "orders-2"] {
                let spec = w.kube.pods[pod].spec.as_ref();
                let machine = spec.and_then(|s| s.node_name.clone()).expect("bound");
                w.kube.machines.remove(&machine);
            }
            // A request is over at once while no group lacks a quorum.
            (0..3).for_each(|_| w.tick());
            w.edit(|s| {
                s.recovery = Some(multiraft_api::Recovery {
                    request_id: "a".to_owned(),
                    cluster_id: "u1".to_owned(),
                    groups: Vec::new(),
                    keep_nodes: Vec::new(),
                    accept_data_loss: true,
                });
            });
        },
        end: |w| assert!(w.nodes.groups.values().all(|g| g.recovery == 1), "once"),
    },
];
