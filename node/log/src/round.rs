//! What the log stores and gives back: plain values.

use std::collections::BTreeMap;

use bytes::Bytes;

/// One round: everything that all groups of a shard must persist together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub groups: Vec<GroupRound>,
    pub peers: Vec<PeerMemory>,
}

/// A group's share of a round.
///
/// Its parts take effect in this order: `delete`, `first`, `entries`, `state`, `config`. So a
/// group may be deleted and created anew in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRound {
    pub group: u32,
    pub state: Option<HardState>,
    /// The index of the log's first entry and the term of the entry before it. Set at creation
    /// and when the log is trimmed. If the entry before `first` is not in the log with that
    /// term, the log restarts empty at `first` (as after a snapshot from the leader).
    pub first: Option<(u64, u64)>,
    /// Membership as of an applied index.
    pub config: Option<StoredConfig>,
    /// Replaces any suffix of the log from `entries[0].index` on. Indexes are consecutive.
    pub entries: Vec<Entry>,
    /// All that was stored of this group is removed.
    pub delete: bool,
}

/// What a Raft member must never forget. A stored term never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// An entry of a group's log; its content is opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// 0 normal, 1 configuration change, 2 configuration change v2.
    pub kind: u8,
    pub data: Bytes,
    pub context: Bytes,
}

/// A membership, opaque here, and the index whose application made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredConfig {
    pub applied: u64,
    pub bytes: Bytes,
}

/// What a peer's member durably acknowledged to this node: the guard against a peer whose
/// directory was restored from an older copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMemory {
    pub node: u64,
    /// Incarnation of the peer's data directory.
    pub incarnation: u64,
    pub group: u32,
    pub term: u64,
    pub index: u64,
}

/// Who this data directory belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub node_id: u64,
    pub incarnation: u64,
    /// Empty until the first fence named it.
    pub cluster_id: String,
    /// Version of the directory's layout.
    pub format: u32,
}

/// Random numbers for a directory that does not exist yet; unused otherwise. Neither may be 0.
#[derive(Clone, Copy, Debug)]
pub struct FreshIdentity {
    pub node_id: u64,
    pub incarnation: u64,
}

/// Everything that was on disk at open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// True when this open made the directory.
    pub created: bool,
    pub identity: Identity,
    pub groups: BTreeMap<u32, RecoveredGroup>,
    pub peers: Vec<PeerMemory>,
    pub meta: BTreeMap<String, Bytes>,
}

/// One group as it was on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    pub state: HardState,
    /// As [`GroupRound::first`]; (1, 0) for a log that was never trimmed.
    pub first: (u64, u64),
    /// `first.0 - 1` when the log is empty.
    pub last_index: u64,
    /// Runs of equal terms: (first index, term), ascending.
    pub terms: Vec<(u64, u64)>,
    pub config: Option<StoredConfig>,
}

/// What an append wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub bytes: u64,
    pub records: u64,
}

/// What a trim did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Rounds that are gone.
    pub rounds: u64,
    /// Bytes written to copy quiet groups forward.
    pub copied_bytes: u64,
}
