//! Failed writes, and processes that end at any moment.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fail::FailScenario;
use multiraft_log::{Log, LogError, Options, SnapshotError, failpoints};
use support::snapshots::{CONFIGURATION, chunks, id, ids, read, transfer, write};
use support::{FRESH, open, options, round};

/// Set for the child that writes until it is killed.
const CHILD: &str = "MULTIRAFT_LOG_WRITER";

fn refuse(place: &str) {
    fail::cfg(place, "return").expect("a failpoint");
}

fn allow(place: &str) {
    fail::remove(place);
}

#[test]
fn after_a_failed_write_nothing_is_accepted() {
    let scenario = FailScenario::setup();
    for (place, survives) in
        [(failpoints::APPEND_BEFORE_WRITE, 1), (failpoints::APPEND_AFTER_WRITE, 2)]
    {
        let dir = tempfile::tempdir().expect("directory");
        let (mut log, _) = open(dir.path());
        log.append(&[round(1, 1, 1, 1)]).expect("append");
        refuse(place);
        assert!(matches!(log.append(&[round(1, 2, 2, 1)]), Err(LogError::Write { round: 2, .. })));
        allow(place);
        assert!(matches!(log.append(&[round(1, 2, 2, 1)]), Err(LogError::Poisoned)));
        assert!(matches!(log.put_meta("a", b"b"), Err(LogError::Poisoned)));
        assert!(matches!(log.set_cluster("a"), Err(LogError::Poisoned)));
        assert!(matches!(log.rest(), Err(LogError::Poisoned)));
        assert!(matches!(log.close(), Err(LogError::Poisoned)));
        // Unknown means unknown: one of the two was there all the same.
        assert_eq!(open(dir.path()).1.groups[&1].last_index, survives);
    }
    scenario.teardown();
}

#[test]
fn a_failed_fact_or_beacon_poisons() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    refuse(failpoints::META_WRITE);
    assert!(matches!(log.put_meta("a", b"b"), Err(LogError::WriteMeta { .. })));
    allow(failpoints::META_WRITE);
    assert!(matches!(log.append(&[round(1, 1, 1, 1)]), Err(LogError::Poisoned)));
    drop(log);
    let (mut log, _) = open(dir.path());
    refuse(failpoints::BEACON_WRITE);
    assert!(matches!(log.append(&[round(1, 1, 1, 1)]), Err(LogError::Write { .. })));
    allow(failpoints::BEACON_WRITE);
    assert!(matches!(log.rest(), Err(LogError::Poisoned)));
    scenario.teardown();
}

#[test]
fn an_unfinished_directory_is_made_anew() {
    let scenario = FailScenario::setup();
    for place in
        [failpoints::CREATE_BEGUN, failpoints::CREATE_DATABASE, failpoints::CREATE_IDENTITY]
    {
        let dir = tempfile::tempdir().expect("directory");
        refuse(place);
        Log::open(dir.path(), options(), FRESH).map(drop).expect_err("stopped");
        allow(place);
        let (mut log, recovered) = open(dir.path());
        assert_eq!(recovered.identity.node_id, FRESH.node_id);
        log.append(&[round(1, 1, 1, 1)]).expect("append");
        drop(log);
        assert_eq!(open(dir.path()).1.groups[&1].last_index, 1);
    }
    scenario.teardown();
}

#[test]
fn a_half_written_cluster_name_is_completed() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    refuse(failpoints::CLUSTER_DATABASE);
    log.set_cluster("shop/orders").expect_err("stopped");
    allow(failpoints::CLUSTER_DATABASE);
    drop(log);
    assert_eq!(open(dir.path()).1.identity.cluster_id, "shop/orders");
    let text = std::fs::read_to_string(dir.path().join("IDENTITY")).expect("read");
    assert!(text.contains("shop/orders"), "{text}");
    scenario.teardown();
}

