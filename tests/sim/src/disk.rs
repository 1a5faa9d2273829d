//! A node's disk: records in order, each whole or not there. What is not synced is lost in a crash,
//! except a prefix that the disk happened to have written.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fastrand::Rng;
use multiraft_proto::log::StoredConfiguration;
use multiraft_shard::{
    Entry, HardState, NodeFacts, Persist, Recovery, Remembered, Shard, StoredLog, StoredSnapshot,
};
use prost::Message as _;

use crate::planted::Defect;

/// What all records up to some point amount to.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub facts: NodeFacts,
    pub groups: BTreeMap<u32, StoredGroup>,
    memory: BTreeMap<(u64, u32), Remembered>,
    deletions: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug, Default)]
pub struct StoredGroup {
    pub state: HardState,
    pub first: (u64, u64),
    configuration: Bytes,
    pub entries: BTreeMap<u64, Entry>,
}

/// What happens to records that are not synced when the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// The system's cache outlives the process.
    Kept,
    /// Power is lost: a prefix is there, the rest is not.
    Torn,
}

#[derive(Debug, Default)]
pub struct Disk {
    pub synced: Stored,
    /// With what is not synced yet: what the process believes.
    pub written: Stored,
    /// Records that are not synced yet, with the time at which they will be, oldest first.
    pending: VecDeque<(u64, Persist)>,
    /// Files beside the log, each durable as a whole.
    snapshots: BTreeMap<u32, Vec<StoredSnapshot>>,
    /// The next syncs take this long more until this time.
    pub slow_until: u64,
    /// Process starts, as the directory counts them.
    boots: u64,
    /// Counts the directories of this place: the second one has another incarnation.
    directory: u64,
}

impl Disk {
    /// Takes a record; returns when it will be synced.
    pub fn write(&mut self, record: Persist, now: u64, rng: &mut Rng) -> u64 {
        let took = rng.u64(200..6_000);
        let slow = if now < self.slow_until { rng.u64(0..=self.slow_until - now) } else { 0 };
        let before = self.pending.back().map_or(0, |(at, _)| *at);
        let at = (now + took + slow).max(before);
        self.written.take(&record);
        self.pending.push_back((at, record));
        at
    }

    /// It is slow no more; returns when all will be synced that it got while it was.
    pub fn mend(&mut self) -> u64 {
        self.slow_until = 0;
        self.pending.back().map_or(0, |(at, _)| *at)
    }

    /// Syncs what is due; returns the number of the last such record.
    pub fn sync(&mut self, now: u64) -> Option<u64> {
        let mut last = None;
        while let Some((_, record)) = self.pending.pop_front_if(|(at, _)| *at <= now) {
            last = Some(record.round);
            self.synced.take(&record);
            self.clear_snapshots(&record);
        }
        last
    }

    /// The process ends.
    pub fn crash(&mut self, unsynced: Unsynced, planted: Option<Defect>, rng: &mut Rng) {
        let kept = match unsynced {
            Unsynced::Kept => self.pending.len(),
            Unsynced::Torn => rng.usize(..=self.pending.len()),
        };
        for (_, record) in std::mem::take(&mut self.pending).into_iter().take(kept) {
            self.synced.take(&record);
        }
        for group in self.synced.groups.values_mut() {
            match planted {
                Some(Defect::ForgetsVotes) => group.state.vote = 0,
                Some(Defect::TruncatesCommitted) => {
                    let end = group.state.commit.max(group.first.0 - 1);
                    group.entries.split_off(&(end + 1));
                }
                _ => {}
            }
        }
        self.written = self.synced.clone();
        self.slow_until = 0;
    }

    /// A snapshot file became durable.
    pub fn keep(&mut self, group: u32, snapshot: StoredSnapshot) {
        let of_group = self.snapshots.entry(group).or_default();
        of_group.retain(|s| s.index != snapshot.index);
        of_group.push(snapshot);
    }

    /// Files go when the log that does without them is durable.
    fn clear_snapshots(&mut self, record: &Persist) {
        for part in &record.groups {
            let of_group = self.snapshots.entry(part.group).or_default();
            let needed = |s: &StoredSnapshot| part.snapshot.is_none_or(|index| s.index >= index);
            of_group.retain(needed);
        }
    }

    pub fn snapshot(&self, group: u32, index: u64) -> Option<StoredSnapshot> {
        self.snapshots.get(&group)?.iter().find(|s| s.index == index).cloned()
    }

    pub fn count_boot(&mut self) -> u64 {
        self.boots += 1;
        self.boots
    }

    pub fn incarnation(&self, place: usize) -> u64 {
        100 * (self.directory + 1) + place as u64
    }

