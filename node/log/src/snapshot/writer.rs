//! Writing a snapshot.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use super::files::{Claim, Files, io_error};
use super::format::Encoder;
use super::{SnapshotError, SnapshotId, SnapshotInfo, fits};
use crate::failpoints;
use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_SYNC_BYTES};

/// Bytes for one call of the operating system.
const BUFFER_BYTES: usize = 256 << 10;

/// A snapshot being written. If it is dropped unfinished, its file is removed.
pub struct SnapshotWriter {
    id: SnapshotId,
    /// Empty once finished.
    encoder: Option<Encoder<BufWriter<Paced>>>,
    claim: Claim,
}

impl SnapshotWriter {
    pub(super) fn create(
        files: Arc<Files>,
        id: SnapshotId,
        configuration: &[u8],
    ) -> Result<Self, SnapshotError> {
        let claim = files.claim(files.path_new(id))?;
        let encoder = File::create(&claim.path)
            .map(|file| BufWriter::with_capacity(BUFFER_BYTES, Paced::new(file)))
            .and_then(|output| Encoder::new(output, id, configuration))
            .map_err(|source| io_error(&claim.path, source))?;
        Ok(Self { id, encoder: Some(encoder), claim })
    }

    /// The next chunk of the state, of any content and at most `SNAPSHOT_CHUNK_BYTES_MAX` bytes;
    /// an empty one leaves no trace.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        fits("chunk of a snapshot", chunk.len(), SNAPSHOT_CHUNK_BYTES_MAX)?;
        if chunk.is_empty() {
            return Ok(());
        }
        let encoder = self.encoder.as_mut().expect("only finish takes it");
        encoder.push(chunk).map_err(|source| io_error(&self.claim.path, source))
    }

    /// Makes the snapshot durable under its name. An older file of the same name is replaced.
    pub fn finish(mut self) -> Result<SnapshotInfo, SnapshotError> {
        let encoder = self.encoder.take().expect("only finish takes it");
        let length = finish(encoder).map_err(|source| io_error(&self.claim.path, source))?;
        self.claim.publish(self.id)?;
        Ok(SnapshotInfo { id: self.id, bytes: length })
    }
}

fn finish(encoder: Encoder<BufWriter<Paced>>) -> io::Result<u64> {
    let (output, sum) = encoder.finish()?;
    output.into_inner().map_err(io::IntoInnerError::into_error)?.sync()?;
    Ok(sum.length)
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // Not there after a rename; otherwise the next opening would remove it.
        let _ = fs::remove_file(&self.claim.path);
    }
}

/// A file that is synced every now and then.
#[derive(Debug)]
pub struct Paced {
    file: File,
    unsynced: u64,
}

impl Paced {
    pub fn new(file: File) -> Self {
        Self { file, unsynced: 0 }
    }

    pub fn sync(&mut self) -> io::Result<()> {
        failpoints::pass(failpoints::SNAPSHOT_SYNC)?;
        self.unsynced = 0;
        self.file.sync_data()
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        failpoints::pass(failpoints::SNAPSHOT_WRITE)?;
        let written = self.file.write(bytes)?;
        self.unsynced += written as u64;
        if self.unsynced >= SNAPSHOT_SYNC_BYTES {
            self.sync()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
