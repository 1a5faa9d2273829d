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

/// Status and message of the operation that was asked for with this call, if it is answered.
fn outcome(effects: &[Effect], call: (u64, u64)) -> Option<(Status, &str)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { origin, number, answer } if (*origin, *number) == call => {
            match &answer.result {
                Ok(Output::Operation { status, message, .. }) => Some((*status, message.as_str())),
                _ => None,
            }
        }
        _ => None,
    })
}

/// The limit that is reached, if it is one of a quota.
fn quota(message: &str) -> Option<&'static str> {
    let is_quota = message.starts_with("quota of namespace");
    let limits = ["primitives: limit", "bytes: limit", "sessions: limit"];
    limits.into_iter().find(|limit| is_quota && message.contains(limit))
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
                let outcome = outcome(&effects, call).filter(|(status, _)| *status != Status::Ok);
                let Some((status, message)) = outcome else { continue };
                let kind = quota(message).unwrap_or(status.as_str_name());
                *refused.entry(kind).or_default() += 1;
                let after = machine.primitives_digest();
                assert_eq!(after, before, "replay with: REFUSALS_SEED={seed}: {:?}", entry.items);
            }
        }
    }
    println!("{refused:?}");
    let statuses = ["ALREADY_EXISTS", "CONFLICT", "FORBIDDEN", "INVALID", "NOT_FOUND"];
    for kind in statuses.into_iter().chain(["primitives: limit", "bytes: limit", "sessions: limit"])
    {
        assert!(seed.is_some() || refused.contains_key(kind), "no {kind} in {refused:?}");
    }
}
