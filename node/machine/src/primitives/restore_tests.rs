//! States of primitives that contradict themselves, as a snapshot may bring them.

use super::*;
use crate::commands::{Commands, Open, Waiter};
use multiraft_proto::{indexedmap, log, rpc};

/// Restores primitive 1 from records. Session 1 is attached to it and has commands 1 to 3 open on it,
/// session 2 is not attached; timers up to 9 were given out, and it is log time 1,000.
pub fn restored(
    primitive: &mut dyn Primitive,
    records: &[impl prost::Message],
) -> Result<(), String> {
    let session = |timeout_millis| Session {
        timeout_millis,
        expiry: Timer { due: 2_000, id: 9 },
        attached: Default::default(),
        commands: Commands::default(),
    };
    let mut attached = session(1);
    attached.attached.insert(1);
    for number in 1..=3 {
        let waiter = Waiter { origin: 1, number };
        attached.commands.open(number, Open { waiter, primitive_id: 1 });
    }
    let sessions = OrdMap::from_iter([(1_u64, attached), (2, session(1))]);
    let mut timers = RestoredTimers::new(9, 1_000);
    let mut context = RestoreContext::new(1, &mut timers, &sessions);
    records.iter().try_for_each(|record| primitive.restore(encode(record), &mut context))
}

fn restore(service: Service, records: &[impl prost::Message]) -> Result<Slot, String> {
    let mut slot = Slot::new(service, "space".into(), "name".into());
    restored(slot.primitive_mut(), records)?;
    Ok(slot)
}

