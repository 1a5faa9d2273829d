//! The data directory: what is in it, who holds it, and how one is made.
//!
//! ```text
//! LOCK       held while open
//! IDENTITY   whose directory this is; the database keeps the same text
//! BEACON     a round known to be durable
//! db/        RocksDB
//! snapshots/ made with the first snapshot
//! CREATING   only while the directory is being made
//! ```
//! Making one may stop anywhere: while `CREATING` is there and `IDENTITY` is not, nothing was
//! ever acknowledged, and the next start begins anew. Any other half of a directory is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::beacon::{self, Beacon};
use crate::error::OpenError;
use crate::failpoints;
use crate::identity;
use crate::limits::{FORMAT, LOCK_PATIENCE, MEMTABLE_BYTES};
use crate::meta;
use crate::round::{FreshIdentity, Identity};
use crate::snapshot;
use crate::store::{self, Mode, Store};

const LOCK: &str = "LOCK";
const CREATING: &str = "CREATING";
/// What the tools that make file systems leave in them.
const IGNORED: [&str; 2] = [LOCK, "lost+found"];
/// The first round of a new log.
pub const ROUND_FIRST: u64 = 1;

/// Held as long as the directory is open.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What is to be done with a directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    Open,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    identity: bool,
    database: bool,
    beacon: bool,
    creating: bool,
    snapshots: bool,
    other: Option<String>,
}

/// Makes sure that the directory exists and that nobody else uses it.
pub fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let failed = |source| OpenError::Directory { path: dir.to_path_buf(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join(LOCK);
    let file =
        OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(failed)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            // A program that its owner just started holds it until it has become itself.
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PATIENCE / 20);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: dir.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

pub fn inspect(dir: &Path) -> Result<Step, OpenError> {
    let seen =
        look(dir).map_err(|source| OpenError::Directory { path: dir.to_path_buf(), source })?;
    decide(dir, seen)
}

fn look(dir: &Path) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for found in fs::read_dir(dir)? {
        let name = found?.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            identity::FILE => seen.identity = true,
            store::DIRECTORY => seen.database = true,
            beacon::FILE => seen.beacon = true,
            CREATING => seen.creating = true,
            snapshot::DIRECTORY => seen.snapshots = true,
            name if IGNORED.contains(&name) => {}
            _ => seen.other = Some(name),
        }
    }
    Ok(seen)
}

fn decide(dir: &Path, seen: Seen) -> Result<Step, OpenError> {
    let missing = |name: &str, reason: &str| OpenError::Identity {
        file: dir.join(name),
        reason: format!("missing, although {reason}"),
        remedy: "a part of the directory was lost: remove the member and let a new node take its \
                 place in an empty directory",
    };
    match seen {
        Seen { identity: false, creating: true, .. } => Ok(Step::Create),
        Seen { identity: true, database: true, beacon: true, .. } => Ok(Step::Open),
        Seen { identity: true, database: false, .. } => {
            Err(missing(store::DIRECTORY, "IDENTITY is there"))
        }
        Seen { identity: true, beacon: false, .. } => {
            Err(missing(beacon::FILE, "IDENTITY is there"))
        }
        Seen { beacon: true, .. } => Err(missing(identity::FILE, "BEACON is there")),
        Seen { database: true, .. } => Err(missing(identity::FILE, "a database is there")),
        Seen { snapshots: true, .. } => Err(missing(identity::FILE, "snapshots are there")),
        Seen { other: Some(found), .. } => {
            Err(OpenError::Foreign { path: dir.to_path_buf(), found })
        }
        Seen { other: None, .. } => Ok(Step::Create),
    }
}

/// Makes a new directory, durable when this returns.
pub fn create(dir: &Path, fresh: FreshIdentity) -> Result<(), OpenError> {
    assert!(fresh.node_id != 0 && fresh.incarnation != 0, "ids start at 1");
    let identity = Identity {
        node_id: fresh.node_id,
        incarnation: fresh.incarnation,
        cluster_id: String::new(),
        format: FORMAT,
    };
    let failed = |source| OpenError::Directory { path: dir.to_path_buf(), source };
    begin(dir).map_err(failed)?;
    let store = Store::open(dir, Mode::Create, MEMTABLE_BYTES)?;
    meta::put(&store, meta::IDENTITY, identity::encode(&identity).as_bytes())
        .and_then(|()| meta::put(&store, meta::FIRST_ROUND, &ROUND_FIRST.to_le_bytes()))
        .map_err(|source| OpenError::Engine { path: dir.join(store::DIRECTORY), source })?;
    drop(store);
    Beacon::create(dir, fresh.incarnation)
        .and_then(|()| failpoints::pass(failpoints::CREATE_DATABASE))
        .and_then(|()| identity::sync_directory(dir))
        .and_then(|()| identity::write(dir, &identity))
        .and_then(|()| failpoints::pass(failpoints::CREATE_IDENTITY))
        .map_err(failed)
}

/// Leaves nothing in the directory but the mark that it is being made.
fn begin(dir: &Path) -> io::Result<()> {
    File::create(dir.join(CREATING))?.sync_all()?;
    identity::sync_directory(dir)?;
    // The directory itself may be new: its name must be as durable as what it will hold.
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        identity::sync_directory(parent)?;
    }
    failpoints::pass(failpoints::CREATE_BEGUN)?;
    match fs::remove_dir_all(dir.join(store::DIRECTORY)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The end of making: from here on a missing part is a loss.
pub fn finish(dir: &Path) -> Result<(), OpenError> {
    let path: PathBuf = dir.join(CREATING);
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(()) => identity::sync_directory(dir),
    };
    removed.map_err(|source| OpenError::Directory { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(seen: Seen) -> Result<Step, String> {
        decide(Path::new("data"), seen).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_whole_directory_is_opened() {
        let whole = || Seen { identity: true, database: true, beacon: true, ..Seen::default() };
        assert_eq!(step(whole()), Ok(Step::Open));
        assert_eq!(step(Seen { creating: true, ..whole() }), Ok(Step::Open));
        assert_eq!(step(Seen { snapshots: true, ..whole() }), Ok(Step::Open));
        for (seen, file) in [
            (Seen { identity: false, ..whole() }, "IDENTITY"),
            (Seen { database: false, ..whole() }, "db"),
            (Seen { beacon: false, ..whole() }, "BEACON"),
            (Seen { database: true, ..Seen::default() }, "IDENTITY"),
            (Seen { beacon: true, ..Seen::default() }, "IDENTITY"),
            (Seen { snapshots: true, ..Seen::default() }, "IDENTITY"),
        ] {
            let error = step(seen).expect_err("a part is missing");
            assert!(error.starts_with(&format!("data/{file}: missing")), "{error}");
        }
    }

    #[test]
    fn only_an_empty_or_unfinished_directory_is_made() {
        assert_eq!(step(Seen::default()), Ok(Step::Create));
        let begun = Seen { creating: true, database: true, beacon: true, ..Seen::default() };
        assert_eq!(step(begun), Ok(Step::Create));
        let foreign = Seen { other: Some("photos".into()), ..Seen::default() };
        assert!(step(foreign).expect_err("foreign").contains("found photos"));
    }
}
