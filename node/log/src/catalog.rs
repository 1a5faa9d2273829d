//! What is on disk, per group: the rules that every round keeps, and what a restart needs.
//!
//! The same code judges a round before it is written and after it was read: a rule that was
//! kept at writing and is broken at reading is damage.

use std::collections::BTreeMap;

use crate::record::{self, Checkpoint};
use crate::round::{Entry, GroupRound, HardState, PeerMemory, RecoveredGroup, Round};

#[derive(Debug, Default)]
pub struct Catalog {
    groups: BTreeMap<u32, RecoveredGroup>,
    /// By (node, group).
    peers: BTreeMap<(u64, u32), PeerMemory>,
}

/// What a round does to the extent of a group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Delete {
        group: u32,
    },
    /// The log now holds `first..=last`, nothing else.
    Start {
        group: u32,
        first: u64,
        last: u64,
    },
    /// `first..=last` are in this round and replace everything from `first` on.
    Append {
        group: u32,
        first: u64,
        last: u64,
        bytes: u64,
    },
}

/// A broken rule. The catalog is then neither before nor after the round.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    pub group: u32,
    pub rule: String,
}

impl Catalog {
    pub fn apply(&mut self, round: &Round) -> Result<Vec<Change>, Broken> {
        let mut changes = Vec::with_capacity(round.groups.len());
        for part in &round.groups {
            self.apply_part(part, &mut changes)
                .map_err(|rule| Broken { group: part.group, rule })?;
        }
        for peer in &round.peers {
            self.peers.insert((peer.node, peer.group), *peer);
        }
        Ok(changes)
    }

    /// All of it, as a record.
    pub fn encode(&self, number: u64) -> Vec<u8> {
        record::encode_checkpoint(number, &self.groups, self.peers.values())
    }

    /// As it was at a checkpoint.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Self {
        let peers = checkpoint.peers.into_iter().map(|peer| ((peer.node, peer.group), peer));
        Self { groups: checkpoint.groups, peers: peers.collect() }
    }

    pub fn agrees_with(&self, checkpoint: &Checkpoint) -> bool {
        self.groups == checkpoint.groups && self.peers.values().eq(&checkpoint.peers)
    }

    pub fn groups(&self) -> &BTreeMap<u32, RecoveredGroup> {
        &self.groups
    }

    pub fn peers(&self) -> Vec<PeerMemory> {
        self.peers.values().copied().collect()
    }

    fn apply_part(&mut self, part: &GroupRound, changes: &mut Vec<Change>) -> Result<(), String> {
        let id = part.group;
        if part.delete {
            changes.push(Change::Delete { group: id });
            self.groups.remove(&part.group);
            self.peers.retain(|(_, group), _| *group != part.group);
            if is_only_delete(part) {
                return Ok(());
            }
        }
        let group = self.groups.entry(part.group).or_insert_with(empty);
        if let Some((index, term)) = part.first {
            start_at(group, index, term)?;
            changes.push(Change::Start { group: id, first: index, last: group.last_index });
        }
        if let Some(first) = part.entries.first() {
            append(group, &part.entries)?;
            let (first, last) = (first.index, group.last_index);
            let bytes = part.entries.iter().map(record::entry_bytes).sum::<usize>() as u64;
            changes.push(Change::Append { group: id, first, last, bytes });
        }
        if let Some(state) = part.state {
            set_state(group, state)?;
        }
        if let Some(config) = &part.config {
            group.config = Some(config.clone());
        }
        Ok(())
    }
}

fn is_only_delete(part: &GroupRound) -> bool {
    part.delete
        && part.state.is_none()
        && part.first.is_none()
        && part.config.is_none()
        && part.entries.is_empty()
}

fn empty() -> RecoveredGroup {
    RecoveredGroup { first: (1, 0), ..RecoveredGroup::default() }
}

/// The term of an entry of the log, or of the one before its first.
pub fn term_at(group: &RecoveredGroup, index: u64) -> Option<u64> {
    if index + 1 == group.first.0 {
        return Some(group.first.1);
    }
    if index < group.first.0 || index > group.last_index {
        return None;
    }
    let run = group.terms.partition_point(|(first, _)| *first <= index);
    run.checked_sub(1).map(|run| group.terms[run].1)
}

fn start_at(group: &mut RecoveredGroup, index: u64, term: u64) -> Result<(), String> {
    if index == 0 || index < group.first.0 {
        return Err(format!("the log starts at {} and cannot start at {index}", group.first.0));
    }
    if term_at(group, index - 1) == Some(term) {
        let run = group.terms.partition_point(|(first, _)| *first <= index);
        group.terms.drain(..run.saturating_sub(1));
        if index > group.last_index {
            group.terms.clear();
        } else if let Some(run) = group.terms.first_mut() {
            run.0 = run.0.max(index);
        }
    } else {
        group.terms.clear();
        group.last_index = index - 1;
    }
    group.first = (index, term);
    Ok(())
}

