//! Snapshot files: whole or refused.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use multiraft_log::{SnapshotError, SnapshotId, limits};
use support::open;
use support::snapshots::{CONFIGURATION, chunks, id, ids, read, transfer, write};

fn path(dir: &Path, id: SnapshotId) -> std::path::PathBuf {
    dir.join(format!("snapshots/{}-{}-{}.snapshot", id.group, id.index, id.term))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("snapshots")).expect("list");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("list").file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_is_read_back_after_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let (log, _) = open(dir.path());
    assert_eq!(log.snapshots().list().expect("list"), []);
    let info = write(&log.snapshots(), id(1, 9), &chunks());
    assert_eq!(info.bytes, fs::metadata(path(dir.path(), id(1, 9))).expect("file").len());
    drop(log);
    let snapshots = open(dir.path()).0.snapshots();
    assert_eq!(snapshots.list().expect("list"), [info]);
    assert_eq!(read(&snapshots, id(1, 9)).expect("read"), chunks());
    let missing = read(&snapshots, id(1, 10)).expect_err("none");
    assert!(matches!(missing, SnapshotError::Missing { .. }), "{missing}");
}

#[test]
fn an_unfinished_snapshot_leaves_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let (log, _) = open(dir.path());
    let snapshots = log.snapshots();
    let mut writer = snapshots.create(id(1, 9), CONFIGURATION).expect("create");
    writer.push(b"half").expect("push");
    let busy = snapshots.create(id(1, 9), CONFIGURATION).map(drop).expect_err("busy");
    assert!(matches!(busy, SnapshotError::Busy { .. }), "{busy}");
    drop(writer);
    assert!(names(dir.path()).is_empty());
    // What a killed process leaves.
    for name in ["1-9-3.new", "1-9-3-10-00000000.part"] {
        fs::write(dir.path().join("snapshots").join(name), "half").expect("write");
    }
    drop((log, snapshots));
    let (log, _) = open(dir.path());
    assert!(names(dir.path()).is_empty());
    assert_eq!(ids(&log.snapshots()), []);
}

#[test]
fn a_chunk_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let snapshots = open(dir.path()).0.snapshots();
    let mut writer = snapshots.create(id(1, 9), CONFIGURATION).expect("create");
    let error = writer.push(&vec![0; limits::SNAPSHOT_CHUNK_BYTES_MAX + 1]).expect_err("too large");
    assert!(matches!(error, SnapshotError::TooLarge { .. }), "{error}");
    writer.push(b"").expect("nothing");
    writer.push(b"state").expect("the writer goes on");
    writer.finish().expect("finish");
    assert_eq!(read(&snapshots, id(1, 9)).expect("read"), [b"state"]);
}

#[test]
fn a_snapshots_directory_stays_locked_while_it_is_used() {
    let dir = tempfile::tempdir().expect("directory");
    let snapshots = open(dir.path()).0.snapshots();
    let error = support::refused(dir.path());
    assert!(matches!(error, multiraft_log::OpenError::InUse { .. }), "{error}");
    drop(snapshots);
    open(dir.path());
}

#[test]
fn older_ones_and_those_of_gone_groups_are_removed() {
    let dir = tempfile::tempdir().expect("directory");
    let snapshots = open(dir.path()).0.snapshots();
    for (group, index) in [(1, 5), (1, 9), (1, 12), (2, 5), (3, 7)] {
        write(&snapshots, id(group, index), &[]);
    }
    let receive = |index| drop(snapshots.receive(id(1, index), 100, 0).expect("receive"));
    receive(9);
    snapshots.keep_only(1, Some((9, 3))).expect("keep");
    assert_eq!(ids(&snapshots), [id(1, 9), id(2, 5), id(3, 7)]);
    assert_eq!(names(dir.path()).len(), 3, "the transfer of what is there has ended");
    receive(20);
    snapshots.keep_only(1, Some((9, 3))).expect("keep");
    assert_eq!(names(dir.path()).len(), 4, "a newer one is on its way");
    snapshots.keep_only(2, None).expect("keep");
    snapshots.remove(id(3, 8)).expect("nothing to remove");
    assert_eq!(ids(&snapshots), [id(1, 9), id(3, 7)]);
    let writer = snapshots.create(id(3, 30), b"").expect("create");
    snapshots.sweep(&BTreeSet::from([3])).expect("sweep");
    assert_eq!(names(dir.path()), ["3-30-3.new", "3-7-3.snapshot"]);
    writer.finish().expect("an unfinished one is not swept away");
    snapshots.remove(id(3, 7)).expect("remove");
    assert_eq!(ids(&snapshots), [id(3, 30)]);
}

#[test]
fn a_snapshot_that_is_removed_can_still_be_sent() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (from, to) = (open(dir.path()).0.snapshots(), open(other.path()).0.snapshots());
    write(&from, id(1, 9), &chunks());
    let raw = from.open_raw(id(1, 9)).expect("open");
    from.remove(id(1, 9)).expect("remove");
    let whole = raw.read_at(0, usize::MAX).expect("read");
    assert_eq!(whole.len() as u64, raw.length());
    assert!(raw.read_at(raw.length(), 10).expect("the end").is_empty());
    let mut incoming = to.receive(id(1, 9), raw.length(), raw.crc()).expect("receive");
    incoming.write_at(0, &whole).expect("write");
    incoming.finish().expect("finish");
    assert_eq!(read(&to, id(1, 9)).expect("read"), chunks());
}

