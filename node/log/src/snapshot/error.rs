//! What can be wrong with a snapshot.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a snapshot was not written, read, received or chosen.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("{}: cannot be read or written; check the volume and the file's owner and mode", file.display())]
    Io {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: damaged: {reason}; restore nothing here: remove the member and let a new node take its place", file.display())]
    Damaged { file: PathBuf, reason: String },
    #[error("{}: format {found} is newer than the {known} that this version understands; use a newer version", file.display())]
    Format { file: PathBuf, found: u32, known: u32 },
    #[error("{}: there is no such snapshot; take or receive one first", file.display())]
    Missing { file: PathBuf },
    #[error("{}: already being written; wait for that to end", file.display())]
    Busy { file: PathBuf },
    #[error("{what} has {bytes} bytes, over the limit of {max}")]
    TooLarge { what: &'static str, bytes: u64, max: u64 },
    #[error("{}: bytes from {offset} do not follow the {have} that are there; go on from there", file.display())]
    OutOfOrder { file: PathBuf, offset: u64, have: u64 },
    #[error("{}: {have} of {length} bytes were received; send the rest", file.display())]
    Incomplete { file: PathBuf, have: u64, length: u64 },
    /// What was received is deleted.
    #[error("{}: received damaged and deleted: {reason}; let it be sent again", file.display())]
    Refused { file: PathBuf, reason: String },
}
