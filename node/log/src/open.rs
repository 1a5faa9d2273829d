//! Opening: verify whose directory it is, read every round, believe nothing that does not fit.

use std::path::Path;

use bytes::Bytes;

use crate::beacon::{self, Beacon, BeaconError};
use crate::catalog::Catalog;
use crate::directory::{self, Lock, ROUND_FIRST, Step};
use crate::error::OpenError;
use crate::identity;
use crate::ledger::{Kind, Ledger};
use crate::log::Options;
use crate::meta;
use crate::points::Points;
use crate::record::{self, Record};
use crate::round::{FreshIdentity, Identity, Recovered};
use crate::store::{self, Mode, Store, Use};

/// A verified directory.
pub struct Opened {
    pub store: Store,
    pub lock: Lock,
    pub beacon: Beacon,
    pub catalog: Catalog,
    pub points: Points,
    pub ledger: Ledger,
    pub identity: Identity,
    /// The number of the first round that is kept.
    pub first: u64,
    /// The number of the last round; 0 when there is none.
    pub last: u64,
}

pub fn open(
    dir: &Path,
    options: Options,
    fresh: FreshIdentity,
) -> Result<(Opened, Recovered), OpenError> {
    let lock = directory::lock(dir)?;
    let step = directory::inspect(dir)?;
    if step == Step::Create {
        directory::create(dir, fresh)?;
    }
    let file = identity::read(dir)?;
    let store = Store::open(dir, Mode::Existing, options.memtable_bytes)?;
    let facts = meta::load(&store, dir)?;
    let identity = same_identity(dir, file, facts.own.get(meta::IDENTITY))?;
    let mut beacon = open_beacon(dir, identity.incarnation)?;
    let first = first_round(dir, facts.own.get(meta::FIRST_ROUND))?;
    let scan = Scan::read(dir, &store, first, Ledger::new(options.checkpoint_bytes))?;
    if scan.last < beacon.round() {
        let file = dir.join(store::DIRECTORY);
        return Err(OpenError::Shortened { file, beacon: beacon.round(), last: scan.last });
    }
    // The engine wrote all rounds that it found into synced tables when it opened.
    beacon.write(scan.last).map_err(|source| directory_error(dir, source))?;
    directory::finish(dir)?;
    let recovered = Recovered {
        created: step == Step::Create,
        identity: identity.clone(),
        groups: scan.catalog.groups().clone(),
        peers: scan.catalog.peers(),
        meta: facts.user,
    };
    let Scan { catalog, points, ledger, last, .. } = scan;
    let opened = Opened { store, lock, beacon, catalog, points, ledger, identity, first, last };
    Ok((opened, recovered))
}

/// What the rounds said, as far as they were read.
struct Scan {
    catalog: Catalog,
    points: Points,
    ledger: Ledger,
    first: u64,
    last: u64,
}

impl Scan {
    /// Reads every round from the first that is kept. What is before it is not part of the log:
    /// trimming may leave single records there.
    fn read(dir: &Path, store: &Store, first: u64, ledger: Ledger) -> Result<Self, OpenError> {
        let (catalog, points) = (Catalog::default(), Points::default());
        let mut scan = Self { catalog, points, ledger, first, last: first - 1 };
        for found in store.scan(first, u64::MAX, Use::Once) {
            let number = scan.last + 1;
            let (key, record) = found.map_err(|error| {
                meta::scan_error(error, Some(number), dir.join(store::DIRECTORY))
            })?;
            scan.add(number, &key, record).map_err(|reason| damaged(store, number, reason))?;
        }
        scan.finish().map_err(|reason| damaged(store, first, reason))?;
        Ok(scan)
    }

