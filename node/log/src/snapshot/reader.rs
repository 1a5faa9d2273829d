//! Reading a snapshot, verified on the way.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::files::io_error;
use super::format::{self, Decoder, Fault, Sum};
use super::{SnapshotError, SnapshotId};

/// Bytes for one call of the operating system.
const BUFFER_BYTES: usize = 256 << 10;

/// The chunks of a snapshot, each verified. They are all there, and the whole file is intact,
/// only when the iterator ended without an error: until then nothing may be used.
#[derive(Debug)]
pub struct SnapshotReader {
    decoder: Decoder<BufReader<File>>,
    id: SnapshotId,
    configuration: Bytes,
    path: PathBuf,
    ended: bool,
}

impl SnapshotReader {
    /// `expected` is what the file's name says.
    pub(super) fn open(
        file: File,
        path: PathBuf,
        expected: SnapshotId,
    ) -> Result<Self, SnapshotError> {
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        let (decoder, header) = header_of(input, &path, expected)?;
        let format::Header { id, configuration } = header;
        Ok(Self { decoder, id, configuration, path, ended: false })
    }

    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What was given when the snapshot was written.
    pub fn configuration(&self) -> Bytes {
        self.configuration.clone()
    }

    /// Length and checksum of what was read.
    pub(super) fn whole(&self) -> Sum {
        self.decoder.sum()
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Bytes, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = self.decoder.next_chunk().map_err(|fault| error_of(fault, &self.path));
        self.ended = !matches!(found, Ok(Some(_)));
        found.transpose()
    }
}

pub fn header_of<R: Read>(
    input: R,
    path: &Path,
    expected: SnapshotId,
) -> Result<(Decoder<R>, format::Header), SnapshotError> {
    let (decoder, header) = Decoder::new(input).map_err(|fault| error_of(fault, path))?;
    if header.id != expected {
        let reason = format!("its header is of another snapshot, {:?}", header.id);
        return Err(SnapshotError::Damaged { file: path.to_path_buf(), reason });
    }
    Ok((decoder, header))
}

pub fn error_of(fault: Fault, path: &Path) -> SnapshotError {
    let file = path.to_path_buf();
    match fault {
        Fault::Io(source) => io_error(path, source),
        Fault::Damaged(reason) => SnapshotError::Damaged { file, reason: reason.into() },
        Fault::Newer(found) => SnapshotError::Format { file, found, known: format::FORMAT },
    }
}
