//! The table of decoders.

mod disk;
mod machine;
mod peers;
mod raft;
mod resources;
mod shard;

/// One decoder.
#[derive(Debug)]
pub struct Target {
    /// Also of its folder of the corpus.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Name and bytes of real encodings.
    pub seeds: fn() -> Seeds,
    /// Bytes that it may take beside four times the input.
    pub slack: usize,
}

pub type Seeds = Vec<(&'static str, Vec<u8>)>;

const SLACK: usize = 64 << 10;
/// An extreme keep-alive may make a session await 65,536 numbers (the machine's `AWAITED_MAX`).
const MACHINE_SLACK: usize = 6 << 20;
/// Two machines with every type of primitive: the first node of each of their trees has room for many
/// entries.
const RESTORE_SLACK: usize = 128 << 10;
/// The codec of frames makes room for a frame that is announced, without touching it.
const FRAME_SLACK: usize = 17 << 20;
/// The YAML parser's own buffers.
const YAML_SLACK: usize = 128 << 10;
/// Three nodes that go on serving.
const CLUSTER_SLACK: usize = 32 << 20;
/// A few words may ask for 1,024 groups on 99 nodes.
const PLAN_SLACK: usize = 32 << 20;

pub static TARGETS: [Target; 16] = [
    Target { name: "entry", run: machine::entry, seeds: machine::entries, slack: MACHINE_SLACK },
    Target { name: "input", run: machine::input, seeds: machine::inputs, slack: MACHINE_SLACK },
    Target { name: "service", run: machine::service, seeds: machine::calls, slack: RESTORE_SLACK },
    Target { name: "filter", run: machine::filter, seeds: machine::filters, slack: MACHINE_SLACK },
    Target {
        name: "snapshot",
        run: machine::snapshot,
        seeds: machine::chunks,
        slack: RESTORE_SLACK,
    },
    Target { name: "raft", run: raft::message_bytes, seeds: raft::messages, slack: SLACK },
    Target { name: "raft-fields", run: raft::fields, seeds: raft::recipes, slack: SLACK },
    Target { name: "configuration", run: raft::configuration, seeds: raft::stored, slack: SLACK },
    Target { name: "frame", run: peers::frame, seeds: peers::frames, slack: SLACK },
    Target { name: "link", run: peers::link, seeds: peers::connections, slack: FRAME_SLACK },
    Target { name: "shard", run: shard::damaged, seeds: shard::frames, slack: CLUSTER_SLACK },
    Target { name: "record", run: disk::record, seeds: disk::records, slack: SLACK },
    Target { name: "snapshot-file", run: disk::snapshot, seeds: disk::snapshots, slack: SLACK },
    Target { name: "facts", run: disk::facts, seeds: disk::stored_facts, slack: SLACK },
    Target {
        name: "settings",
        run: resources::settings,
        seeds: resources::yaml,
        slack: YAML_SLACK,
    },
    Target { name: "cluster", run: resources::cluster, seeds: resources::json, slack: PLAN_SLACK },
];