    /// What a copy of the whole directory holds.
    pub fn copy(&self) -> Disk {
        let (boots, directory) = (self.boots, self.directory);
        Disk {
            synced: self.synced.clone(),
            written: self.synced.clone(),
            pending: VecDeque::new(),
            snapshots: self.snapshots.clone(),
            slow_until: 0,
            boots,
            directory,
        }
    }

    /// A new directory takes this one's place.
    pub fn lose(&mut self) {
        *self = Disk { directory: self.directory + 1, ..Disk::default() };
    }

    /// As [`Disk::lose`], but process starts count on: peers would not hear an earlier one at all.
    pub fn wipe(&mut self) {
        let boots = self.boots;
        self.lose();
        self.boots = boots;
    }

    /// Starts every group, as the host does.
    pub fn restore(&self, shard: &mut Shard, planted: Option<Defect>) {
        #[cfg(not(feature = "planted"))]
        let _ = planted;
        for (id, group) in &self.synced.groups {
            let mut log = group.log(*id);
            let found = self.snapshots.get(id).map_or(&[][..], Vec::as_slice);
            let chosen = log.choose(marks(found)).expect("a trimmed log has its snapshot");
            let chosen = found.iter().find(|s| Some((s.index, s.term)) == chosen);
            log.snapshot = chosen.cloned();
            let mut recovery = Recovery::new(log);
            for entry in group.entries.values() {
                recovery.entry(entry.clone()).expect("what was committed applies again");
                #[cfg(feature = "planted")]
                if planted == Some(Defect::AppliesTwiceAfterRestart) {
                    recovery.entry_again(entry).expect("what was applied applies again");
                }
            }
            shard.restore(recovery.finish()).expect("a configuration that was stored decodes");
        }
    }
}

fn marks(snapshots: &[StoredSnapshot]) -> impl Iterator<Item = (u64, u64)> + '_ {
    snapshots.iter().map(|s| (s.index, s.term))
}

impl Stored {
    fn take(&mut self, record: &Persist) {
        if let Some(facts) = &record.facts {
            self.facts = facts.clone();
        }
        for remembered in &record.memory {
            self.memory.insert((remembered.node, remembered.group), *remembered);
        }
        for part in &record.groups {
            if part.delete {
                self.groups.remove(&part.group);
                *self.deletions.entry(part.group).or_default() += 1;
            }
            let anything = part.first.is_some()
                || part.state.is_some()
                || part.configuration.is_some()
                || !part.entries.is_empty();
            if !anything {
                continue;
            }
            let group = self.groups.entry(part.group).or_default();
            if let Some(first) = part.first {
                group.begin(first);
            }
            group.state = part.state.unwrap_or(group.state);
            if let Some((_, configuration)) = &part.configuration {
                group.configuration = configuration.clone();
            }
            if let Some(first) = part.entries.first() {
                group.entries.split_off(&first.index);
            }
            group.entries.extend(part.entries.iter().map(|e| (e.index, e.clone())));
        }
    }

    /// How often a group was deleted here.
    pub fn deletions(&self, group: u32) -> u64 {
        self.deletions.get(&group).copied().unwrap_or_default()
    }

    pub fn memory(&self) -> Vec<Remembered> {
        self.memory.values().copied().collect()
    }
}

impl StoredGroup {
    pub fn last_index(&self) -> u64 {
        self.entries.last_key_value().map_or(self.first.0 - 1, |(index, _)| *index)
    }

    pub fn member_id(&self) -> u64 {
        let stored = StoredConfiguration::decode(&self.configuration[..]);
        stored.expect("the shard wrote it").own_member_id
    }

    pub fn term(&self, index: u64) -> Option<u64> {
        if index + 1 == self.first.0 {
            return Some(self.first.1);
        }
        self.entries.get(&index).map(|entry| entry.term)
    }

    /// Whether the log or the snapshot before it has this committed entry.
    pub fn holds(&self, index: u64, term: Option<u64>) -> bool {
        index < self.first.0 || self.term(index) == term
    }

    /// The log is trimmed, or starts again behind a snapshot that it does not reach.
    fn begin(&mut self, (index, term): (u64, u64)) {
        let trims = self.term(index - 1) == Some(term);
        self.entries = if trims { self.entries.split_off(&index) } else { BTreeMap::new() };
        self.first = (index, term);
    }

    fn log(&self, group: u32) -> StoredLog {
        StoredLog {
            group,
            state: self.state,
            first: self.first,
            last_index: self.last_index(),
            terms: self.terms(),
            configuration: self.configuration.clone(),
            snapshot: None,
        }
    }

    fn terms(&self) -> Vec<(u64, u64)> {
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for (index, entry) in &self.entries {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((*index, entry.term));
            }
        }
        terms
    }
}
