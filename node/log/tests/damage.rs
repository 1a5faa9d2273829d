//! Damage is refused, never served and never silently dropped.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;
use multiraft_log::{Log, OpenError, Options, SnapshotError};
use support::model::Model;
use support::snapshots::{id, write};
use support::{FRESH, copy, files, lazy, memory, open, options, refused, round};

const ROUNDS: u64 = 400;
/// Names the directory that the process of [`opener`] opens.
const CHILD: &str = "DAMAGE_CHILD";

/// 400 synced rounds of one entry in the write-ahead log, as a killed process leaves them.
fn killed(directory_options: multiraft_log::Options) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = multiraft_log::Log::open(dir.path(), directory_options, support::FRESH)
        .expect("the directory opens");
    for index in 1..=ROUNDS {
        log.append(&[round(1, index, index, 1)]).expect("append");
    }
    drop(log);
    dir
}

/// The write-ahead log that holds the rounds.
fn damage_wal(dir: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
    let wal = files(dir, ".log").pop().expect("a write-ahead log");
    let mut bytes = fs::read(&wal).expect("read");
    damage(&mut bytes);
    fs::write(&wal, bytes).expect("write");
}

fn last_index(dir: &Path) -> u64 {
    open(dir).1.groups[&1].last_index
}

/// Offset of the end of the record at which about half of the log is written.
fn boundary(wal: &[u8]) -> usize {
    // Head of a physical record: checksum 4, length 2, type 1 (full). Blocks of 32 KiB.
    let mut at = 0;
    while at < wal.len() / 2 {
        let left_in_block = 32768 - at % 32768;
        if left_in_block < 7 {
            at += left_in_block;
            continue;
        }
        at += 7 + u16::from_le_bytes([wal[at + 4], wal[at + 5]]) as usize;
    }
    at
}

#[test]
fn an_undamaged_log_of_a_killed_process_opens_whole() {
    let dir = killed(options());
    assert_eq!(last_index(dir.path()), ROUNDS);
    assert_eq!(last_index(dir.path()), ROUNDS);
}

