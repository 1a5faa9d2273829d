//! Conversations with the primitives that have keys, as in `conversation`: `tests/scripts` says what
//! is asked and, behind `---`, what is answered. `UPDATE_GOLDENFILES=1` writes the answers down, to
//! be read.
//!
//! Random conversations, too: `KEYED_SEED=7` replays one, `KEYED_SEEDS=10000` says how many there are.
#![allow(clippy::unwrap_used)]

mod conversation;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use conversation::{Conversation, message};
use fastrand::Rng;
use multiraft_proto::rpc::{self, RPCS, Rpc};
use prost_reflect::Kind;

macro_rules! conversations {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/", stringify!($name));
            goldenscript::run(&mut Conversation::new(), path).unwrap();
        })*
    };
}

conversations!(countermap, countermap_locks, indexedmap, indexedmap_events, multimap);

/// What the original gets wrong.
mod defects {
    use super::*;

    conversations!(
        a_change_tells_the_new_number_and_not_the_delta,
        a_former_holder_that_ends_takes_no_key_from_its_holder,
        a_key_of_another_entry_is_a_conflict_and_no_fault,
        a_key_without_values_does_not_exist,
        a_lock_on_keys_is_served,
        a_number_that_would_overflow_stays_as_it_is,
        a_refused_update_leaves_the_number_alone,
        a_removal_by_index_disarms_the_time_to_live,
        an_indexed_map_survives_a_snapshot,
        an_update_tells_the_value_before,
        clearing_tells_of_all_keys_in_their_order,
        entries_with_watch_are_refused_and_not_cut_short,
    );
}

const TYPES: [&str; 3] = [rpc::countermap::TYPE, rpc::indexedmap::TYPE, rpc::multimap::TYPE];
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// Lines that may be said, whether they make sense or not.
struct Talk {
    rng: Rng,
    /// Commands of each, in its present session.
    said: [u32; 3],
}

impl Talk {
    fn script(seed: u64) -> String {
        let mut talk = Self { rng: Rng::with_seed(seed), said: [0; 3] };
        let mut script = String::new();
        for who in 0..PEOPLE.len() {
            talk.open(who, &mut script);
        }
        for _ in 0..150 {
            talk.line(&mut script);
        }
        script + "---\n"
    }

    fn open(&mut self, who: usize, script: &mut String) {
        let name = PEOPLE[who];
        writeln!(script, "{name}: open {}s", self.rng.u32(20..90)).unwrap();
        for primitive in ["countermap", "indexedmap", "multimap"] {
            writeln!(script, "{name}: create {primitive}").unwrap();
        }
        self.said[who] = 3;
    }

    fn line(&mut self, script: &mut String) {
        let who = self.rng.usize(..PEOPLE.len());
        let name = PEOPLE[who];
        match self.rng.u32(..100) {
            0..8 => writeln!(script, "after {}ms", self.rng.u32(..4_000)).unwrap(),
            8 => {
                writeln!(script, "{name}: end").unwrap();
                self.open(who, script);
            }
            9 => {
                writeln!(script, "{name}: close countermap").unwrap();
                writeln!(script, "{name}: create countermap").unwrap();
                self.said[who] += 2;
            }
            10..14 => {
                let number = self.rng.u32(1..=self.said[who]);
                writeln!(script, "{name}: cancel {number}").unwrap();
            }
            14..18 => {
                let open = self.rng.u32(1..=self.said[who]);
                writeln!(script, "{name}: keep {open} {}", open.saturating_sub(1)).unwrap();
            }
            _ => {
                let rpcs: Vec<_> = RPCS.iter().filter(|r| TYPES.contains(&r.primitive)).collect();
                let rpc = rpcs[self.rng.usize(..rpcs.len())];
                // Clear ends much.
                if rpc.method == "Clear" && self.rng.u32(..4) > 0 {
                    return;
                }
                self.said[who] += u32::from(rpc.kind == rpc::Kind::Command);
                writeln!(script, "{name}: {}{}", operation(rpc), self.fields(rpc)).unwrap();
            }
        }
    }

