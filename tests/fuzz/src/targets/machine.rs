//! What clients send, as it is applied on every node.

use super::Seeds;
use bytes::Bytes;
use multiraft_machine::{List, Machine, Query, Restore, validate_keep_alive};
use multiraft_proto::log::{LogEntry, LogItem, Tick, log_item};
use multiraft_proto::rpc::RPCS;
use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::{
    CloseSessionInput, CreateServiceInput, DestroyPrimitiveInput, ExpireSessionInput,
    KeepAliveInput, OpenSessionInput, PartitionInput, Quota, ServiceInput, SessionInput,
    SetQuotaInput, session_input,
};
use multiraft_proto::{
    counter, countermap, election, indexedmap, lock, map, multimap, rpc, set, value,
};
use prost::Message;
use prost_types::Duration;
use std::sync::LazyLock;

const TERM: u64 = 1;
const SESSION: u64 = 1;
const COUNTER: u64 = 2;
const MAP: u64 = 3;
/// Types of the primitives, whose ids follow each other from [`COUNTER`].
const TYPES: [&str; 9] = [
    rpc::counter::TYPE,
    rpc::map::TYPE,
    rpc::election::TYPE,
    rpc::lock::TYPE,
    rpc::set::TYPE,
    rpc::value::TYPE,
    rpc::countermap::TYPE,
    rpc::indexedmap::TYPE,
    rpc::multimap::TYPE,
];
/// Number of the next command of the session.
const NEXT: u64 = 30;

/// Cloning it is cheap.
fn machine() -> Machine {
    static MACHINE: LazyLock<Machine> = LazyLock::new(filled);
    MACHINE.clone()
}

/// With a session and a primitive of each type: entries, some that expire, a prepared and locked keys,
/// a held lock, a leader, and commands that listen and wait.
fn filled() -> Machine {
    let mut machine = Machine::new();
    let locked = map::map_input::Input::Put(put("locked", None));
    let inputs = vec![map::MapInput { input: Some(locked) }];
    let prepare = map::PrepareInput { sequence_num: 6, inputs };
    let keys = map::LockInput { keys: vec!["a".into()], timeout: None };
    let enter = election::EnterInput { candidate: "a".into() };
    let add = set::AddInput { element: Some(set::Element { value: "a".into() }), ttl: None };
    let append =
        indexedmap::AppendInput { key: "a".into(), value: "value".into(), ttl: seconds(5) };
    let put_value = multimap::PutInput { key: "a".into(), value: "b".into() };
    let [leader, lock, elements, value, numbers, indexed, values] =
        [2, 3, 4, 5, 6, 7, 8].map(|place| COUNTER + place);
    let count = countermap::SetInput { key: "a".into(), value: 5 };
    let number = countermap::LockInput { keys: vec!["a".into()], timeout: seconds(5) };
    let by_prefix = countermap::EventsInput { key: String::new(), prefix: "a".into() };
    let operations = [
        operation(COUNTER, rpc::counter::SET, &counter::SetInput { value: 5 }),
        operation(MAP, rpc::map::PUT, &put("a", None)),
        operation(MAP, rpc::map::PUT, &put("b", Some(5))),
        operation(MAP, rpc::map::PREPARE, &prepare),
        operation(MAP, rpc::map::LOCK, &keys),
        operation(MAP, rpc::map::LOCK, &keys),
        operation(MAP, rpc::map::EVENTS, &map::EventsInput::default()),
        operation(leader, rpc::election::ENTER, &enter),
        operation(lock, rpc::lock::ACQUIRE, &lock::AcquireInput::default()),
        operation(lock, rpc::lock::ACQUIRE, &lock::AcquireInput::default()),
        operation(elements, rpc::set::EVENTS, &set::EventsInput::default()),
        operation(elements, rpc::set::ADD, &add),
        operation(value, rpc::value::INSERT, &value::InsertInput::default()),
        operation(numbers, rpc::countermap::SET, &count),
        operation(numbers, rpc::countermap::LOCK, &number),
        operation(numbers, rpc::countermap::LOCK, &number),
        operation(indexed, rpc::indexedmap::APPEND, &append),
        operation(indexed, rpc::indexedmap::EVENTS, &indexedmap::EventsInput::default()),
        operation(values, rpc::multimap::PUT, &put_value),
        operation(numbers, rpc::countermap::EVENTS, &by_prefix),
    ];
    apply(&mut machine, &entry_of(vec![item(&open())]));
    let created = TYPES.map(create);
    for (payload, number) in created.into_iter().chain(operations).zip(1..NEXT) {
        apply(&mut machine, &entry_of(vec![item(&command(number, payload))]));
    }
    apply(&mut machine, &entry_of(vec![numbered(2, &quota(10_000))]));
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
    // A call that is not remembered.
    apply(&mut machine, &entry_of(vec![LogItem { origin: 1, number: 3, item: Some(input) }]));
    for list in [List::Sessions, List::Primitives, List::Quotas] {
        machine.query(&Query { input: Bytes::copy_from_slice(bytes), ..list.query(&()) });
    }
    lives_on(machine);
}

