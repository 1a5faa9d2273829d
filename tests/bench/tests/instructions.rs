//! Instructions of the hot path, counted by valgrind: the one measure that neither neighbours nor
//! the disk move. The program runs itself under callgrind with two counts of commands; the
//! difference is what one command costs.

mod workloads;

use std::process::{Command, ExitCode};

/// What each workload may cost more than stored, in percent: the C library picks other routines on
/// other processors.
const TOLERANCE_PERCENT: f64 = 5.0;
/// Commands of the two runs.
const FEW: usize = 200;
const MANY: usize = 1200;

/// Instructions per command in the profile of tests, as last accepted: a group of one member with a
/// command in each round; 20 groups with 10 each; three nodes with 10 in each round, frames and all;
/// the same with 200 groups and one in each;
/// a put in a machine; a put that the session has seen. A change that costs more for a good reason, or gains,
/// writes the number here that the test prints.
const STORED: [(&str, u64); 6] = [
    ("propose", 27_791),
    ("round", 12_001),
    ("replicate", 41_612),
    ("spread", 127_409),
    ("apply", 8_020),
    ("repeat", 3_782),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, count] = &arguments[..]
        && word == "workload"
    {
        workloads::run(name, count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("fault skipped: valgrind is missing, instructions are not counted");
        println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    let failed = STORED.iter().filter(|(name, stored)| !holds(name, *stored)).count();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {} passed; {failed} failed; 0 ignored", STORED.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

fn holds(name: &str, stored: u64) -> bool {
    let (few, many) = (collected(name, FEW), collected(name, MANY));
    let now = (many - few) / (MANY - FEW) as u64;
    let change = 100.0 * (now as f64 / stored as f64 - 1.0);
    let holds = change <= TOLERANCE_PERCENT;
    let advice = match change {
        _ if !holds => ": too many; if they are worth it, write the number into STORED",
        c if c < -TOLERANCE_PERCENT => ": fewer; write the number into STORED, so that they stay",
        _ => "",
    };
    println!("{name}: {now} instructions per command, stored {stored} ({change:+.1} %){advice}");
    holds
}

/// Instructions of a whole run.
fn collected(name: &str, count: usize) -> u64 {
    let own = std::env::current_exe().expect("a test has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["workload", name, &count.to_string()])
        .output()
        .expect("valgrind runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}");
    let line = text.lines().find_map(|line| line.split_once("Collected : "));
    let count = line.and_then(|(_, count)| count.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind counted nothing: {text}"))
}
