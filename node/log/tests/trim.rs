//! What no group needs leaves the disk, and nothing else does.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use multiraft_log::{GroupRound, Log, LogError, Options, Round, Trimmed, Trimming};
use support::model::Model;
use support::{FRESH, entry, options, round};

/// Small enough for everything that trimming meets to happen in a short run.
fn small() -> Options {
    Options { memtable_bytes: 64 << 10, checkpoint_bytes: 2_000, ..options() }
}

fn open(dir: &std::path::Path, options: Options) -> (Log, multiraft_log::Recovered) {
    Log::open(dir, options, FRESH).expect("the directory opens")
}

/// The log starts at `first`, after an entry of term 1.
fn starting(group: u32, first: u64) -> Round {
    let part = GroupRound { group, first: Some((first, 1)), ..GroupRound::default() };
    Round { groups: vec![part], peers: vec![] }
}

#[test]
fn a_trimmed_log_equals_its_model() {
    let seed = std::env::var("SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("number"));
    let (mut trimmed, mut copied, mut beside, mut reopened) = (0, 0, 0, 0);
    for seed in seed..seed + 12 {
        println!("SEED={seed}");
        let mut random = Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("directory");
        let (mut log, _) = open(dir.path(), small());
        let mut model = Model::new(300);
        // A trim that has begun, and perhaps read, to be ended after some more rounds.
        let (mut begun, mut read) = (None, None);
        for _ in 0..250 {
            let rounds: Vec<Round> =
                (0..random.usize(1..4)).map(|_| model.round(&mut random)).collect();
            log.append(&rounds).expect("append");
            let bytes_max = random.usize(0..20_000);
            let is_begun = begun.is_some() || read.is_some();
            let done = match random.u32(0..20) {
                0..5 if !is_begun => log.trim(bytes_max).expect("trim"),
                5 => {
                    (begun, read) = (None, None);
                    if random.bool() {
                        log.close().expect("close");
                    } else {
                        drop(log);
                    }
                    let (again, recovered) = open(dir.path(), small());
                    model.check_recovered(&recovered);
                    log = again;
                    reopened += 1;
                    Trimmed::default()
                }
                6..10 if !is_begun => {
                    begun = log.begin_trim(bytes_max).expect("trim");
                    continue;
                }
                10..14 => {
                    read = read.or(begun.take().map(Trimming::read));
                    continue;
                }
                6..10 if read.is_some() => {
                    let (done, old_files) =
                        log.end_trim(read.take().expect("there")).expect("trim");
                    old_files.delete().expect("delete");
                    beside += done.copied_bytes;
                    done
                }
                _ => continue,
            };
            model.check_entries(&log);
            trimmed += done.rounds;
            copied += done.copied_bytes;
        }
    }
    println!("{trimmed} rounds trimmed, {reopened} times reopened");
    println!("{copied} bytes copied, {beside} of them beside appends");
    assert!(trimmed > 2_500 && copied > 25_000 && beside > 5_000 && reopened > 50);
}

#[test]
fn the_disk_gets_its_bytes_back() {
    let dir = tempfile::tempdir().expect("directory");
    let options = Options { memtable_bytes: 4 << 20, ..Options::default() };
    let (mut log, _) = open(dir.path(), options);
    let (mut most, mut written, mut trims, mut longest) = (0, 0, 0, Duration::ZERO);
    let big = |index| {
        let part =
            GroupRound { group: 1, entries: vec![entry(index, 1, 64 << 10)], ..Default::default() };
        Round { groups: vec![part], peers: vec![] }
    };
    // A quiet group in the oldest round.
    log.append(&[round(2, 1, 3, 1)]).expect("append");
    for index in 1..=4_000 {
        log.append(&[big(index)]).expect("append");
        written += 64 << 10;
        if index % 100 == 0 && index > 200 {
            log.append(&[starting(1, index - 200)]).expect("append");
            if log.trimmable() {
                trims += 1;
                let start = Instant::now();
                assert!(log.trim(1 << 20).expect("trim").rounds > 0);
                longest = longest.max(start.elapsed());
            }
            most = most.max(log.disk_bytes().expect("size"));
        }
    }
    let end = log.disk_bytes().expect("size");
    println!("{written} bytes written, {trims} trims of at most {longest:?}");
    println!("at most {most} bytes on disk, {end} at the end");
    assert_eq!(log.reader().read(2, 1, 4, usize::MAX).expect("read").len(), 3);
    assert!(trims > 5 && most < written / 3, "{most}");
    log.close().expect("close");
    let (log, recovered) = open(dir.path(), options);
    assert_eq!(recovered.groups[&1].first.0, 3_800);
    assert_eq!(log.reader().read(1, 3_800, 4_001, usize::MAX).expect("read").len(), 201);
}

#[test]
fn a_reader_beside_trims_sees_entries_or_that_they_are_gone() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path(), small());
    log.append(&[round(1, 1, 1, 1), round(2, 1, 5, 1)]).expect("append");
    let (reader, stop) = (log.reader(), AtomicBool::new(false));
    let read = || {
        // The quiet group is copied again and again and always there.
        assert_eq!(reader.read(2, 1, 6, usize::MAX).expect("read").len(), 5);
        let Err(LogError::OutOfRange { first, last, .. }) = reader.read(1, 0, 1, 1) else {
            panic!("entry 0 was read");
        };
        match reader.read(1, first, last + 1, usize::MAX) {
            Ok(entries) => (entries.len() as u64, 0),
            Err(LogError::OutOfRange { .. }) => (0, 1),
            Err(error) => panic!("{error}"),
        }
    };
    let (found, gone) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut sum = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let (found, gone) = read();
                sum = (sum.0 + found, sum.1 + gone);
            }
            sum
        });
        let mut trims = 0;
        for index in 2..3_000 {
            log.append(&[round(1, index, index, 1)]).expect("append");
            if index % 30 == 0 {
                log.append(&[starting(1, index - 5)]).expect("append");
                trims += u64::from(log.trim(10_000).expect("trim").rounds > 0);
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(trims > 25, "{trims} trims");
        reading.join().expect("the reader")
    });
    println!("{found} entries read, {gone} ranges gone");
    assert!(found > 0);
}

