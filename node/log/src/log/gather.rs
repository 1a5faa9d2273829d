//! Reading the whole logs of several groups at once: every record once, however many of the
//! groups have a part in it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Shared;
use crate::error::LogError;
use crate::points::{Outside, Segment};
use crate::record::{self, Record};
use crate::round::{Entry, Round};
use crate::store::{ScanError, Use};

/// Entries of each group. They hold no memory of the records that they were in.
pub type Logs = BTreeMap<u32, Vec<Entry>>;

/// What is to be gathered, and where it is. It can be read as long as no round goes, whatever
/// becomes of the groups' logs.
pub struct Wanted {
    /// Group, first index and index after the last.
    ranges: Vec<(u32, u64, u64)>,
    /// By their first round.
    segments: VecDeque<(u32, Segment)>,
}

impl Wanted {
    /// The entries `low..high` of each of these (group, low, high), which must be there.
    pub fn find(shared: &Shared, ranges: Vec<(u32, u64, u64)>) -> Result<Self, LogError> {
        let points = shared.points.lock().expect("no code panics with this lock held");
        let mut found = Vec::new();
        for (group, low, high) in ranges.iter().copied() {
            let segments =
                points.segments(group, low, high).map_err(|Outside { first, last }| {
                    LogError::OutOfRange { group, low, high, first, last }
                })?;
            found.extend(segments.into_iter().map(|segment| (group, segment)));
        }
        found.sort_by_key(|(group, segment)| (segment.from, *group, segment.low));
        Ok(Self { ranges, segments: found.into() })
    }
}

/// Reads what is wanted, all of it.
pub fn gather(shared: &Shared, wanted: Wanted) -> Result<Logs, LogError> {
    let Wanted { ranges, segments: waiting } = wanted;
    let mut gather = Gather { shared, waiting, open: BTreeMap::new(), logs: Logs::new() };
    while let Some((group, next)) = gather.waiting.front() {
        gather.read_from(*group, next.from)?;
    }
    for (group, low, high) in ranges {
        let found = gather.logs.get(&group).into_iter().flatten().map(|entry| entry.index);
        if !found.eq(low..high) {
            return Err(gather.corrupt(0, "an entry is missing"));
        }
    }
    Ok(gather.logs)
}

struct Gather<'a> {
    shared: &'a Shared,
    /// Segments of which nothing is read yet, by their first round.
    waiting: VecDeque<(u32, Segment)>,
    /// Segments whose rounds are being read, by group and first entry.
    open: BTreeMap<(u32, u64), Segment>,
    logs: Logs,
}

impl Gather<'_> {
    /// Reads on until no segment is open.
    fn read_from(&mut self, group: u32, first: u64) -> Result<(), LogError> {
        let mut number = first;
        for pair in self.shared.store.scan(first, u64::MAX, Use::Once) {
            let (key, record) = pair.map_err(|error| self.scan_error(group, number, error))?;
            if *key != number.to_be_bytes() {
                return Err(self.corrupt(number, "missing"));
            }
            while let Some((group, next)) =
                self.waiting.pop_front_if(|(_, next)| next.from <= number)
            {
                self.open.insert((group, next.low), next);
            }
            match record::decode(number, record).map_err(|damage| self.corrupt(number, damage))? {
                Record::Round(round) => self.take(&round),
                Record::Checkpoint(_) => {}
            }
            let logs = &self.logs;
            self.open.retain(|(group, low), segment| end(logs, *group, *low) < segment.high);
            if self.open.values().any(|segment| segment.to <= number) {
                return Err(self.corrupt(number, "an entry is missing"));
            }
            if self.open.is_empty() {
                return Ok(());
            }
            number += 1;
        }
        Err(self.corrupt(number, "missing"))
    }

    /// What the round has of the open segments. Within a round a later part of a group replaces
    /// what an earlier one said.
    fn take(&mut self, round: &Round) {
        for part in &round.groups {
            for segment in self.open.range((part.group, 0)..=(part.group, u64::MAX)).map(|(_, s)| s)
            {
                let log = self.logs.entry(part.group).or_default();
                for entry in &part.entries {
                    if (segment.low..segment.high).contains(&entry.index) {
                        log.truncate(log.partition_point(|known| known.index < entry.index));
                        log.push(detached(entry));
                    }
                }
            }
        }
    }

    fn corrupt(&self, round: u64, reason: &str) -> LogError {
        LogError::Corrupt { round, file: self.shared.store.file_of(round), reason: reason.into() }
    }

    fn scan_error(&self, group: u32, round: u64, error: ScanError) -> LogError {
        match error {
            ScanError::Damaged(reason) => self.corrupt(round, &reason),
            ScanError::Io(source) => LogError::Read { group, round, source },
        }
    }
}

/// The index after the last entry that was found, or `low`.
fn end(logs: &Logs, group: u32, low: u64) -> u64 {
    let last = logs.get(&group).and_then(|log| log.last());
    last.map_or(low, |entry| entry.index + 1).max(low)
}

fn detached(entry: &Entry) -> Entry {
    let data = Bytes::copy_from_slice(&entry.data);
    let context = Bytes::copy_from_slice(&entry.context);
    Entry { data, context, ..*entry }
}
