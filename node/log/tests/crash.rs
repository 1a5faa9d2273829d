//! A process that ends at any call to the operating system, and calls that fail: nothing that
//! was acknowledged is lost, and what is left always opens.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;
use multiraft_log::{Log, LogError, Options, SnapshotId, Snapshots};
use support::model::Model;
use support::trace::{self, Change, Disk, End};
use support::{FRESH, memory};

/// Set for the process that is watched.
const DIRECTORY: &str = "MULTIRAFT_LOG_CRASH_DIRECTORY";
const STEPS: usize = 64;
const ENTRY_BYTES: usize = 1_500;
const SEED: u64 = 13;
/// Of the process that met a failed write, as a node's would be.
const BROKEN: i32 = 74;

/// Buffers and checkpoints so small that a short run has flushes, trims and copies.
fn small() -> Options {
    Options { memtable_bytes: 64 << 10, checkpoint_bytes: 1_500, ..support::options() }
}

/// The work: the log after each step, and the snapshot that each tenth step takes.
fn work() -> impl Iterator<Item = (multiraft_log::Round, Model)> {
    let (mut random, mut model) = (Rng::with_seed(SEED), Model::new(ENTRY_BYTES));
    (0..STEPS).map(move |_| (model.round(&mut random), model.clone()))
}

fn snapshot(step: usize) -> SnapshotId {
    SnapshotId { group: 1, index: step as u64, term: 1 }
}

fn chunk(step: usize) -> Vec<u8> {
    vec![step as u8; 3_000]
}

/// Not a test of its own: the process that the tests watch. It says what is durable.
#[test]
fn driver() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    if let Err(error) = drive(&dir) {
        eprintln!("{error}");
        std::process::exit(BROKEN);
    }
}

fn drive(dir: &Path) -> Result<(), LogError> {
    let opened = Log::open(dir, small(), FRESH);
    let (mut log, _) = opened.unwrap_or_else(|_| std::process::exit(BROKEN));
    for (step, (round, _)) in work().enumerate() {
        log.append(&[round])?;
        println!("\ndurable {}", step + 1);
        if step % 2 == 1 {
            let trimmed = log.trim(100_000)?;
            println!("\ntrimmed {}", trimmed.rounds);
        }
        if step % 8 == 7 && take_snapshot(&log.snapshots(), step).is_ok() {
            println!("\nsnapshot {step}");
            // What is left behind is swept away another time.
            let _ = log.snapshots().keep_only(1, Some((step as u64, 1)));
        }
        if step == STEPS / 2 {
            log.close()?;
            let opened = Log::open(dir, small(), FRESH);
            log = opened.unwrap_or_else(|_| std::process::exit(BROKEN)).0;
        }
    }
    log.close()
}

fn take_snapshot(snapshots: &Snapshots, step: usize) -> Result<(), multiraft_log::SnapshotError> {
    let mut writer = snapshots.create(snapshot(step), b"1")?;
    writer.push(&chunk(step))?;
    writer.push(&chunk(step))?;
    writer.finish().map(drop)
}

/// What the process had said.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    steps: usize,
    snapshot: Option<usize>,
    trims: usize,
}

impl Said {
    fn note(&mut self, line: &str) {
        let number = |word: &str| line.strip_prefix(word)?.trim().parse().ok();
        self.steps = number("durable ").unwrap_or(self.steps);
        self.snapshot = number("snapshot ").or(self.snapshot);
        self.trims += usize::from(number("trimmed ").is_some_and(|rounds| rounds > 0));
    }
}