fn append(group: &mut RecoveredGroup, entries: &[Entry]) -> Result<(), String> {
    let Some(first) = entries.first() else { return Ok(()) };
    if first.index < group.first.0 || first.index > group.last_index + 1 {
        return Err(format!(
            "entry {} does not follow the log from {} to {}",
            first.index, group.first.0, group.last_index
        ));
    }
    if first.index <= group.state.commit {
        return Err(format!(
            "entry {} replaces one of the {} committed",
            first.index, group.state.commit
        ));
    }
    let mut term = term_at(group, first.index - 1).expect("the entry before is in the log");
    let keep = group.terms.partition_point(|(start, _)| *start < first.index);
    group.terms.truncate(keep);
    for (position, entry) in entries.iter().enumerate() {
        if entry.index != first.index + position as u64 {
            return Err(format!("entry {} breaks the sequence from {}", entry.index, first.index));
        }
        if entry.term < term {
            return Err(format!("entry {} has term {} after {term}", entry.index, entry.term));
        }
        if entry.term > term || group.terms.is_empty() {
            group.terms.push((entry.index, entry.term));
            term = entry.term;
        }
    }
    group.last_index = first.index + entries.len() as u64 - 1;
    Ok(())
}

fn set_state(group: &mut RecoveredGroup, state: HardState) -> Result<(), String> {
    let old = group.state;
    if state.term < old.term {
        return Err(format!("term goes back from {} to {}", old.term, state.term));
    }
    if state.term == old.term && old.vote != 0 && state.vote != old.vote {
        return Err(format!(
            "vote of term {} changes from {} to {}",
            old.term, old.vote, state.vote
        ));
    }
    if state.commit > group.last_index {
        return Err(format!(
            "commit {} is after the last entry {}",
            state.commit, group.last_index
        ));
    }
    group.state = state;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
        let at = |(offset, term): (usize, &u64)| Entry {
            index: first + offset as u64,
            term: *term,
            ..Entry::default()
        };
        terms.iter().enumerate().map(at).collect()
    }

    fn apply(catalog: &mut Catalog, part: GroupRound) -> Result<(), String> {
        let round = Round { groups: vec![part], peers: vec![] };
        catalog.apply(&round).map(drop).map_err(|broken| broken.rule)
    }

    fn log(first: u64, terms: &[u64]) -> GroupRound {
        GroupRound { group: 1, entries: entries(first, terms), ..GroupRound::default() }
    }

    fn state(term: u64, vote: u64, commit: u64) -> GroupRound {
        let state = Some(HardState { term, vote, commit });
        GroupRound { group: 1, state, ..GroupRound::default() }
    }

    fn starting(index: u64, term: u64) -> GroupRound {
        GroupRound { group: 1, first: Some((index, term)), ..GroupRound::default() }
    }

    #[test]
    fn later_entries_replace_the_suffix_and_its_terms() {
        let mut catalog = Catalog::default();
        apply(&mut catalog, log(1, &[1, 1, 2, 2, 3])).expect("append");
        assert_eq!(catalog.groups[&1].terms, [(1, 1), (3, 2), (5, 3)]);
        apply(&mut catalog, log(4, &[4])).expect("replace");
        assert_eq!(catalog.groups[&1].terms, [(1, 1), (3, 2), (4, 4)]);
        assert_eq!(catalog.groups[&1].last_index, 4);
        apply(&mut catalog, log(1, &[5])).expect("replace all");
        assert_eq!(catalog.groups[&1].terms, [(1, 5)]);
    }

    #[test]
    fn broken_rules_are_named() {
        let mut catalog = Catalog::default();
        apply(&mut catalog, log(1, &[1, 1])).expect("append");
        apply(&mut catalog, state(3, 2, 1)).expect("state");
        for (part, word) in [
            (log(4, &[3]), "does not follow"),
            (log(1, &[3]), "committed"),
            (log(3, &[0]), "has term"),
            (state(2, 0, 1), "goes back"),
            (state(3, 1, 1), "vote"),
            (state(3, 2, 3), "after the last entry"),
        ] {
            let rule = apply(&mut catalog, part).expect_err("a broken rule");
            assert!(rule.contains(word), "{rule}");
        }
    }

    #[test]
    fn a_known_first_trims_and_an_unknown_one_restarts() {
        let mut catalog = Catalog::default();
        apply(&mut catalog, log(1, &[1, 1, 2, 2])).expect("append");
        apply(&mut catalog, starting(3, 1)).expect("trim");
        assert_eq!(catalog.groups[&1].terms, [(3, 2)]);
        apply(&mut catalog, starting(5, 2)).expect("trim all");
        assert_eq!((catalog.groups[&1].terms.len(), catalog.groups[&1].last_index), (0, 4));
        apply(&mut catalog, log(5, &[2, 3])).expect("append");
        apply(&mut catalog, starting(6, 3)).expect("conflicting snapshot");
        assert_eq!(catalog.groups[&1].last_index, 5);
        apply(&mut catalog, starting(20, 4)).expect("snapshot ahead");
        assert_eq!(catalog.groups[&1].last_index, 19);
        assert!(apply(&mut catalog, starting(19, 4)).is_err());
    }

    #[test]
    fn a_deleted_group_is_forgotten_with_its_peers() {
        let mut catalog = Catalog::default();
        let memory = PeerMemory { node: 5, group: 1, ..PeerMemory::default() };
        let round = Round { groups: vec![log(1, &[1])], peers: vec![memory] };
        catalog.apply(&round).expect("append");
        let gone = GroupRound { group: 1, delete: true, ..GroupRound::default() };
        apply(&mut catalog, gone).expect("delete");
        assert!(catalog.groups.is_empty() && catalog.peers().is_empty());
    }
}
