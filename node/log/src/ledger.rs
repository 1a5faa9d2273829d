//! How many bytes the rounds hold, and which of them may go.
//!
//! A log may start at a checkpoint only, so the checkpoints are where it can be cut. One is
//! written after every few MiB; what is before the newest one that no group reaches across can
//! go. A group that is quiet reaches far back with few entries: they are copied forward if that
//! costs at most half of what goes.

use std::collections::VecDeque;

use crate::limits::{CHECKPOINT_SHARE, GROUP_COPY_BYTES_MAX};
use crate::points::Pin;

#[derive(Debug)]
pub struct Ledger {
    /// Bytes of log after which a checkpoint is due.
    interval: u64,
    /// Of all rounds since the log was opened.
    total: u64,
    /// Of those that are gone.
    gone: u64,
    /// Since the last checkpoint.
    since: u64,
    /// Of the last checkpoint.
    checkpoint_bytes: u64,
    /// The checkpoints, ascending.
    cuts: VecDeque<Cut>,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    round: u64,
    /// Of all rounds before it, the gone ones too.
    before: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Round,
    Checkpoint,
}

/// What trimming would do.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The log can start here once `copy` is copied.
    pub first: u64,
    /// Bytes that go.
    pub bytes: u64,
    /// The groups to be copied forward, those that reach furthest back first.
    pub copy: Vec<Pin>,
}

impl Ledger {
    pub fn new(interval: u64) -> Self {
        let cuts = VecDeque::new();
        Self { interval, total: 0, gone: 0, since: 0, checkpoint_bytes: 0, cuts }
    }

    /// To be called for every record in order.
    pub fn note(&mut self, round: u64, bytes: u64, kind: Kind) {
        match kind {
            Kind::Round => self.since += bytes,
            Kind::Checkpoint => {
                self.cuts.push_back(Cut { round, before: self.total });
                self.checkpoint_bytes = bytes;
                self.since = 0;
            }
        }
        self.total += bytes;
    }

    /// True when a checkpoint should follow `waiting` more bytes of rounds.
    pub fn is_due(&self, waiting: u64) -> bool {
        self.since + waiting >= self.interval.max(CHECKPOINT_SHARE * self.checkpoint_bytes)
    }

    /// The best that can be done, if anything.
    pub fn plan(&self, mut pins: Vec<Pin>) -> Option<Plan> {
        pins.sort_unstable_by_key(|pin| pin.round);
        let (mut best, mut copies, mut cost) = (None, 0, 0);
        for cut in self.cuts.iter().filter(|cut| cut.before > self.gone) {
            while let Some(pin) = pins.get(copies).filter(|pin| pin.round < cut.round) {
                if pin.bytes > GROUP_COPY_BYTES_MAX {
                    return self.plan_of(best, pins);
                }
                copies += 1;
                cost += pin.bytes;
            }
            if 2 * cost <= cut.before - self.gone {
                best = Some((*cut, copies));
            }
        }
        self.plan_of(best, pins)
    }

    /// The newest checkpoint at or before this round.
    pub fn cut_at(&self, round: u64) -> Option<u64> {
        let after = self.cuts.partition_point(|cut| cut.round <= round);
        after.checked_sub(1).map(|position| self.cuts[position].round)
    }

    /// The rounds before this checkpoint are gone.
    pub fn trim(&mut self, first: u64) {
        while self.cuts.front().is_some_and(|cut| cut.round < first) {
            self.cuts.pop_front();
        }
        self.gone = self.cuts.front().map_or(self.gone, |cut| cut.before);
    }

    fn plan_of(&self, best: Option<(Cut, usize)>, mut pins: Vec<Pin>) -> Option<Plan> {
        let (cut, copies) = best?;
        pins.truncate(copies);
        Some(Plan { first: cut.round, bytes: cut.before - self.gone, copy: pins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints of 10 bytes at rounds 11, 21, …, and 100 bytes for each round between.
    fn ledger(rounds: u64) -> Ledger {
        let mut ledger = Ledger::new(1000);
        for round in 1..=rounds {
            let is_due = ledger.is_due(0);
            let (bytes, kind) = if is_due { (10, Kind::Checkpoint) } else { (100, Kind::Round) };
            ledger.note(round, bytes, kind);
        }
        ledger
    }

    fn pin(group: u32, round: u64, bytes: u64) -> Pin {
        Pin { group, round, bytes, replaced: 0 }
    }

    #[test]
    fn a_checkpoint_follows_every_interval() {
        let cuts: Vec<u64> = ledger(40).cuts.iter().map(|cut| cut.round).collect();
        assert_eq!(cuts, [11, 22, 33]);
    }

    #[test]
    fn a_large_checkpoint_comes_less_often() {
        let mut ledger = Ledger::new(1000);
        ledger.note(1, 1000, Kind::Round);
        assert!(ledger.is_due(0));
        ledger.note(2, 500, Kind::Checkpoint);
        assert!(!ledger.is_due(1000));
        assert!(ledger.is_due(500 * CHECKPOINT_SHARE));
    }

    #[test]
    fn what_no_group_reaches_goes() {
        let plan = |pins| ledger(40).plan(pins).map(|plan| (plan.first, plan.bytes));
        assert_eq!(plan(vec![]), Some((33, 3020)));
        assert_eq!(plan(vec![pin(1, 35, 900)]), Some((33, 3020)));
        assert_eq!(plan(vec![pin(1, 32, 9000), pin(2, 39, 1)]), Some((22, 2010)));
        assert_eq!(plan(vec![pin(1, 5, 9000)]), None);
    }

    #[test]
    fn a_quiet_group_is_copied_when_that_costs_less_than_it_frees() {
        let pins = vec![pin(3, 40, 5000), pin(1, 5, 600), pin(2, 25, 1000)];
        let plan = ledger(40).plan(pins).expect("something goes");
        assert_eq!((plan.first, plan.copy), (22, vec![pin(1, 5, 600)]));
        let pins = vec![pin(1, 5, 600), pin(2, 25, 900)];
        let plan = ledger(40).plan(pins).expect("something goes");
        assert_eq!((plan.first, plan.copy.len()), (33, 2));
        assert_eq!(ledger(9_999).plan(vec![pin(1, 5, GROUP_COPY_BYTES_MAX + 1)]), None);
    }

    #[test]
    fn what_is_gone_does_not_go_again() {
        let mut ledger = ledger(40);
        assert_eq!((ledger.cut_at(10), ledger.cut_at(32)), (None, Some(22)));
        ledger.trim(22);
        assert_eq!(ledger.plan(vec![]).map(|plan| (plan.first, plan.bytes)), Some((33, 1010)));
        ledger.trim(33);
        assert_eq!(ledger.plan(vec![]), None);
    }
}