/// What a directory holds must be what was said, or one step more.
fn check(dir: &Path, said: Said, what: &str) {
    let (log, recovered) = Log::open(dir, small(), FRESH)
        .unwrap_or_else(|error| panic!("{what}: {said:?}: does not open: {error}"));
    let models: Vec<Model> =
        std::iter::once(Model::new(ENTRY_BYTES)).chain(work().map(|(_, model)| model)).collect();
    let mut expected = models[said.steps..].iter().take(2);
    let Some(model) = expected.find(|model| model.equals(&recovered)) else {
        panic!("{what}: {said:?}: holds {:?}", recovered.groups);
    };
    model.check_entries(&log);
    let snapshots = log.snapshots();
    let listed = snapshots.list().expect("every snapshot is whole");
    for info in &listed {
        let chunks = snapshots.open(info.id).expect("open");
        let chunks: Vec<_> = chunks.collect::<Result<_, _>>().expect("every snapshot is whole");
        let step = usize::try_from(info.id.index).expect("a step");
        assert!(chunks.iter().all(|found| *found == chunk(step)), "{what}: {said:?}");
    }
    if let Some(step) = said.snapshot {
        let found = listed.iter().any(|info| info.id.index >= step as u64);
        assert!(found, "{what}: {said:?}: snapshots {listed:?}");
    }
}

/// `strace` of the driver in a new directory.
fn traced(dir: &Path, arguments: &[String]) -> std::process::Output {
    Command::new("strace")
        .args(["-f", "-y"])
        .args(arguments)
        .arg("--")
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "driver", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdin(Stdio::null())
        .output()
        .expect("strace runs: install it (package strace)")
}

#[test]
fn a_process_that_ends_at_any_call_loses_nothing_that_it_acknowledged() {
    let (dir, notes) = (tempfile::tempdir().expect("directory"), memory());
    let file = notes.path().join("trace");
    let options = ["-xx", "-s", "16777216", "-o", &file.to_string_lossy(), "-e"];
    let mut arguments = options.map(String::from).to_vec();
    arguments.push(format!("trace={}", trace::CALLS));
    let output = traced(dir.path(), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let changes = trace::read(&file, dir.path());
    let (mut disk, mut said, mut points) = (Disk::default(), Said::default(), [0, 0]);
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    for (number, change) in changes.iter().enumerate() {
        if let Change::Said(line) = change {
            said.note(line);
        }
        if !disk.apply(change) {
            continue;
        }
        *kinds.entry(name_of(change)).or_default() += 1;
        let ends: &[End] = match change {
            Change::Sync { .. } => &[End::PowerLost],
            _ => &[End::Killed, End::PowerLost],
        };
        for end in ends {
            let copy = memory();
            disk.write(copy.path(), *end);
            check(
                copy.path(),
                said,
                &format!("{end:?} after change {number}, {}", name_of(change)),
            );
            points[*end as usize] += 1;
        }
    }
    println!("{points:?} points (killed, power lost) of {kinds:?}, {said:?}");
    assert_eq!(said.steps, STEPS);
    assert!(said.trims > 2 && points[0] > 200 && points[1] > 250);
}

fn name_of(change: &Change) -> String {
    let text = format!("{change:?}");
    text.split([' ', '(']).next().expect("a word").to_string()
}

#[test]
fn a_failed_call_stops_the_log_and_loses_nothing_that_it_acknowledged() {
    let (mut broken, mut runs) = (0, 0);
    for (call, every) in
        [("fdatasync", 7), ("fsync", 5), ("write", 11), ("pwrite64", 9), ("rename,unlink", 3)]
    {
        for turn in 0..6 {
            let dir = memory();
            let inject = format!("inject={call}:error=EIO:when={}", 2 + turn * every);
            let arguments = ["-o", "/dev/null", "-e"].map(String::from);
            let output =
                traced(dir.path(), &[&arguments[..], std::slice::from_ref(&inject)].concat());
            let mut said = Said::default();
            String::from_utf8_lossy(&output.stdout).lines().for_each(|line| said.note(line));
            check(dir.path(), said, &inject);
            runs += 1;
            if !output.status.success() {
                broken += 1;
            } else {
                assert_eq!(said.steps, STEPS, "{inject}");
            }
        }
    }
    println!("{broken} of {runs} processes met their failure and stopped");
    assert!(broken >= 12, "{broken}");
}
