//! Opening: verify whose directory it is, read every round, believe nothing that does not fit.

use std::path::Path;

use bytes::Bytes;

use crate::beacon::{self, Beacon, BeaconError};
use crate::catalog::Catalog;
use crate::directory::{self, Lock, Step};
use crate::error::OpenError;
use crate::identity;
use crate::meta;
use crate::points::Points;
use crate::record;
use crate::round::{FreshIdentity, Identity, Recovered};
use crate::store::{self, Mode, Store, Use};

/// A verified directory.
pub struct Opened {
    pub store: Store,
    pub lock: Lock,
    pub beacon: Beacon,
    pub catalog: Catalog,
    pub points: Points,
    pub identity: Identity,
    /// The number of the last round; 0 when there is none.
    pub last: u64,
}

pub fn open(dir: &Path, fresh: FreshIdentity) -> Result<(Opened, Recovered), OpenError> {
    let lock = directory::lock(dir)?;
    let step = directory::inspect(dir)?;
    if step == Step::Create {
        directory::create(dir, fresh)?;
    }
    let file = identity::read(dir)?;
    let store = Store::open(dir, Mode::Existing)?;
    let facts = meta::load(&store, dir)?;
    let identity = same_identity(dir, file, facts.own.get(meta::IDENTITY))?;
    let mut beacon = open_beacon(dir, identity.incarnation)?;
    let first = first_round(dir, facts.own.get(meta::FIRST_ROUND))?;
    let scan = read_log(dir, &store, first)?;
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
    let Scan { catalog, points, last } = scan;
    Ok((Opened { store, lock, beacon, catalog, points, identity, last }, recovered))
}

struct Scan {
    catalog: Catalog,
    points: Points,
    last: u64,
}

fn read_log(dir: &Path, store: &Store, first: u64) -> Result<Scan, OpenError> {
    let mut scan = Scan { catalog: Catalog::default(), points: Points::default(), last: first - 1 };
    for found in store.scan(0, u64::MAX, Use::Whole) {
        let number = scan.last + 1;
        let (key, record) = found
            .map_err(|error| meta::scan_error(error, Some(number), dir.join(store::DIRECTORY)))?;
        let damaged = |reason: String| OpenError::Corrupt {
            round: Some(number),
            file: store.file_of(number),
            reason,
        };
        if *key != number.to_be_bytes() {
            return Err(damaged(format!("missing; the next record's key is {key:x}")));
        }
        let round = record::decode(number, record).map_err(|damage| damaged(damage.into()))?;
        let changes = scan
            .catalog
            .apply(&round)
            .map_err(|broken| damaged(format!("group {}: {}", broken.group, broken.rule)))?;
        scan.points.note(number, &changes);
        scan.last = number;
    }
    Ok(scan)
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
