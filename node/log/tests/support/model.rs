//! What the log should hold, kept the slow and obvious way, and random work for both.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use multiraft_log::{
    Entry, GroupRound, HardState, Log, PeerMemory, Recovered, RecoveredGroup, Round, StoredConfig,
};

use super::entry;

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub groups: BTreeMap<u32, Group>,
    peers: BTreeMap<(u64, u32), PeerMemory>,
    term: u64,
    entry_bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    state: HardState,
    first: (u64, u64),
    entries: BTreeMap<u64, Entry>,
    config: Option<StoredConfig>,
}

impl Group {
    fn new() -> Self {
        let (state, entries) = (HardState::default(), BTreeMap::new());
        Self { state, first: (1, 0), entries, config: None }
    }

    fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(self.first.0 - 1)
    }

    fn recovered(&self) -> RecoveredGroup {
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for entry in self.entries.values() {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        let (state, first, last_index) = (self.state, self.first, self.last());
        RecoveredGroup { state, first, last_index, terms, config: self.config.clone() }
    }
}

impl Model {
    /// Its entries have less than `entry_bytes` of data.
    pub fn new(entry_bytes: usize) -> Self {
        Self { groups: BTreeMap::new(), peers: BTreeMap::new(), term: 0, entry_bytes }
    }

    /// One random round for a few groups; group 1 is busy, the last ones are nearly always quiet.
    pub fn round(&mut self, random: &mut Rng) -> Round {
        self.term += u64::from(random.u8(..) < 10);
        let mut round = Round::default();
        for group in [1, random.u32(1..4), random.u32(1..9)] {
            if round.groups.iter().all(|part| part.group != group) {
                round.groups.push(self.part(random, group));
            }
        }
        if random.u8(..) < 40 {
            let (node, group) = (random.u64(1..4), random.u32(1..9));
            let memory =
                PeerMemory { node, incarnation: 1, group, term: self.term, index: random.u64(..) };
            self.peers.insert((node, group), memory);
            round.peers.push(memory);
        }
        round
    }

    fn part(&mut self, random: &mut Rng, id: u32) -> GroupRound {
        let mut part = GroupRound { group: id, ..GroupRound::default() };
        match random.u32(0..200) {
            0..2 => {
                part.delete = true;
                self.groups.remove(&id);
                self.peers.retain(|(_, group), _| *group != id);
                return part;
            }
            2..4 => {
                // A snapshot of the leader, ahead of all that is here.
                let group = self.groups.entry(id).or_insert_with(Group::new);
                group.first = (group.last() + random.u64(2..9), self.term + 1);
                group.entries.clear();
                part.first = Some(group.first);
                self.term += 1;
            }
            4..90 => part.first = self.trim(random, id),
            _ => {}
        }
        self.append(random, &mut part);
        part
    }

    fn trim(&mut self, random: &mut Rng, id: u32) -> Option<(u64, u64)> {
        let group = self.groups.get_mut(&id)?;
        let committed = group.first.0..=group.state.commit.max(group.first.0);
        // Rather much than little, as after a snapshot.
        let index = random.u64(committed.clone()).max(random.u64(committed)) + 1;
        let term = group.entries.get(&(index - 1))?.term;
        group.entries = group.entries.split_off(&index);
        group.first = (index, term);
        Some(group.first)
    }

    fn append(&mut self, random: &mut Rng, part: &mut GroupRound) {
        let group = self.groups.entry(part.group).or_insert_with(Group::new);
        let committed = group.state.commit.max(group.first.0 - 1);
        let back = if random.u8(..) < 30 { random.u64(0..=group.last() - committed) } else { 0 };
        let next = group.last() - back + 1;
        let term = self.term.max(group.first.1);
        let entries = next..next + random.u64(1..6);
        part.entries =
            entries.map(|index| entry(index, term, random.usize(0..self.entry_bytes))).collect();
        group.entries.split_off(&next);
        group.entries.extend(part.entries.iter().map(|entry| (entry.index, entry.clone())));
        let commit = random.u64(committed..=group.last());
        let term = term.max(group.state.term);
        group.state = HardState { term, vote: 0, commit };
        part.state = Some(group.state);
        if random.u8(..) < 20 {
            let bytes = Bytes::from(vec![id_byte(part.group); random.usize(1..60)]);
            part.config = Some(StoredConfig { applied: commit, bytes });
            group.config = part.config.clone();
        }
    }

    pub fn check_recovered(&self, recovered: &Recovered) {
        assert_eq!(recovered.groups, self.recovered());
        assert!(self.equals(recovered), "{:?}", recovered.peers);
    }

    pub fn equals(&self, recovered: &Recovered) -> bool {
        recovered.groups == self.recovered() && self.peers.values().eq(&recovered.peers)
    }

    fn recovered(&self) -> BTreeMap<u32, RecoveredGroup> {
        self.groups.iter().map(|(id, group)| (*id, group.recovered())).collect()
    }

    pub fn check_entries(&self, log: &Log) {
        let reader = log.reader();
        for (id, group) in &self.groups {
            let (first, end) = (group.first.0, group.last() + 1);
            if first < end {
                let found = reader.read(*id, first, end, usize::MAX).expect("read");
                assert!(found.iter().eq(group.entries.values()), "entries of group {id}");
            }
            reader.read(*id, first - 1, first, 1).expect_err("before the first");
            reader.read(*id, first, end + 1, 1).expect_err("after the last");
        }
    }
}

fn id_byte(id: u32) -> u8 {
    u8::try_from(id).expect("few groups")
}
