use std::path::Path;
use std::time::Duration;

use crate::{Entry, FreshIdentity, LogError, OpenError, Recovered, Round, Written};

/// How a directory is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub sync: Sync,
    /// The tail beacon is at most this much behind.
    pub beacon_period: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync: Sync::Always, beacon_period: Duration::from_secs(1) }
    }
}

/// When a write is durable. There is one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Always,
}

pub struct Log {}

#[derive(Clone)]
pub struct Reader {}

impl Log {
    pub fn open(
        _dir: &Path,
        _options: Options,
        _fresh: FreshIdentity,
    ) -> Result<(Log, Recovered), OpenError> {
        unimplemented!()
    }
    pub fn append(&mut self, _rounds: &[Round]) -> Result<Written, LogError> {
        unimplemented!()
    }
    pub fn put_meta(&mut self, _key: &str, _value: &[u8]) -> Result<(), LogError> {
        unimplemented!()
    }
    /// Names the cluster in the directory's identity; a second, different name is refused.
    pub fn set_cluster(&mut self, _cluster_id: &str) -> Result<(), LogError> {
        unimplemented!()
    }
    /// To be called while the writer is idle: brings the tail beacon up to date.
    pub fn rest(&mut self) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn reader(&self) -> Reader {
        unimplemented!()
    }
    pub fn close(self) -> Result<(), LogError> {
        unimplemented!()
    }
}

impl Reader {
    /// Entries with `low <= index < high`, at least one, then as many as fit `bytes_max`.
    pub fn read(
        &self,
        _group: u32,
        _low: u64,
        _high: u64,
        _bytes_max: usize,
    ) -> Result<Vec<Entry>, LogError> {
        unimplemented!()
    }
}
