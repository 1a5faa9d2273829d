//! Histories of a counter that is only incremented.
//!
//! Every increment answers with the value that it made, so an increment's place in the order is
//! known, and checking takes a sort instead of a search.

/// One call that was answered. Times are of one clock, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub started: u64,
    pub ended: u64,
    /// Added by the call; 0 = a read.
    pub delta: u64,
    /// The value answered: after the increment, or read.
    pub value: u64,
}

/// Two calls whose answers fit no order of all calls.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two increments claim the same part of the count, or one took effect twice.
    Overlap { first: Call, second: Call },
    /// The second began after the first had ended, and saw an older state.
    WentBack { first: Call, second: Call },
    /// The counter ends with less than all answered increments together, with less than a call saw, or
    /// with more than all that were begun.
    Sum { least: u64, most: u64, value: u64 },
}

/// Checks that calls took effect one after the other, each between its start and its end, from 0 to
/// `end`. Every increment must be among the calls.
///
/// # Errors
/// They fit no such order.
pub fn check(calls: &[Call], end: u64) -> Result<(), Fault> {
    check_with_unknown(calls, 0, end)
}

/// As [`check`], but increments whose outcome nobody learned may be missing among the calls; they
/// add `unknown` together at most.
///
/// What fails here is wrong for certain. What passes has an order for certain only if nothing is
/// unknown and every increment is by 1: when the unknown ones began is not asked, nor whether
/// increments add up to what a read saw between two answers.
///
/// # Errors
/// The calls fit no such order.
pub fn check_with_unknown(calls: &[Call], unknown: u64, end: u64) -> Result<(), Fault> {
    let mut increments: Vec<_> = calls.iter().copied().filter(|call| call.delta > 0).collect();
    increments.sort_by_key(|call| call.value);
    let (mut before, mut answered): (Option<Call>, u64) = (None, 0);
    for call in increments {
        let reached = before.map_or(0, |before| before.value);
        if reached + call.delta > call.value {
            return Err(Fault::Overlap { first: before.unwrap_or(call), second: call });
        }
        answered += call.delta;
        before = Some(call);
    }
    // As answers do not overlap, that is all of the answered increments at least.
    let reached = calls.iter().map(|call| call.value).max().unwrap_or(0);
    let most = answered + unknown;
    if end < reached || end > most {
        return Err(Fault::Sum { least: reached, most, value: end });
    }
    in_order(calls)
}

/// No call that began after another one ended saw less than it did.
fn in_order(calls: &[Call]) -> Result<(), Fault> {
    let mut by_start = calls.to_vec();
    by_start.sort_by_key(|call| call.started);
    let mut by_end = calls.to_vec();
    by_end.sort_by_key(|call| call.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<Call> = None;
    for second in by_start {
        while let Some(call) = ended.next_if(|call| call.ended < second.started) {
            if highest.is_none_or(|highest| call.value > highest.value) {
                highest = Some(call);
            }
        }
        // A read may repeat what was seen; an increment must pass it.
        if let Some(first) = highest.filter(|first| first.value + second.delta > second.value) {
            return Err(Fault::WentBack { first, second });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(started: u64, ended: u64, delta: u64, value: u64) -> Call {
        Call { started, ended, delta, value }
    }

    #[test]
    fn concurrent_calls_may_take_effect_in_any_order() {
        let calls = [call(0, 9, 1, 2), call(1, 8, 1, 1), call(2, 3, 0, 0), call(4, 9, 0, 2)];
        assert_eq!(check(&calls, 2), Ok(()));
    }

    #[test]
    fn an_increment_that_took_effect_twice_is_found() {
        let calls = [call(0, 1, 1, 1), call(2, 3, 1, 3)];
        assert_eq!(check(&calls, 3), Err(Fault::Sum { least: 3, most: 2, value: 3 }));
        assert_eq!(check(&calls[..1], 2), Err(Fault::Sum { least: 1, most: 1, value: 2 }));
    }

    #[test]
    fn an_increment_without_an_answer_may_be_there_or_not() {
        let calls = [call(0, 1, 1, 1), call(2, 3, 1, 3)];
        assert_eq!(check_with_unknown(&calls, 1, 3), Ok(()));
        assert_eq!(check_with_unknown(&calls[..1], 1, 1), Ok(()));
        assert_eq!(check_with_unknown(&calls[..1], 1, 2), Ok(()));
        assert_eq!(
            check_with_unknown(&calls[..1], 1, 3),
            Err(Fault::Sum { least: 1, most: 2, value: 3 })
        );
    }

    #[test]
    fn a_lost_increment_is_found() {
        let calls = [call(0, 1, 1, 1), call(2, 3, 1, 1)];
        assert!(matches!(check(&calls, 1), Err(Fault::Overlap { .. })));
    }

    #[test]
    fn a_stale_read_is_found() {
        let calls = [call(0, 1, 1, 1), call(2, 3, 0, 0)];
        assert!(matches!(check(&calls, 1), Err(Fault::WentBack { .. })));
        let reads = [call(0, 9, 1, 1), call(1, 2, 0, 1), call(3, 4, 0, 0)];
        assert!(matches!(check(&reads, 1), Err(Fault::WentBack { .. })));
    }

    #[test]
    fn a_read_of_more_than_there_ever_was_is_found() {
        let calls = [call(0, 9, 0, 2), call(1, 2, 1, 1)];
        assert_eq!(check(&calls, 1), Err(Fault::Sum { least: 2, most: 1, value: 1 }));
    }

    #[test]
    fn an_increment_before_what_was_seen_is_found() {
        let calls = [call(0, 1, 1, 2), call(5, 6, 1, 1)];
        assert!(matches!(check(&calls, 2), Err(Fault::WentBack { .. })));
    }
}
