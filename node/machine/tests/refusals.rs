//! A command that is refused changes nothing, whatever it is and whenever it comes.
//!
//! `REFUSALS_SEED=7` replays one seed.
#![allow(clippy::unwrap_used)]

mod history;

use std::collections::BTreeMap;

use history::{History, apply};
use multiraft_machine::{Effect, Machine, Output, Status};
use multiraft_proto::log::LogEntry;
use prost::Message;

/// The status of the operation that was asked for with this call, if it is answered.
fn status(effects: &[Effect], call: (u64, u64)) -> Option<Status> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { origin, number, answer } if (*origin, *number) == call => {
            match answer.result {
                Ok(Output::Operation { status, .. }) => Some(status),
                _ => None,
            }
        }
        _ => None,
    })
}

#[test]
fn a_refused_command_changes_nothing() {
    let seed = std::env::var("REFUSALS_SEED").ok().map(|seed| seed.parse().unwrap());
    let mut refused: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in seed.map_or(1..=200, |seed: u64| seed..=seed) {
        let (mut history, mut machine) = (History::new(seed), Machine::new());
        for _ in 0..200 {
            let entry = history.entry(&machine);
            let mut entry = LogEntry::decode(entry).unwrap();
            let items = std::mem::take(&mut entry.items);
            // What time does is done first.
            apply(&mut machine, &entry.encode_to_vec().into());
            for item in items {
                let (before, call) = (machine.primitives_digest(), (item.origin, item.number));
                entry.items = vec![item];
                let effects = apply(&mut machine, &entry.encode_to_vec().into());
                let Some(status) = status(&effects, call).filter(|s| *s != Status::Ok) else {
                    continue;
                };
                *refused.entry(status.as_str_name()).or_default() += 1;
                let after = machine.primitives_digest();
                assert_eq!(after, before, "replay with: REFUSALS_SEED={seed}: {:?}", entry.items);
            }
        }
    }
    println!("{refused:?}");
    for status in ["ALREADY_EXISTS", "CONFLICT", "FORBIDDEN", "INVALID", "NOT_FOUND"] {
        assert!(seed.is_some() || refused.contains_key(status), "no {status} in {refused:?}");
    }
}
