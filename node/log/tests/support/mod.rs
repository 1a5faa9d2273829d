//! What the tests of this crate share: small rounds, directories and their copies.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod model;
pub mod snapshots;
pub mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use multiraft_log::{
    Entry, FreshIdentity, GroupRound, HardState, Log, OpenError, Options, Recovered, Round, Sync,
};

pub const FRESH: FreshIdentity = FreshIdentity { node_id: 11, incarnation: 22 };

/// The beacon follows every append.
pub fn options() -> Options {
    Options { sync: Sync::Always, beacon_period: Duration::ZERO, ..Options::default() }
}

/// The beacon is written at close only.
pub fn lazy() -> Options {
    Options { beacon_period: Duration::from_secs(3600), ..options() }
}

pub fn open(dir: &Path) -> (Log, Recovered) {
    Log::open(dir, options(), FRESH).expect("the directory opens")
}

pub fn refused(dir: &Path) -> OpenError {
    match Log::open(dir, options(), FRESH) {
        Ok((_, recovered)) => panic!("opened with {:?}", recovered.groups),
        Err(error) => error,
    }
}

pub fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let fill = (index ^ term) as u8;
    Entry { index, term, kind: 0, data: Bytes::from(vec![fill; bytes]), context: Bytes::new() }
}

/// Entries `first..=last` of one group and a state that commits all before them.
pub fn round(group: u32, first: u64, last: u64, term: u64) -> Round {
    let entries = (first..=last).map(|index| entry(index, term, 150)).collect();
    let state = Some(HardState { term, vote: 1, commit: first - 1 });
    let part = GroupRound { group, state, entries, ..GroupRound::default() };
    Round { groups: vec![part], peers: vec![] }
}

/// Where syncs cost little, if there is such a place: nothing here depends on the disk.
pub fn memory() -> tempfile::TempDir {
    let place = Path::new("/dev/shm");
    if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() }
        .expect("directory")
}

/// A byte copy of a directory, as a volume snapshot would make it.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = memory();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for found in fs::read_dir(from).expect("list") {
        let found = found.expect("list");
        let target = to.join(found.file_name());
        if found.file_type().expect("type").is_dir() {
            copy_into(&found.path(), &target);
        } else if let Err(error) = fs::copy(found.path(), &target) {
            // Deleted by its owner between the listing and the copy.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

/// Files of the database with this ending that hold something, oldest first.
pub fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir.join("db"))
        .expect("list")
        .map(|file| file.expect("list").path())
        .filter(|file| file.to_string_lossy().ends_with(ending))
        .filter(|file| file.metadata().expect("length").len() > 0)
        .collect();
    found.sort();
    found
}
