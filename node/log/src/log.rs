//! The writer's side of an open log.

mod gather;
mod trim;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::beacon::Beacon;
use crate::catalog::{Broken, Catalog, Change};
use crate::directory::Lock;
use crate::error::{LogError, OpenError};
use crate::failpoints;
use crate::identity;
use crate::ledger::{Kind, Ledger};
use crate::limits;
use crate::meta;
use crate::open;
use crate::points::Points;
use crate::reader::Reader;
use crate::record;
use crate::round::{FreshIdentity, Identity, Recovered, Round, Written};
use crate::snapshot::{self, Snapshots};
use crate::space::{self, Space};
use crate::store::{self, Batch, Store};

pub use trim::{Copied, OldFiles, Trimming};

/// How a directory is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub sync: Sync,
    /// The tail beacon is at most this much behind while rounds are written.
    pub beacon_period: Duration,
    /// The engine's buffer; tests take a small one to see it fill.
    pub memtable_bytes: usize,
    /// Log between two checkpoints, which are where it can be trimmed.
    pub checkpoint_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: Sync::Always,
            beacon_period: Duration::from_secs(1),
            memtable_bytes: limits::MEMTABLE_BYTES,
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
        }
    }
}

/// When a write is durable. There is one answer, and no setting that changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Always,
}

/// The one writer of a data directory.
///
/// After any failed write or sync it is *poisoned*: what is on disk is unknown then, so nothing
/// more is accepted and the node must stop.
pub struct Log {
    shared: Arc<Shared>,
    snapshots: Snapshots,
    dir: PathBuf,
    options: Options,
    identity: Identity,
    catalog: Catalog,
    beacon: Beacon,
    beacon_at: Instant,
    ledger: Ledger,
    /// The number of the first round that is kept.
    first: u64,
    /// The number of the last durable round; 0 when there is none.
    last: u64,
    state: State,
}

/// What readers need; the directory stays locked as long as one of them lives.
pub(crate) struct Shared {
    pub store: Store,
    pub points: Mutex<Points>,
    _lock: Arc<Lock>,
}

/// A record on its way to the disk.
struct Staged {
    changes: Vec<Change>,
    bytes: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    Poisoned,
}

impl Log {
    /// Opens a directory, or makes one with the `fresh` identity if there is none.
    ///
    /// Everything in the log is read and verified; a directory that is damaged, shortened, of
    /// another owner or in use is refused.
    pub fn open(
        dir: &Path,
        options: Options,
        fresh: FreshIdentity,
    ) -> Result<(Self, Recovered), OpenError> {
        let Sync::Always = options.sync;
        let (opened, recovered) = open::open(dir, options, fresh)?;
        let lock = Arc::new(opened.lock);
        let snapshots = Snapshots::of_directory(dir, lock.clone())?;
        let shared = Shared { store: opened.store, points: Mutex::new(opened.points), _lock: lock };
        let log = Self {
            shared: Arc::new(shared),
            snapshots,
            dir: dir.to_path_buf(),
            options,
            identity: opened.identity,
            catalog: opened.catalog,
            beacon: opened.beacon,
            beacon_at: Instant::now(),
            ledger: opened.ledger,
            first: opened.first,
            last: opened.last,
            state: State::Sound,
        };
        Ok((log, recovered))
    }

    /// Writes the rounds, one record each, with one sync. They are durable when this returns
    /// without an error; after an error the log is poisoned and what is on disk is unknown.
    /// Empty rounds leave no record; now and then a checkpoint is one more.
    pub fn append(&mut self, rounds: &[Round]) -> Result<Written, LogError> {
        self.check_sound()?;
        let written = self.append_sound(rounds);
        self.poison_on_error(written)
    }

    /// Stores a small fact of the node under its key, durable when this returns.
    pub fn put_meta(&mut self, key: &str, value: &[u8]) -> Result<(), LogError> {
        self.check_sound()?;
        fits("key of a small fact", key.len(), limits::META_KEY_BYTES_MAX)?;
        fits("value of a small fact", value.len(), limits::META_VALUE_BYTES_MAX)?;
        let put = meta::put_user(&self.shared.store, key, value)
            .map_err(|source| LogError::WriteMeta { key: key.into(), source });
        self.poison_on_error(put)
    }

    /// Names the cluster in the directory's identity; a second, different name is refused.
    pub fn set_cluster(&mut self, cluster_id: &str) -> Result<(), LogError> {
        self.check_sound()?;
        fits("cluster id", cluster_id.len(), limits::CLUSTER_ID_BYTES_MAX)?;
        if self.identity.cluster_id == cluster_id {
            return Ok(());
        }
        if !self.identity.cluster_id.is_empty() || !identity::is_plain(cluster_id) {
            let stored = self.identity.cluster_id.clone();
            return Err(LogError::Cluster { stored, wanted: cluster_id.into() });
        }
        let named = Identity { cluster_id: cluster_id.into(), ..self.identity.clone() };
        // The file last: a database without the name is the only half that opening refuses.
        let text = identity::encode(&named);
        let put = meta::put(&self.shared.store, meta::IDENTITY, text.as_bytes())
            .and_then(|()| failpoints::pass(failpoints::CLUSTER_DATABASE))
            .and_then(|()| identity::write(&self.dir, &named))
            .map_err(|source| LogError::WriteMeta { key: meta::IDENTITY.into(), source });
        self.poison_on_error(put)?;
        self.identity = named;
        Ok(())
    }

