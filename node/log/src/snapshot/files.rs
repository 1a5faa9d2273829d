//! The directory of the snapshots: names, and who is writing which file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::format::Sum;
use super::{SnapshotError, SnapshotId};
use crate::directory::Lock;
use crate::failpoints;
use crate::identity::sync_directory;

/// Inside the data directory.
pub const DIRECTORY: &str = "snapshots";

#[derive(Debug)]
pub struct Files {
    data: PathBuf,
    directory: PathBuf,
    /// Files being written.
    claimed: Mutex<BTreeSet<PathBuf>>,
    _lock: Arc<Lock>,
}

/// One of our files.
pub struct Found {
    pub kind: Kind,
    pub path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Complete(SnapshotId),
    New(SnapshotId),
    Incoming(SnapshotId),
}

/// A file that nobody else writes while this is there.
#[derive(Debug)]
pub struct Claim {
    pub files: Arc<Files>,
    pub path: PathBuf,
}

impl Files {
    pub fn new(data: &Path, lock: Arc<Lock>) -> Self {
        Self {
            data: data.to_path_buf(),
            directory: data.join(DIRECTORY),
            claimed: Mutex::default(),
            _lock: lock,
        }
    }

    pub fn path(&self, id: SnapshotId) -> PathBuf {
        self.directory.join(format!("{}.snapshot", stem(id)))
    }

    pub fn path_new(&self, id: SnapshotId) -> PathBuf {
        self.directory.join(format!("{}.new", stem(id)))
    }

    pub fn path_incoming(&self, id: SnapshotId, sum: Sum) -> PathBuf {
        self.directory.join(format!("{}-{}-{:08x}.part", stem(id), sum.length, sum.crc))
    }

    /// Files of ours; others are left alone.
    pub fn list(&self) -> Result<Vec<Found>, SnapshotError> {
        let failed = |source| io_error(&self.directory, source);
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Some(kind) = entry.file_name().to_str().and_then(kind_of) {
                found.push(Found { kind, path: entry.path() });
            }
        }
        Ok(found)
    }

    /// The names are durably gone when this returns: a group that comes again under the same
    /// number must not find them.
    pub fn remove_where(&self, wanted: impl Fn(&Found) -> bool) -> Result<(), SnapshotError> {
        let mut removed = false;
        for found in self.list()?.into_iter().filter(wanted) {
            match fs::remove_file(&found.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(io_error(&found.path, source)),
                Ok(()) => removed = true,
            }
        }
        if removed { self.sync() } else { Ok(()) }
    }

    pub fn open_complete(&self, id: SnapshotId) -> Result<File, SnapshotError> {
        let file = self.path(id);
        File::open(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SnapshotError::Missing { file },
            _ => io_error(&file, source),
        })
    }

    /// The right to write a file; makes the directory if there is none.
    pub fn claim(self: &Arc<Self>, path: PathBuf) -> Result<Claim, SnapshotError> {
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory(&self.data),
        }
        .map_err(|source| io_error(&self.directory, source))?;
        if !self.claimed().insert(path.clone()) {
            return Err(SnapshotError::Busy { file: path });
        }
        Ok(Claim { files: self.clone(), path })
    }

    pub fn is_claimed(&self, path: &Path) -> bool {
        self.claimed().contains(path)
    }

    fn claimed(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.claimed.lock().expect("no code panics with this lock held")
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        sync_directory(&self.directory).map_err(|source| io_error(&self.directory, source))
    }
}

impl Kind {
    pub fn id(&self) -> SnapshotId {
        match *self {
            Self::Complete(id) | Self::New(id) | Self::Incoming(id) => id,
        }
    }
}

impl Claim {
    /// Gives the file, which is synced, the name of a complete snapshot, and syncs that.
    pub fn publish(&self, id: SnapshotId) -> Result<(), SnapshotError> {
        let path = self.files.path(id);
        failpoints::pass(failpoints::SNAPSHOT_RENAME)
            .and_then(|()| fs::rename(&self.path, &path))
            .and_then(|()| failpoints::pass(failpoints::SNAPSHOT_DIRECTORY))
            .map_err(|source| io_error(&path, source))
            .and_then(|()| self.files.sync())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.files.claimed().remove(&self.path);
    }
}

pub fn io_error(file: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io { file: file.to_path_buf(), source }
}

fn stem(id: SnapshotId) -> String {
    format!("{}-{}-{}", id.group, id.index, id.term)
}

fn kind_of(name: &str) -> Option<Kind> {
    let (stem, ending) = name.split_once('.')?;
    let mut fields = stem.split('-');
    let id = SnapshotId {
        group: fields.next()?.parse().ok()?,
        index: fields.next()?.parse().ok()?,
        term: fields.next()?.parse().ok()?,
    };
    match (ending, fields.count()) {
        ("snapshot", 0) => Some(Kind::Complete(id)),
        ("new", 0) => Some(Kind::New(id)),
        ("part", 2) => Some(Kind::Incoming(id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_ours_or_left_alone() {
        let id = SnapshotId { group: 7, index: 12, term: 3 };
        assert_eq!(kind_of("7-12-3.snapshot"), Some(Kind::Complete(id)));
        assert_eq!(kind_of("7-12-3.new"), Some(Kind::New(id)));
        assert_eq!(kind_of("7-12-3-99-0a1b2c3d.part"), Some(Kind::Incoming(id)));
        for other in
            ["", "7-12.snapshot", "7-12-3", "7-12-3-4.snapshot", "x-12-3.new", "7-12-3.part"]
        {
            assert_eq!(kind_of(other), None, "{other}");
        }
    }
}