#[test]
fn one_bit_in_the_middle_is_refused() {
    let dir = killed(lazy());
    damage_wal(dir.path(), |wal| {
        let middle = wal.len() / 2;
        wal[middle] ^= 1;
    });
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn one_bit_in_the_last_record_is_refused() {
    let dir = killed(lazy());
    damage_wal(dir.path(), |wal| {
        let last = wal.len() - 40;
        wal[last] ^= 1;
    });
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_zeroed_end_is_refused() {
    let dir = killed(lazy());
    damage_wal(dir.path(), |wal| {
        let end = wal.len();
        wal[end - 64..].fill(0);
    });
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_torn_last_record_is_dropped_when_it_was_not_known_to_be_durable() {
    let dir = killed(lazy());
    damage_wal(dir.path(), |wal| wal.truncate(wal.len() - 10));
    assert_eq!(last_index(dir.path()), ROUNDS - 1);
}

#[test]
fn a_torn_last_record_is_refused_when_it_was_known_to_be_durable() {
    let dir = killed(options());
    damage_wal(dir.path(), |wal| wal.truncate(wal.len() - 10));
    assert_shortened(&refused(dir.path()), ROUNDS - 1);
    // The engine has rewritten what was left by now: still refused.
    assert_shortened(&refused(dir.path()), ROUNDS - 1);
}

#[test]
fn a_log_cut_between_two_records_is_refused() {
    let dir = killed(options());
    damage_wal(dir.path(), |wal| wal.truncate(boundary(wal)));
    let error = refused(dir.path());
    let OpenError::Shortened { beacon, last, .. } = &error else { panic!("{error}") };
    assert!(*beacon == ROUNDS && *last > ROUNDS / 3 && *last < ROUNDS, "{error}");
}

#[test]
fn a_log_without_its_write_ahead_log_is_refused() {
    let dir = killed(options());
    for wal in files(dir.path(), ".log") {
        fs::remove_file(wal).expect("remove");
    }
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Shortened { .. } | OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn an_older_log_under_a_newer_beacon_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    log.append(&[round(1, 1, 5, 1)]).expect("append");
    log.close().expect("close");
    let old = copy(dir.path());
    let (mut log, _) = open(dir.path());
    log.append(&[round(1, 6, 6, 1)]).expect("append");
    log.close().expect("close");
    fs::copy(dir.path().join("BEACON"), old.path().join("BEACON")).expect("copy");
    assert_shortened(&refused(old.path()), 1);
}

#[test]
fn every_damaged_byte_of_a_table_is_refused() {
    let dir = killed(options());
    open(dir.path()).0.close().expect("close");
    let tables = files(dir.path(), ".sst");
    assert!(!tables.is_empty());
    let mut points = 0;
    for table in &tables {
        let length = fs::metadata(table).expect("length").len() as usize;
        for point in 0..12 {
            let copy = copy(dir.path());
            let damaged = copy.path().join("db").join(table.file_name().expect("name"));
            let mut bytes = fs::read(&damaged).expect("read");
            bytes[point * length / 12] ^= 4;
            fs::write(&damaged, bytes).expect("write");
            refused_or_whole(copy.path());
            points += 1;
        }
    }
    assert!(points >= 12);
}

#[test]
fn a_damaged_manifest_is_refused() {
    let dir = killed(options());
    open(dir.path()).0.close().expect("close");
    let name = fs::read_to_string(dir.path().join("db/CURRENT")).expect("read");
    for part in 1..8 {
        let copy = copy(dir.path());
        let manifest = copy.path().join("db").join(name.trim_end());
        let mut bytes = fs::read(&manifest).expect("read");
        let at = part * bytes.len() / 8;
        bytes[at] ^= 4;
        fs::write(&manifest, bytes).expect("write");
        refused_or_whole(copy.path());
    }
}

/// A bit that nothing depends on may be damaged; the log is then whole.
fn refused_or_whole(dir: &Path) {
    match multiraft_log::Log::open(dir, options(), support::FRESH) {
        Ok((_, recovered)) => {
            let group = &recovered.groups[&1];
            assert_eq!((group.last_index, group.terms.len()), (ROUNDS, 1));
        }
        Err(error) => assert!(
            matches!(
                error,
                OpenError::Corrupt { .. } | OpenError::Shortened { .. } | OpenError::Engine { .. }
            ),
            "{error}"
        ),
    }
}

/// A directory with everything in it, in files small enough to hit everything.
fn rich(random: &mut Rng, closed: bool) -> (tempfile::TempDir, Model) {
    let dir = memory();
    let small = Options { memtable_bytes: 64 << 10, checkpoint_bytes: 2_000, ..options() };
    let (mut log, _) = Log::open(dir.path(), small, FRESH).expect("the directory opens");
    let mut model = Model::new(300);
    for step in 0..150 {
        log.append(&[model.round(random)]).expect("append");
        if step % 20 == 19 {
            log.trim(5_000).expect("trim");
        }
        if step == 100 {
            log.close().expect("close");
            log = Log::open(dir.path(), small, FRESH).expect("the directory opens").0;
        }
    }
    write(&log.snapshots(), id(1, 9), &[vec![1; 700], vec![2; 900]]);
    write(&log.snapshots(), id(2, 5), &[vec![3; 100]]);
    if closed {
        log.close().expect("close");
    }
    (dir, model)
}

/// Files that may be damaged: all that hold data, with a name for their kind.
fn targets(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let of = |kind, paths: Vec<PathBuf>| paths.into_iter().map(move |path| (kind, path));
    let named = |start: &str| {
        let entries = fs::read_dir(dir.join("db")).expect("list").map(|entry| entry.expect("list"));
        let with_start =
            |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(start);
        entries.filter(with_start).map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let snapshots = fs::read_dir(dir.join("snapshots")).expect("list");
    let snapshots = snapshots.map(|entry| entry.expect("list").path()).collect();
    let wal = files(dir, ".log");
    let mut targets: Vec<_> = of("table", files(dir, ".sst")).chain(of("wal", wal)).collect();
    targets.extend(of("manifest", named("MANIFEST")).chain(of("snapshot", snapshots)));
    targets.sort();
    targets
}

/// Flips a bit, cuts the file, or overwrites some of it.
fn damage(random: &mut Rng, path: &Path) -> String {
    let mut bytes = fs::read(path).expect("read");
    let at = random.usize(0..bytes.len());
    let what = match random.u32(0..3) {
        0 => {
            bytes[at] ^= 1 << random.u32(0..8);
            "bit flipped"
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        _ => {
            let end = bytes.len().min(at + random.usize(1..200));
            bytes[at..end].fill_with(|| random.u8(..));
            "overwritten"
        }
    };
    fs::write(path, bytes).expect("write");
    format!("{what} at {at} of {}", path.display())
}

/// Not a test of its own: a process that may be aborted by what it opens.
#[test]
fn opener() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    // Refused or not, it lives.
    drop(Log::open(Path::new(&dir), options(), FRESH));
}

/// The engine that we link has assertions, and parses the properties of a table before it looks at
/// their checksum: one bit of a whole table says that they have an index of hashes, which aborts the
/// process (`data_block_hash_index.cc:80`). A node that meets it never serves, and says no clear word.
fn aborts(dir: &Path) -> bool {
    let copy = copy(dir);
    let ended = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "opener", "--test-threads=1"])
        .env(CHILD, copy.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a child");
    let aborted = ended.signal() == Some(libc::SIGABRT);
    assert!(ended.success() || aborted, "opening ended with {ended}");
    if aborted {
        println!("the engine aborted");
    }
    aborted
}

/// True if the directory and its snapshots are whole, false if the damage is named.
fn is_whole(dir: &Path, model: &Model) -> bool {
    let (log, recovered) = match Log::open(dir, options(), FRESH) {
        Ok(opened) => opened,
        Err(OpenError::Corrupt { .. } | OpenError::Shortened { .. } | OpenError::Engine { .. }) => {
            return false;
        }
        Err(error) => panic!("not a clear refusal: {error}"),
    };
    model.check_recovered(&recovered);
    model.check_entries(&log);
    let snapshots = log.snapshots();
    let listed = match snapshots.list() {
        Ok(listed) => listed,
        Err(SnapshotError::Damaged { .. } | SnapshotError::Format { .. }) => return false,
        Err(error) => panic!("not a clear refusal: {error}"),
    };
    assert_eq!(listed.len(), 2);
    for info in listed {
        match snapshots.open(info.id).and_then(|reader| reader.collect::<Result<Vec<_>, _>>()) {
            Ok(chunks) => assert_eq!(chunks.len(), if info.id.group == 1 { 2 } else { 1 }),
            Err(SnapshotError::Damaged { .. }) => return false,
            Err(error) => panic!("not a clear refusal: {error}"),
        }
    }
    true
}

#[test]
fn random_damage_is_refused_or_harms_nothing() {
    let seed =
        std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().expect("number"));
    println!("SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for closed in [false, true, false, true] {
        let (dir, model) = rich(&mut random, closed);
        assert!(is_whole(copy(dir.path()).path(), &model));
        for number in 0..60 {
            let copy = copy(dir.path());
            let targets = targets(copy.path());
            let kinds: BTreeSet<&str> = targets.iter().map(|(kind, _)| *kind).collect();
            let wanted = *kinds.iter().nth(number % kinds.len()).expect("some kind");
            let of_kind: Vec<_> = targets.iter().filter(|(kind, _)| *kind == wanted).collect();
            let (_, target) = of_kind[random.usize(0..of_kind.len())];
            println!("{}", damage(&mut random, target));
            let count = counts.entry(wanted).or_default();
            let ends_the_process = wanted == "table" && aborts(copy.path());
            let is_refused = ends_the_process || !is_whole(copy.path(), &model);
            if is_refused { count.0 += 1 } else { count.1 += 1 }
        }
    }
    println!("(refused, harmless): {counts:?}");
    let refused: u32 = counts.values().map(|(refused, _)| refused).sum();
    assert_eq!(counts.len(), 4);
    assert!(refused >= 150, "{refused}");
}

fn assert_shortened(error: &OpenError, expected: u64) {
    let OpenError::Shortened { last, .. } = error else { panic!("{error}") };
    assert_eq!(*last, expected, "{error}");
}