fn refused(service: Service, records: &[impl prost::Message], expected: &str) {
    let error = restore(service, records).expect_err(expected);
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

fn timer(due: u64, id: u64) -> Option<log::SnapshotTimer> {
    Some(log::SnapshotTimer { due, id })
}

fn listener(session_id: u64, sequence_num: u64) -> log::SnapshotListener {
    log::SnapshotListener { session_id, sequence_num, key: "a".into(), prefix: String::new() }
}

#[test]
fn a_record_of_no_kind_is_refused() {
    let absent = "record is absent, or of an unknown kind";
    refused(Service::CounterMap, &[log::CounterMapRecord::default()], absent);
    refused(Service::IndexedMap, &[log::IndexedMapRecord::default()], absent);
    refused(Service::MultiMap, &[log::MultiMapRecord::default()], absent);
    let other = log::CounterRecord { value: 1 };
    for service in [Service::CounterMap, Service::IndexedMap, Service::MultiMap] {
        refused(service, &[other], "state does not decode");
    }
}

#[test]
fn who_has_no_open_command_does_not_listen() {
    let record = |listener| {
        let record = Some(log::set_record::Record::Listener(listener));
        log::SetRecord { record }
    };
    let refused = |listeners: &[log::SnapshotListener], expected| {
        let records: Vec<_> = listeners.iter().cloned().map(record).collect();
        refused(Service::Set, &records, expected);
    };
    refused(&[listener(1, 4)], "command 4 of session 1 is not open here");
    refused(&[listener(2, 1)], "command 1 of session 2 is not open here");
    refused(&[listener(1, 1), listener(1, 1)], "command 1 of session 1 listens twice");
    let both = [listener(1, 1), listener(1, 2)].map(record);
    restore(Service::Set, &both).unwrap();
}

/// A lock as (index, session, command, keys).
type Lock<'a> = (u64, u64, u64, &'a [&'a str]);

fn locks(locks: &[(Lock<'_>, Option<log::SnapshotTimer>)]) -> Vec<log::MapRecord> {
    let lock = |((index, session_id, sequence_num, keys), timeout): &(Lock<'_>, _)| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let (index, session_id, sequence_num) = (*index, *session_id, *sequence_num);
        let timeout = *timeout;
        log::SnapshotKeyLock { index, session_id, sequence_num, keys, timeout }
    };
    let records = locks.iter().map(lock).map(log::map_record::Record::Lock);
    records.map(|record| log::MapRecord { record: Some(record) }).collect()
}

#[test]
fn locks_that_contradict_each_other_are_refused() {
    let refused = |records: &[(Lock<'_>, _)], expected| {
        refused(Service::Map, &locks(records), expected);
    };
    let held = ((5, 1, 8, ["a", "b"].as_slice()), None);
    refused(&[((5, 2, 8, &["a"]), None)], "session 2 is not attached");
    refused(&[held, ((5, 1, 1, &["a"]), None)], "lock 5 comes after a later one");
    refused(&[held, ((4, 1, 1, &["a"]), None)], "lock 4 comes after a later one");
    refused(&[held, ((6, 1, 8, &["c"]), None)], "command 8 of session 1 locks twice");
    for wrong in [&["b", "a"][..], &["a", "a"], &[]] {
        refused(&[((6, 1, 1, wrong), None)], "lock 6: keys: is empty, or not in order");
    }
    refused(&[held, ((6, 1, 9, &["b", "c"]), None)], "command 9 of session 1 is not open here");
    refused(&[((5, 1, 1, &["a"]), timer(2_000, 1))], "lock 5 has its keys, and would time out");
    refused(&[held, ((6, 1, 1, &["a"]), timer(999, 2))], "was due at 999, it is 1000");
    refused(&[held, ((6, 1, 1, &["a"]), timer(2_000, 10))], "timer 10 was never given out");
    let waits = ((6, 1, 1, ["b"].as_slice()), timer(2_000, 2));
    refused(&[held, waits, ((7, 1, 2, &["a"]), timer(2_000, 2))], "timer 2 is armed twice");
    restore(Service::Map, &locks(&[held, waits])).unwrap();
}

#[test]
fn a_counter_map_that_contradicts_itself_is_refused() {
    use log::counter_map_record::Record::{Entry, Listener, Lock};
    let refused = |records: Vec<log::counter_map_record::Record>, expected| {
        let record = |record| log::CounterMapRecord { record: Some(record) };
        let records: Vec<_> = records.into_iter().map(record).collect();
        refused(Service::CounterMap, &records, expected);
    };
    let entry = || Entry(log::CounterMapEntry { key: "a".into(), value: 1 });
    refused(vec![entry(), entry()], "a key has two entries");
    refused(vec![Lock(log::SnapshotKeyLock::default())], "lock 0: keys: is empty");
    refused(vec![Listener(listener(2, 1))], "command 1 of session 2 is not open here");
}

#[test]
fn an_indexed_map_that_contradicts_itself_is_refused() {
    use log::indexed_map_record::Record::{Counter, Entry, Listener};
    let refused = |records: Vec<log::indexed_map_record::Record>, expected| {
        let record = |record| log::IndexedMapRecord { record: Some(record) };
        let records: Vec<_> = records.into_iter().map(record).collect();
        refused(Service::IndexedMap, &records, expected);
    };
    let counter = || Counter(log::IndexedMapCounter { last_index: 2 });
    let entry = |index, key: &str, expiry| {
        let (key, value) = (key.to_owned(), "x".into());
        Entry(log::IndexedMapEntry { index, key, value, version: 1, expiry })
    };
    refused(vec![entry(1, "a", None)], "index 1 is not in 1 to 0");
    refused(vec![counter(), entry(0, "a", None)], "index 0 is not in 1 to 2");
    refused(vec![counter(), entry(3, "a", None)], "index 3 is not in 1 to 2");
    let first = || entry(1, "a", timer(2_000, 2));
    refused(vec![counter(), first(), entry(1, "b", None)], "index 1 has two entries");
    refused(vec![counter(), first(), entry(2, "a", None)], "a key has two entries");
    refused(vec![counter(), first(), entry(2, "b", timer(2_000, 2))], "timer 2 is armed twice");
    refused(vec![counter(), entry(2, "b", timer(999, 2))], "was due at 999, it is 1000");
    refused(vec![Listener(listener(2, 1))], "command 1 of session 2 is not open here");
}

#[test]
fn a_multimap_that_contradicts_itself_is_refused() {
    use log::multi_map_record::Record::{Listener, Values};
    let refused = |records: Vec<log::multi_map_record::Record>, expected| {
        let record = |record| log::MultiMapRecord { record: Some(record) };
        let records: Vec<_> = records.into_iter().map(record).collect();
        refused(Service::MultiMap, &records, expected);
    };
    let values = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Values(log::MultiMapValues { key: "a".into(), values })
    };
    refused(vec![values(&[])], "a key has no values");
    refused(vec![values(&["x", "x"])], "a key has a value twice");
    refused(vec![values(&["x"]), values(&["x"])], "a key has a value twice");
    refused(vec![Listener(listener(2, 1))], "command 1 of session 2 is not open here");
}

/// Nobody can append so often; a snapshot may say that somebody did.
#[test]
fn an_indexed_map_whose_indexes_are_used_up_takes_no_more() {
    let last = log::IndexedMapCounter { last_index: u64::MAX };
    let record = Some(log::indexed_map_record::Record::Counter(last));
    let mut slot = restore(Service::IndexedMap, &[log::IndexedMapRecord { record }]).unwrap();
    let (mut timers, mut emitted) = (Timers::default(), Vec::new());
    let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
    let append = indexedmap::AppendInput { key: "a".into(), ..Default::default() };
    let call = Call {
        command: CommandKey { session_id: 1, sequence_num: 1 },
        operation: rpc::indexedmap::APPEND,
        input: encode(&append),
    };
    let failure = slot.primitive_mut().apply(call, &mut context).unwrap_err();
    assert_eq!(failure.status, Status::Invalid);
}
