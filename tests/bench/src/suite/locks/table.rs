//! What all contenders share: the judge, what they counted, and when groups were quiet.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::judge::Judge;
use crate::session::Life;
use crate::suite::violation::Violation;

/// How long after a kill its gaps are looked for.
const WATCH_TIME: Duration = Duration::from_secs(10);

/// In the order of the run: a phase is over for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sessions are open, and that is all.
    Idle,
    /// Each holds its lock or waits for it.
    Taking,
    Churn,
    /// Who holds or waits comes to an end.
    Ending,
}

#[derive(Default)]
pub struct Counts {
    /// First requests for a lock that were sent.
    pub asked: Cell<u64>,
    pub grants: Cell<u64>,
    /// Of these, those that had to wait.
    pub waited: Cell<u64>,
    pub timeouts: Cell<u64>,
    pub cancels: Cell<u64>,
    /// Sessions that were left to expire with a lock.
    pub expired: Cell<u64>,
    pub closed_holding: Cell<u64>,
    pub closed_waiting: Cell<u64>,
    pub detached: Cell<u64>,
    /// Waits that ended as canceled though nobody asked for it.
    pub unasked: Cell<u64>,
    /// Sessions that were gone when they might have been, though they were meant to live.
    pub lost: Cell<u64>,
}

pub fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

pub struct Table {
    judge: RefCell<Judge>,
    pub counts: Counts,
    pub phase: watch::Sender<Phase>,
    pub violation: Violation,
    /// The newest grant of each group, from 1.
    last: RefCell<Vec<Instant>>,
    /// The longest times without a grant since the newest kill, by group.
    gaps: RefCell<Vec<Duration>>,
    killed: Cell<Option<Instant>>,
}

impl Table {
    pub fn new(locks: usize, groups: u32) -> Rc<Self> {
        Rc::new(Self {
            judge: RefCell::new(Judge::new(locks)),
            counts: Counts::default(),
            phase: watch::Sender::new(Phase::Idle),
            violation: Violation::default(),
            last: RefCell::new(vec![Instant::now(); groups as usize]),
            gaps: RefCell::new(vec![Duration::ZERO; groups as usize]),
            killed: Cell::new(None),
        })
    }

    pub async fn until(&self, phase: Phase) {
        // The sender lives in this.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    pub fn is_ending(&self) -> bool {
        *self.phase.borrow() == Phase::Ending
    }

    pub fn granted(&self, (group, lock): (u32, usize), token: u64, life: &Rc<Life>) {
        let now = Instant::now();
        add(&self.counts.grants);
        if let Err(what) = self.judge.borrow_mut().granted(lock, token, life, now) {
            self.violation.found(what);
        }
        self.note(group as usize - 1, now);
        self.last.borrow_mut()[group as usize - 1] = now;
    }

    fn note(&self, place: usize, now: Instant) {
        let Some(killed) = self.killed.get() else { return };
        let since = self.last.borrow()[place].max(killed);
        if since < killed + WATCH_TIME {
            let mut gaps = self.gaps.borrow_mut();
            gaps[place] = gaps[place].max(now - since);
        }
    }

    pub fn gives_up(&self, lock: usize, token: u64) {
        self.judge.borrow_mut().gives_up(lock, token);
    }

    /// A node is killed now.
    pub fn kill(&self, now: Instant) {
        self.killed.set(Some(now));
    }

    /// The longest time without a grant of each group, begun soon after the newest kill, if there
    /// was one since this was asked.
    pub fn gaps(&self, now: Instant) -> Vec<Duration> {
        if self.killed.get().is_none() {
            return Vec::new();
        }
        let groups = self.last.borrow().len();
        (0..groups).for_each(|place| self.note(place, now));
        self.killed.set(None);
        self.gaps.replace(vec![Duration::ZERO; groups])
    }
}
