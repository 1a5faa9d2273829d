//! What snapshots cost: `cargo run --release -p multiraft-machine --example snapshot [keys]`.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use multiraft_machine::{Machine, Restore};
use multiraft_proto::log::{LogEntry, LogItem, log_item};
use multiraft_proto::v1::{
    CreateServiceInput, KeepAliveInput, OpenSessionInput, PartitionInput, ServiceInput,
    SessionInput, partition_input, session_input,
};
use multiraft_proto::{map, rpc};
use prost::Message;

const VALUE_BYTES: usize = 128;
const SESSION: u64 = 1;
const MAP: u64 = 2;

fn main() {
    let keys = std::env::args().nth(1).map_or(1_000_000, |keys| keys.parse().expect("a number"));
    for ttl_seconds in [None, Some(1_000_000)] {
        measure(keys, ttl_seconds);
    }
}

fn measure(keys: u64, ttl_seconds: Option<i64>) {
    println!("{keys} keys of {VALUE_BYTES} B, time to live {ttl_seconds:?}");
    let (mut machine, filled) = timed(|| fill(keys, ttl_seconds));
    report("fill (apply)", keys, filled);

    let (view, pause) = timed(|| machine.clone());
    println!("  pause to take a view: {pause:?}");
    let (digest, digested) = timed(|| view.digest());
    report("digest", keys, digested);
    let (chunks, encoded) = timed(|| view.snapshot().collect::<Vec<Bytes>>());
    report("encode, digest and all", keys, encoded);
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    println!("  {} chunks, {} B per key", chunks.len(), bytes as u64 / keys);

    let (restored, time) = timed(|| restore(&chunks));
    report("restore, digest and all", keys, time);
    assert_eq!(restored.digest(), digest);

    let step = (keys / 10_000).max(1);
    for round in ["while a view is held", "again, on the same keys"] {
        let numbers: Vec<u64> = (1..=keys).step_by(step as usize).collect();
        let ((), time) = timed(|| numbers.iter().for_each(|n| put(&mut machine, *n, ttl_seconds)));
        report(&format!("{} puts {round}", numbers.len()), numbers.len() as u64, time);
    }
    let ((), time) = timed(|| drop(view));
    println!("  dropping the view: {time:?}");
    let ((), time) = timed(|| drop(restored));
    println!("  dropping a machine: {time:?}");
}

fn restore(chunks: &[Bytes]) -> Machine {
    let mut restore = Restore::new();
    for chunk in chunks {
        restore.push(chunk.clone()).expect("a chunk of a snapshot");
    }
    restore.finish().expect("a whole snapshot")
}

fn fill(keys: u64, ttl_seconds: Option<i64>) -> Machine {
    let mut machine = Machine::new();
    let open = partition_input::Payload::OpenSession(OpenSessionInput::default());
    apply(&mut machine, open);
    let (service, namespace, name) = (rpc::map::TYPE.into(), String::new(), "map".into());
    let create = CreateServiceInput { service, namespace, name };
    command(&mut machine, 1, session_input::Payload::CreateService(create));
    for number in 1..=keys {
        // An order that is not that of the keys.
        put(&mut machine, number.wrapping_mul(7_368_787) % keys + 1, ttl_seconds);
        if number % 10_000 == 0 {
            release(&mut machine);
        }
    }
    machine
}

fn put(machine: &mut Machine, key: u64, ttl_seconds: Option<i64>) {
    let value = vec![machine.index() as u8; VALUE_BYTES].into();
    let mut put = map::PutInput { key: format!("key-{key:010}"), value, ..Default::default() };
    if let Some(seconds) = ttl_seconds {
        put.ttl.get_or_insert_default().seconds = seconds;
    }
    let payload = put.encode_to_vec().into();
    let input = ServiceInput { service_id: MAP, operation: rpc::map::PUT, payload };
    let sequence_num = machine.index();
    command(machine, sequence_num, session_input::Payload::ServiceInput(input));
}

fn release(machine: &mut Machine) {
    let (session_id, last_command_sequence_num) = (SESSION, machine.index());
    let exact = true;
    let input =
        KeepAliveInput { session_id, last_command_sequence_num, exact, ..Default::default() };
    apply(machine, partition_input::Payload::KeepAlive(input));
}

fn command(machine: &mut Machine, sequence_num: u64, payload: session_input::Payload) {
    let payload = Some(payload);
    let input = SessionInput { session_id: SESSION, sequence_num, payload };
    apply(machine, partition_input::Payload::SessionInput(input));
}

fn apply(machine: &mut Machine, payload: partition_input::Payload) {
    let input = PartitionInput { payload: Some(payload) }.encode_to_vec().into();
    let item = LogItem { origin: 1, number: 1, item: Some(log_item::Item::Input(input)) };
    let entry =
        LogEntry { format: 1, term: 1, log_time: 1, items: vec![item], ..Default::default() };
    let mut effects = Vec::new();
    machine.apply(1, &entry.encode_to_vec().into(), &mut effects).expect("an entry");
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = act();
    (result, start.elapsed())
}

fn report(what: &str, count: u64, time: Duration) {
    println!("  {what}: {time:?}, {} ns each", time.as_nanos() / u128::from(count.max(1)));
}
