//! Histories of one group whose answers carry the index of its machine.
//!
//! The index says where in the order of all commands an operation took effect, so nothing has to be
//! searched: a few sorts judge the whole history, where [`crate::register`] judges one register at a
//! time and knows nothing but times. Values are unique: each is attempted by one write at most.

use std::collections::{BTreeMap, BTreeSet};

/// A value, and the index of the write that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub value: u64,
    pub index: u64,
}

/// What an operation did, as its answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wrote a register; its version before that, if it had one.
    Write { register: u64, value: u64, previous: Option<Version> },
    /// A command of any other kind: it has an index of its own, like a write.
    Command,
    /// Read a register.
    Read { register: u64, seen: Option<Version> },
    /// A query of any other kind: it saw all up to its index.
    Query,
}

/// One operation that was answered. Times are of one clock, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub started: u64,
    pub ended: u64,
    pub index: u64,
    pub action: Action,
}

/// A write that was begun, answered or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub register: u64,
    pub value: u64,
    pub started: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two commands claim one index.
    SharedIndex { calls: Box<[Call; 2]> },
    /// A value was seen that nobody had begun to write to that register by then.
    NeverWritten { call: Box<Call> },
    /// A value has two indexes, or an index has two values.
    Ambiguous { register: u64, first: Version, second: Version },
    /// The second operation began after the first had ended, and has an earlier place in the order.
    WentBack { calls: Box<[Call; 2]> },
    /// A read or write saw another version than the newest one before it.
    Stale { call: Box<Call>, newest: Option<Version> },
}

/// Checks the operations of one group.
///
/// # Errors
/// They fit no order of all commands, or not the one that their indexes state.
pub fn check(attempts: &[Attempt], calls: &[Call]) -> Result<(), Fault> {
    own_indexes(calls)?;
    attempted(attempts, calls)?;
    let versions = versions(calls)?;
    in_order(calls)?;
    calls.iter().try_for_each(|call| newest(&versions, call))
}

impl Call {
    fn is_command(&self) -> bool {
        matches!(self.action, Action::Write { .. } | Action::Command)
    }

    /// The version that the call saw, with its register.
    fn saw(&self) -> Option<(u64, Version)> {
        match self.action {
            Action::Write { register, previous, .. } => previous.map(|seen| (register, seen)),
            Action::Read { register, seen } => seen.map(|seen| (register, seen)),
            Action::Command | Action::Query => None,
        }
    }
}

fn own_indexes(calls: &[Call]) -> Result<(), Fault> {
    let mut owners: BTreeMap<u64, Call> = BTreeMap::new();
    for second in calls.iter().filter(|call| call.is_command()) {
        if let Some(first) = owners.insert(second.index, *second) {
            return Err(Fault::SharedIndex { calls: Box::new([first, *second]) });
        }
    }
    Ok(())
}

fn attempted(attempts: &[Attempt], calls: &[Call]) -> Result<(), Fault> {
    let begun: BTreeMap<(u64, u64), u64> =
        attempts.iter().map(|a| ((a.register, a.value), a.started)).collect();
    for call in calls {
        let Some((register, Version { value, .. })) = call.saw() else { continue };
        if begun.get(&(register, value)).is_none_or(|started| *started > call.ended) {
            return Err(Fault::NeverWritten { call: Box::new(*call) });
        }
    }
    Ok(())
}

/// Register → index → value: from what was acknowledged, and from what others saw of the rest.
type Versions = BTreeMap<u64, BTreeMap<u64, u64>>;

fn versions(calls: &[Call]) -> Result<Versions, Fault> {
    let mut by_index = Versions::new();
    let mut by_value: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut learn = |register: u64, second: Version| {
        let Version { value, index } = second;
        let same = by_index.entry(register).or_default().insert(index, value).unwrap_or(value);
        let known = *by_value.entry((register, value)).or_insert(index);
        let first = if same == value {
            Version { value, index: known }
        } else {
            Version { value: same, index }
        };
        if first == second { Ok(()) } else { Err(Fault::Ambiguous { register, first, second }) }
    };
    for call in calls {
        if let Action::Write { register, value, .. } = call.action {
            learn(register, Version { value, index: call.index })?;
        }
        if let Some((register, seen)) = call.saw() {
            learn(register, seen)?;
        }
    }
    Ok(by_index)
}

