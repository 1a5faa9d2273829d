//! What goes wrong, as data: a run's faults with their times. Drawn from the seed, or read from a
//! script.

use fastrand::Rng;
use multiraft_shard::limits::TICK_MICROS;
use serde::{Deserialize, Serialize};

use crate::options::Shape;

/// Nodes form their groups before the first fault.
pub const FORMING_MICROS: u64 = 3_000_000;

/// Which node a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// By its place, from 0 on.
    Node(usize),
    /// The leader that the group has when the time comes; none, and the fault does not happen.
    Leader(u32),
}

/// One fault. Lengths of time are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The process dies; what it wrote is still in the system's cache.
    Crash { node: Target, micros: u64 },
    /// What was not synced is lost, except a prefix.
    PowerLoss { node: Target, micros: u64 },
    /// All nodes lose power at once and come back one by one.
    PowerLossAll { micros: u64 },
    /// The process stands still, then finds everything that came meanwhile.
    Pause { node: Target, micros: u64 },
    /// Nothing passes in one direction.
    CutOneWay { from: usize, to: usize, micros: u64 },
    /// A direction is cut and open in turn.
    Flap { from: usize, to: usize, micros: u64, times: u64 },
    /// The node is cut off in both directions.
    Isolate { node: Target, micros: u64 },
    /// The nodes before this place are cut off from the others.
    Split { place: usize, micros: u64 },
    /// A connection breaks and is made anew.
    Break { from: usize, to: usize },
    /// What goes into a connection never comes out and its sender is not told, until it makes
    /// another one: a half-open connection.
    Stall { from: usize, to: usize },
    /// The next syncs take long.
    SlowDisk { node: Target, micros: u64 },
    /// The wall clock jumps.
    JumpClock { node: usize, millis: i64 },
    /// The next call of the operator for a change of members is followed by the crash of a node,
    /// this much later: the one that was called, or the leader.
    CrashAtStep { leader: bool, after: u64, micros: u64 },
    /// The disk is copied, for a later [`Fault::RollBack`].
    Copy { node: usize },
    /// The disk goes back to its copy; the member has to be refused, and is replaced. Meanwhile the
    /// leaders of its groups stand still, or not.
    RollBack { node: usize, leaders_pause: bool },
    /// The disk is emptied and the groups are formed anew on it, under the same ids; the rest as
    /// above.
    Wipe { node: usize, leaders_pause: bool },
    /// The disk is lost; a new node takes its place.
    Lose { node: usize },
}

/// Kinds of faults. A seed takes some of them, so that some runs are all crashes and others all
/// partitions (swarm testing, Groce et al. 2012).
type Draw = fn(&mut Rng, &Shape) -> Fault;

const KINDS: [Draw; 15] = [
    |rng, shape| Fault::Crash { node: target(rng, shape), micros: lasting(rng) },
    // Long enough for a group to find another leader, or not to.
    |rng, shape| Fault::Crash { node: target(rng, shape), micros: rng.u64(10..40) * 1_000_000 },
    |rng, shape| Fault::PowerLoss { node: target(rng, shape), micros: lasting(rng) },
    |rng, _| Fault::PowerLossAll { micros: rng.u64(10_000..2_000_000) },
    |rng, shape| Fault::Pause { node: target(rng, shape), micros: lasting(rng) },
    |rng, shape| {
        let (from, to) = pair(rng, shape);
        Fault::CutOneWay { from, to, micros: lasting(rng) }
    },
    |rng, shape| {
        let (from, to) = pair(rng, shape);
        Fault::Flap { from, to, micros: rng.u64(50_000..1_500_000), times: rng.u64(2..8) }
    },
    |rng, shape| Fault::Isolate { node: target(rng, shape), micros: lasting(rng) },
    |rng, shape| Fault::Split { place: rng.usize(1..shape.nodes), micros: lasting(rng) },
    |rng, shape| {
        let (from, to) = pair(rng, shape);
        Fault::Break { from, to }
    },
    |rng, shape| {
        let (from, to) = pair(rng, shape);
        Fault::Stall { from, to }
    },
    |rng, shape| Fault::SlowDisk { node: target(rng, shape), micros: lasting(rng) },
    |rng, shape| Fault::JumpClock {
        node: rng.usize(..shape.nodes),
        millis: rng.i64(-20_000..20_000),
    },
    at_step,
    at_step,
];

fn at_step(rng: &mut Rng, _: &Shape) -> Fault {
    let (leader, after) = (rng.bool(), rng.u64(..300_000));
    Fault::CrashAtStep { leader, after, micros: lasting(rng) }
}

fn target(rng: &mut Rng, shape: &Shape) -> Target {
    match rng.bool() {
        true => Target::Leader(rng.u32(1..=shape.groups)),
        false => Target::Node(rng.usize(..shape.nodes)),
    }
}

fn pair(rng: &mut Rng, shape: &Shape) -> (usize, usize) {
    let from = rng.usize(..shape.nodes);
    (from, (from + rng.usize(1..shape.nodes)) % shape.nodes)
}

/// Mostly short: a long fault hides others.
fn lasting(rng: &mut Rng) -> u64 {
    match rng.u32(..10) {
        0 => rng.u64(3_000_000..20_000_000),
        _ => rng.u64(10_000..3_000_000),
    }
}

/// Draws the faults of a run, in the order of their times.
pub fn draw(rng: &mut Rng, shape: &Shape) -> Vec<(u64, Fault)> {
    let mut kinds: Vec<Draw> = KINDS.into_iter().filter(|_| rng.bool()).collect();
    if kinds.is_empty() {
        kinds.push(KINDS[rng.usize(..KINDS.len())]);
    }
    // In some runs the world is calm for long enough to see what does not come about by itself.
    let period = match rng.u32(..4) {
        0 => rng.u64(4_000_000..20_000_000),
        _ => rng.u64(300_000..4_000_000),
    };
    let end = FORMING_MICROS + shape.ticks * TICK_MICROS;
    let mut faults = Vec::new();
    let mut at = FORMING_MICROS;
    while at < end {
        faults.push((at, kinds[rng.usize(..kinds.len())](rng, shape)));
        at += rng.u64(1..2 * period);
    }
    // A disk is replaced at most once: it takes the world some calm seconds. With two voters the
    // other could not go on alone.
    if shape.voters > 2 && rng.u32(..3) == 0 {
        let node = rng.usize(..shape.nodes);
        let copied = rng.u64(FORMING_MICROS..end);
        faults.push((copied, Fault::Copy { node }));
        let leaders_pause = rng.bool();
        let replaced = match rng.u32(..4) {
            0 => Fault::Lose { node },
            1 => Fault::Wipe { node, leaders_pause },
            _ => Fault::RollBack { node, leaders_pause },
        };
        faults.push((rng.u64(copied..end), replaced));
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}