    /// Brings the tail beacon up to date. To be called when the writer had nothing to do for a
    /// beacon period; costs nothing when the beacon is up to date.
    pub fn rest(&mut self) -> Result<(), LogError> {
        self.check_sound()?;
        let written = self.write_beacon();
        self.poison_on_error(written)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The number of the last durable round; 0 when there is none.
    pub fn last_round(&self) -> u64 {
        self.last
    }

    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Bytes on the disk of the database and the snapshots: a look at some tens of files.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        let snapshots = match space::taken(&self.dir.join(snapshot::DIRECTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            taken => taken?,
        };
        Ok(space::taken(&self.dir.join(store::DIRECTORY))? + snapshots)
    }

    /// The directory's volume.
    pub fn space(&self) -> io::Result<Space> {
        space::of(&self.dir)
    }

    /// Leaves a directory that opens quickly and whose beacon names the last round.
    pub fn close(mut self) -> Result<(), LogError> {
        self.check_sound()?;
        self.shared.store.flush().map_err(|source| LogError::Close { source })?;
        self.write_beacon()?;
        self.beacon.sync().map_err(|source| LogError::Close { source })
    }

    fn append_sound(&mut self, rounds: &[Round]) -> Result<Written, LogError> {
        let mut batch = Batch::default();
        let mut staged = Vec::with_capacity(rounds.len() + 1);
        for round in rounds.iter().filter(|round| !is_empty(round)) {
            let number = self.last + staged.len() as u64 + 1;
            staged.push(self.stage(&mut batch, number, round)?);
        }
        if staged.is_empty() {
            return Ok(Written::default());
        }
        if self.ledger.is_due(staged.iter().map(|staged| staged.bytes).sum()) {
            let number = self.last + staged.len() as u64 + 1;
            staged.push(self.stage_checkpoint(&mut batch, number));
        }
        let written = Written { bytes: batch.bytes(), records: staged.len() as u64 };
        failpoints::pass(failpoints::APPEND_BEFORE_WRITE)
            .and_then(|()| self.shared.store.write(batch))
            .and_then(|()| failpoints::pass(failpoints::APPEND_AFTER_WRITE))
            .map_err(|source| LogError::Write { round: self.last + 1, source })?;
        self.note(&staged);
        if self.beacon_at.elapsed() >= self.options.beacon_period {
            self.write_beacon()?;
        }
        Ok(written)
    }

    fn stage(&mut self, batch: &mut Batch, number: u64, round: &Round) -> Result<Staged, LogError> {
        fits("record of a round", record::size_hint(round), limits::RECORD_BYTES_MAX)?;
        let changes = self
            .catalog
            .apply(round)
            .map_err(|Broken { group, rule }| LogError::Invalid { group, reason: rule })?;
        let record = record::encode(number, round);
        self.shared.store.put(batch, number, &record);
        Ok(Staged { changes, bytes: record.len() as u64, kind: Kind::Round })
    }

    fn stage_checkpoint(&self, batch: &mut Batch, number: u64) -> Staged {
        let record = self.catalog.encode(number);
        self.shared.store.put(batch, number, &record);
        Staged { changes: Vec::new(), bytes: record.len() as u64, kind: Kind::Checkpoint }
    }

    fn note(&mut self, staged: &[Staged]) {
        let mut points = self.shared.points.lock().expect("no code panics with this lock held");
        for staged in staged {
            self.last += 1;
            points.note(self.last, &staged.changes);
            self.ledger.note(self.last, staged.bytes, staged.kind);
        }
    }

    fn write_beacon(&mut self) -> Result<(), LogError> {
        self.beacon_at = Instant::now();
        if self.beacon.round() == self.last {
            return Ok(());
        }
        let round = self.last;
        self.beacon.write(round).map_err(|source| LogError::Write { round, source })
    }

    fn check_sound(&self) -> Result<(), LogError> {
        match self.state {
            State::Sound => Ok(()),
            State::Poisoned => Err(LogError::Poisoned),
        }
    }

    fn poison_on_error<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if result.is_err() {
            self.state = State::Poisoned;
        }
        result
    }
}

fn is_empty(round: &Round) -> bool {
    round.groups.is_empty() && round.peers.is_empty()
}

fn fits(what: &'static str, bytes: usize, max: usize) -> Result<(), LogError> {
    if bytes > max {
        return Err(LogError::TooLarge { what, bytes: bytes as u64, max: max as u64 });
    }
    Ok(())
}
