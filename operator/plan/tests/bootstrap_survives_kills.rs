//! The operator is killed before and after every call of a bootstrap and started again: always
//! the same end, one plan, no group formed twice with different members.

mod model;

use model::{Life, PASSES_MAX, World};

#[test]
fn a_bootstrap_ends_the_same_wherever_the_operator_dies() {
    let mut undisturbed = World::new();
    let calls = undisturbed.settle(1);
    undisturbed.assert_formed();
    assert!(calls > 20, "{calls} calls are enough places to die");
    for kill in 0..calls {
        let mut world = World::new();
        let mut life = Life { calls: kill };
        for _ in 0..PASSES_MAX {
            let plan = world.plan(1);
            if world.apply(plan, &mut life).is_none() {
                break;
            }
            world.elect();
        }
        world.elect();
        world.settle(2);
        world.assert_formed();
        assert_eq!(world.members, undisturbed.members, "killed after {kill} calls");
    }
}

#[test]
fn dying_again_and_again_only_costs_time() {
    for step in 1..12 {
        let mut world = World::new();
        for epoch in 1..400 {
            let plan = world.plan(epoch);
            // One call further each time, so that every life makes some progress.
            let _ = world.apply(plan, &mut Life { calls: step + epoch as usize % 7 });
            world.elect();
        }
        world.settle(400);
        world.assert_formed();
    }
}
