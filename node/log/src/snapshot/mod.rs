//! Snapshot files: the state of a group as of an index, in `snapshots/` of the data directory.
//!
//! A file is written beside its name, synced and then renamed, so what has the name of a
//! snapshot is whole:
//!
//! ```text
//! 7-1200-3.snapshot              group 7 as of index 1200, term 3
//! 7-1200-3.new                   being written
//! 7-1200-3-52114-0a1b2c3d.part   being received: 52,114 bytes with that checksum
//! ```
//! The last two kinds are of the process that made them; opening the directory removes them.

mod error;
mod files;
pub(crate) mod format;
mod reader;
mod transfer;
mod writer;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

pub use error::SnapshotError;
pub use files::DIRECTORY;
use files::{Files, Kind};
pub use reader::SnapshotReader;
pub use transfer::{Incoming, RawSnapshot};
pub use writer::SnapshotWriter;

use crate::directory::Lock;
use crate::limits;

/// The group and the last entry that a snapshot contains: Raft index and term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    pub group: u32,
    pub index: u64,
    pub term: u64,
}

/// A complete snapshot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    pub id: SnapshotId,
    /// Length of the file.
    pub bytes: u64,
}

/// The snapshots of a data directory. Cheap to clone and to send; used beside the writer.
///
/// The directory stays locked as long as one of these or what they opened is there.
#[derive(Clone, Debug)]
pub struct Snapshots {
    files: Arc<Files>,
}

impl Snapshots {
    /// Removes what earlier processes left unfinished.
    pub(crate) fn of_directory(data: &Path, lock: Arc<Lock>) -> Result<Self, SnapshotError> {
        let files = Files::new(data, lock);
        files.remove_where(|file| !matches!(file.kind, Kind::Complete(_)))?;
        Ok(Self { files: Arc::new(files) })
    }

    /// All complete snapshots, ordered by group and index; header and end are verified.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>, SnapshotError> {
        let mut found = Vec::new();
        for file in self.files.list()? {
            let Kind::Complete(id) = file.kind else { continue };
            match self.open_raw(id) {
                Ok(raw) => found.push(SnapshotInfo { id, bytes: raw.length() }),
                // Removed since it was listed.
                Err(SnapshotError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|info| info.id);
        Ok(found)
    }

    /// Begins a snapshot; it is there once [`SnapshotWriter::finish`] returned.
    pub fn create(
        &self,
        id: SnapshotId,
        configuration: &[u8],
    ) -> Result<SnapshotWriter, SnapshotError> {
        let max = limits::SNAPSHOT_CONFIGURATION_BYTES_MAX;
        fits("configuration of a snapshot", configuration.len(), max)?;
        SnapshotWriter::create(self.files.clone(), id, configuration)
    }

    /// Opens a snapshot to restore from it.
    pub fn open(&self, id: SnapshotId) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(self.files.open_complete(id)?, self.files.path(id), id)
    }

    /// Opens a snapshot to send it.
    pub fn open_raw(&self, id: SnapshotId) -> Result<RawSnapshot, SnapshotError> {
        let file = self.files.open_complete(id)?;
        RawSnapshot::open(file, self.files.path(id), id)
    }

    /// Receives a snapshot, of which the sender states length and checksum. What arrived of the
    /// same one before, in this process, is still there: go on from [`Incoming::offset`]. Other
    /// unfinished ones of the group are given up.
    pub fn receive(
        &self,
        id: SnapshotId,
        length: u64,
        crc: u32,
    ) -> Result<Incoming, SnapshotError> {
        Incoming::open(self.files.clone(), id, format::Sum { length, crc })
    }

    /// Removes a snapshot, durably; nothing happens if there is none.
    pub fn remove(&self, id: SnapshotId) -> Result<(), SnapshotError> {
        self.files.remove_where(|file| file.kind == Kind::Complete(id))
    }

    /// Removes all snapshots of the group but the one of this index and term, durably. One that
    /// is being received stays if it is newer.
    pub fn keep_only(&self, group: u32, keep: Option<(u64, u64)>) -> Result<(), SnapshotError> {
        let kept = keep.map(|(index, term)| SnapshotId { group, index, term });
        self.files.remove_where(|file| match file.kind {
            Kind::Complete(id) => id.group == group && Some(id) != kept,
            Kind::Incoming(id) => {
                id.group == group && kept.is_none_or(|kept| id.index <= kept.index)
            }
            Kind::New(_) => false,
        })
    }

    /// Removes the complete snapshots of the group from before `index`, durably; returns their
    /// indexes.
    pub fn remove_before(&self, group: u32, index: u64) -> Result<Vec<u64>, SnapshotError> {
        let old = |kind: &Kind| match kind {
            Kind::Complete(id) => (id.group == group && id.index < index).then_some(id.index),
            Kind::Incoming(_) | Kind::New(_) => None,
        };
        let found = self.files.list()?.iter().filter_map(|file| old(&file.kind)).collect();
        self.files.remove_where(|file| old(&file.kind).is_some())?;
        Ok(found)
    }

    /// Removes everything of groups that are not among `groups`, durably, and what nobody is
    /// writing any more.
    pub fn sweep(&self, groups: &BTreeSet<u32>) -> Result<(), SnapshotError> {
        let files = &self.files;
        files.remove_where(|file| {
            let gone = !groups.contains(&file.kind.id().group);
            gone || matches!(file.kind, Kind::New(_)) && !files.is_claimed(&file.path)
        })
    }
}

fn fits(what: &'static str, bytes: usize, max: usize) -> Result<(), SnapshotError> {
    if bytes > max {
        return Err(SnapshotError::TooLarge { what, bytes: bytes as u64, max: max as u64 });
    }
    Ok(())
}
