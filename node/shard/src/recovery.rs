//! A group as its log left it: what is committed for certain is applied to a fresh machine, the rest
//! is left to raft.

use bytes::Bytes;
use multiraft_group::{Entry, EntryKind, HardState};
use multiraft_machine::{Effect, EntryError, Machine};
use multiraft_proto::log::StoredConfiguration;
use prost::Message as _;

/// What the log says of a group besides its entries.
#[derive(Clone, Debug)]
pub struct StoredLog {
    pub group: u32,
    pub state: HardState,
    /// First index and the term of the entry before it.
    pub first: (u64, u64),
    pub last_index: u64,
    /// Runs of equal terms: (first index of the run, term), ascending.
    pub terms: Vec<(u64, u64)>,
    /// Encoded by an earlier life of the shard.
    pub configuration: Bytes,
}

/// A group that is ready to start.
#[derive(Debug)]
pub struct StoredGroup {
    pub(crate) log: StoredLog,
    /// State of the machine after `applied`.
    pub(crate) machine: Machine,
    pub(crate) applied: u64,
    /// Entries after `applied`.
    pub(crate) tail: Vec<Entry>,
}

/// Takes a group's entries in their order.
#[derive(Debug)]
pub struct Recovery {
    stored: StoredGroup,
    /// Index up to which the stored configuration has taken in all changes.
    version: u64,
    replaying: bool,
    effects: Vec<Effect>,
}

impl Recovery {
    pub fn new(mut log: StoredLog) -> Self {
        log.state.commit = log.state.commit.min(log.last_index);
        let version = StoredConfiguration::decode(&log.configuration[..]).map_or(0, |c| c.version);
        let applied = log.first.0 - 1;
        let stored = StoredGroup { log, machine: Machine::new(), applied, tail: Vec::new() };
        Recovery { stored, version, replaying: true, effects: Vec::new() }
    }

    /// Takes the next entry. It is applied when it is committed for certain and is no change of the
    /// configuration that the stored one lacks.
    ///
    /// # Errors
    /// No working member proposed it: the log is damaged.
    pub fn entry(&mut self, entry: Entry) -> Result<(), EntryError> {
        let stored = &mut self.stored;
        self.replaying &= entry.index <= stored.log.state.commit
            && (entry.kind == EntryKind::Normal || entry.index <= self.version);
        if !self.replaying {
            stored.tail.push(entry);
            return Ok(());
        }
        if entry.kind == EntryKind::Normal {
            self.effects.clear();
            stored.machine.apply(entry.term, &entry.data, &mut self.effects)?;
        }
        stored.applied = entry.index;
        Ok(())
    }

    pub fn finish(self) -> StoredGroup {
        self.stored
    }
}
