//! The operator is killed before every call of a bootstrap and started again: always the same end,
//! one plan, no group formed twice with different members.

mod model;

use model::{GROUPS, Life, World};

#[test]
fn dying_again_and_again_only_costs_time() {
    for step in 1..12 {
        let mut world = World::of(3, GROUPS);
        for epoch in 1..400 {
            let plan = world.plan(epoch);
            // One call further each time, so that every life makes some progress.
            let _ = world.apply(plan, &mut Life { calls: step + epoch as usize % 7 });
            world.tick();
        }
        world.settle(400);
        world.assert_well();
    }
}
