//! Many short lives of small clusters, each from a seed.
//!
//! `SIM_SEED=7` replays one seed, `SIM_SEEDS=1000` says how many run, from `SIM_FIRST` on;
//! `SIM_TICKS` is the length of each in ticks of 100 ms.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use multiraft_sim::{Options, Report, run};

const TICKS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs a seed; when a promise is broken, says how to see that again.
fn checked(seed: u64) -> Report {
    let ticks = number("SIM_TICKS").unwrap_or(TICKS);
    let options = Options::of_seed(seed, ticks);
    catch_unwind(|| run(options)).unwrap_or_else(|_| {
        panic!(
            "replay with: SIM_SEED={seed} SIM_TICKS={ticks} cargo test -p multiraft-sim \
             --test seeds no_seed -- --nocapture"
        )
    })
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{}", checked(seed));
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
    println!("{sum}");
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 1..=20 {
        assert_eq!(checked(seed), checked(seed), "seed {seed}");
    }
}
