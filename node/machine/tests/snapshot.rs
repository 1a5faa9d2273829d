//! Random histories, snapshots taken anywhere in them, and damage to those.
//!
//! `SNAPSHOT_SEED=7` replays one seed; `SNAPSHOT_SEEDS=10000` says how many run.
#![allow(clippy::unwrap_used)]

mod history;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use history::{History, apply};
use multiraft_machine::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use multiraft_machine::{Machine, Restore, RestoreError};
use multiraft_proto::log::snapshot_record::Record;
use multiraft_proto::log::{
    CounterMapRecord, ElectionRecord, IndexedMapRecord, LockRecord, MapRecord, MultiMapRecord,
    SetRecord, SnapshotRecord, ValueRecord, counter_map_record, election_record,
    indexed_map_record, lock_record, map_record, multi_map_record, set_record, snapshot_answer,
    snapshot_command, value_record,
};
use multiraft_proto::rpc;
use prost::Message;

/// Says how to see a failure again.
struct Replay {
    seed: u64,
    test: &'static str,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, test } = self;
            eprintln!(
                "replay with: SNAPSHOT_SEED={seed} cargo test -p multiraft-machine --test snapshot {test}"
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn each_seed(test: &'static str, mut run: impl FnMut(u64)) {
    let seeds = match number("SNAPSHOT_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SNAPSHOT_SEEDS").unwrap_or(300),
    };
    for seed in seeds {
        let _replay = Replay { seed, test };
        run(seed);
    }
}

/// A machine in the middle of a history.
fn machine(seed: u64) -> (History, Machine) {
    let (mut history, mut machine) = (History::new(seed), Machine::new());
    for _ in 0..Rng::with_seed(!seed).u32(..500) {
        let entry = history.entry(&machine);
        apply(&mut machine, &entry);
    }
    (history, machine)
}

fn restore(chunks: &[Bytes]) -> Result<Machine, RestoreError> {
    let mut restore = Restore::new();
    for chunk in chunks {
        restore.push(chunk.clone())?;
    }
    restore.finish()
}

fn records(chunks: &[Bytes]) -> Vec<Record> {
    let mut records = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.clone();
        while !chunk.is_empty() {
            let record = SnapshotRecord::decode_length_delimited(&mut chunk).unwrap();
            records.push(record.record.unwrap());
        }
    }
    records
}

#[test]
fn a_restored_machine_is_the_same_and_goes_on_the_same() {
    each_seed("goes_on_the_same", |seed| {
        let (mut history, mut machine) = machine(seed);
        let chunks: Vec<Bytes> = machine.snapshot().collect();
        let mut restored = restore(&chunks).unwrap();
        assert_eq!(restored.digest(), machine.digest());
        assert!(restored.snapshot().eq(chunks), "the second snapshot differs from the first");
        for _ in 0..150 {
            let entry = history.entry(&machine);
            let effects = apply(&mut machine, &entry);
            assert_eq!(apply(&mut restored, &entry), effects);
            assert_eq!(restored.digest(), machine.digest());
        }
    });
}

#[test]
fn a_snapshot_is_of_the_view_also_when_the_group_goes_on() {
    each_seed("also_when_the_group_goes_on", |seed| {
        let (mut history, mut machine) = machine(seed);
        let before: Vec<Bytes> = machine.snapshot().collect();
        let view = machine.clone();
        let mut chunks = view.snapshot();
        let mut during = Vec::new();
        for _ in 0..20 {
            let entry = history.entry(&machine);
            apply(&mut machine, &entry);
            during.extend(chunks.next());
        }
        during.extend(chunks);
        assert_eq!(during, before);
    });
}

/// The chunks with one or a few things done to them.
fn damage(rng: &mut Rng, chunks: &mut Vec<Bytes>, others: &[Bytes]) {
    for _ in 0..rng.usize(1..3) {
        let place = rng.usize(..chunks.len());
        match rng.u32(..8) {
            0 => drop(chunks.remove(place)),
            1 => chunks.insert(place, chunks[place].clone()),
            2 => chunks.swap(place, 0),
            3 => chunks[place] = others[rng.usize(..others.len())].clone(),
            4 => chunks[place] = chunks[place].slice(..rng.usize(..=chunks[place].len())),
            5 => {
                let mut longer = BytesMut::from(&*chunks[place]);
                longer.extend((0..rng.usize(1..20)).map(|_| rng.u8(..)));
                chunks[place] = longer.freeze();
            }
            6 => {
                let mut bytes = BytesMut::from(&*chunks[place]);
                let (from, to) = (rng.usize(..=bytes.len()), rng.usize(..=bytes.len()));
                let cut = bytes.split_off(from.max(to));
                bytes.truncate(from.min(to));
                bytes.unsplit(cut);
                chunks[place] = bytes.freeze();
            }
            _ => {
                let mut bytes = BytesMut::from(&*chunks[place]);
                if let Some(byte) = rng.choice(bytes.iter_mut()) {
                    *byte ^= 1 << rng.u32(..8);
                }
                chunks[place] = bytes.freeze();
            }
        }
        if chunks.is_empty() {
            return;
        }
    }
}

