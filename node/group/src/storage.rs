//! What raft reads of the log: state, term runs, and a cache of the newest entries.
//!
//! Entries that are not on disk yet must be readable here (the asynchronous Ready needs it), and
//! so must every entry that is not applied yet. Older ones may leave the cache; raft then asks for
//! them only to feed a member that lags, which it can wait for ([`LogStorage::take_fetches`]).

use crate::SnapshotMark;
use crate::limits::FETCH_BYTES_MAX;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Entries that raft waits for.
pub(crate) struct WantedEntries {
    pub low: u64,
    pub high: u64,
    pub context: GetEntriesContext,
}

pub(crate) struct LogStorage {
    pub state: HardState,
    pub conf_state: ConfState,
    /// First index of the log and the term of the entry before it.
    first: (u64, u64),
    last_index: u64,
    /// Runs of equal terms: (first index of the run, term), ascending.
    terms: Vec<(u64, u64)>,
    /// The newest snapshot, for members that lag behind `first`.
    snapshot: Option<SnapshotMark>,
    /// A member asked for a newer one.
    outdated: Cell<bool>,
    /// The newest entries, without gap up to `last_index`.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// Older entries that were read back for a lagging member: (first index, entries).
    fetched: Vec<Entry>,
    wanted: RefCell<Vec<WantedEntries>>,
}

impl LogStorage {
    pub fn new(
        state: HardState,
        conf_state: ConfState,
        first: (u64, u64),
        last_index: u64,
        terms: Vec<(u64, u64)>,
    ) -> Self {
        LogStorage {
            state,
            conf_state,
            first,
            last_index,
            terms,
            snapshot: None,
            outdated: Cell::new(false),
            cache: VecDeque::new(),
            cache_bytes: 0,
            fetched: Vec::new(),
            wanted: RefCell::default(),
        }
    }

    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Entries of the durable log that are not applied yet; the term runs know them already.
    pub fn preload(&mut self, entries: Vec<Entry>) {
        self.cache_bytes = entries.iter().map(cost).sum();
        self.cache = entries.into();
    }

    /// Appends entries, replacing any suffix from the first one's index on.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(low) = entries.first().map(|e| e.index) else { return };
        assert!(low >= self.first.0 && low <= self.last_index + 1, "entries leave a gap at {low}");
        while self.cache.back().is_some_and(|e| e.index >= low) {
            if let Some(e) = self.cache.pop_back() {
                self.cache_bytes -= cost(&e);
            }
        }
        while self.terms.last().is_some_and(|(index, _)| *index >= low) {
            self.terms.pop();
        }
        self.fetched.retain(|e| e.index < low);
        for e in entries {
            if self.terms.last().is_none_or(|(_, term)| *term != e.term) {
                self.terms.push((e.index, e.term));
            }
            self.last_index = e.index;
            self.cache_bytes += cost(&e);
            self.cache.push_back(e);
        }
    }

    pub fn first(&self) -> (u64, u64) {
        self.first
    }

    pub fn snapshot_mark(&self) -> Option<&SnapshotMark> {
        self.snapshot.as_ref()
    }

    pub fn is_snapshot_outdated(&self) -> bool {
        self.outdated.get()
    }

    pub fn set_snapshot(&mut self, mark: SnapshotMark) {
        self.outdated.set(false);
        self.snapshot = Some(mark);
    }

    /// Drops the entries up to `index`, which is applied and not beyond the last one.
    pub fn trim(&mut self, index: u64) {
        if index < self.first.0 {
            return;
        }
        let run = self.terms.partition_point(|(from, _)| *from <= index);
        let term = self.terms[run - 1].1;
        // The run that `index` ends in goes as well, unless entries of it are left.
        let kept = self.terms.get(run).map_or(self.last_index + 1, |(from, _)| *from) > index + 1;
        self.terms.drain(..if kept { run - 1 } else { run });
        self.first = (index + 1, term);
        while self.cache.front().is_some_and(|e| e.index <= index) {
            self.pop_oldest();
        }
        self.fetched.retain(|e| e.index > index);
    }

    /// The log restarts empty behind an installed snapshot.
    pub fn restart(&mut self, mark: SnapshotMark) {
        self.first = (mark.index + 1, mark.term);
        self.last_index = mark.index;
        self.terms.clear();
        self.cache.clear();
        self.cache_bytes = 0;
        self.fetched.clear();
        self.snapshot = Some(mark);
    }

    fn pop_oldest(&mut self) {
        if let Some(e) = self.cache.pop_front() {
            self.cache_bytes -= cost(&e);
        }
    }

    /// Drops cached entries up to `index` (applied and durable) while more than `bytes_max` are held.
    pub fn shrink_cache(&mut self, index: u64, bytes_max: usize) {
        while self.cache_bytes > bytes_max && self.cache.front().is_some_and(|e| e.index <= index) {
            self.pop_oldest();
        }
    }

    pub fn take_wanted(&mut self) -> Vec<WantedEntries> {
        std::mem::take(self.wanted.get_mut())
    }

    /// Entries read back from the log; only the newest such range is kept.
    pub fn set_fetched(&mut self, entries: Vec<Entry>) {
        self.fetched = entries;
    }

    pub fn drop_fetched(&mut self) {
        self.fetched = Vec::new();
    }

    fn slice(&self, from: impl Iterator<Item = Entry>, bytes_max: u64) -> Vec<Entry> {
        let mut size = 0;
        let mut out = Vec::new();
        for e in from {
            size += cost(&e) as u64;
            if size > bytes_max && !out.is_empty() {
                break;
            }
            out.push(e);
        }
        out
    }
}

fn cost(e: &Entry) -> usize {
    e.data.len() + e.context.len() + 64
}

impl Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let cached_from = self.last_index + 1 - self.cache.len() as u64;
        if low >= cached_from {
            let (a, b) = ((low - cached_from) as usize, (high - cached_from) as usize);
            return Ok(self.slice(self.cache.range(a..b).cloned(), bytes_max));
        }
        if let Some(at) = self.fetched.first().map(|e| e.index)
            && low >= at
            && low < at + self.fetched.len() as u64
        {
            let a = (low - at) as usize;
            let b = ((high - at) as usize).min(self.fetched.len());
            return Ok(self.slice(self.fetched[a..b].iter().cloned(), bytes_max));
        }
        if !context.can_async() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let high = high.min(cached_from);
        self.wanted.borrow_mut().push(WantedEntries { low, high, context });
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 == self.first.0 {
            return Ok(self.first.1);
        }
        if index < self.first.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last_index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let run = self.terms.partition_point(|(from, _)| *from <= index);
        Ok(self.terms[run - 1].1)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first.0)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    fn snapshot(&self, index: u64, to: u64) -> raft::Result<Snapshot> {
        let fits =
            |mark: &&SnapshotMark| mark.index >= index && mark.configuration.member(to).is_some();
        let Some(mark) = self.snapshot.as_ref().filter(fits) else {
            // A member refuses a snapshot from before it was added: a newer one is needed.
            self.outdated.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        Ok(mark.to_raft())
    }
}

/// Bytes to read for one wanted range.
pub(crate) const FETCH_BYTES: usize = FETCH_BYTES_MAX as usize;
