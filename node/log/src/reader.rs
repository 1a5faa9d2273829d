//! The readers' side of an open log.

use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use crate::error::LogError;
use crate::log::Shared;
use crate::points::{Outside, Points, Segment};
use crate::record;
use crate::round::Entry;
use crate::store::{ScanError, Use};

/// Reads ranges of entries beside the writer. Cheap to clone and to send.
///
/// The directory stays locked until the log and all its readers are gone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// A read in progress.
struct Wanted {
    group: u32,
    bytes_left: usize,
    found: Vec<Entry>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Entries with `low <= index < high`: at least the first, then as many as fit `bytes_max`.
    ///
    /// It sees every append that returned before, and no half of one. What is trimmed meanwhile
    /// is out of range, never damage.
    pub fn read(
        &self,
        group: u32,
        low: u64,
        high: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, LogError> {
        loop {
            let (segments, first_round) = self.segments(group, low, high)?;
            let mut wanted = Wanted { group, bytes_left: bytes_max, found: Vec::new() };
            match self.read_segments(&mut wanted, segments) {
                // What was not found may have been trimmed, or copied forward, since it was
                // looked up. The start of the log moved then, as it does now and then only.
                Err(_) if self.points().first_round() > first_round => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(wanted.found),
            }
        }
    }

    /// Where the entries are, and where the log starts.
    fn segments(&self, group: u32, low: u64, high: u64) -> Result<(Vec<Segment>, u64), LogError> {
        let points = self.points();
        match points.segments(group, low, high) {
            Ok(segments) => Ok((segments, points.first_round())),
            Err(Outside { first, last }) => {
                Err(LogError::OutOfRange { group, low, high, first, last })
            }
        }
    }

    fn read_segments(&self, wanted: &mut Wanted, segments: Vec<Segment>) -> Result<(), LogError> {
        for segment in segments {
            if !self.read_segment(wanted, segment)? {
                break;
            }
        }
        Ok(())
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.shared.points.lock().expect("no code panics with this lock held")
    }

    /// False when the answer is full.
    fn read_segment(&self, wanted: &mut Wanted, segment: Segment) -> Result<bool, LogError> {
        let mut number = segment.from;
        let mut next = segment.low;
        for pair in self.shared.store.scan(segment.from, segment.to, Use::Range) {
            let (key, record) = pair.map_err(|error| self.scan_error(wanted, number, error))?;
            if *key != number.to_be_bytes() {
                return Err(self.corrupt(number, "missing"));
            }
            let entries = self.entries_of(wanted.group, number, record, segment)?;
            for entry in entries {
                if entry.index != next {
                    return Err(self.corrupt(number, "an entry is missing"));
                }
                next += 1;
                let bytes = entry.data.len() + entry.context.len();
                if bytes > wanted.bytes_left && !wanted.found.is_empty() {
                    return Ok(false);
                }
                wanted.bytes_left = wanted.bytes_left.saturating_sub(bytes);
                wanted.found.push(entry);
            }
            if next == segment.high {
                return Ok(true);
            }
            number += 1;
        }
        Err(self.corrupt(number, "an entry is missing"))
    }

    /// The entries of one record that belong to the segment. Within a record a later part of
    /// the group replaces what an earlier one said.
    fn entries_of(
        &self,
        group: u32,
        number: u64,
        record: Bytes,
        segment: Segment,
    ) -> Result<Vec<Entry>, LogError> {
        let parts = record::decode_group(number, record, group)
            .map_err(|damage| self.corrupt(number, damage))?;
        let mut entries: Vec<Entry> = Vec::new();
        for part in parts {
            for entry in part.entries {
                let replaced = entries.partition_point(|known| known.index < entry.index);
                entries.truncate(replaced);
                entries.push(entry);
            }
        }
        entries.retain(|entry| (segment.low..segment.high).contains(&entry.index));
        Ok(entries)
    }

    fn corrupt(&self, round: u64, reason: &str) -> LogError {
        LogError::Corrupt { round, file: self.shared.store.file_of(round), reason: reason.into() }
    }

    fn scan_error(&self, wanted: &Wanted, round: u64, error: ScanError) -> LogError {
        match error {
            ScanError::Damaged(reason) => self.corrupt(round, &reason),
            ScanError::Io(source) => LogError::Read { group: wanted.group, round, source },
        }
    }
}
