//! Sequence numbers of a session and what a keep-alive says about them. No IO.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::{RELEASED_COMMANDS_MIN, RELEASED_PER_OPEN};

/// Counts calls. One counter serves commands and queries, so numbers of commands have gaps.
#[derive(Debug)]
pub struct Numbers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    last: u64,
    /// Calls whose answer is still awaited, with the number of the last output that was received: the
    /// cluster keeps its later answers to these.
    open: BTreeMap<u64, u64>,
    /// Commands that ended since the last keep-alive.
    unreleased: u64,
    max_received_index: u64,
}

/// What a keep-alive states.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    pub open: Vec<u64>,
    /// Call → its last output that was received, of those that have several.
    pub received: BTreeMap<u64, u64>,
    /// All numbers up to this one have been given out.
    pub last: u64,
}

/// The number of one call; when it is dropped the call is over and its answer may be released.
#[derive(Debug)]
pub struct Ticket {
    inner: Arc<Mutex<Inner>>,
    pub number: u64,
    is_command: bool,
}

impl Numbers {
    /// `session` is the index at which the session was opened: nothing older may be read.
    pub fn new(session: u64) -> Self {
        let inner =
            Inner { last: 0, open: BTreeMap::new(), unreleased: 0, max_received_index: session };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub fn command(&self) -> Ticket {
        self.take(true)
    }

    /// The cluster keeps nothing of a query, so its end is no reason for a keep-alive.
    pub fn query(&self) -> Ticket {
        self.take(false)
    }

    fn take(&self, is_command: bool) -> Ticket {
        let mut inner = lock(&self.inner);
        inner.last += 1;
        let number = inner.last;
        inner.open.insert(number, 0);
        Ticket { inner: self.inner.clone(), number, is_command }
    }

    /// Called at the time at which a keep-alive is sent: a later call may not be missing in it.
    pub fn statement(&self) -> Statement {
        let mut inner = lock(&self.inner);
        inner.unreleased = 0;
        Statement {
            open: inner.open.keys().copied().collect(),
            received: inner.open.iter().map(|(n, o)| (*n, *o)).filter(|(_, o)| *o > 0).collect(),
            last: inner.last,
        }
    }

    /// Whether enough commands ended since the last statement that it is worth another one: a
    /// statement lists what is open.
    pub fn is_release_due(&self) -> bool {
        let inner = lock(&self.inner);
        inner.unreleased >= RELEASED_COMMANDS_MIN.max(RELEASED_PER_OPEN * inner.open.len() as u64)
    }

    pub fn received(&self, index: u64) {
        let mut inner = lock(&self.inner);
        inner.max_received_index = inner.max_received_index.max(index);
    }

    pub fn max_received_index(&self) -> u64 {
        lock(&self.inner).max_received_index
    }
}

/// No code panics while it holds the lock, so what a poisoned one guards is whole.
fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ticket {
    /// An output of the call was received, and all before it.
    pub fn received(&self, output: u64) {
        lock(&self.inner).open.insert(self.number, output);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        inner.open.remove(&self.number);
        inner.unreleased += u64::from(self.is_command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_lists_exactly_the_open_calls() {
        let numbers = Numbers::new(10);
        let first = numbers.command();
        let second = numbers.query();
        let third = numbers.command();
        assert_eq!((first.number, second.number, third.number), (1, 2, 3));
        drop(second);
        let received = BTreeMap::new();
        let statement = Statement { open: vec![1, 3], received: received.clone(), last: 3 };
        assert_eq!(numbers.statement(), statement);
        third.received(7);
        assert_eq!(numbers.statement().received, BTreeMap::from([(3, 7)]));
        drop((first, third));
        assert_eq!(numbers.statement(), Statement { open: vec![], received, last: 3 });
    }

    #[test]
    fn a_release_is_due_after_enough_commands_and_not_for_queries() {
        let numbers = Numbers::new(1);
        (0..1_000).for_each(|_| drop(numbers.query()));
        assert!(!numbers.is_release_due());
        (1..RELEASED_COMMANDS_MIN).for_each(|_| drop(numbers.command()));
        assert!(!numbers.is_release_due());
        drop(numbers.command());
        assert!(numbers.is_release_due());
        let open: Vec<_> = (0..RELEASED_COMMANDS_MIN).map(|_| numbers.command()).collect();
        assert!(!numbers.is_release_due(), "a statement would list {} open calls", open.len());
        numbers.statement();
        drop(open);
        assert!(numbers.is_release_due());
    }

    #[test]
    fn the_received_index_never_goes_back() {
        let numbers = Numbers::new(10);
        for (index, expected) in [(3, 10), (12, 12), (11, 12)] {
            numbers.received(index);
            assert_eq!(numbers.max_received_index(), expected);
        }
    }
}
