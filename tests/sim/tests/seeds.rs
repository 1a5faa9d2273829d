//! Many short lives of small clusters, each from a seed, and those that once broke a promise.
//!
//! `SIM_SEED=7` replays one seed, `SIM_SEEDS=1000` says how many run, from `SIM_FIRST` on;
//! `SIM_TICKS` is the length of each in ticks of 100 ms. `SIM_SCRIPT=run.yaml` replays a run that is
//! written down: what a failing seed shrinks to. Put into `tests/sim/scripts` it stays.

mod support;

use std::fs::{read_dir, read_to_string, write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use multiraft_sim::{Options, Report, run, shrink};
use support::{attempt, broken};

const TICKS: u64 = 300;

/// Runs that a failing seed may take to shrink.
const SHRINKING_RUNS: usize = 400;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn of_seed(seed: u64) -> Options {
    Options::of_seed(seed, number("SIM_TICKS").unwrap_or(TICKS))
}

/// Runs a seed; when a promise is broken, says how to see that again.
fn checked(seed: u64) -> Report {
    let options = of_seed(seed);
    attempt(&options).unwrap_or_else(|message| {
        let ticks = options.shape.ticks;
        let smallest = smallest(options, &message);
        panic!(
            "{message}\nreplay with: SIM_SEED={seed} SIM_TICKS={ticks} cargo test -p multiraft-sim \
             --test seeds no_seed -- --nocapture\nor, with less around it: {smallest}"
        )
    })
}

/// Writes the smallest run that fails as this one did, and says how to see it.
#[expect(clippy::disallowed_methods, reason = "the test is no part of the world")]
fn smallest(options: Options, message: &str) -> String {
    let (by, _) = broken(message);
    let fails = |o: &Options| attempt(o).is_err_and(|m| broken(&m).0 == by);
    let (all, seed) = (options.faults.len(), options.seed);
    let options = shrink(options, SHRINKING_RUNS, fails);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{seed}.yaml"));
    let text = serde_yaml::to_string(&options).expect("plain data can be written");
    write(&path, text).expect("cargo made the folder");
    format!(
        "SIM_SCRIPT={} cargo test -p multiraft-sim --test seeds no_script -- --nocapture ({} of {all} \
         faults, {} ticks)",
        path.display(),
        options.faults.len(),
        options.shape.ticks
    )
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{}", run(of_seed(seed)));
        return;
    }
    let (first, count) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(100));
    let next = AtomicU64::new(first);
    let worker = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return sum;
            }
            sum += checked(seed);
        }
    };
    let sum = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().fold(Report::default(), |mut sum, worker| {
            // Its seed and its reason were printed where it panicked.
            sum += worker.join().expect("a seed broke a promise");
            sum
        })
    });
    println!("seeds {first} to {}\n{sum}", first + count - 1);
    let missed = sum.missed_floors();
    assert!(missed.is_empty(), "too little happened for these seeds to show much: {missed:?}");
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is no part of the world")]
fn no_script_breaks_a_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let scripts: Vec<PathBuf> = match std::env::var_os("SIM_SCRIPT") {
        Some(path) => vec![path.into()],
        None => {
            let entries = read_dir(&folder).expect("the folder of the scripts can be read");
            entries.map(|entry| entry.expect("an entry can be read").path()).collect()
        }
    };
    assert!(!scripts.is_empty(), "no script in {}", folder.display());
    for path in scripts {
        let name = path.display();
        let text = read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let options = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        println!("{name}");
        run(options);
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 1..=20 {
        assert_eq!(checked(seed), checked(seed), "seed {seed}");
    }
}
