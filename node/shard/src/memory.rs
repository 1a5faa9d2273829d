//! The peers' memory of each member's log: a member whose disk went back to an older state would
//! vote and acknowledge against what it promised. Its own beacon is as old as the rest of the
//! disk, so its peers guard against it (design: node decisions, 2).
//!
//! A member is *rolled back* when its durable term is below what it acknowledged to us, or equal
//! with a shorter log: within one term a log is never cut below what was acknowledged. Across
//! terms it may be, so nothing is concluded from a higher term.

use crate::io::Remembered;
use crate::item::Promise;
use crate::limits::MEMORY_MICROS_MAX;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Memory {
    known: BTreeMap<(u64, u32), Remembered>,
    /// Changed since the last record.
    changed: BTreeSet<(u64, u32)>,
    written: u64,
    /// By (group, node): of members that the group's configuration does not have here yet. Nobody
    /// repeats what was said before the configuration came. Lost with the process: its peers
    /// introduce themselves anew.
    early: BTreeMap<(u32, u64), Promise>,
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<crate::planted::Defect>,
}

impl Memory {
    pub fn new(recovered: Vec<Remembered>) -> Self {
        let known = recovered.into_iter().map(|r| ((r.node, r.group), r)).collect();
        Memory { known, ..Default::default() }
    }

    /// A member of `said.node` acknowledged something.
    pub fn acknowledged(&mut self, said: Remembered) {
        let key = (said.node, said.group);
        let old = self.known.get(&key).filter(|r| r.incarnation == said.incarnation);
        let new = match old {
            Some(old) if old.term > said.term => *old,
            Some(old) if old.term == said.term => {
                Remembered { index: old.index.max(said.index), ..said }
            }
            _ => said,
        };
        if old != Some(&new) {
            self.known.insert(key, new);
            self.changed.insert(key);
        }
    }

    /// A member that this node does not know yet said what it holds.
    pub fn promised_early(&mut self, group: u32, node: u64, promise: Promise) {
        self.early.insert((group, node), promise);
    }

    /// What was said early in a group whose configuration changed: (node, promise).
    pub fn take_early(&mut self, group: u32) -> Vec<(u64, Promise)> {
        let all = self.early.extract_if((group, 0)..=(group, u64::MAX), |_, _| true);
        all.map(|((_, node), promise)| (node, promise)).collect()
    }

    /// The member left for good: its node may join again with an empty log. Returns what has to be
    /// written in one record with the configuration that lacks it: after a crash between the two,
    /// nobody would forget it any more.
    pub fn forget(&mut self, node: u64, group: u32) -> Option<Remembered> {
        let known = self.known.get_mut(&(node, group))?;
        (known.term, known.index) = (0, 0);
        self.changed.remove(&(node, group));
        Some(*known)
    }

    /// Whether a member that states this durable (term, last index) went back.
    pub fn is_rolled_back(&self, stated: Remembered) -> bool {
        let Some(known) = self.known.get(&(stated.node, stated.group)) else { return false };
        #[cfg(feature = "planted")]
        if self.planted_admits(known, &stated) {
            return false;
        }
        (stated.term, stated.index) < (known.term, known.index) && stated.term <= known.term
    }

    /// What has to be written now: along with a record once a second, or when `alone` says that
    /// no record came for that long.
    pub fn take_due(&mut self, now: u64) -> Vec<Remembered> {
        if self.changed.is_empty() || now < self.written + MEMORY_MICROS_MAX {
            return Vec::new();
        }
        self.written = now;
        let changed = std::mem::take(&mut self.changed);
        changed.iter().filter_map(|key| self.known.get(key).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(term: u64, index: u64) -> Remembered {
        Remembered { node: 2, incarnation: 9, group: 1, term, index }
    }

    #[test]
    fn older_copy_of_a_directory_is_recognised() {
        let mut memory = Memory::default();
        memory.acknowledged(said(3, 100));
        assert!(memory.is_rolled_back(said(3, 99)));
        assert!(memory.is_rolled_back(said(2, 200)));
    }

    #[test]
    fn log_cut_by_a_later_leader_is_no_roll_back() {
        let mut memory = Memory::default();
        memory.acknowledged(said(3, 100));
        assert!(!memory.is_rolled_back(said(4, 50)));
        assert!(!memory.is_rolled_back(said(3, 100)));
    }

    #[test]
    fn member_that_left_may_start_anew() {
        let mut memory = Memory::default();
        memory.acknowledged(said(3, 100));
        assert_eq!(memory.forget(2, 1), Some(said(0, 0)));
        assert!(!memory.is_rolled_back(said(0, 0)));
    }
}
