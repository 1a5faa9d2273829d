//! What a seed decides before its run begins.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::planted::Defect;
use crate::schedule::{self, Fault};

/// The simulated world without its faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub nodes: usize,
    /// Voters of each group.
    pub voters: usize,
    pub groups: u32,
    pub clients: usize,
    /// Further clients, which use the primitives that have models.
    #[serde(default)]
    pub users: usize,
    /// Longest pause between the operations of a client: in a long one its group comes to rest.
    pub pause_micros: u64,
    /// Ticks of 100 ms during which faults happen; after them the world heals and must settle.
    pub ticks: u64,
    /// A log that has grown by this much is trimmed behind a snapshot.
    pub snapshot_log_bytes: u64,
    /// Members are moved between nodes all the time.
    pub moves: bool,
    /// Leaderships are handed over and nodes drained all the time.
    pub hand_overs: bool,
}

/// A run: the same options are the same run, to the byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Decides all that is not written down here: delays, what clients do, what an operator does.
    pub seed: u64,
    pub shape: Shape,
    pub planted: Option<Defect>,
    /// (time in microseconds, what happens then), in order.
    pub faults: Vec<(u64, Fault)>,
}

impl Options {
    pub fn of_seed(seed: u64, ticks: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let shapes = [(3, 3), (3, 3), (5, 3), (5, 5), (3, 2), (5, 4)];
        let (nodes, voters) = shapes[rng.usize(..shapes.len())];
        let shape = Shape {
            nodes,
            voters,
            groups: rng.u32(1..=3),
            clients: rng.usize(2..=5),
            users: rng.usize(..3),
            pause_micros: [400_000, 400_000, 8_000_000][rng.usize(..3)],
            ticks,
            snapshot_log_bytes: rng.u64(200..20_000),
            moves: nodes > voters && rng.u32(..3) > 0,
            hand_overs: rng.u32(..3) == 0,
        };
        let faults = schedule::draw(&mut rng, &shape);
        Options { seed, shape, planted: None, faults }
    }
}
