//! A group as its log left it: what is committed for certain is applied to a fresh machine, the rest
//! is left to raft.

use crate::limits::ENTRY_OVERHEAD_BYTES;
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
    /// The newest snapshot that fits the log.
    pub snapshot: Option<StoredSnapshot>,
}

/// A snapshot on disk.
#[derive(Clone, Debug)]
pub struct StoredSnapshot {
    /// Index and term of the last entry that it contains.
    pub index: u64,
    pub term: u64,
    /// Encoded, as of that index; of this member or of the leader that it came from.
    pub configuration: Bytes,
    /// Its size.
    pub bytes: u64,
    pub machine: Machine,
}

/// The log begins behind a snapshot that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group {group}: the log begins at index {first}, and no snapshot reaches that far")]
pub struct SnapshotMissing {
    pub group: u32,
    pub first: u64,
}

impl StoredLog {
    /// Of the snapshots on disk, as (index, term), the newest that belongs to this log. The others
    /// are left over from an install that was never recorded, or older.
    ///
    /// # Errors
    /// The log was trimmed and none fits: the member's state is lost.
    pub fn choose(
        &self,
        snapshots: impl IntoIterator<Item = (u64, u64)>,
    ) -> Result<Option<(u64, u64)>, SnapshotMissing> {
        let belongs = |(index, term): &(u64, u64)| self.term(*index) == Some(*term);
        let newest = snapshots.into_iter().filter(belongs).max();
        if newest.is_none() && self.first.0 > 1 {
            return Err(SnapshotMissing { group: self.group, first: self.first.0 });
        }
        Ok(newest)
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index + 1 == self.first.0 {
            return Some(self.first.1);
        }
        if index < self.first.0 || index > self.last_index {
            return None;
        }
        let run = self.terms.partition_point(|(from, _)| *from <= index);
        self.terms.get(run.checked_sub(1)?).map(|(_, term)| *term)
    }
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
    /// Bytes of the entries that were applied beyond the snapshot.
    pub(crate) replayed_bytes: u64,
}

/// Takes a group's entries in their order.
#[derive(Debug)]
pub struct Recovery {
    pub(crate) stored: StoredGroup,
    /// Index up to which the stored configuration has taken in all changes.
    version: u64,
    replaying: bool,
    effects: Vec<Effect>,
}

impl Recovery {
    pub fn new(mut log: StoredLog) -> Self {
        log.state.commit = log.state.commit.min(log.last_index);
        let mut version = version(&log.configuration);
        let (mut applied, mut machine) = (log.first.0 - 1, Machine::new());
        if let Some(snapshot) = &log.snapshot {
            // Its state was committed, whatever the last record of the commit index says; raft
            // panics when it starts with more applied than committed.
            log.state.commit = log.state.commit.max(snapshot.index);
            (applied, machine) = (snapshot.index, snapshot.machine.clone());
            if version < self::version(&snapshot.configuration) {
                version = self::version(&snapshot.configuration);
                log.configuration = newer(&log.configuration, &snapshot.configuration);
            }
        }
        let (tail, replayed_bytes) = Default::default();
        let stored = StoredGroup { log, machine, applied, tail, replayed_bytes };
        Recovery { stored, version, replaying: true, effects: Vec::new() }
    }

    /// The first entry to hand in; what lies before it is in the snapshot.
    pub fn next(&self) -> u64 {
        self.stored.applied + 1
    }

    /// Takes the next entry. It is applied when it is committed for certain and is no change of the
    /// configuration that the stored one lacks.
    ///
    /// # Errors
    /// No working member proposed it: the log is damaged.
    pub fn entry(&mut self, entry: Entry) -> Result<(), EntryError> {
        let stored = &mut self.stored;
        if entry.index <= stored.applied {
            return Ok(());
        }
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
        stored.replayed_bytes += entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES;
        stored.applied = entry.index;
        Ok(())
    }

    pub fn finish(self) -> StoredGroup {
        self.stored
    }
}

fn version(configuration: &[u8]) -> u64 {
    StoredConfiguration::decode(configuration).map_or(0, |c| c.version)
}

/// The snapshot's members with what the stored configuration says of this member alone: the
/// record of the change may not have become durable before the snapshot.
fn newer(stored: &[u8], snapshot: &[u8]) -> Bytes {
    let own = StoredConfiguration::decode(stored).unwrap_or_default();
    let mut newer = StoredConfiguration::decode(snapshot).unwrap_or_default();
    newer.own_member_id = own.own_member_id;
    newer.plan_hash = own.plan_hash;
    newer.auto_promote = own.auto_promote;
    Bytes::from(newer.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 10 to 20, terms 3 before, 4 from 12 on.
    fn trimmed() -> StoredLog {
        StoredLog {
            group: 1,
            state: HardState { term: 5, vote: 0, commit: 15 },
            first: (10, 3),
            last_index: 20,
            terms: vec![(10, 3), (12, 4)],
            configuration: Bytes::new(),
            snapshot: None,
        }
    }

    #[test]
    fn the_newest_snapshot_that_agrees_with_the_log_is_chosen() {
        assert_eq!(trimmed().choose([(9, 3)]), Ok(Some((9, 3))));
        assert_eq!(trimmed().choose([(11, 3), (9, 3), (13, 4)]), Ok(Some((13, 4))));
        assert_eq!(trimmed().choose([(15, 4), (16, 3), (30, 5)]), Ok(Some((15, 4))));
    }

    #[test]
    fn a_trimmed_log_without_its_snapshot_is_refused() {
        let missing = Err(SnapshotMissing { group: 1, first: 10 });
        for found in [&[][..], &[(8, 3)], &[(9, 2)], &[(13, 3)], &[(30, 5)]] {
            assert_eq!(trimmed().choose(found.iter().copied()), missing, "{found:?}");
        }
    }

    #[test]
    fn an_untrimmed_log_needs_no_snapshot_and_an_emptied_one_that_which_emptied_it() {
        let whole = StoredLog { first: (1, 0), terms: vec![(1, 3), (12, 4)], ..trimmed() };
        assert_eq!(whole.choose([]), Ok(None));
        assert_eq!(whole.choose([(5, 3), (40, 2)]), Ok(Some((5, 3))));
        let (first, terms) = ((31, 6), Vec::new());
        let emptied = StoredLog { first, last_index: 30, terms, ..trimmed() };
        assert_eq!(emptied.choose([(30, 6)]), Ok(Some((30, 6))));
        assert!(emptied.choose([(30, 5)]).is_err());
    }
}