#[test]
fn a_large_quiet_group_is_not_copied_but_named() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path(), small());
    let part = |group, index, bytes| GroupRound {
        group,
        entries: vec![entry(index, 1, bytes)],
        ..GroupRound::default()
    };
    let limit = usize::try_from(multiraft_log::limits::GROUP_COPY_BYTES_MAX).expect("fits");
    log.append(&[Round { groups: vec![part(7, 1, limit)], peers: vec![] }]).expect("append");
    for index in 1..=200 {
        let rounds = [Round { groups: vec![part(1, index, 64 << 10)], peers: vec![] }];
        log.append(&rounds).expect("append");
        log.append(&[starting(1, index + 1)]).expect("append");
    }
    assert!(!log.trimmable());
    assert_eq!(log.trim(usize::MAX).expect("trim"), Trimmed::default());
    assert_eq!(log.oldest_group(), Some(7));
    log.append(&[starting(7, 2)]).expect("append");
    assert!(log.trimmable());
    assert!(log.trim(0).expect("trim").rounds > 0);
    assert!(!log.trimmable());
}

#[test]
fn many_quiet_groups_are_copied_a_few_at_a_time() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path(), small());
    for group in 100..200 {
        log.append(&[round(group, 1, 2, 1)]).expect("append");
    }
    for index in 1..=1_500 {
        log.append(&[round(1, index, index, 1)]).expect("append");
        log.append(&[starting(1, index + 1)]).expect("append");
    }
    let (mut calls, mut rounds) = (0, 0);
    loop {
        let trimmed = log.trim(2_000).expect("trim");
        if trimmed == Trimmed::default() {
            break;
        }
        assert!(trimmed.copied_bytes < 4_000, "{trimmed:?}");
        calls += 1;
        rounds += trimmed.rounds;
        assert!(calls < 200, "trimming comes to no end");
    }
    println!("{rounds} rounds trimmed in {calls} calls");
    assert!(rounds > 100 && calls > 10);
    drop(log);
    let (log, recovered) = open(dir.path(), small());
    assert_eq!(recovered.groups.len(), 101);
    for group in 100..200 {
        assert_eq!(log.reader().read(group, 1, 3, usize::MAX).expect("read").len(), 2);
    }
}
