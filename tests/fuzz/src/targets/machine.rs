//! What clients send, as it is applied on every node.

use super::Seeds;
use bytes::Bytes;
use multiraft_machine::{Machine, Query, Restore, validate_keep_alive};
use multiraft_proto::log::{LogEntry, LogItem, Tick, log_item};
use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::{
    CloseSessionInput, CreateServiceInput, KeepAliveInput, OpenSessionInput, PartitionInput,
    ServiceInput, SessionInput, session_input,
};
use multiraft_proto::{counter, map, rpc};
use prost::Message;
use prost_types::Duration;
use std::sync::LazyLock;

const TERM: u64 = 1;
const SESSION: u64 = 1;
const COUNTER: u64 = 2;
const MAP: u64 = 3;

/// Cloning it is cheap.
fn machine() -> Machine {
    static MACHINE: LazyLock<Machine> = LazyLock::new(filled);
    MACHINE.clone()
}

/// With a session, a counter and a map that has an entry, one that expires, and a locked key.
fn filled() -> Machine {
    let mut machine = Machine::new();
    let locked = map::map_input::Input::Put(put("locked", None));
    let inputs = vec![map::MapInput { input: Some(locked) }];
    let prepare = map::PrepareInput { sequence_num: 6, inputs };
    for input in [
        open(),
        command(1, create(rpc::counter::TYPE)),
        command(2, create(rpc::map::TYPE)),
        command(3, operation(COUNTER, rpc::counter::SET, &counter::SetInput { value: 5 })),
        command(4, operation(MAP, rpc::map::PUT, &put("a", None))),
        command(5, operation(MAP, rpc::map::PUT, &put("b", Some(5)))),
        command(6, operation(MAP, rpc::map::PREPARE, &prepare)),
    ] {
        apply(&mut machine, &entry_of(vec![item(&input)]));
    }
    machine
}

fn apply(machine: &mut Machine, payload: &[u8]) {
    let mut effects = Vec::new();
    // Another term is skipped: the entry's own reaches the items.
    let term = LogEntry::decode(payload).map_or(TERM, |entry| entry.term);
    // An error means that the entry is none, and nothing was applied.
    let before = machine.index();
    if machine.apply(term, &Bytes::copy_from_slice(payload), &mut effects).is_err() {
        assert_eq!(machine.index(), before);
    }
}

fn comes_back<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(&message.encode_to_vec()[..]).expect("what it writes, it reads");
        assert_eq!(again, message);
    }
}

/// A whole entry.
pub fn entry(bytes: &[u8]) {
    comes_back::<LogEntry>(bytes);
    let mut machine = machine();
    apply(&mut machine, bytes);
    lives_on(machine);
}

/// An input of a client.
pub fn input(bytes: &[u8]) {
    comes_back::<PartitionInput>(bytes);
    let mut machine = machine();
    let input = log_item::Item::Input(Bytes::copy_from_slice(bytes));
    apply(&mut machine, &entry_of(vec![LogItem { origin: 1, number: 1, item: Some(input) }]));
    lives_on(machine);
}

/// Two bytes choose the operation, the others are its input.
pub fn service(bytes: &[u8]) {
    let Some((choice, input)) = bytes.split_first_chunk() else { return };
    let served: Vec<_> = rpc::RPCS
        .iter()
        .filter(|rpc| [rpc::counter::TYPE, rpc::map::TYPE].contains(&rpc.primitive))
        .collect();
    let rpc = served[usize::from(u16::from_be_bytes(*choice)) % served.len()];
    let service_id = if rpc.primitive == rpc::map::TYPE { MAP } else { COUNTER };
    let input = Bytes::copy_from_slice(input);
    let mut machine = machine();
    machine.query(&Query {
        session_id: SESSION,
        primitive_id: service_id,
        operation: rpc.operation,
        input: input.clone(),
    });
    let call = ServiceInput { service_id, operation: rpc.operation, payload: input };
    let call = command(7, session_input::Payload::ServiceInput(call));
    apply(&mut machine, &entry_of(vec![item(&call)]));
    lives_on(machine);
}

/// The filter in a keep-alive.
pub fn filter(bytes: &[u8]) {
    for last in [6, u64::MAX] {
        let keep = KeepAliveInput {
            session_id: SESSION,
            last_command_sequence_num: last,
            pending_commands_filter: bytes.to_vec().into(),
            ..Default::default()
        };
        if validate_keep_alive(&keep).is_err() {
            return;
        }
        let mut machine = machine();
        apply(&mut machine, &entry_of(vec![item(&Payload::KeepAlive(keep))]));
    }
}

/// The chunk of a snapshot.
pub fn snapshot(bytes: &[u8]) {
    let mut restore = Restore::new();
    if restore.push(Bytes::copy_from_slice(bytes)).is_err() {
        return;
    }
    if let Ok(machine) = restore.finish() {
        let mut again = Restore::new();
        machine.snapshot().for_each(|chunk| again.push(chunk).expect("its own chunk"));
        let again = again.finish().expect("its own snapshot");
        assert_eq!(again.digest(), machine.digest());
    }
}

