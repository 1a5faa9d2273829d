//! Sending and receiving a snapshot as the bytes of its file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::files::{Claim, Files, Kind, io_error};
use super::format::{self, END_BYTES, Sum};
use super::reader::{SnapshotReader, header_of};
use super::writer::Paced;
use super::{SnapshotError, SnapshotId, SnapshotInfo};

/// A snapshot to be sent. It stays readable when its file is removed meanwhile.
///
/// Its header and its end were verified, not what is between: the receiver verifies everything.
#[derive(Debug)]
pub struct RawSnapshot {
    file: File,
    path: PathBuf,
    sum: Sum,
}

impl RawSnapshot {
    pub(super) fn open(file: File, path: PathBuf, id: SnapshotId) -> Result<Self, SnapshotError> {
        header_of(&file, &path, id)?;
        let failed = |source| io_error(&path, source);
        let length = file.metadata().map_err(failed)?.len();
        let mut end = [0; END_BYTES];
        file.read_exact_at(&mut end, length.saturating_sub(END_BYTES as u64)).map_err(failed)?;
        match format::decode_end(&end).filter(|sum| sum.length == length) {
            Some(sum) => Ok(Self { file, path, sum }),
            None => {
                let reason = "its end is missing".into();
                Err(SnapshotError::Damaged { file: path, reason })
            }
        }
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.sum.length
    }

    /// Checksum of the whole file, by which a broken transfer is known again.
    pub fn crc(&self) -> u32 {
        self.sum.crc
    }

    /// At most `max` bytes from `offset` on; none at the end. Blocks on the disk.
    pub fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, SnapshotError> {
        let left = self.sum.length.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(max).min(max)];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Bytes::from(bytes)),
            Err(source) => Err(io_error(&self.path, source)),
        }
    }
}

/// A snapshot being received. If it is dropped, what arrived stays for the same transfer to go
/// on, until the directory is opened anew.
#[derive(Debug)]
pub struct Incoming {
    id: SnapshotId,
    expected: Sum,
    output: Paced,
    offset: u64,
    claim: Claim,
}

impl Incoming {
    pub(super) fn open(
        files: Arc<Files>,
        id: SnapshotId,
        expected: Sum,
    ) -> Result<Self, SnapshotError> {
        let claim = files.claim(files.path_incoming(id, expected))?;
        files.remove_where(|file| {
            matches!(file.kind, Kind::Incoming(other) if other.group == id.group)
                && file.path != claim.path
                && !files.is_claimed(&file.path)
        })?;
        let (file, offset) =
            open_append(&claim.path).map_err(|source| io_error(&claim.path, source))?;
        Ok(Self { id, expected, output: Paced::new(file), offset, claim })
    }

    /// How much of the file is there: where the sender is to go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes of the file; `offset` must be [`Incoming::offset`]. Blocks on the disk.
    /// After a failed write the transfer must begin again.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.offset {
            let file = self.claim.path.clone();
            return Err(SnapshotError::OutOfOrder { file, offset, have: self.offset });
        }
        if bytes.len() as u64 > self.expected.length.saturating_sub(offset) {
            return Err(self.refuse("it is longer than was stated".into()));
        }
        match self.output.write_all(bytes) {
            Ok(()) => self.offset += bytes.len() as u64,
            Err(source) => {
                // What is in the file now is unknown, so nothing may be added to it.
                self.discard();
                return Err(io_error(&self.claim.path, source));
            }
        }
        Ok(())
    }

    /// Verifies everything and makes the snapshot durable under its name. What is damaged is
    /// deleted.
    pub fn finish(mut self) -> Result<SnapshotInfo, SnapshotError> {
        let Sum { length, .. } = self.expected;
        if self.offset < length {
            let file = self.claim.path.clone();
            return Err(SnapshotError::Incomplete { file, have: self.offset, length });
        }
        match self.verify() {
            Ok(()) => {}
            Err(SnapshotError::Damaged { reason, .. }) => return Err(self.refuse(reason)),
            Err(error) => return Err(error),
        }
        if let Err(source) = self.output.sync() {
            self.discard();
            return Err(io_error(&self.claim.path, source));
        }
        self.claim.publish(self.id)?;
        Ok(SnapshotInfo { id: self.id, bytes: length })
    }

    fn verify(&self) -> Result<(), SnapshotError> {
        let path = &self.claim.path;
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        let mut reader = SnapshotReader::open(file, path.clone(), self.id)?;
        for chunk in &mut reader {
            chunk?;
        }
        if reader.whole() != self.expected {
            let reason = "another file than was stated".into();
            return Err(SnapshotError::Damaged { file: path.clone(), reason });
        }
        Ok(())
    }

    fn refuse(&mut self, reason: String) -> SnapshotError {
        self.discard();
        SnapshotError::Refused { file: self.claim.path.clone(), reason }
    }

    /// Nothing more can be added, since the offset is past every length.
    fn discard(&mut self) {
        self.offset = u64::MAX;
        // If it cannot be removed it is refused again, or removed by the next opening.
        let _ = fs::remove_file(&self.claim.path);
    }
}

/// The file, and how much is in it.
fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}
