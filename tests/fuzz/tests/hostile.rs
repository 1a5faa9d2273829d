//! Every decoder, fed with its corpus and with thousands of damaged inputs. One test, for it counts
//! the memory of the whole process.

use multiraft_fuzz::{TARGETS, corpus, run};
use std::time::Instant;

const INPUTS: u64 = 20_000;

#[test]
fn no_bytes_break_a_decoder() {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(19);
    println!("FUZZ_SEED={seed}");
    let mut failures = Vec::new();
    for target in &TARGETS {
        let began = Instant::now();
        for (name, input) in corpus::load(target).expect("every target has a corpus") {
            if let Err(error) = run::check(target, &input) {
                failures.push(format!("{}, corpus/{name}: {error}", target.name));
            }
        }
        if let Err(failure) = run::fuzz(target, seed, INPUTS) {
            failures.push(failure);
        }
        println!("{}: {INPUTS} inputs in {:?}", target.name, began.elapsed());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
