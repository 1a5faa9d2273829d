//! Where a group's entries are: a sparse index from entries to rounds, in memory.
//!
//! A point (index, round) says: the entries from `index` up to the next point's are in the
//! rounds from `round` up to the next point's, and in at most [`POINT_ROUNDS`] of them. A suffix
//! that is replaced always makes a new point, so no round between two points replaces what
//! another of them wrote, and a reader may stop at any round.

use std::collections::{BTreeMap, HashMap};

use crate::catalog::Change;
use crate::limits::{POINT_ENTRIES, POINT_ROUNDS};
use crate::round::RecoveredGroup;

#[derive(Debug, Default)]
pub struct Points {
    groups: HashMap<u32, Group>,
    /// What is before it is or will be gone: no point is there.
    first_round: u64,
    last_round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    index: u64,
    round: u64,
    /// Of the entries up to the next point's, and of those that they replaced.
    bytes: u64,
}

#[derive(Debug)]
struct Group {
    first: u64,
    last: u64,
    points: Vec<Point>,
    /// The last round after which an entry was another than before; 0 when that is not known.
    replaced: u64,
}

/// Entries `low..high` are in rounds `from..=to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub low: u64,
    pub high: u64,
    pub from: u64,
    pub to: u64,
}

/// The oldest round that holds entries of a group's log, and how many bytes the whole log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub group: u32,
    pub round: u64,
    pub bytes: u64,
    /// Since this round entries were added and trimmed, and none was replaced.
    pub replaced: u64,
}

/// The group's log is this and not what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Outside {
    pub first: u64,
    pub last: u64,
}

impl Points {
    /// At a checkpoint: how far the logs go is known, where their entries are is not.
    pub fn of_groups(round: u64, groups: &BTreeMap<u32, RecoveredGroup>) -> Self {
        let extent = |(id, group): (&u32, &RecoveredGroup)| {
            let (first, last) = (group.first.0, group.last_index);
            (*id, Group { first, last, points: Vec::new(), replaced: 0 })
        };
        let groups = groups.iter().map(extent).collect();
        Self { groups, first_round: round, last_round: round }
    }

    /// A group whose oldest entries are in no round, if there is one.
    pub fn uncovered(&self) -> Option<u32> {
        let covers = |group: &Group| {
            let oldest = group.points.first().map(|point| point.index);
            group.last < group.first || oldest.is_some_and(|index| index <= group.first)
        };
        self.groups.iter().find(|(_, group)| !covers(group)).map(|(id, _)| *id)
    }

    /// What each log that is not empty needs. Looks at every group.
    pub fn pins(&self) -> Vec<Pin> {
        let pin = |(id, group): (&u32, &Group)| {
            let bytes = group.points.iter().map(|point| point.bytes).sum();
            let pin = |oldest: &Point| Pin {
                group: *id,
                round: oldest.round,
                bytes,
                replaced: group.replaced,
            };
            group.points.first().map(pin)
        };
        self.groups.iter().filter_map(pin).collect()
    }

    /// To be called before the rounds below `round`, in which no point is, go.
    pub fn trim(&mut self, round: u64) {
        self.first_round = round;
    }

    pub fn first_round(&self) -> u64 {
        self.first_round
    }

    /// To be called for every round in order, once it is durable.
    pub fn note(&mut self, number: u64, changes: &[Change]) {
        self.last_round = number;
        for change in changes {
            match *change {
                Change::Delete { group } => {
                    self.groups.remove(&group);
                }
                Change::Start { group, first, last } => {
                    self.group(group).start_at(number, first, last);
                }
                Change::Append { group, first, last, bytes } => {
                    self.group(group).append(number, first, last, bytes);
                }
            }
        }
    }

    /// The segments that hold `low..high`, in order.
    pub fn segments(&self, group: u32, low: u64, high: u64) -> Result<Vec<Segment>, Outside> {
        let Some(group) = self.groups.get(&group) else {
            return Err(Outside { first: 1, last: 0 });
        };
        if low < group.first || high > group.last.saturating_add(1) || low >= high {
            return Err(Outside { first: group.first, last: group.last });
        }
        let start = group.points.partition_point(|point| point.index <= low).saturating_sub(1);
        let mut segments = Vec::new();
        for (position, point) in group.points.iter().enumerate().skip(start) {
            if point.index >= high {
                break;
            }
            let next = group.points.get(position + 1);
            let to = (point.round + POINT_ROUNDS - 1).min(self.last_round);
            segments.push(Segment {
                low: low.max(point.index),
                high: next.map_or(high, |next| high.min(next.index)),
                from: point.round,
                to: next.map_or(to, |next| to.min(next.round)),
            });
        }
        Ok(segments)
    }

    fn group(&mut self, group: u32) -> &mut Group {
        let made = self.last_round;
        self.groups.entry(group).or_insert_with(|| Group::empty(made))
    }
}

impl Group {
    fn empty(made: u64) -> Self {
        Self { first: 1, last: 0, points: Vec::new(), replaced: made }
    }

    fn start_at(&mut self, round: u64, first: u64, last: u64) {
        if last != self.last {
            self.replaced = round;
        }
        let keep = self.points.partition_point(|point| point.index <= first).saturating_sub(1);
        self.points.drain(..keep);
        if last < first {
            self.points.clear();
        }
        self.first = first;
        self.last = last;
    }

    fn append(&mut self, round: u64, first: u64, last: u64, bytes: u64) {
        let replaces = first <= self.last;
        if replaces {
            self.points.truncate(self.points.partition_point(|point| point.index < first));
            self.replaced = round;
        }
        let full = self.points.last().is_none_or(|point| {
            round - point.round >= POINT_ROUNDS || first - point.index >= POINT_ENTRIES
        });
        if replaces || full {
            self.points.push(Point { index: first, round, bytes: 0 });
        }
        self.points.last_mut().expect("pushed when there was none").bytes += bytes;
        self.last = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(first: u64, last: u64) -> [Change; 1] {
        [Change::Append { group: 1, first, last, bytes: 10 * (last + 1 - first) }]
    }

    #[test]
    fn a_replaced_suffix_starts_a_segment_of_its_own() {
        let mut points = Points::default();
        for round in 1..=100 {
            points.note(round, &append(round, round));
        }
        points.note(101, &append(60, 61));
        let segments = points.segments(1, 59, 62).expect("in range");
        let old = Segment { low: 59, high: 60, from: 1, to: 64 };
        let new = Segment { low: 60, high: 62, from: 101, to: 101 };
        assert_eq!(segments, [old, new]);
        assert_eq!(points.segments(1, 59, 63), Err(Outside { first: 1, last: 61 }));
    }

    #[test]
    fn a_read_skips_the_rounds_of_busier_groups() {
        let mut points = Points::default();
        points.note(1, &append(1, 1));
        points.note(5_000, &append(2, 2));
        let segments = points.segments(1, 2, 3).expect("in range");
        assert_eq!(segments, [Segment { low: 2, high: 3, from: 5_000, to: 5_000 }]);
    }

    #[test]
    fn an_emptied_log_has_no_points() {
        let mut points = Points::default();
        points.note(1, &append(1, 9));
        points.note(2, &[Change::Start { group: 1, first: 5, last: 4 }]);
        assert!(points.groups[&1].points.is_empty());
        points.note(3, &append(5, 5));
        assert_eq!(points.segments(1, 5, 6).map(|found| found[0].from), Ok(3));
        assert_eq!(points.segments(1, 4, 6), Err(Outside { first: 5, last: 5 }));
    }
}
