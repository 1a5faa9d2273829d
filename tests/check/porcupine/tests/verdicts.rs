//! Our checkers beside Porcupine: the same histories, and one verdict.
//!
//! All histories come from constant seeds: running a test again replays it. One that is printed can
//! be given to `go run .` in this package's folder.

use std::sync::LazyLock;

use fastrand::Rng;
use multiraft_check::counter::{self, Call};
use multiraft_check::register::{self, Action, Operation};
use multiraft_porcupine::{History, Verdict, run, verdicts};
use multiraft_sim::{Options, run_recorded};

/// Runs of the simulation, and the length of each.
const SEEDS: u64 = 120;
const TICKS: u64 = 600;

/// Random histories of each kind.
const RANDOM: u64 = 4_000;

/// What calls of one counter saw.
#[derive(Clone, Debug)]
struct Counts {
    calls: Vec<Call>,
    /// When the increments began whose outcome nobody learned.
    unknown: Vec<u64>,
    end: u64,
}

enum Seen {
    Register(Vec<Operation<u64>>),
    Counter(Counts),
}

/// A history, and what our checker says of it.
struct Case {
    from: String,
    is_ok: bool,
    /// Our checker misses nothing in a history like this.
    is_exact: bool,
    history: History,
}

impl Case {
    fn of_register(from: String, operations: &[Operation<u64>]) -> Self {
        let is_ok = register::check(0, operations).is_ok();
        Case { from, is_ok, is_exact: true, history: History::of_register(operations) }
    }

    fn of_counter(from: String, Counts { calls, unknown, end }: &Counts) -> Self {
        let is_ok = counter::check_with_unknown(calls, unknown.len() as u64, *end).is_ok();
        let is_exact = unknown.is_empty() && calls.iter().all(|call| call.delta <= 1);
        Case { from, is_ok, is_exact, history: History::of_counter(calls, unknown, *end) }
    }
}

/// Histories that both decided.
#[derive(Debug, Default)]
struct Tally {
    ok: usize,
    illegal: usize,
    /// Illegal for Porcupine, and passed by ours where it may: see [`counter::check_with_unknown`].
    missed: usize,
    /// Porcupine gave up.
    undecided: usize,
}

/// Asks Porcupine; none without Go.
fn compare(what: &str, cases: &[Case]) -> Option<Tally> {
    let Some(verdicts) = verdicts(cases.iter().map(|case| &case.history)) else {
        println!("fault skipped: Go is missing, nothing is compared with Porcupine");
        return None;
    };
    let mut tally = Tally::default();
    let mut differ = Vec::new();
    for (case, verdict) in cases.iter().zip(verdicts) {
        match (case.is_ok, verdict) {
            (_, Verdict::Unknown) => tally.undecided += 1,
            (true, Verdict::Ok) => tally.ok += 1,
            (false, Verdict::Illegal) => tally.illegal += 1,
            (true, Verdict::Illegal) if !case.is_exact => tally.missed += 1,
            (is_ok, _) => {
                let ours = if is_ok { Verdict::Ok } else { Verdict::Illegal };
                let Case { from, history, .. } = case;
                differ.push(format!("{from}: ours {ours:?}, Porcupine {verdict:?}\n{history}"));
            }
        }
    }
    let shortest = differ.iter().min_by_key(|text| text.len());
    assert!(differ.is_empty(), "{} differ, as {}", differ.len(), shortest.expect("some"));
    println!("{what}: {tally:?}");
    Some(tally)
}

/// What clients saw in simulated worlds, under all faults.
static RECORDED: LazyLock<Vec<(String, Seen)>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for seed in 1..=SEEDS {
        for (group, history) in run_recorded(Options::of_seed(seed, TICKS)).1 {
            for (register, operations) in history.registers {
                let from = format!("seed {seed}, group {group}, register {register}");
                all.push((from, Seen::Register(operations)));
            }
            let end = history.counts.iter().map(|call| call.value).max().unwrap_or(0);
            let counts = Counts { calls: history.counts, unknown: history.unknown, end };
            all.push((format!("seed {seed}, group {group}, counter"), Seen::Counter(counts)));
        }
    }
    all
});

#[test]
fn recorded_histories_are_sound_to_both() {
    let case = |(from, seen): &(String, Seen)| match seen {
        Seen::Register(operations) => Case::of_register(from.clone(), operations),
        Seen::Counter(counts) => Case::of_counter(from.clone(), counts),
    };
    let cases: Vec<Case> = RECORDED.iter().map(case).collect();
    let Some(tally) = compare("recorded", &cases) else { return };
    assert_eq!((tally.illegal, tally.missed), (0, 0));
    assert!(tally.ok > 500, "{tally:?}");
}

#[test]
fn damaged_histories_get_one_verdict() {
    let mut cases = Vec::new();
    for (number, (from, seen)) in RECORDED.iter().enumerate() {
        let mut rng = Rng::with_seed(number as u64);
        for is_swap in [true, false] {
            let from = format!("{from}, {}", if is_swap { "values swapped" } else { "stale read" });
            cases.extend(match seen {
                Seen::Register(operations) => {
                    let mut damaged = operations.clone();
                    let done = if is_swap {
                        swap_reads(&mut damaged, &mut rng)
                    } else {
                        read_again(&mut damaged, &mut rng)
                    };
                    done.map(|()| Case::of_register(from, &damaged))
                }
                Seen::Counter(counts) => {
                    let mut damaged = counts.clone();
                    let done = if is_swap {
                        swap_calls(&mut damaged.calls, &mut rng)
                    } else {
                        count_again(&mut damaged.calls, &mut rng)
                    };
                    done.map(|()| Case::of_counter(from, &damaged))
                }
            });
        }
    }
    let Some(tally) = compare("damaged", &cases) else { return };
    assert!(tally.illegal > 500 && tally.ok > 50, "{tally:?}");
}

