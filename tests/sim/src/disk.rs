//! A node's disk: records in order, each whole or not there. What is not synced is lost in a crash,
//! except a prefix that the disk happened to have written.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fastrand::Rng;
use multiraft_shard::{
    Entry, HardState, NodeFacts, Persist, Recovery, Remembered, Shard, StoredLog,
};

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

#[derive(Debug, Default)]
pub struct Disk {
    pub synced: Stored,
    /// With what is not synced yet: what the process believes.
    pub written: Stored,
    /// Records that are not synced yet, with the time at which they will be, oldest first.
    pending: VecDeque<(u64, Persist)>,
    /// The next syncs take this long more until this time.
    pub slow_until: u64,
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

    /// Syncs what is due; returns the number of the last such record.
    pub fn sync(&mut self, now: u64) -> Option<u64> {
        let mut last = None;
        while let Some((_, record)) = self.pending.pop_front_if(|(at, _)| *at <= now) {
            last = Some(record.round);
            self.synced.take(&record);
        }
        last
    }

    /// Power is lost.
    pub fn crash(&mut self, forgets_votes: bool, rng: &mut Rng) {
        let kept = rng.usize(..=self.pending.len());
        for (_, record) in std::mem::take(&mut self.pending).into_iter().take(kept) {
            self.synced.take(&record);
        }
        if forgets_votes {
            self.synced.groups.values_mut().for_each(|group| group.state.vote = 0);
        }
        self.written = self.synced.clone();
        self.slow_until = 0;
    }
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
            group.first = part.first.unwrap_or(group.first);
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

    /// Starts every group, as the host does.
    pub fn restore(&self, shard: &mut Shard) {
        for (id, group) in &self.groups {
            let mut recovery = Recovery::new(StoredLog {
                group: *id,
                state: group.state,
                first: group.first,
                last_index: group.last_index(),
                terms: group.terms(),
                configuration: group.configuration.clone(),
            });
            for entry in group.entries.values() {
                recovery.entry(entry.clone()).expect("what was committed applies again");
            }
            shard.restore(recovery.finish()).expect("a configuration that was stored decodes");
        }
    }
}

impl StoredGroup {
    pub fn last_index(&self) -> u64 {
        self.entries.last_key_value().map_or(self.first.0 - 1, |(index, _)| *index)
    }

    pub fn term(&self, index: u64) -> Option<u64> {
        self.entries.get(&index).map(|entry| entry.term)
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