/// Two bytes choose the operation, the others are its input.
pub fn service(bytes: &[u8]) {
    let Some((choice, input)) = bytes.split_first_chunk() else { return };
    let rpc = &RPCS[usize::from(u16::from_be_bytes(*choice)) % RPCS.len()];
    let place = TYPES.iter().position(|one| *one == rpc.primitive);
    let place = place.expect("each type is there");
    let service_id = COUNTER + place as u64;
    let input = Bytes::copy_from_slice(input);
    let mut machine = machine();
    let query = Query {
        sequence_num: 0,
        session_id: SESSION,
        primitive_id: service_id,
        operation: rpc.operation,
        input: input.clone(),
    };
    machine.query(&query);
    if let Ok(outputs) = machine.list(&query) {
        outputs.for_each(drop);
    }
    let call = ServiceInput { service_id, operation: rpc.operation, payload: input };
    let call = command(NEXT, session_input::Payload::ServiceInput(call));
    apply(&mut machine, &entry_of(vec![item(&call)]));
    lives_on(machine);
}

/// The filter in a keep-alive.
pub fn filter(bytes: &[u8]) {
    for last in [NEXT - 1, u64::MAX] {
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

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn put(key: &str, ttl: Option<i64>) -> map::PutInput {
    map::PutInput {
        key: key.into(),
        value: Bytes::from_static(b"value"),
        ttl: ttl.and_then(seconds),
        ..Default::default()
    }
}

fn encode(payload: &Payload) -> Vec<u8> {
    PartitionInput { payload: Some(payload.clone()) }.encode_to_vec()
}

fn item(payload: &Payload) -> LogItem {
    numbered(1, payload)
}

fn numbered(number: u64, payload: &Payload) -> LogItem {
    let input = log_item::Item::Input(encode(payload).into());
    LogItem { origin: 1, number, item: Some(input) }
}

fn quota(bytes: u64) -> Payload {
    let (namespace, bytes) = ("space".to_owned(), Some(bytes));
    let quota = Quota { namespace, bytes, primitives: Some(20), sessions: Some(2) };
    Payload::SetQuota(SetQuotaInput { quota: Some(quota) })
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
        ("create", command(NEXT, create(rpc::map::TYPE))),
        ("increment", command(NEXT, operation(COUNTER, rpc::counter::INCREMENT, &increment))),
        ("put", command(NEXT, operation(MAP, rpc::map::PUT, &put("c", Some(9))))),
        ("quota", quota(100)),
        ("destroy", Payload::DestroyPrimitive(DestroyPrimitiveInput { primitive_id: MAP })),
        ("expire", Payload::ExpireSession(ExpireSessionInput { session_id: SESSION })),
    ]
}

pub fn inputs() -> Seeds {
    all_inputs().into_iter().map(|(name, input)| (name, encode(&input))).collect()
}

pub fn entries() -> Seeds {
    let items = all_inputs().iter().zip(3..).map(|((_, input), n)| numbered(n, input)).collect();
    let cancel = multiraft_proto::log::Cancel { session_id: SESSION, sequence_num: 3 };
    let cancel = LogItem { item: Some(log_item::Item::Cancel(cancel)), ..Default::default() };
    vec![("all", entry_of(items)), ("cancel", entry_of(vec![cancel])), ("empty", Vec::new())]
}

pub fn calls() -> Seeds {
    let chosen = |choice: u16, input: Vec<u8>| [&choice.to_be_bytes()[..], &input].concat();
    let second = Some(Duration { seconds: 1, nanos: 5 });
    let element = Some(set::Element { value: "b".into() });
    let input = |rpc: &rpc::Rpc| match rpc.primitive {
        rpc::counter::TYPE => counter::SetInput { value: -7 }.encode_to_vec(),
        rpc::election::TYPE => election::EnterInput { candidate: "b".into() }.encode_to_vec(),
        rpc::lock::TYPE => lock::AcquireInput { timeout: second }.encode_to_vec(),
        rpc::set::TYPE => set::AddInput { element: element.clone(), ttl: second }.encode_to_vec(),
        rpc::value::TYPE => value::SetInput { value: "b".into(), ttl: second }.encode_to_vec(),
        rpc::countermap::TYPE => {
            countermap::SetInput { key: "a".into(), value: -7 }.encode_to_vec()
        }
        rpc::indexedmap::TYPE => {
            let (key, value) = ("b".into(), "value".into());
            indexedmap::AppendInput { key, value, ttl: second }.encode_to_vec()
        }
        rpc::multimap::TYPE => {
            multimap::PutInput { key: "a".into(), value: "c".into() }.encode_to_vec()
        }
        _ => put("a", Some(3)).encode_to_vec(),
    };
    let names = [
        "call-00", "call-01", "call-02", "call-03", "call-04", "call-05", "call-06", "call-07",
        "call-08", "call-09", "call-10", "call-11", "call-12", "call-13", "call-14", "call-15",
        "call-16", "call-17", "call-18", "call-19", "call-20", "call-21", "call-22", "call-23",
        "call-24", "call-25", "call-26", "call-27", "call-28", "call-29", "call-30", "call-31",
        "call-32", "call-33", "call-34", "call-35", "call-36", "call-37", "call-38", "call-39",
        "call-40", "call-41", "call-42", "call-43", "call-44", "call-45", "call-46", "call-47",
        "call-48", "call-49", "call-50", "call-51", "call-52", "call-53", "call-54", "call-55",
        "call-56", "call-57", "call-58", "call-59", "call-60", "call-61", "call-62", "call-63",
        "call-64", "call-65", "call-66", "call-67", "call-68", "call-69", "call-70", "call-71",
        "call-72", "call-73", "call-74", "call-75", "call-76", "call-77", "call-78", "call-79",
        "call-80", "call-81", "call-82",
    ];
    assert_eq!(names.len(), RPCS.len(), "a name for each operation");
    let calls = RPCS.iter().zip(0..).map(|(rpc, choice)| chosen(choice, input(rpc)));
    names.into_iter().zip(calls).collect()
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
