//! Random histories: specs that change, nodes that fail, operators that die, two of them at once of
//! which one sees the world as it was. In the end the cluster is as a fresh install would be.
//!
//! A failure prints the seed; `MULTIRAFT_SEED=n` runs that one alone, `MULTIRAFT_SEQUENCES=n` so many.

mod model;

use model::kube::BROKEN;
use model::{Dice, Life, World};
use multiraft_api::{PodOptions, Tls, TlsMode, WhenScaled};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn each_seed(default: u64, run: impl Fn(u64)) {
    let seeds = match number("MULTIRAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MULTIRAFT_SEQUENCES").unwrap_or(default),
    };
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| run(seed))).is_err() {
            panic!("MULTIRAFT_SEED={seed} replays this");
        }
    }
    println!("{} edits of specs up to now", EDITS.load(Ordering::Relaxed));
}

fn start(dice: &mut Dice) -> World {
    let mut world = World::of(1 + 2 * dice.roll(3) as i32, 1 + dice.roll(6) as u32);
    let factor = if world.cluster.spec.replicas >= 3 { 3 } else { 1 };
    world.cluster.spec.replication_factor = Some(factor);
    world.settle(1);
    world.assert_well();
    world.tells = number("MULTIRAFT_SEED").is_some();
    world
}

/// Of all tests of this file.
static EDITS: AtomicUsize = AtomicUsize::new(0);

/// Somebody edits the spec; the result is always one that the API server takes.
fn edit(world: &mut World, dice: &mut Dice) {
    EDITS.fetch_add(1, Ordering::Relaxed);
    let choice = dice.roll(11);
    let value = dice.roll(6) as i32;
    world.tell(|| format!("EDIT {choice} {value}"));
    world.edit(|spec| match choice {
        0..=2 => spec.replicas = (1 + value).max(spec.replication_factor.unwrap_or(1)),
        // The API server takes one minor version at a time.
        3 => spec.version = format!("0.{}.0", (minor(&spec.version) + value % 3 - 1).max(0)),
        4 => spec.version = format!("0.{}{BROKEN}", minor(&spec.version)),
        5 => {
            let pod = spec.pod.get_or_insert_with(|| PodOptions {
                termination_grace_period_seconds: 60,
                ..PodOptions::default()
            });
            pod.labels.insert("edit".to_owned(), value.to_string());
        }
        6 => spec.paused = value < 2,
        8 | 9 => spec.tls = tls(value),
        7 => spec.placement.max_concurrent_moves = 1 + value,
        _ => {
            let factor = if value < 3 { 1 } else { 3 };
            spec.replication_factor = (factor <= spec.replicas).then_some(factor).or(Some(1));
        }
    });
}

fn minor(version: &str) -> i32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).expect("a version")
}

fn tls(value: i32) -> Option<Tls> {
    let mode = match value {
        0 => return None,
        1 => TlsMode::Disabled,
        2 | 3 => TlsMode::Permissive,
        _ => TlsMode::Strict,
    };
    Some(Tls { mode, secret_name: Some("orders-tls".to_owned()), ..Tls::default() })
}

/// Something breaks that a cluster of three voters survives; not a second time before all is well.
fn fault(world: &mut World, dice: &mut Dice) {
    if !is_whole(world) || world.cluster.spec.replication_factor != Some(3) {
        return;
    }
    let pods: Vec<String> = world.kube.pods.keys().cloned().collect();
    let pod = &pods[dice.roll(pods.len() as u64) as usize];
    let kind = dice.roll(5);
    world.tell(|| format!("FAULT {kind} {pod}"));
    match kind {
        0 => world.nodes.wipe(pod, &world.kube),
        1 => world.nodes.roll_back(pod, &world.kube),
        2 => drop(world.kube.pods.remove(pod)),
        3 => world.kube.silence(pod),
        _ => {
            let spec = world.kube.pods[pod].spec.as_ref();
            let machine = spec.and_then(|s| s.node_name.clone()).expect("it runs");
            world.kube.machines.remove(&machine);
        }
    }
    // Seen by all, before somebody asks for a single voter: then there is nothing to lose.
    world.tick();
}

