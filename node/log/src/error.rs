//! The errors of the log. Every one of them means: this node cannot go on with this directory.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::snapshot::SnapshotError;

/// Why a directory was not opened. What the log held is neither changed nor served.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("data directory {}: cannot be created, read or written; check its owner and mode", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("data directory {}: in use by another process (its LOCK is held); stop that process or give this one a directory of its own", path.display())]
    InUse { path: PathBuf },
    #[error("data directory {}: not empty and not made by this program (found {found}); give an empty directory", path.display())]
    Foreign { path: PathBuf, found: String },
    #[error("{}: {reason}; {remedy}", file.display())]
    Identity { file: PathBuf, reason: String, remedy: &'static str },
    #[error("{}: format {found} is newer than the {known} that this version understands; use a newer version", file.display())]
    Format { file: PathBuf, found: u32, known: u32 },
    #[error("{}: damaged at round {}: {reason}; restore nothing here: remove the member and let a new node take its place", file.display(), Named(round))]
    Corrupt { round: Option<u64>, file: PathBuf, reason: String },
    #[error("{}: shortened: the last round is {last}, but round {beacon} was known to be durable; the end of the log is missing or an older copy was restored: remove the member and let a new node take its place", file.display())]
    Shortened { file: PathBuf, beacon: u64, last: u64 },
    #[error("{}: the storage engine refuses to open", path.display())]
    Engine {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A round's number, or that it is not known.
struct Named<'a>(&'a Option<u64>);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(round) => write!(f, "{round}"),
            None => f.write_str("unknown"),
        }
    }
}

/// Why an open log did not do what it was asked.
#[derive(Debug, Error)]
pub enum LogError {
    /// An earlier write failed: what is on disk is unknown, so nothing may be acknowledged.
    #[error("the log accepts nothing after a failed write")]
    Poisoned,
    #[error("write of round {round} failed")]
    Write {
        round: u64,
        #[source]
        source: io::Error,
    },
    #[error("write of {key:?} failed")]
    WriteMeta {
        key: String,
        #[source]
        source: io::Error,
    },
    #[error("moving the start of the log to round {first} failed")]
    Trim {
        first: u64,
        #[source]
        source: io::Error,
    },
    /// A broken rule of the caller, for example a gap between entries. Nothing was written.
    #[error("group {group}: {reason}")]
    Invalid { group: u32, reason: String },
    #[error("cluster id is {stored:?} and cannot become {wanted:?}")]
    Cluster { stored: String, wanted: String },
    #[error("{what} has {bytes} bytes, over the limit of {max}")]
    TooLarge { what: &'static str, bytes: u64, max: u64 },
    #[error("group {group} has entries {first} to {last}, not all of {low} to {high}")]
    OutOfRange { group: u32, low: u64, high: u64, first: u64, last: u64 },
    #[error("{}: damaged at round {round}: {reason}", file.display())]
    Corrupt { round: u64, file: PathBuf, reason: String },
    #[error("read of group {group} from round {round} failed")]
    Read {
        group: u32,
        round: u64,
        #[source]
        source: io::Error,
    },
    #[error("close of the log failed")]
    Close {
        #[source]
        source: io::Error,
    },
}