    fn add(&mut self, number: u64, key: &[u8], record: Bytes) -> Result<(), String> {
        if *key != number.to_be_bytes() {
            return Err(format!("missing; the next record's key is {key:x?}"));
        }
        let bytes = record.len() as u64;
        let starts = number == self.first && number > ROUND_FIRST;
        let kind = match record::decode(number, record)? {
            Record::Checkpoint(checkpoint) if starts => {
                self.points = Points::of_groups(number, &checkpoint.groups);
                self.catalog = Catalog::of_checkpoint(checkpoint);
                Kind::Checkpoint
            }
            Record::Checkpoint(checkpoint) if self.catalog.agrees_with(&checkpoint) => {
                self.points.note(number, &[]);
                Kind::Checkpoint
            }
            Record::Checkpoint(_) => {
                return Err("the checkpoint differs from the rounds before it".into());
            }
            Record::Round(_) if starts => return Err("the log starts without a checkpoint".into()),
            Record::Round(round) => {
                let changes = self.catalog.apply(&round);
                let changes =
                    changes.map_err(|broken| format!("group {}: {}", broken.group, broken.rule))?;
                self.points.note(number, &changes);
                Kind::Round
            }
        };
        self.ledger.note(number, bytes, kind);
        self.last = number;
        Ok(())
    }

    fn finish(&self) -> Result<(), String> {
        if self.first > ROUND_FIRST && self.last < self.first {
            return Err("the checkpoint at which the log starts is missing".into());
        }
        match self.points.uncovered() {
            Some(group) => Err(format!("group {group}: its oldest entries are missing")),
            None => Ok(()),
        }
    }
}

fn damaged(store: &Store, number: u64, reason: String) -> OpenError {
    OpenError::Corrupt { round: Some(number), file: store.file_of(number), reason }
}

/// The file and the database must name the same directory. Only the cluster's name may be
/// missing in the file: it is written there last.
fn same_identity(
    dir: &Path,
    file: Identity,
    stored: Option<&Bytes>,
) -> Result<Identity, OpenError> {
    let path = dir.join(identity::FILE);
    let mismatch = |reason: String| OpenError::Identity {
        file: path.clone(),
        reason,
        remedy: "the file and the database come from different directories: put back the one \
                 that belongs here, or remove the member and let a new node take its place",
    };
    let text = stored.and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or_else(|| mismatch("the database has no identity".into()))?;
    let stored = identity::decode(text, &dir.join(store::DIRECTORY))?;
    if (file.node_id, file.incarnation) != (stored.node_id, stored.incarnation) {
        return Err(mismatch(format!(
            "names node {} incarnation {}, but the database belongs to node {} incarnation {}",
            file.node_id, file.incarnation, stored.node_id, stored.incarnation
        )));
    }
    if file.cluster_id == stored.cluster_id {
        return Ok(stored);
    }
    if !file.cluster_id.is_empty() {
        return Err(mismatch(format!(
            "names cluster {:?}, but the database belongs to cluster {:?}",
            file.cluster_id, stored.cluster_id
        )));
    }
    identity::write(dir, &stored).map_err(|source| directory_error(dir, source))?;
    Ok(stored)
}

fn open_beacon(dir: &Path, incarnation: u64) -> Result<Beacon, OpenError> {
    let file = dir.join(beacon::FILE);
    Beacon::open(dir, incarnation).map_err(|error| match error {
        BeaconError::Io(source) => OpenError::Directory { path: file, source },
        BeaconError::Damaged => OpenError::Corrupt {
            round: None,
            file,
            reason: "neither of its two copies is intact".into(),
        },
        BeaconError::Foreign => OpenError::Identity {
            file,
            reason: "belongs to another incarnation".into(),
            remedy: "put back the one that belongs here, or remove the member and let a new node \
                     take its place",
        },
    })
}

fn first_round(dir: &Path, stored: Option<&Bytes>) -> Result<u64, OpenError> {
    let bytes = stored.and_then(|bytes| <[u8; 8]>::try_from(&bytes[..]).ok());
    let first = bytes.map(u64::from_le_bytes).filter(|first| *first > 0);
    first.ok_or_else(|| OpenError::Corrupt {
        round: None,
        file: dir.join(store::DIRECTORY),
        reason: "the number of the first round is missing".into(),
    })
}

fn directory_error(dir: &Path, source: std::io::Error) -> OpenError {
    OpenError::Directory { path: dir.to_path_buf(), source }
}
