//! `multiraft-fuzz seeds` writes the corpora anew, `multiraft-fuzz run SECONDS` goes on for so long
//! over all targets in turn (FUZZ_SEED and FUZZ_TARGET choose).

use multiraft_fuzz::{TARGETS, corpus, run};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const INPUTS_AT_ONCE: u64 = 5_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["seeds"] => seeds(),
        ["run", seconds] => match seconds.parse() {
            Ok(seconds) => go_on(Duration::from_secs(seconds)),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: multiraft-fuzz seeds | run SECONDS");
    ExitCode::from(2)
}

fn seeds() -> ExitCode {
    for target in &TARGETS {
        if let Err(error) = corpus::write_seeds(target) {
            eprintln!("corpus of {}: {error}", target.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn go_on(time: Duration) -> ExitCode {
    let began = Instant::now();
    let from_time = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let first = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let first: u64 = first.unwrap_or_else(from_time);
    let wanted = std::env::var("FUZZ_TARGET").ok();
    let mut chosen: Vec<_> = TARGETS.iter().collect();
    chosen.retain(|target| wanted.as_deref().is_none_or(|name| name == target.name));
    let (mut failures, mut seed, mut inputs) = (0, first, 0);
    while began.elapsed() < time && !chosen.is_empty() {
        chosen.retain(|target| match run::fuzz(target, seed, INPUTS_AT_ONCE) {
            Ok(()) => {
                inputs += INPUTS_AT_ONCE;
                true
            }
            // The others go on: what failed is in the corpus, so this one would fail again.
            Err(failure) => {
                eprintln!("{failure}");
                failures += 1;
                false
            }
        });
        seed += 1;
    }
    println!("{inputs} inputs from seed {first} in {:?}: {failures} failures", began.elapsed());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
