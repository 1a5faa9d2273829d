//! Sequence numbers of a session and what a keep-alive says about them. No IO.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Calls that ended since the last keep-alive.
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
}

impl Numbers {
    /// `session` is the index at which the session was opened: nothing older may be read.
    pub fn new(session: u64) -> Self {
        let inner =
            Inner { last: 0, open: BTreeMap::new(), unreleased: 0, max_received_index: session };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub fn take(&self) -> Ticket {
        let mut inner = lock(&self.inner);
        inner.last += 1;
        let number = inner.last;
        inner.open.insert(number, 0);
        Ticket { inner: self.inner.clone(), number }
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

    /// Calls that ended since the last statement.
    pub fn unreleased(&self) -> u64 {
        lock(&self.inner).unreleased
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
        inner.unreleased += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_lists_exactly_the_open_calls() {
        let numbers = Numbers::new(10);
        let first = numbers.take();
        let second = numbers.take();
        let third = numbers.take();
        assert_eq!((first.number, second.number, third.number), (1, 2, 3));
        drop(second);
        assert_eq!(numbers.unreleased(), 1);
        let received = BTreeMap::new();
        let statement = Statement { open: vec![1, 3], received: received.clone(), last: 3 };
        assert_eq!(numbers.statement(), statement);
        assert_eq!(numbers.unreleased(), 0);
        third.received(7);
        assert_eq!(numbers.statement().received, BTreeMap::from([(3, 7)]));
        drop((first, third));
        assert_eq!(numbers.statement(), Statement { open: vec![], received, last: 3 });
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
