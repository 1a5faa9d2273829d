//! The places where tests make this crate fail. Each is used by at least one test; without
//! the feature `failpoints` they are nothing.

use std::io;

/// The write of a round fails and nothing of it is on disk.
pub const APPEND_BEFORE_WRITE: &str = "log::append::before_write";
/// The write of a round fails although it is on disk: after an error nobody knows.
pub const APPEND_AFTER_WRITE: &str = "log::append::after_write";
/// The write of a small fact fails.
pub const META_WRITE: &str = "log::meta::write";
/// The tail beacon cannot be written.
pub const BEACON_WRITE: &str = "log::beacon::write";
/// The making of a directory stops: nothing made yet but the mark that it began.
pub const CREATE_BEGUN: &str = "log::create::begun";
/// The making of a directory stops: the database is there, the identity file is not.
pub const CREATE_DATABASE: &str = "log::create::database";
/// The making of a directory stops: all is there, and so is the mark that it began.
pub const CREATE_IDENTITY: &str = "log::create::identity";
/// The naming of the cluster stops: in the database, not yet in the identity file.
pub const CLUSTER_DATABASE: &str = "log::cluster::database";
/// A trim stops: quiet groups are copied, the start of the log is not moved.
pub const TRIM_COPIED: &str = "log::trim::copied";
/// The start of the log cannot be moved.
pub const TRIM_WRITE: &str = "log::trim::write";
/// A trim stops: the start of the log is moved, the files are still there.
pub const TRIM_FILES: &str = "log::trim::files";
/// Bytes of a snapshot cannot be written.
pub const SNAPSHOT_WRITE: &str = "log::snapshot::write";
/// A snapshot cannot be synced.
pub const SNAPSHOT_SYNC: &str = "log::snapshot::sync";
/// A snapshot stops: synced, not yet under its name.
pub const SNAPSHOT_RENAME: &str = "log::snapshot::rename";
/// A snapshot stops: under its name, which is not yet synced.
pub const SNAPSHOT_DIRECTORY: &str = "log::snapshot::directory";

#[cfg(feature = "failpoints")]
pub fn pass(place: &'static str) -> io::Result<()> {
    fail::fail_point!(place, |_| Err(io::Error::other(format!("failpoint {place}"))));
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pass(_place: &'static str) -> io::Result<()> {
    Ok(())
}