#[test]
fn damaged_chunks_give_an_error_or_the_same_machine() {
    let mut refused = 0;
    each_seed("damaged", |seed| {
        let mut rng = Rng::with_seed(seed.wrapping_mul(7));
        let (_, machine) = machine(seed);
        let chunks: Vec<Bytes> = machine.snapshot().collect();
        let others: Vec<Bytes> = self::machine(seed + 1).1.snapshot().collect();
        for _ in 0..60 {
            let mut damaged = chunks.clone();
            damage(&mut rng, &mut damaged, &others);
            match restore(&damaged) {
                Err(_) => refused += 1,
                Ok(restored) => {
                    // The other machine's snapshot may have come in whole.
                    let again: Vec<Bytes> = restored.snapshot().collect();
                    assert!(again == chunks || again == others);
                }
            }
        }
    });
    assert!(refused > 0);
}

/// Counts and digest as whoever forges a snapshot would write them.
fn forge(chunks: &mut [Bytes]) -> Option<Machine> {
    for _ in 0..8 {
        let error = match restore(chunks) {
            Ok(machine) => return Some(machine),
            Err(error) => error,
        };
        let mut first = chunks.first()?.clone();
        let mut forged = Vec::new();
        while !first.is_empty() {
            let mut record = SnapshotRecord::decode_length_delimited(&mut first).ok()?;
            if let Some(Record::Header(header)) = &mut record.record {
                match error {
                    RestoreError::Digest { found, .. } => header.digest = found,
                    RestoreError::Lost { what: "primitives", found, .. } => {
                        header.primitives = found
                    }
                    RestoreError::Lost { what: "sessions", found, .. } => header.sessions = found,
                    RestoreError::Lost { what: "commands", found, .. } => header.commands = found,
                    RestoreError::Lost { what: "timers", found, .. } => header.timers = found,
                    RestoreError::Lost { what: "quotas", found, .. } => header.quotas = found,
                    RestoreError::Lost { found, .. } => header.remembered = found,
                    _ => return None,
                }
            }
            record.encode_length_delimited(&mut forged).unwrap();
        }
        chunks[0] = forged.into();
    }
    None
}

#[test]
fn a_forged_snapshot_makes_no_machine_that_panics() {
    let mut forgeries = 0;
    each_seed("forged", |seed| {
        let mut rng = Rng::with_seed(seed.wrapping_mul(11));
        let (history, machine) = machine(seed);
        let chunks: Vec<Bytes> = machine.snapshot().collect();
        for _ in 0..20 {
            let mut damaged = chunks.clone();
            damage(&mut rng, &mut damaged, &chunks);
            let Some(mut forged) = forge(&mut damaged) else { continue };
            forgeries += u32::from(forged.digest() != machine.digest());
            let mut history = history.clone();
            for _ in 0..50 {
                let entry = history.entry(&forged);
                apply(&mut forged, &entry);
            }
        }
    });
    println!("{forgeries} forgeries");
    assert!(forgeries > 0 || number("SNAPSHOT_SEED").is_some());
}

