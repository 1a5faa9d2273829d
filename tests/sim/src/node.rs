//! A node: the shard, its disk, its clocks, and what waits to be handled.

use std::collections::BTreeMap;

use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{Identity, Input, Member, Now, Outputs, Role, Shard, TakeSnapshot, Timing};

use crate::disk::Disk;
use crate::options::Options;

/// Wall clock of all nodes when a run begins, in milliseconds since the Unix epoch.
const EPOCH_MILLIS: u64 = 1_700_000_000_000;

/// A place has this many node ids at most: each lost directory takes one.
const IDS: u64 = 100;

pub struct Node {
    pub place: usize,
    pub disk: Disk,
    /// An older state of the disk.
    pub copy: Option<Disk>,
    /// None while the process is dead.
    pub life: Option<Life>,
    /// Count of process starts as the world knows it: events of an earlier life do not happen.
    pub boot: u64,
    /// Directories that were lost with their node id.
    pub lost: u64,
    /// Times that the disk went back to less than it held, by whatever fault.
    pub set_back: u64,
    /// When it last began, was mended, or its connections broke.
    pub troubled_at: u64,
    /// The process stands still until this time.
    pub paused_until: u64,
    /// The wall clock is ahead of the world's time by this many milliseconds.
    pub wall_offset: i64,
    /// The monotonic clock runs fast by this many millionths.
    pub drift: u64,
}

/// One life of a process.
pub struct Life {
    pub shard: Shard,
    pub inputs: Vec<Input>,
    /// Snapshots that are being written, by group and index.
    pub writing: BTreeMap<(u32, u64, u64), TakeSnapshot>,
    /// Next tick, by the node's own clock.
    next_tick: u64,
    /// A step is scheduled.
    pub is_awake: bool,
}

fn host(place: usize) -> String {
    format!("node-{place}")
}

/// A voter on a node.
pub fn member(member_id: u64, node: &Node) -> Member {
    Member { member_id, node_id: node.id(), host: host(node.place), port: 1, role: Role::Voter }
}

/// The place of a node, be it one that is lost.
pub fn place_of(node_id: u64) -> usize {
    (node_id % IDS) as usize - 1
}

impl Node {
    pub fn new(place: usize, wall_offset: i64, drift: u64) -> Self {
        let (disk, copy, life) = Default::default();
        let (boot, lost, set_back, troubled_at, paused_until) = Default::default();
        Node {
            place,
            disk,
            copy,
            life,
            boot,
            lost,
            set_back,
            troubled_at,
            paused_until,
            wall_offset,
            drift,
        }
    }

    pub fn id(&self) -> u64 {
        self.place as u64 + 1 + IDS * self.lost
    }

    fn clocks(&self, now: u64) -> Now {
        let micros = now + now / 1_000_000 * self.drift;
        let unix = EPOCH_MILLIS as i64 + (now / 1_000) as i64 + self.wall_offset;
        Now { micros, unix_millis: unix as u64 }
    }

    /// Starts the process on what its disk holds.
    pub fn start(&mut self, now: u64, options: &Options) {
        self.boot += 1;
        self.troubled_at = now;
        let identity = Identity {
            node_id: self.id(),
            incarnation: self.disk.incarnation(self.place),
            boot: self.disk.count_boot(),
            host: host(self.place),
            peer_port: 1,
            client_address: format!("node-{}:2", self.place),
        };
        let timing = Timing {
            election_ticks: 10,
            heartbeat_ticks: 1,
            seed: options.seed ^ identity.incarnation ^ (self.boot << 32),
        };
        let clocks = self.clocks(now);
        let stored = &self.disk.synced;
        let mut shard = Shard::new(identity, stored.facts.clone(), timing, stored.memory(), clocks);
        shard.set_snapshot_log_bytes(options.shape.snapshot_log_bytes);
        if let Some(defect) = options.planted {
            defect.plant(&mut shard);
        }
        self.disk.restore(&mut shard, options.planted);
        shard.start();
        let next_tick = clocks.micros + TICK_MICROS;
        let (inputs, writing) = Default::default();
        self.life = Some(Life { shard, inputs, writing, next_tick, is_awake: false });
    }

    /// One turn of the host's loop: everything that waits, the tick if it is due, a round.
    pub fn step(&mut self, now: u64) -> Option<Outputs> {
        let clocks = self.clocks(now);
        let life = self.life.as_mut()?;
        life.is_awake = false;
        life.shard.set_time(clocks);
        for input in std::mem::take(&mut life.inputs) {
            life.shard.handle(input);
        }
        if clocks.micros >= life.next_tick {
            life.shard.handle(Input::Tick);
            life.next_tick = clocks.micros + TICK_MICROS;
        }
        Some(life.shard.round())
    }
}