#[test]
fn a_snapshot_that_could_not_be_written_is_not_there() {
    let scenario = FailScenario::setup();
    for (place, there) in [
        (failpoints::SNAPSHOT_WRITE, false),
        (failpoints::SNAPSHOT_SYNC, false),
        (failpoints::SNAPSHOT_RENAME, false),
        // Under its name, and whole, but nobody knows whether the name is durable.
        (failpoints::SNAPSHOT_DIRECTORY, true),
    ] {
        let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let (from, to) = (open(dir.path()).0.snapshots(), open(other.path()).0.snapshots());
        write(&from, id(1, 9), &chunks());
        refuse(place);
        let mut writer = to.create(id(1, 8), CONFIGURATION).expect("create");
        let written = writer.push(&chunks()[1]).and_then(|()| writer.finish().map(drop));
        let received = transfer(&from, &to, id(1, 9));
        allow(place);
        for error in [written.expect_err(place), received.map(drop).expect_err(place)] {
            assert!(matches!(error, SnapshotError::Io { .. }), "{place}: {error}");
        }
        assert_eq!(ids(&to).len(), if there { 2 } else { 0 }, "{place}");
        transfer(&from, &to, id(1, 9)).expect("once more");
        assert_eq!(read(&to, id(1, 9)).expect("read"), chunks());
    }
    scenario.teardown();
}

#[test]
fn a_trim_that_stops_loses_nothing() {
    let scenario = FailScenario::setup();
    let small = Options { checkpoint_bytes: 2_000, ..options() };
    for place in [failpoints::TRIM_COPIED, failpoints::TRIM_WRITE, failpoints::TRIM_FILES] {
        let dir = tempfile::tempdir().expect("directory");
        let (mut log, _) = Log::open(dir.path(), small, FRESH).expect("open");
        log.append(&[round(2, 1, 3, 1)]).expect("append");
        for index in 1..=60 {
            let mut next = round(1, index, index, 1);
            next.groups[0].first = Some((index, u64::from(index > 1)));
            log.append(&[next]).expect("append");
        }
        refuse(place);
        log.trim(10_000).expect_err("stopped");
        allow(place);
        assert!(matches!(log.trim(10_000), Err(LogError::Poisoned)));
        drop(log);
        for _ in 0..2 {
            let (mut log, recovered) = Log::open(dir.path(), small, FRESH).expect("open");
            let group = &recovered.groups[&1];
            assert_eq!((group.first, group.last_index), ((60, 1), 60), "{place}");
            assert_eq!(log.reader().read(2, 1, 4, usize::MAX).expect("read").len(), 3);
            log.trim(10_000).expect("trim");
            assert_eq!(log.reader().read(2, 1, 4, usize::MAX).expect("read").len(), 3);
        }
    }
    scenario.teardown();
}

/// Not a test of its own: the process that the next test kills. It says what is durable.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let (mut log, recovered) = open(&dir);
    let mut next = recovered.groups.get(&1).map_or(1, |group| group.last_index + 1);
    for turn in 0.. {
        let count = 1 + turn % 40;
        let rounds = [round(1, next, next + count - 1, 1), round(2, next, next + count - 1, 1)];
        log.append(&rounds).expect("append");
        next += count;
        println!("durable {}", next - 1);
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().expect("directory");
    let mut acknowledged = 0;
    for kill in 0..30u64 {
        let mut child = start(dir.path());
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let watch = std::thread::spawn(move || {
            lines.map_while(Result::ok).filter_map(|line| index_of(&line)).last()
        });
        std::thread::sleep(Duration::from_millis(120 + kill * 37 % 90));
        child.kill().expect("kill");
        child.wait().expect("wait");
        acknowledged = watch.join().expect("read").unwrap_or(acknowledged).max(acknowledged);
        // The other tests' failpoints are of the whole process.
        let scenario = FailScenario::setup();
        let (log, recovered) = open(dir.path());
        scenario.teardown();
        let group = |id: u32| recovered.groups.get(&id).map_or(0, |group| group.last_index);
        assert!(group(1) >= acknowledged && group(2) >= acknowledged, "after kill {kill}");
        assert_eq!(group(1), group(2), "half of an append");
        if acknowledged > 0 {
            log.reader().read(2, 1, group(2) + 1, usize::MAX).expect("all entries are there");
        }
    }
    println!("{acknowledged} entries acknowledged over 30 kills");
    assert!(acknowledged > 1_000);
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

fn index_of(line: &str) -> Option<u64> {
    line.split("durable ").nth(1)?.trim().parse().ok()
}