fn see_state(service: &str, record: Bytes, see: &mut impl FnMut(&'static str, bool)) {
    match service {
        rpc::map::TYPE => match MapRecord::decode(record).unwrap().record.unwrap() {
            map_record::Record::Entry(entry) => {
                see("entry", true);
                see("time to live", entry.expiry.is_some());
                see("expired while prepared", entry.expired);
            }
            map_record::Record::Transaction(transaction) => {
                see("transaction", !transaction.writes.is_empty());
                see("empty transaction", transaction.writes.is_empty());
            }
            map_record::Record::Lock(lock) => {
                see("lock on keys of a map", lock.timeout.is_none());
                see("lock on keys of a map in time", lock.timeout.is_some());
            }
            map_record::Record::Listener(listener) => {
                see("listener of a map", listener.prefix.is_empty());
                see("listener of a prefix", !listener.prefix.is_empty());
            }
        },
        rpc::lock::TYPE => match LockRecord::decode(record).unwrap().record.unwrap() {
            lock_record::Record::Holder(_) => see("holder", true),
            lock_record::Record::Waiter(waiter) => {
                see("waiter", waiter.timeout.is_none());
                see("waiter in time", waiter.timeout.is_some());
            }
        },
        rpc::election::TYPE => match ElectionRecord::decode(record).unwrap().record.unwrap() {
            election_record::Record::Term(term) => see("term", term > 1),
            election_record::Record::Candidate(_) => see("candidate", true),
        },
        rpc::set::TYPE => match SetRecord::decode(record).unwrap().record.unwrap() {
            set_record::Record::Element(element) => {
                see("element", element.expiry.is_none());
                see("element that expires", element.expiry.is_some());
            }
            set_record::Record::Listener(_) => see("listener of a set", true),
        },
        rpc::value::TYPE => match ValueRecord::decode(record).unwrap().record.unwrap() {
            value_record::Record::Value(value) => {
                see("value", value.expiry.is_none());
                see("value that expires", value.expiry.is_some());
            }
            value_record::Record::Listener(_) => see("listener of a value", true),
        },
        rpc::countermap::TYPE => match CounterMapRecord::decode(record).unwrap().record.unwrap() {
            counter_map_record::Record::Entry(_) => see("number", true),
            counter_map_record::Record::Listener(_) => see("listener of a counter map", true),
            counter_map_record::Record::Lock(lock) => {
                see("lock on keys", lock.timeout.is_none());
                see("lock on keys in time", lock.timeout.is_some());
            }
        },
        rpc::indexedmap::TYPE => match IndexedMapRecord::decode(record).unwrap().record.unwrap() {
            indexed_map_record::Record::Counter(counter) => see("indexes", counter.last_index > 0),
            indexed_map_record::Record::Entry(entry) => {
                see("indexed entry", true);
                see("indexed entry that expires", entry.expiry.is_some());
            }
            indexed_map_record::Record::Listener(_) => see("listener of an indexed map", true),
        },
        rpc::multimap::TYPE => match MultiMapRecord::decode(record).unwrap().record.unwrap() {
            multi_map_record::Record::Values(values) => see("values", values.values.len() > 1),
            multi_map_record::Record::Listener(_) => see("listener of a multimap", true),
        },
        rpc::counter::TYPE => see("counter", true),
        other => panic!("{other} is not looked at"),
    }
}

/// What the histories are for: a kind of state that no snapshot has is not tested by them.
#[test]
fn histories_reach_every_kind_of_state() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut see = |name, is_there: bool| {
        *seen.entry(name).or_default() += u32::from(is_there);
    };
    for seed in 1..=300 {
        let chunks: Vec<Bytes> = machine(seed).1.snapshot().collect();
        let mut services = BTreeMap::new();
        see("several chunks", chunks.len() > 1);
        // A transaction of large values is larger, alone behind the number of its chunk.
        let is_alone = |chunk| records(std::slice::from_ref(chunk)).len() == 2;
        let is_small = |chunk: &Bytes| chunk.len() <= SNAPSHOT_CHUNK_BYTES_MAX;
        assert!(chunks.iter().all(|chunk| is_small(chunk) || is_alone(chunk)));
        for record in records(&chunks) {
            match record {
                Record::Attached(attached) => see("several", attached.primitive_ids.len() > 1),
                Record::Awaited(_) => see("awaited", true),
                Record::Command(command) => {
                    see("command", true);
                    see("open", matches!(command.phase, Some(snapshot_command::Phase::Open(_))));
                    see("stream", command.emitted > 1);
                }
                Record::Output(_) => see("output", true),
                Record::Remembered(remembered) => {
                    let result = remembered.answer.unwrap().result.unwrap();
                    see("opened", matches!(result, snapshot_answer::Result::SessionOpened(_)));
                    see("rejection", matches!(result, snapshot_answer::Result::Rejection(_)));
                }
                Record::Quota(_) => see("quota", true),
                Record::Primitive(primitive) => {
                    services.insert(primitive.primitive_id, primitive.service);
                }
                Record::State(state) => {
                    see_state(&services[&state.primitive_id], state.record, &mut see);
                }
                _ => {}
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
}
