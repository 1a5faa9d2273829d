//! The measure of the simulation: whether it finds what was put in on purpose.
//!
//! `PLANTED=ReadsByLease` looks at one defect alone.

mod support;

use std::time::Instant;

use multiraft_sim::{Defect, Options};
use support::{attempt, broken};

/// Each defect is found within these.
const SEEDS: u64 = 200;
const SECONDS: u64 = 60;

const TICKS: u64 = 600;

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is no part of the world, and has a limit")]
fn every_planted_defect_is_caught() {
    let only = std::env::var("PLANTED").ok().filter(|name| !name.is_empty());
    let mut missed = Vec::new();
    for defect in Defect::ALL.iter().copied() {
        if only.as_ref().is_some_and(|name| Defect::named(name) != Some(defect)) {
            continue;
        }
        let started = Instant::now();
        let caught = (1..=SEEDS).find_map(|seed| {
            let options = Options { planted: Some(defect), ..Options::of_seed(seed, TICKS) };
            let found = attempt(&options).err()?;
            let sound = attempt(&Options { planted: None, ..options });
            assert_eq!(sound.err(), None, "seed {seed} breaks without {defect:?}");
            let in_time = started.elapsed().as_secs() < SECONDS;
            in_time.then_some((seed, found))
        });
        let seconds = started.elapsed().as_secs_f32();
        let name = format!("{defect:?}");
        match caught {
            Some((seed, found)) => {
                let (by, start) = broken(&found);
                println!("{name:<27} seed {seed:>3}  {seconds:>5.1} s  {by:<16} {start}");
            }
            None => {
                println!("{name:<27} NOT CAUGHT by {SEEDS} seeds in {seconds:.1} s");
                missed.push(name);
            }
        }
    }
    assert!(missed.is_empty(), "not caught by {SEEDS} seeds and {SECONDS} s: {missed:?}");
}