/// Two reads of a register get each other's value. None when there are no two.
fn swap_reads(operations: &mut [Operation<u64>], rng: &mut Rng) -> Option<()> {
    let is_read = |n: &usize| matches!(operations[*n].action, Action::Read(_));
    let reads: Vec<usize> = (0..operations.len()).filter(is_read).collect();
    let (first, second) = (rng.choice(&reads)?, rng.choice(&reads)?);
    let action = operations[*first].action;
    operations[*first].action = operations[*second].action;
    operations[*second].action = action;
    (action != operations[*first].action).then_some(())
}

/// A value that was read or written is read once more, after another operation.
fn read_again(operations: &mut Vec<Operation<u64>>, rng: &mut Rng) -> Option<()> {
    let (Action::Read(value) | Action::Write(value)) = rng.choice(&*operations)?.action;
    let started = rng.choice(&*operations)?.ended? + 1;
    let action = Action::Read(value);
    operations.push(Operation { started, ended: Some(started), action });
    Some(())
}

/// Two calls of a counter get each other's value.
fn swap_calls(calls: &mut [Call], rng: &mut Rng) -> Option<()> {
    let (first, second) = (rng.usize(..calls.len().max(1)), rng.usize(..calls.len().max(1)));
    let value = calls.get(first)?.value;
    calls[first].value = calls[second].value;
    calls[second].value = value;
    (value != calls[first].value).then_some(())
}

/// A value of a counter is read once more, after another call.
fn count_again(calls: &mut Vec<Call>, rng: &mut Rng) -> Option<()> {
    let (value, started) = (rng.choice(&*calls)?.value, rng.choice(&*calls)?.ended + 1);
    calls.push(Call { started, ended: started, delta: 0, value });
    Some(())
}

#[test]
fn random_histories_of_a_register_get_one_verdict() {
    let case = |seed| {
        let mut rng = Rng::with_seed(seed);
        let operations: Vec<_> = (0..rng.usize(1..9)).map(|_| random_operation(&mut rng)).collect();
        Case::of_register(format!("random register {seed}"), &operations)
    };
    let cases: Vec<Case> = (0..RANDOM).map(case).collect();
    let Some(tally) = compare("random registers", &cases) else { return };
    assert!(tally.ok > 500 && tally.illegal > 500, "{tally:?}");
}

fn random_operation(rng: &mut Rng) -> Operation<u64> {
    let (started, value) = (rng.u64(..12), rng.u64(..3));
    let action = if rng.bool() { Action::Write(value) } else { Action::Read(value) };
    let ended = (rng.u8(..5) > 0).then(|| started + rng.u64(..6));
    Operation { started, ended, action }
}

#[test]
fn random_histories_of_a_counter_get_one_verdict() {
    let case = |seed| Case::of_counter(format!("random counter {seed}"), &random_counts(seed));
    let cases: Vec<Case> = (0..RANDOM).map(case).collect();
    let Some(tally) = compare("random counters", &cases) else { return };
    assert!(tally.ok > 500 && tally.illegal > 500 && tally.missed > 0, "{tally:?}");
}

/// Calls that took effect in an order; in half of the histories one value is changed after that.
fn random_counts(seed: u64) -> Counts {
    let mut rng = Rng::with_seed(seed);
    let (largest, lost) = (rng.u64(1..=2), rng.u8(..3));
    let mut begun: Vec<(u64, u64)> =
        (0..rng.usize(1..9)).map(|_| (rng.u64(..12), rng.u64(..6))).collect();
    // By when it takes effect: at a time between start and end.
    begun.sort_by_key(|(started, length)| started + length / 2);
    let mut counts = Counts { calls: Vec::new(), unknown: Vec::new(), end: 0 };
    for (started, length) in begun {
        if rng.u8(..6) < lost {
            counts.unknown.push(started);
            counts.end += rng.u64(..=1);
            continue;
        }
        let delta = rng.u64(..=largest);
        counts.end += delta;
        counts.calls.push(Call { started, ended: started + length, delta, value: counts.end });
    }
    if rng.bool() {
        let value = rng.u64(..=counts.end + 1);
        match counts.calls.get_mut(rng.usize(..9)) {
            Some(call) => call.value = value,
            None => counts.end = value,
        }
    }
    counts
}

#[test]
fn a_history_that_makes_no_sense_is_refused() {
    let sound = r#"{"kind": "counter", "initial": 0, "operations": []}"#;
    for (second, said) in [
        ("{", "line 2: unexpected EOF"),
        (r#"{"kind": "map"}"#, r#"line 2: kind "map""#),
        (r#"{"kind": "register", "values": []}"#, r#"line 2: json: unknown field "values""#),
        (
            r#"{"kind": "register", "operations": [{"start": 3, "end": 2, "write": 1}]}"#,
            "line 2: operation 0: it ends at 2, before its start at 3",
        ),
        (
            r#"{"kind": "register", "operations": [{"start": 3, "end": 4}]}"#,
            "line 2: operation 0: one of a register has either write or read",
        ),
    ] {
        let Some(result) = run(&format!("{sound}\n{second}\n")) else {
            println!("fault skipped: Go is missing, Porcupine does not run");
            return;
        };
        let error = result.expect_err(second);
        assert!(error.contains(said), "{error}");
    }
}
