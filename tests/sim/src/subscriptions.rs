//! What subscribers of a map were told and who held its lock, for the checkers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use multiraft_proto::map;

use crate::oracle::number;

/// Session and number of a command.
pub type Command = (u64, u64);

/// A change of the map as an event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    key: String,
    value: u64,
    /// Index of the value before, if there was one.
    previous: Option<u64>,
}

/// All subscriptions to the map of one group.
#[derive(Debug, Default)]
pub struct Streams {
    /// Indexes of the outputs of each, the first of which is no change.
    told: BTreeMap<Command, Vec<u64>>,
    /// By index, as any subscriber was told.
    changes: BTreeMap<u64, Change>,
    /// By index: changes that were answered to who made them.
    answered: BTreeMap<u64, (String, u64)>,
}

impl Streams {
    /// A put was answered.
    pub fn answered(&mut self, index: u64, key: String, value: u64) {
        self.answered.insert(index, (key, value));
    }

    /// Index of the newest change that was answered.
    pub fn newest(&self) -> u64 {
        self.answered.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// The next output of a subscription that its client did not have yet.
    pub fn told(&mut self, command: Command, number: u64, index: u64, event: Option<map::Event>) {
        let told = self.told.entry(command).or_default();
        assert_eq!(
            number,
            told.len() as u64 + 1,
            "[stream gap] number of the next output of {command:?}, at index {index}"
        );
        let Some(event) = event else {
            assert_eq!(number, 1, "[stream] an output of {command:?} says nothing");
            return told.push(index);
        };
        let last = told.last().copied().unwrap_or(u64::MAX);
        assert!(last < index, "[stream order] {command:?} at {index} after {last}");
        told.push(index);
        let change = Change::of(event, index);
        let first = self.changes.entry(index).or_insert_with(|| change.clone());
        assert_eq!(*first, change, "[stream] two events of index {index}");
    }

    /// Every subscriber was told all changes from its first to its last output, each at its place.
    pub fn judge(&self, is_attempt: impl Fn(&str, u64) -> bool) {
        for (index, change) in &self.changes {
            let known = is_attempt(&change.key, change.value);
            assert!(known, "[stream] nobody made the change {change:?} at {index}");
            let answered = self.answered.get(index);
            let same = answered.is_none_or(|(k, v)| *k == change.key && *v == change.value);
            assert!(same, "[stream] {change:?} at {index} was answered as {answered:?}");
        }
        let all: BTreeSet<u64> = self.changes.keys().chain(self.answered.keys()).copied().collect();
        for (command, told) in &self.told {
            let (Some(first), Some(last)) = (told.first(), told.last()) else { continue };
            let due: Vec<u64> = all.range((Excluded(first), Included(last))).copied().collect();
            assert_eq!(
                told[1..],
                due,
                "[stream] events of {command:?} and what changed between index {first} and {last}"
            );
        }
        self.judge_previous();
    }

    /// The value before a change is that of the last change of its key.
    fn judge_previous(&self) {
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for (index, change) in &self.changes {
            let before = newest.insert(&change.key, *index);
            assert!(
                before <= change.previous,
                "[stream] {change:?} at {index} comes after one at {before:?}"
            );
        }
    }
}

impl Change {
    fn of(map::Event { key, event }: map::Event, index: u64) -> Self {
        use map::event::Event;
        let (value, previous) = match event {
            Some(Event::Inserted(inserted)) => (inserted.value, None),
            Some(Event::Updated(updated)) => (updated.value, updated.prev_value),
            other => panic!("[stream] clients only write: {other:?} of {key}"),
        };
        let value = value.expect("an event has the value");
        assert_eq!(value.index, index, "[stream] an event of {key} has the index of its change");
        let previous = previous.map(|value| value.index);
        Change { key, value: number(&value.value), previous }
    }
}

/// A lock that is held as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub session_id: u64,
    /// Index at which it was granted. What time brings about raises no index: several may have one.
    pub index: u64,
    /// Fencing token: it grows with every grant.
    pub token: u64,
}

/// The lock of one group.
#[derive(Debug, Default)]
pub struct Locks {
    held: Vec<Held>,
    /// Highest fencing token.
    pub token: u64,
}

impl Locks {
    /// A client has the lock. Returns those whose sessions must have ended when the last of all was
    /// granted, and that.
    pub fn granted(&mut self, held: Held, floor: u64) -> (Vec<Held>, Held) {
        let token = held.token;
        assert!(token > floor, "[fencing] {held:?}: token {floor} was known before");
        self.token = self.token.max(token);
        self.held.push(held);
        let newest = self.held.iter().max_by_key(|held| held.token).copied().unwrap_or(held);
        (self.held.extract_if(.., |held| *held != newest).collect(), newest)
    }

    /// A client is about to give it up.
    pub fn released(&mut self, session_id: u64) {
        self.held.retain(|held| held.session_id != session_id);
    }
}