    fn fields(&mut self, rpc: &Rpc) -> String {
        let mut text = String::new();
        for (name, kind, is_list) in message::fields(rpc) {
            let count = if is_list { self.rng.u32(..4) } else { u32::from(self.rng.u32(..3) > 0) };
            for _ in 0..count {
                write!(text, " {name}=\"{}\"", self.value(&kind)).unwrap();
            }
        }
        text
    }

    fn value(&mut self, kind: &Kind) -> String {
        let mut one_of = |values: &[&str]| values[self.rng.usize(..values.len())].to_owned();
        match kind {
            Kind::String => one_of(&["", "a", "b", "c", "d", "1025*x"]),
            Kind::Bytes => one_of(&["", "one", "two"]),
            Kind::Bool => one_of(&["true", "false", "false"]),
            Kind::Int64 => one_of(&["-9223372036854775808", "-1", "0", "1", "2"]),
            Kind::Uint64 => one_of(&["0", "1", "2", "3", "18446744073709551615"]),
            Kind::Message(message) if message.name() == "Duration" => {
                one_of(&["0s", "20ms", "1s", "3s", "-1s"])
            }
            Kind::Message(_) => one_of(&["a:a,b", "b:a,b,c", "c:", "d:b"]),
            other => panic!("{other:?} is in no input"),
        }
    }
}

/// As scripts name it: `map.Put`.
fn operation(rpc: &Rpc) -> String {
    let primitive = rpc.path.trim_start_matches("/atomix.multiraft.").split('.').next().unwrap();
    format!("{primitive}.{}", rpc.method)
}

/// Prints the conversation that fails.
struct Replay<'a> {
    seed: u64,
    script: &'a str,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, script } = self;
            eprintln!(
                "{script}replay with: KEYED_SEED={seed} cargo test -p multiraft-machine --test keyed any"
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Behind every line, `Conversation` makes a second machine from a snapshot, which has to go on the
/// same; and what is refused must have changed nothing.
#[test]
fn any_input_is_answered_the_same_after_a_snapshot_and_changes_nothing_when_refused() {
    let seed = number("KEYED_SEED");
    let seeds = seed.map_or(1..=number("KEYED_SEEDS").unwrap_or(100), |seed| seed..=seed);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in seeds {
        let script = Talk::script(seed);
        let _replay = Replay { seed, script: &script };
        let told = goldenscript::generate(&mut Conversation::new(), &script).unwrap();
        for line in told.split("---").nth(1).unwrap().lines() {
            // `alice: bob 7.1 Lock @9: CONFLICT keys: …`: the method, and the status or the brace.
            let Some((head, text)) = line.split_once(" @").and_then(|(head, rest)| {
                Some((head.split(' ').next_back()?, rest.split_once(": ")?.1))
            }) else {
                continue;
            };
            let status = text.split(' ').next().unwrap_or_default();
            let status = if status.starts_with('{') { "OK" } else { status };
            *seen.entry(format!("{head} {status}")).or_default() += 1;
        }
    }
    println!("{seen:?}");
    if seed.is_some() {
        return;
    }
    let methods = RPCS.iter().filter(|rpc| TYPES.contains(&rpc.primitive)).map(|rpc| rpc.method);
    let answered = methods.map(|method| format!("{method} OK"));
    let refused = [
        "Append ALREADY_EXISTS",
        "Decrement INVALID",
        "Entries NOT_SUPPORTED",
        "Insert ALREADY_EXISTS",
        "Lock CONFLICT",
        "Lock INVALID",
        "NextEntry NOT_FOUND",
        "Put ALREADY_EXISTS",
        "Remove CONFLICT",
        "Remove NOT_FOUND",
        "RemoveAll NOT_FOUND",
        "Unlock CONFLICT",
        "Update CONFLICT",
        "Update INVALID",
        "Update NOT_FOUND",
    ];
    let rare: Vec<String> = answered
        .chain(refused.map(str::to_owned))
        .filter(|answer| seen.get(answer).is_none_or(|count| *count < 5))
        .collect();
    assert!(rare.is_empty(), "hardly tested: {rare:?}");
}
