//! Each change of a running cluster ends as a fresh install would be, wherever the operator dies on
//! the way, and nothing that must not happen happens (the model asserts that call by call).

mod model;

use model::scenarios::{ALL, Scenario};
use model::{Life, World};

fn undisturbed(scenario: &Scenario) -> (World, usize) {
    let mut world = (scenario.start)();
    (scenario.change)(&mut world);
    let calls = world.settle(1);
    world.assert_well();
    (scenario.end)(&world);
    (world, calls)
}

#[test]
fn every_change_comes_to_its_end_and_then_nothing_is_written() {
    for scenario in &ALL {
        let (mut world, calls) = undisturbed(scenario);
        assert!(calls > 3, "{}: {calls} calls", scenario.name);
        let writes = world.kube.writes;
        for _ in 0..20 {
            let plan = world.plan(1);
            let _ = world.apply(plan, &mut Life::endless());
            world.tick();
        }
        assert_eq!(world.kube.writes, writes, "{}", scenario.name);
        println!("{}: {calls} calls", scenario.name);
    }
}

#[test]
fn an_operator_that_dies_before_any_call_comes_to_the_same_end() {
    let mut sites = 0;
    for scenario in &ALL {
        let (_, calls) = undisturbed(scenario);
        for kill in 0..calls {
            let mut world = (scenario.start)();
            (scenario.change)(&mut world);
            let mut life = Life { calls: kill };
            loop {
                let plan = world.plan(1);
                let died = world.apply(plan, &mut life).is_none() && life.calls == 0;
                world.tick();
                if died {
                    break;
                }
            }
            // Its successor needs a while, and starts without knowing anything.
            world.tick();
            world.settle(2);
            world.assert_well();
            (scenario.end)(&world);
        }
        sites += calls;
        println!("{}: {calls} calls, killed before each", scenario.name);
    }
    println!("{sites} sites");
}
