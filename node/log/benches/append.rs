//! What an append costs: wall time and CPU of a synced round, by its size.
//!
//! `cargo bench -p multiraft-log --bench append [-- DIRECTORY]`: the directory decides which
//! disk is measured; without one, the current directory's.

use std::time::{Duration, Instant};

use bytes::Bytes;
use multiraft_log::{Entry, FreshIdentity, GroupRound, HardState, Log, Options, Round};

const SECONDS: u64 = 3;
const ENTRY_BYTES: usize = 150;

fn main() {
    let place = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let place = place.unwrap_or_else(|| ".".into());
    println!("entries/round  groups  appends/s  µs/append  p99 µs  CPU µs/append  CPU µs/entry");
    for (groups, entries) in [(1, 1), (1, 8), (1, 64), (64, 1), (1, 512)] {
        measure(&place, groups, entries);
    }
}

fn measure(place: &str, groups: u32, entries: u64) {
    let dir = tempfile::tempdir_in(place).expect("a directory to measure in");
    let fresh = FreshIdentity { node_id: 1, incarnation: 1 };
    let (mut log, _) = Log::open(dir.path(), Options::default(), fresh).expect("open");
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut times: Vec<Duration> = Vec::new();
    let mut next = 1;
    while start.elapsed() < Duration::from_secs(SECONDS) {
        let round = round(groups, next, entries);
        next += entries;
        let begun = Instant::now();
        log.append(std::slice::from_ref(&round)).expect("append");
        times.push(begun.elapsed());
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    times.sort();
    let count = times.len() as f64;
    let per_append = cpu * 1e6 / count;
    println!(
        "{entries:13}  {groups:6}  {:9.0}  {:9.1}  {:6}  {per_append:13.1}  {:12.2}",
        count / wall,
        wall * 1e6 / count,
        times[times.len() * 99 / 100].as_micros(),
        per_append / (entries * u64::from(groups)) as f64,
    );
}

fn round(groups: u32, first: u64, count: u64) -> Round {
    let part = |group| {
        let data = Bytes::from(vec![7; ENTRY_BYTES]);
        let entry = |index| Entry { index, term: 1, data: data.clone(), ..Entry::default() };
        GroupRound {
            group,
            state: Some(HardState { term: 1, vote: 1, commit: first - 1 }),
            entries: (first..first + count).map(entry).collect(),
            ..GroupRound::default()
        }
    };
    Round { groups: (1..=groups).map(part).collect(), peers: vec![] }
}

/// Of the writing thread: flushes in the background are not in it.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own = stat.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
    Duration::from_nanos(own)
}
