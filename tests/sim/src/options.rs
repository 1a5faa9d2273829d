//! What a seed decides before its run begins.

use fastrand::Rng;

/// Shape of a run. Seeds differ in which faults happen at all, so that some runs are all kills and
/// others all partitions (swarm testing, Groce et al. 2012).
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    /// Voters of each group.
    pub voters: usize,
    pub groups: u32,
    pub clients: usize,
    /// Longest pause between the operations of a client: in a long one its group comes to rest.
    pub pause_micros: u64,
    /// Ticks of 100 ms during which faults happen; after them the world heals and must settle.
    pub ticks: u64,
    /// Average time between faults, in microseconds.
    pub fault_micros: u64,
    pub faults: Vec<Fault>,
    /// A log that has grown by this much is trimmed behind a snapshot.
    pub snapshot_log_bytes: u64,
    /// Members are moved between nodes all the time.
    pub moves: bool,
    /// Leaderships are handed over and nodes drained all the time.
    pub hand_overs: bool,
    pub planted: Option<Defect>,
}

/// Defects put in on purpose: a simulation that does not find them proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A record is called durable as soon as it is written.
    SyncLies,
    /// The disk keeps terms but no votes.
    VotesForgotten,
    /// Linearizable reads are answered from any node's own state.
    ReadsAreLocal,
    /// A repeated command comes under a new number.
    RepeatedUnderNewNumber,
}

impl Defect {
    pub const ALL: [Defect; 4] = [
        Defect::SyncLies,
        Defect::VotesForgotten,
        Defect::ReadsAreLocal,
        Defect::RepeatedUnderNewNumber,
    ];
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process dies with all that was not synced, and comes back on its disk.
    Kill,
    /// All processes die at once.
    KillAll,
    /// A process stands still, then finds everything that came meanwhile.
    Pause,
    /// Nothing passes from one node to another; the way back is open.
    CutOneWay,
    /// A node is cut off in both directions.
    Isolate,
    /// A connection breaks and is made anew.
    Break,
    /// A disk takes long over its next syncs.
    SlowDisk,
    /// A wall clock jumps.
    JumpClock,
}

const FAULTS: [Fault; 8] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::Pause,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::Break,
    Fault::SlowDisk,
    Fault::JumpClock,
];

impl Options {
    pub fn of_seed(seed: u64, ticks: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (nodes, voters) = [(3, 3), (3, 3), (5, 3), (5, 5)][rng.usize(..4)];
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| rng.bool()).collect();
        if faults.is_empty() {
            faults.push(FAULTS[rng.usize(..FAULTS.len())]);
        }
        Options {
            seed,
            nodes,
            voters,
            groups: rng.u32(1..=3),
            clients: rng.usize(2..=5),
            pause_micros: [400_000, 400_000, 8_000_000][rng.usize(..3)],
            ticks,
            fault_micros: rng.u64(300_000..4_000_000),
            faults,
            snapshot_log_bytes: rng.u64(200..20_000),
            moves: nodes > voters && rng.bool(),
            hand_overs: rng.u32(..3) == 0,
            planted: None,
        }
    }
}