fn is_whole(world: &World) -> bool {
    world.kube.pods.keys().all(|pod| world.kube.runs(pod) && world.kube.has_machine(pod))
        && world.condition("FullyReplicated").is_some_and(|c| c.0 == "True")
        && world.nodes.are_all_well(&world.kube, 3)
}

/// Of the versions that pods run, all have the newest next to them, as far as they are not skipped.
fn repair(world: &mut World) {
    let tags = world.kube.pods.keys().filter_map(|pod| world.kube.tag(pod));
    let newest = tags.map(minor).max();
    world.edit(|spec| {
        spec.paused = false;
        spec.version = format!("0.{}.0", newest.unwrap_or(minor(&spec.version)));
    });
}

#[test]
fn random_changes_end_like_a_fresh_install() {
    each_seed(150, |seed| {
        let mut dice = Dice(seed);
        let mut world = start(&mut dice);
        let mut epoch = 1;
        for _ in 0..60 {
            if dice.one_in(5) {
                edit(&mut world, &mut dice);
            }
            if dice.one_in(12) {
                fault(&mut world, &mut dice);
            }
            let plan = world.plan(epoch);
            let mut life = Life::endless();
            if dice.one_in(8) {
                life.calls = dice.roll(6) as usize;
                epoch += 1;
            }
            let _ = world.apply(plan, &mut life);
            (0..dice.roll(3)).for_each(|_| world.tick());
        }
        repair(&mut world);
        world.settle(epoch + 1);
        world.assert_well();
    });
}

/// Conflicts, too many requests, errors and lost answers, of the API server and of nodes.
#[test]
fn calls_that_fail_or_are_never_answered_cost_only_time() {
    let failed = Cell::new(0);
    each_seed(300, |seed| {
        let mut dice = Dice(seed ^ 0xbad);
        let mut world = start(&mut dice);
        world.unreliable = Some(Dice(seed));
        for _ in 0..3 {
            edit(&mut world, &mut dice);
            for _ in 0..10 {
                let plan = world.plan(1);
                let _ = world.apply(plan, &mut Life::endless());
                world.tick();
            }
        }
        repair(&mut world);
        world.settle(1);
        world.assert_well();
        failed.set(failed.get() + world.failed);
    });
    println!("{} calls failed", failed.get());
}

#[test]
fn an_operator_that_sees_the_world_as_it_was_costs_only_time() {
    let apart = Cell::new(0);
    each_seed(100, |seed| {
        let mut dice = Dice(seed ^ 0xface);
        let mut world = start(&mut dice);
        world.views_are_old = true;
        // The first one leads no more and does not know it.
        let mut epochs = [2, 3];
        for _ in 0..60 {
            if dice.one_in(6) {
                edit(&mut world, &mut dice);
            }
            let which = dice.roll(2) as usize;
            if dice.one_in(20) {
                epochs[which] = epochs[0].max(epochs[1]) + 1;
            }
            let seen = world.observe();
            world.seen.push(seen);
            let back = dice.roll(8).min(world.seen.len() as u64 - 1) as usize;
            let seen = world.seen[world.seen.len() - 1 - back].clone();
            let plan = world.plan_of(epochs[which], &seen);
            let _ = world.apply(plan, &mut Life::endless());
            if dice.one_in(2) {
                world.tick();
            }
        }
        repair(&mut world);
        world.settle(epochs[0].max(epochs[1]) + 1);
        world.assert_well();
        apart.set(apart.get() + world.apart);
    });
    println!("{} seconds with nodes that could not speak to each other", apart.get());
}

#[test]
fn a_kept_volume_is_never_taken_up_again() {
    let mut world = World::formed(5, 6);
    world.edit(|s| {
        s.storage.as_mut().expect("given").retention.when_scaled = WhenScaled::Retain;
        s.replicas = 3;
    });
    world.settle(1);
    assert_eq!((world.kube.pods.len(), world.kube.volumes.len()), (3, 5));
    world.edit(|s| s.replicas = 4);
    world.settle(1);
    assert!(world.kube.pods.contains_key("orders-5"), "{:?}", world.kube.pods.keys());
}
