//! Whose directory is it, and is all of it there?

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use multiraft_log::{FreshIdentity, Log, LogError, OpenError};
use support::{FRESH, copy, open, options, refused, round};

fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, recovered) = open(dir.path());
    assert!(recovered.created && recovered.groups.is_empty());
    log.append(&[round(1, 1, 3, 1)]).expect("append");
    log.close().expect("close");
    dir
}

fn message(dir: &Path) -> String {
    refused(dir).to_string()
}

#[test]
fn the_identity_is_of_the_first_opening() {
    let dir = made();
    let other = FreshIdentity { node_id: 1, incarnation: 2 };
    let (_, recovered) = Log::open(dir.path(), options(), other).expect("open");
    assert!(!recovered.created);
    assert_eq!((recovered.identity.node_id, recovered.identity.incarnation), (11, 22));
}

#[test]
fn the_cluster_is_named_once() {
    let dir = made();
    let (mut log, _) = open(dir.path());
    log.set_cluster("shop/orders").expect("first name");
    log.set_cluster("shop/orders").expect("the same name");
    let error = log.set_cluster("shop/other").expect_err("another name");
    assert!(matches!(error, LogError::Cluster { .. }));
    log.append(&[round(1, 4, 4, 1)]).expect("a refused name harms nothing");
    drop(log);
    assert_eq!(open(dir.path()).1.identity.cluster_id, "shop/orders");
}

#[test]
fn small_facts_are_kept_and_replaced() {
    let dir = made();
    let (mut log, _) = open(dir.path());
    log.put_meta("fence/epoch", b"7").expect("put");
    log.put_meta("fence/epoch", b"8").expect("put");
    log.put_meta("activated", b"").expect("put");
    drop(log);
    let meta = open(dir.path()).1.meta;
    assert_eq!(meta.len(), 2);
    assert_eq!(meta["fence/epoch"], Bytes::from_static(b"8"));
}

#[test]
fn a_directory_with_something_else_in_it_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    fs::write(dir.path().join("photos.tar"), "x").expect("write");
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("photos.tar"));
    assert!(!dir.path().join("db").exists());
}

#[test]
fn the_root_of_a_new_volume_is_empty_enough() {
    let dir = tempfile::tempdir().expect("directory");
    fs::create_dir(dir.path().join("lost+found")).expect("directory");
    open(dir.path());
}

#[test]
fn a_path_that_cannot_be_a_directory_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("write");
    let error = refused(&file.join("data"));
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    // Nobody, not even root, writes there.
    let error = refused(Path::new("/proc/multiraft"));
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = made();
    let (log, _) = open(dir.path());
    let reader = log.reader();
    assert!(matches!(refused(dir.path()), OpenError::InUse { .. }));
    drop(log);
    assert!(matches!(refused(dir.path()), OpenError::InUse { .. }));
    drop(reader);
    open(dir.path());
}

#[test]
fn each_missing_part_is_named() {
    for (part, expected) in [
        ("IDENTITY", "IDENTITY: missing, although BEACON is there"),
        ("BEACON", "BEACON: missing, although IDENTITY is there"),
        ("db", "db: missing, although IDENTITY is there"),
    ] {
        let dir = made();
        let path = dir.path().join(part);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
            .expect("remove");
        let message = message(dir.path());
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("remove the member"), "{message}");
    }
}

#[test]
fn parts_of_two_directories_do_not_open() {
    for part in ["IDENTITY", "BEACON"] {
        let (dir, other) = (made(), tempfile::tempdir().expect("directory"));
        let stranger = FreshIdentity { node_id: 5, incarnation: 6 };
        Log::open(other.path(), options(), stranger).expect("open").0.close().expect("close");
        fs::copy(other.path().join(part), dir.path().join(part)).expect("copy");
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::Identity { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn an_edited_identity_is_refused() {
    let dir = made();
    let path = dir.path().join("IDENTITY");
    let text = fs::read_to_string(&path).expect("read").replace("node_id: 11", "node_id: 12");
    fs::write(&path, text).expect("write");
    assert!(message(dir.path()).contains("checksum does not match"));
}

#[test]
fn a_copy_taken_while_the_node_writes_opens_or_is_refused() {
    let dir = made();
    let (mut log, _) = open(dir.path());
    let stop = AtomicBool::new(false);
    let (mut opened, mut refusals) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut index = 4;
            while !stop.load(Ordering::Relaxed) {
                log.append(&[round(1, index, index + 9, 1)]).expect("append");
                index += 10;
            }
        });
        for _ in 0..20 {
            let copy = copy(dir.path());
            match Log::open(copy.path(), options(), FRESH) {
                Ok((mut log, recovered)) => {
                    opened += 1;
                    let next = recovered.groups[&1].last_index + 1;
                    log.append(&[round(1, next, next, 1)]).expect("a copy that opens works");
                }
                Err(OpenError::Shortened { .. } | OpenError::Corrupt { .. }) => refusals += 1,
                Err(error) => panic!("not a clear refusal: {error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{opened} copies opened, {refusals} were refused");
    assert_eq!(opened + refusals, 20);
}