/// What began after an answer has a later place in the order; a query may share that of the newest
/// command.
fn in_order(calls: &[Call]) -> Result<(), Fault> {
    let by_end: BTreeSet<(u64, usize)> =
        calls.iter().enumerate().map(|(n, call)| (call.ended, n)).collect();
    let mut by_start: Vec<&Call> = calls.iter().collect();
    by_start.sort_by_key(|call| call.started);
    let mut ended = by_end.into_iter().map(|(_, n)| calls[n]).peekable();
    let mut furthest: Option<Call> = None;
    for second in by_start {
        while let Some(call) = ended.next_if(|call| call.ended < second.started) {
            if furthest.is_none_or(|furthest| call.index > furthest.index) {
                furthest = Some(call);
            }
        }
        let least = |first: &Call| first.index + u64::from(second.is_command());
        if let Some(first) = furthest.filter(|first| second.index < least(first)) {
            return Err(Fault::WentBack { calls: Box::new([first, *second]) });
        }
    }
    Ok(())
}

fn newest(versions: &Versions, call: &Call) -> Result<(), Fault> {
    let (register, seen, until) = match call.action {
        Action::Write { register, previous, .. } => (register, previous, call.index),
        Action::Read { register, seen } => (register, seen, call.index + 1),
        Action::Command | Action::Query => return Ok(()),
    };
    let of_register = versions.get(&register);
    let before = of_register.and_then(|versions| versions.range(..until).next_back());
    let newest = before.map(|(index, value)| Version { value: *value, index: *index });
    if newest == seen { Ok(()) } else { Err(Fault::Stale { call: Box::new(*call), newest }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(started: u64, index: u64, value: u64, previous: Option<(u64, u64)>) -> Call {
        let previous = previous.map(|(value, index)| Version { value, index });
        let action = Action::Write { register: 1, value, previous };
        Call { started, ended: started + 5, index, action }
    }

    fn read(started: u64, index: u64, seen: Option<(u64, u64)>) -> Call {
        let seen = seen.map(|(value, index)| Version { value, index });
        Call { started, ended: started + 5, index, action: Action::Read { register: 1, seen } }
    }

    /// All values that the tests know were attempted from the start.
    fn check(calls: &[Call]) -> Result<(), Fault> {
        let attempt = |value| Attempt { register: 1, value, started: 0 };
        super::check(&[10, 20, 30].map(attempt), calls)
    }

    #[test]
    fn a_history_in_the_order_of_its_indexes_is_fine() {
        let calls = [
            read(0, 1, None),
            write(1, 2, 10, None),
            write(2, 4, 20, Some((10, 2))),
            // Never answered, but seen.
            read(8, 6, Some((30, 5))),
            Call { started: 20, ended: 21, index: 7, action: Action::Command },
            Call { started: 30, ended: 31, index: 7, action: Action::Query },
        ];
        assert_eq!(check(&calls), Ok(()));
    }

    #[test]
    fn two_commands_at_one_index_are_found() {
        let command = Call { started: 0, ended: 9, index: 2, action: Action::Command };
        let calls = [write(0, 2, 10, None), command];
        assert!(matches!(check(&calls), Err(Fault::SharedIndex { .. })));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        assert!(matches!(check(&[read(0, 3, Some((99, 2)))]), Err(Fault::NeverWritten { .. })));
        let late = Attempt { register: 1, value: 10, started: 50 };
        let early = read(0, 3, Some((10, 2)));
        let fault = super::super::indexed::check(&[late], &[early]).unwrap_err();
        assert_eq!(fault, Fault::NeverWritten { call: Box::new(early) });
    }

    #[test]
    fn a_write_that_took_effect_twice_is_found() {
        let calls = [write(0, 2, 10, None), read(1, 6, Some((10, 5)))];
        assert!(matches!(check(&calls), Err(Fault::Ambiguous { .. })));
        let other = [write(0, 2, 10, None), read(1, 6, Some((20, 2)))];
        assert!(matches!(check(&other), Err(Fault::Ambiguous { .. })));
    }

    #[test]
    fn a_read_from_before_what_was_acknowledged_is_found() {
        let calls = [write(0, 5, 10, None), read(6, 4, None)];
        assert!(matches!(check(&calls), Err(Fault::WentBack { .. })));
    }

    #[test]
    fn a_command_from_before_what_was_seen_is_found() {
        let calls = [read(0, 5, None), write(6, 5, 10, None)];
        assert!(matches!(check(&calls), Err(Fault::WentBack { .. })));
    }

    #[test]
    fn a_stale_version_is_found() {
        let calls =
            [write(0, 2, 10, None), write(0, 3, 20, Some((10, 2))), read(0, 4, Some((10, 2)))];
        assert!(matches!(check(&calls), Err(Fault::Stale { .. })));
    }

    #[test]
    fn a_write_that_missed_the_one_before_is_found() {
        let calls = [write(0, 2, 10, None), write(0, 3, 20, None)];
        assert!(matches!(check(&calls), Err(Fault::Stale { .. })));
    }

    #[test]
    fn a_lost_write_is_found() {
        let calls = [write(0, 2, 10, None), read(9, 3, None)];
        assert!(matches!(check(&calls), Err(Fault::Stale { .. })));
    }
}
