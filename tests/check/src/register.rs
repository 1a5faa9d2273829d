//! Histories of a register (one key of a map) that is written and read.
//!
//! Looks for an order of all operations in which each takes effect between its start and its end
//! and every read returns what was written last: the search of Wing and Gong, with Lowe's memory of
//! what was tried ("Testing for linearizability", 2017). Exponential in the worst case; histories
//! with few operations at a time are quick.

use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<V> {
    Write(V),
    /// What was read.
    Read(V),
}

/// One operation. Times are of one clock, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<V> {
    pub started: u64,
    /// None when no answer came: a write may take effect at any later time, or never.
    pub ended: Option<u64>,
    pub action: Action<V>,
}

/// No order fits. The longest one that was found, and the operation that had ended by then and
/// found no place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault<V> {
    pub order: Vec<Operation<V>>,
    pub misfit: Operation<V>,
}

/// Checks a history that begins with the value `initial`.
///
/// # Errors
/// The history is not linearizable.
pub fn check<V: Clone + Ord>(initial: V, history: &[Operation<V>]) -> Result<(), Fault<V>> {
    // A read without an answer says nothing.
    let says = |o: &&Operation<V>| o.ended.is_some() || matches!(o.action, Action::Write(_));
    let operations: Vec<Operation<V>> = history.iter().filter(says).cloned().collect();
    Search::new(initial, operations).run()
}

/// Starts and ends in the order of time, as a list that operations are taken out of and put back.
struct Search<V> {
    operations: Vec<Operation<V>>,
    /// Entry 2n is the start of operation n, 2n + 1 its end; the last is the list's head.
    next: Vec<usize>,
    previous: Vec<usize>,
    value: V,
    /// Operations that have taken effect, with the value before each.
    done: Vec<(usize, V)>,
    /// Which ones, as bits.
    bits: Vec<u64>,
    /// (which have taken effect, value): every such state is tried once.
    tried: BTreeSet<(Vec<u64>, V)>,
}

impl<V: Clone + Ord> Search<V> {
    fn new(value: V, operations: Vec<Operation<V>>) -> Self {
        let head = 2 * operations.len();
        let time = |entry: &usize| {
            let operation = &operations[entry / 2];
            // An end at the time of a start comes after it: the two may have met.
            match entry % 2 {
                0 => (operation.started, 0),
                _ => (operation.ended.unwrap_or(u64::MAX), 1),
            }
        };
        let mut order: Vec<usize> = (0..head).collect();
        order.sort_by_key(time);
        let (mut next, mut previous) = (vec![head; head + 1], vec![head; head + 1]);
        let mut last = head;
        for entry in order {
            next[last] = entry;
            previous[entry] = last;
            last = entry;
        }
        next[last] = head;
        previous[head] = last;
        let bits = vec![0; operations.len().div_ceil(64)];
        Search { operations, next, previous, value, done: Vec::new(), bits, tried: BTreeSet::new() }
    }

    fn run(mut self) -> Result<(), Fault<V>> {
        let head = self.next.len() - 1;
        let mut longest: Option<Fault<V>> = None;
        let mut entry = self.next[head];
        while self.next[head] != head {
            let operation = entry / 2;
            if entry.is_multiple_of(2) {
                entry = if self.take(operation) { self.next[head] } else { self.next[entry] };
                continue;
            }
            // An operation that has ended must have taken effect: something before was wrong.
            if longest.as_ref().is_none_or(|fault| fault.order.len() < self.done.len()) {
                let order = self.done.iter().map(|(n, _)| self.operations[*n].clone()).collect();
                longest = Some(Fault { order, misfit: self.operations[operation].clone() });
            }
            let Some((last, before)) = self.done.pop() else {
                return Err(longest.expect("set above"));
            };
            self.value = before;
            self.bits[last / 64] ^= 1 << (last % 64);
            self.put_back(2 * last + 1);
            self.put_back(2 * last);
            entry = self.next[2 * last];
        }
        Ok(())
    }