/// Whatever was applied: timers fire, and a snapshot gives back the same state.
fn lives_on(mut machine: Machine) {
    let later = machine.log_time().saturating_add(10_000);
    let tick = LogItem { item: Some(log_item::Item::Tick(Tick {})), ..Default::default() };
    let entry = LogEntry {
        format: 1,
        term: TERM,
        log_time: later,
        items: vec![tick],
        ..Default::default()
    };
    apply(&mut machine, &entry.encode_to_vec());
    let mut restore = Restore::new();
    machine.snapshot().for_each(|chunk| restore.push(chunk).expect("its own chunk"));
    assert_eq!(restore.finish().expect("its own snapshot").digest(), machine.digest());
}

// ------------------------------------------------------------------------------------- seeds

fn open() -> Payload {
    let timeout = Some(Duration { seconds: 30, nanos: 5 });
    Payload::OpenSession(OpenSessionInput { timeout })
}

fn command(sequence_num: u64, payload: session_input::Payload) -> Payload {
    Payload::SessionInput(SessionInput {
        session_id: SESSION,
        sequence_num,
        payload: Some(payload),
    })
}

fn create(service: &str) -> session_input::Payload {
    session_input::Payload::CreateService(CreateServiceInput {
        service: service.into(),
        namespace: "space".into(),
        name: service.into(),
    })
}

fn operation(service_id: u64, operation: u32, input: &impl Message) -> session_input::Payload {
    let payload = input.encode_to_vec().into();
    session_input::Payload::ServiceInput(ServiceInput { service_id, operation, payload })
}

fn put(key: &str, ttl: Option<i64>) -> map::PutInput {
    map::PutInput {
        key: key.into(),
        value: Bytes::from_static(b"value"),
        ttl: ttl.map(|seconds| Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

fn encode(payload: &Payload) -> Vec<u8> {
    PartitionInput { payload: Some(payload.clone()) }.encode_to_vec()
}

fn item(payload: &Payload) -> LogItem {
    let input = log_item::Item::Input(encode(payload).into());
    LogItem { origin: 1, number: 1, item: Some(input) }
}

fn entry_of(items: Vec<LogItem>) -> Vec<u8> {
    let entry = LogEntry { format: 1, term: TERM, log_time: 1_000, items, ..Default::default() };
    entry.encode_to_vec()
}

fn keep_alive() -> Payload {
    Payload::KeepAlive(KeepAliveInput {
        session_id: SESSION,
        last_command_sequence_num: 5,
        exact: true,
        open_sequence_nums: vec![5],
        output_stream_sequence_nums: [(5, 1)].into(),
        ..Default::default()
    })
}

fn all_inputs() -> Vec<(&'static str, Payload)> {
    let increment = counter::IncrementInput { delta: 1 };
    vec![
        ("open", open()),
        ("close", Payload::CloseSession(CloseSessionInput { session_id: SESSION })),
        ("keep-alive", keep_alive()),
        ("create", command(7, create(rpc::map::TYPE))),
        ("increment", command(7, operation(COUNTER, rpc::counter::INCREMENT, &increment))),
        ("put", command(7, operation(MAP, rpc::map::PUT, &put("c", Some(9))))),
    ]
}

pub fn inputs() -> Seeds {
    all_inputs().into_iter().map(|(name, input)| (name, encode(&input))).collect()
}

pub fn entries() -> Seeds {
    let items = all_inputs().iter().map(|(_, input)| item(input)).collect();
    let cancel = multiraft_proto::log::Cancel { session_id: SESSION, sequence_num: 3 };
    let cancel = LogItem { item: Some(log_item::Item::Cancel(cancel)), ..Default::default() };
    vec![("all", entry_of(items)), ("cancel", entry_of(vec![cancel])), ("empty", Vec::new())]
}

pub fn calls() -> Seeds {
    let chosen = |choice: u16, input: Vec<u8>| [&choice.to_be_bytes()[..], &input].concat();
    let put = put("a", Some(3)).encode_to_vec();
    let number = counter::SetInput { value: -7 }.encode_to_vec();
    let names = [
        "call-00", "call-01", "call-02", "call-03", "call-04", "call-05", "call-06", "call-07",
        "call-08", "call-09", "call-10", "call-11", "call-12", "call-13", "call-14", "call-15",
        "call-16", "call-17", "call-18", "call-19",
    ];
    let input = |choice: u16| if choice < 5 { number.clone() } else { put.clone() };
    names.into_iter().zip(0..).map(|(name, n)| (name, chosen(n, input(n)))).collect()
}

pub fn filters() -> Seeds {
    let one = br#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#;
    let ten = br#"{"m":63,"k":5,"b":"AAAAAAAAAD9Wo9Km_1XHSQ=="}"#;
    let all = br#"{"m":1,"k":1,"b":"AAAAAAAAAAEAAAAAAAAAAQ=="}"#;
    vec![("one", one.to_vec()), ("ten", ten.to_vec()), ("all", all.to_vec())]
}

pub fn chunks() -> Seeds {
    let whole: Vec<Bytes> = machine().snapshot().collect();
    let empty: Vec<Bytes> = Machine::new().snapshot().collect();
    vec![("machine", whole.concat()), ("empty", empty.concat())]
}
