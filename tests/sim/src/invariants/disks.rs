//! What a disk holds never goes back, unless a fault says so.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::Groups;
use crate::node::Node;

/// (place, times that its disk was set back, group, times that it was deleted there).
type Key = (usize, u64, u32, u64);

#[derive(Debug, Default)]
pub struct Disks {
    seen: BTreeMap<Key, Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: u64,
    vote: u64,
    commit: u64,
    /// Highest committed entry that it held.
    held: u64,
}

impl Disks {
    pub fn check(&mut self, node: &Node, groups: &Groups, recovered: &BTreeSet<u32>) {
        let stored = node.disk.synced.groups.iter();
        for (group, stored) in stored.filter(|(group, _)| !recovered.contains(group)) {
            let key = (node.place, node.set_back, *group, node.disk.synced.deletions(*group));
            let before = self.seen.entry(key).or_default();
            let state = &stored.state;
            let place = node.place;
            assert!(
                before.term <= state.term && before.commit <= state.commit,
                "[disk] group {group} at place {place}: from {before:?} to {state:?}"
            );
            let changed = before.term == state.term && before.vote != 0;
            assert!(
                !changed || before.vote == state.vote,
                "[vote] group {group} at place {place} voted for {} in term {}, now for {}",
                before.vote,
                state.term,
                state.vote
            );
            let term = groups.term(*group, before.held);
            assert!(
                before.held == 0
                    || before.held < stored.first.0
                    || term.is_some() && stored.term(before.held) == term,
                "[kept] group {group} at place {place} lost the committed entry {}",
                before.held
            );
            let held = stored.last_index().min(groups.highest(*group));
            let holds = held >= stored.first.0 && stored.term(held) == groups.term(*group, held);
            let held = if holds { held.max(before.held) } else { before.held };
            *before = Seen { term: state.term, vote: state.vote, commit: state.commit, held };
        }
    }
}