    /// Lets an operation take effect now, if it can and that was not tried.
    fn take(&mut self, operation: usize) -> bool {
        let value = match &self.operations[operation].action {
            Action::Write(value) => value.clone(),
            Action::Read(value) if *value == self.value => value.clone(),
            Action::Read(_) => return false,
        };
        self.bits[operation / 64] ^= 1 << (operation % 64);
        if !self.tried.insert((self.bits.clone(), value.clone())) {
            self.bits[operation / 64] ^= 1 << (operation % 64);
            return false;
        }
        self.done.push((operation, std::mem::replace(&mut self.value, value)));
        for entry in [2 * operation, 2 * operation + 1] {
            let (before, after) = (self.previous[entry], self.next[entry]);
            self.next[before] = after;
            self.previous[after] = before;
        }
        true
    }

    fn put_back(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = entry;
        self.previous[after] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(started: u64, ended: u64, value: u8) -> Operation<u8> {
        Operation { started, ended: Some(ended), action: Action::Write(value) }
    }

    fn read(started: u64, ended: u64, value: u8) -> Operation<u8> {
        Operation { started, ended: Some(ended), action: Action::Read(value) }
    }

    #[test]
    fn reads_may_see_either_side_of_a_write_that_runs() {
        let history = [write(0, 9, 1), read(1, 2, 0), read(3, 4, 1), read(10, 11, 1)];
        assert_eq!(check(0, &history), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        let fault = check(0, &[write(0, 1, 1), read(2, 3, 0)]).unwrap_err();
        assert_eq!(fault.misfit, read(2, 3, 0));
        assert!(check(0, &[write(0, 9, 1), read(1, 2, 1), read(3, 4, 0)]).is_err());
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        assert!(check(0, &[write(0, 1, 1), read(2, 3, 7)]).is_err());
    }

    #[test]
    fn a_write_without_an_answer_may_come_late_or_never() {
        let unknown = Operation { started: 0, ended: None, action: Action::Write(1) };
        assert_eq!(check(0, &[unknown, read(5, 6, 0)]), Ok(()));
        assert_eq!(check(0, &[unknown, read(5, 6, 0), read(7, 8, 1)]), Ok(()));
        assert!(check(0, &[unknown, read(5, 6, 1), read(7, 8, 0)]).is_err());
        let no_answer = Operation { started: 0, ended: None, action: Action::Read(7) };
        assert_eq!(check(0, &[no_answer]), Ok(()));
    }

    #[test]
    fn a_long_history_with_few_at_a_time_is_quick() {
        let each = |n: u64| [write(4 * n, 4 * n + 3, n as u8), read(4 * n + 1, 4 * n + 6, n as u8)];
        let history: Vec<_> = (0..5_000).flat_map(each).collect();
        assert_eq!(check(0, &history), Ok(()));
    }

    /// Tries every order.
    fn any_order_fits(value: u8, left: &[Operation<u8>]) -> bool {
        let earliest_end = left.iter().filter_map(|o| o.ended).min().unwrap_or(u64::MAX);
        let is_needed = |o: &Operation<u8>| o.ended.is_some();
        if !left.iter().any(is_needed) {
            return true;
        }
        left.iter().enumerate().filter(|(_, o)| o.started <= earliest_end).any(|(n, operation)| {
            let mut rest = left.to_vec();
            rest.remove(n);
            match operation.action {
                Action::Write(value) => any_order_fits(value, &rest),
                Action::Read(seen) => seen == value && any_order_fits(value, &rest),
            }
        })
    }

    #[test]
    fn agrees_with_trying_every_order() {
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        let (mut fit, mut misfit) = (0, 0);
        for _ in 0..20_000 {
            let count = 1 + below(6);
            let history: Vec<_> = (0..count)
                .map(|_| {
                    let (started, value) = (below(12), below(3) as u8);
                    let action = match below(2) {
                        0 => Action::Write(value),
                        _ => Action::Read(value),
                    };
                    let lost = matches!(action, Action::Write(_)) && below(5) == 0;
                    let ended = (!lost).then_some(started + below(6));
                    Operation { started, ended, action }
                })
                .collect();
            let expected = any_order_fits(0, &history);
            assert_eq!(check(0, &history).is_ok(), expected, "{history:?}");
            if expected { fit += 1 } else { misfit += 1 }
        }
        assert!(fit > 2_000 && misfit > 2_000, "both happen: {fit} and {misfit}");
    }
}
