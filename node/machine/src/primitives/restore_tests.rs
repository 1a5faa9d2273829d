//! States of primitives with keys that contradict themselves, as a snapshot may bring them.

use super::*;
use crate::limits::SESSION_TIMEOUT_MILLIS_DEFAULT;
use crate::timers::Owner;
use imbl::OrdSet;
use multiraft_proto::{indexedmap, log, rpc};
use prost::Message;

const PRIMITIVE: u64 = 2;
const NOW: u64 = 1_000;

/// Restores records into a new primitive, to which session 1 is attached and session 3 is not.
fn restore<M: Message>(service: Service, records: &[M]) -> Result<Slot, String> {
    let mut timers = RestoredTimers::new(9, NOW);
    let mut sessions = OrdMap::new();
    for (session_id, attached) in [(1, OrdSet::unit(PRIMITIVE)), (3, OrdSet::new())] {
        let expiry = Timer { due: NOW, id: session_id };
        timers.arm(expiry, Owner::Session(session_id))?;
        let (timeout_millis, commands) = (SESSION_TIMEOUT_MILLIS_DEFAULT, Default::default());
        sessions.insert(session_id, Session { timeout_millis, expiry, attached, commands });
    }
    let mut slot = Slot::new(service, "space".into(), "name".into());
    let mut context = RestoreContext::new(PRIMITIVE, &mut timers, &sessions);
    for record in records {
        slot.primitive_mut().restore(record.encode_to_vec().into(), &mut context)?;
    }
    Ok(slot)
}

fn refused<M: Message>(service: Service, records: &[M], expected: &str) {
    let error = restore(service, records).expect_err(expected);
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

fn timer(due: u64, id: u64) -> Option<log::SnapshotTimer> {
    Some(log::SnapshotTimer { due, id })
}

fn listener(session_id: u64) -> log::KeyListener {
    log::KeyListener { session_id, sequence_num: 4, key: "a".into() }
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
fn a_counter_map_that_contradicts_itself_is_refused() {
    use log::counter_map_record::Record::{Entry, Listener, Lock};
    let refused = |records: Vec<log::counter_map_record::Record>, expected| {
        let record = |record| log::CounterMapRecord { record: Some(record) };
        let records: Vec<_> = records.into_iter().map(record).collect();
        refused(Service::CounterMap, &records, expected);
    };
    let entry = || Entry(log::CounterMapEntry { key: "a".into(), value: 1 });
    refused(vec![entry(), entry()], "a key has two entries");
    refused(
        vec![Listener(listener(1)), Listener(listener(1))],
        "listener 4 of session 1 comes twice",
    );
    refused(vec![Listener(listener(3))], "session 3 is not attached");
    let lock = |sequence_num, age, keys: &[&str], timeout| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Lock(log::KeyLock { session_id: 1, sequence_num, age, keys, timeout })
    };
    let (first, order) = (lock(5, 5, &["a"], None), "keys: none, or not in order");
    refused(vec![first.clone(), lock(5, 6, &["a"], None)], "lock 5 of session 1 comes twice");
    refused(vec![first.clone(), lock(6, 5, &["a"], None)], "a key is wanted by two of age 5");
    refused(vec![lock(5, 5, &[], None)], order);
    refused(vec![lock(5, 5, &["b", "a"], None)], order);
    refused(vec![lock(5, 5, &["a", "a"], None)], order);
    refused(vec![first.clone(), lock(6, 6, &["a"], timer(999, 2))], "was due at 999, it is 1000");
    refused(vec![first.clone(), lock(6, 6, &["a"], timer(2_000, 1))], "timer 1 is armed twice");
    refused(vec![first, lock(6, 6, &["a"], timer(2_000, 10))], "timer 10 was never given out");
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
    refused(vec![Listener(listener(3))], "session 3 is not attached");
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
    refused(vec![Listener(listener(3))], "session 3 is not attached");
}

/// Nobody can append so often; a snapshot may say that somebody did.
#[test]
fn an_indexed_map_whose_indexes_are_used_up_takes_no_more() {
    let last = log::IndexedMapCounter { last_index: u64::MAX };
    let record = Some(log::indexed_map_record::Record::Counter(last));
    let mut slot = restore(Service::IndexedMap, &[log::IndexedMapRecord { record }]).unwrap();
    let (mut timers, mut emitted) = (Timers::default(), Vec::new());
    let mut context = Context::new((1, 1), PRIMITIVE, &mut timers, &mut emitted);
    let append = indexedmap::AppendInput { key: "a".into(), ..Default::default() };
    let call = Call {
        command: CommandKey { session_id: 1, sequence_num: 1 },
        operation: rpc::indexedmap::APPEND,
        input: encode(&append),
    };
    let failure = slot.primitive_mut().apply(call, &mut context).unwrap_err();
    assert_eq!(failure.status, Status::Invalid);
}
