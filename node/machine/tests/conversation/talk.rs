//! Random conversations with all primitives, what they say may make sense or not. `TALK_SEED=7`
//! replays one, `TALK_SEEDS=10000` says how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use super::{Conversation, message};
use fastrand::Rng;
use multiraft_proto::rpc::{self, RPCS, Rpc};
use prost_reflect::Kind;

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
/// As scripts name them.
static PRIMITIVES: LazyLock<Vec<&str>> =
    LazyLock::new(|| RPCS.iter().map(primitive).collect::<BTreeSet<_>>().into_iter().collect());

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
        for _ in 0..300 {
            talk.line(&mut script);
        }
        script + "---\n"
    }

    fn open(&mut self, who: usize, script: &mut String) {
        let name = PEOPLE[who];
        writeln!(script, "{name}: open {}s", self.rng.u32(20..90)).unwrap();
        for primitive in PRIMITIVES.iter() {
            writeln!(script, "{name}: create {primitive}").unwrap();
        }
        self.said[who] = PRIMITIVES.len() as u32;
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
                let primitive = PRIMITIVES[self.rng.usize(..PRIMITIVES.len())];
                writeln!(script, "{name}: close {primitive}").unwrap();
                writeln!(script, "{name}: create {primitive}").unwrap();
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
            18 => self.administer(script),
            _ => {
                let rpc = &RPCS[self.rng.usize(..RPCS.len())];
                // Clear ends much.
                if rpc.method == "Clear" && self.rng.u32(..4) > 0 {
                    return;
                }
                self.said[who] += u32::from(rpc.kind == rpc::Kind::Command);
                let (primitive, fields) = (primitive(rpc), self.fields(rpc));
                writeln!(script, "{name}: {primitive}.{}{fields}", rpc.method).unwrap();
            }
        }
    }

    fn administer(&mut self, script: &mut String) {
        let who = self.rng.usize(..PEOPLE.len());
        match self.rng.u32(..12) {
            0 => {
                writeln!(script, "admin: expire {}", PEOPLE[who]).unwrap();
                self.open(who, script);
            }
            1 => {
                let primitive = PRIMITIVES[self.rng.usize(..PRIMITIVES.len())];
                writeln!(script, "admin: destroy {primitive}").unwrap();
                for (who, name) in PEOPLE.iter().enumerate() {
                    writeln!(script, "{name}: create {primitive}").unwrap();
                    self.said[who] += 1;
                }
            }
            // All of the primitives and sessions are there already.
            2..6 => {
                let (bytes, sessions) = (self.rng.u32(..4_000), self.rng.u32(2..4));
                writeln!(script, "admin: quota bytes={bytes} sessions={sessions}").unwrap();
            }
            6..10 => writeln!(script, "admin: quota").unwrap(),
            _ => writeln!(script, "admin: list quotas").unwrap(),
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
            Kind::Uint32 => one_of(&["0", "1", "2", "4294967295"]),
            Kind::Int64 => one_of(&["-9223372036854775808", "-1", "0", "1", "2"]),
            Kind::Uint64 => one_of(&["0", "1", "2", "3", "18446744073709551615"]),
            Kind::Message(message) if message.name() == "Duration" => {
                one_of(&["0s", "20ms", "1s", "3s", "-1s"])
            }
            Kind::Message(message) if message.name() == "MapInput" => one_of(&[
                "put key=a value=one",
                "put key=b value=two ttl=1s",
                "insert key=c value=one",
                "update key=a value=two prev_index=1",
                "remove key=b",
            ]),
            Kind::Message(message) if message.name() == "Element" => one_of(&["", "a", "b", "c"]),
            Kind::Message(_) => one_of(&["a:a,b", "b:a,b,c", "c:", "d:b"]),
            other => panic!("{other:?} is in no input"),
        }
    }
}

/// The name of its package, as in `map.Put`.
fn primitive(rpc: &Rpc) -> &'static str {
    rpc.path.trim_start_matches("/atomix.multiraft.").split('.').next().unwrap()
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
                "{script}replay with: TALK_SEED={seed} cargo test -p multiraft-machine --test conversations any"
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
    let seed = number("TALK_SEED");
    let seeds = seed.map_or(1..=number("TALK_SEEDS").unwrap_or(100), |seed| seed..=seed);
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
    // All but those that only stream changes.
    let methods = RPCS.iter().map(|rpc| rpc.method).filter(|method| *method != "Watch");
    let answered = methods.map(|method| format!("{method} OK"));
    let refused = [
        "Append ALREADY_EXISTS",
        "Decrement INVALID",
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