#[test]
fn a_broken_transfer_goes_on_where_it_ended() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (from, to) = (open(dir.path()).0.snapshots(), open(other.path()).0.snapshots());
    write(&from, id(1, 9), &chunks());
    let raw = from.open_raw(id(1, 9)).expect("open");
    let mut incoming = to.receive(id(1, 9), raw.length(), raw.crc()).expect("receive");
    let again = to.receive(id(1, 9), raw.length(), raw.crc()).map(drop).expect_err("busy");
    assert!(matches!(again, SnapshotError::Busy { .. }), "{again}");
    incoming.write_at(0, &raw.read_at(0, 5000).expect("read")).expect("write");
    let error = incoming.write_at(4000, b"again").expect_err("out of order");
    assert!(matches!(error, SnapshotError::OutOfOrder { have: 5000, .. }), "{error}");
    let error = incoming.finish().expect_err("incomplete");
    assert!(matches!(error, SnapshotError::Incomplete { have: 5000, .. }), "{error}");
    assert_eq!(to.receive(id(1, 9), raw.length(), raw.crc()).expect("receive").offset(), 5000);
    transfer(&from, &to, id(1, 9)).expect("the rest");
    assert_eq!(read(&to, id(1, 9)).expect("read"), chunks());
    // Another transfer of the group ends the one before.
    drop(to.receive(id(1, 20), 50, 1).expect("receive"));
    drop(to.receive(id(1, 21), 50, 1).expect("receive"));
    assert_eq!(names(other.path()), ["1-21-3-50-00000001.part", "1-9-3.snapshot"]);
}

#[test]
fn every_damage_on_the_way_is_refused_and_deleted() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (from, to) = (open(dir.path()).0.snapshots(), open(other.path()).0.snapshots());
    write(&from, id(1, 9), &[b"one".to_vec(), b"two".to_vec()]);
    let raw = from.open_raw(id(1, 9)).expect("open");
    let whole = raw.read_at(0, usize::MAX).expect("read");
    let send = |as_id, bytes: &[u8], length, crc| {
        let mut incoming = to.receive(as_id, length, crc).expect("receive");
        assert_eq!(incoming.offset(), 0, "the damaged one is deleted");
        incoming.write_at(0, bytes)?;
        incoming.finish()
    };
    for at in 0..whole.len() {
        let mut bad = whole.to_vec();
        bad[at] ^= 16;
        let error = send(id(1, 9), &bad, raw.length(), raw.crc()).expect_err("damaged");
        let refused = matches!(error, SnapshotError::Refused { .. } | SnapshotError::Format { .. });
        assert!(refused, "byte {at}: {error}");
        let cut = send(id(1, 9), &whole[..at], at as u64, raw.crc()).expect_err("cut");
        assert!(matches!(cut, SnapshotError::Refused { .. }), "cut at {at}: {cut}");
    }
    for (as_id, length, crc) in [
        (id(1, 9), raw.length(), raw.crc() ^ 1),
        (id(1, 8), raw.length(), raw.crc()),
        (id(2, 9), raw.length(), raw.crc()),
        (id(1, 9), raw.length() - 1, raw.crc()),
    ] {
        let error = send(as_id, &whole, length, crc).expect_err("another than was stated");
        assert!(matches!(error, SnapshotError::Refused { .. }), "{error}");
    }
    assert_eq!(ids(&to), []);
    send(id(1, 9), &whole, raw.length(), raw.crc()).expect("undamaged");
}

#[test]
fn every_damaged_byte_and_every_cut_on_disk_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let snapshots = open(dir.path()).0.snapshots();
    write(&snapshots, id(1, 9), &[b"one".to_vec(), b"two".to_vec()]);
    let path = path(dir.path(), id(1, 9));
    let whole = fs::read(&path).expect("read");
    let refused = |bytes: &[u8], what: String| {
        fs::write(&path, bytes).expect("write");
        let error = read(&snapshots, id(1, 9)).expect_err(&what);
        let named = error.to_string().contains("1-9-3.snapshot");
        assert!(named, "{what}: {error}");
        let known = matches!(error, SnapshotError::Damaged { .. } | SnapshotError::Format { .. });
        assert!(known, "{what}: {error}");
    };
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        refused(&bad, format!("byte {at}"));
        refused(&whole[..at], format!("cut at {at}"));
        let listed = snapshots.list().map(drop).expect_err("a cut file is not listed");
        assert!(listed.to_string().contains("1-9-3.snapshot"), "cut at {at}: {listed}");
    }
    fs::write(&path, &whole).expect("write");
    fs::rename(&path, path.with_file_name("1-10-3.snapshot")).expect("rename");
    let error = snapshots.list().map(drop).expect_err("another snapshot's name");
    assert!(error.to_string().contains("another snapshot"), "{error}");
}
