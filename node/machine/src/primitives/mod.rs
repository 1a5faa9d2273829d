//! The primitives: what clients build with. Each is one file and one [`Primitive`].

mod checks;
mod counter;
mod countermap;
mod election;
mod indexedmap;
mod key_listeners;
mod key_locks;
mod listeners;
mod lock;
mod map;
mod multimap;
mod set;
mod value;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

pub use crate::answer::Status;
use crate::digest::Digest;
use crate::limits::{COMMAND_OVERHEAD_BYTES, EMITTED_BYTES_MAX, TTL_MILLIS_MAX};
use crate::session::{Session, duration_millis};
use crate::timers::{Owner, RestoredTimers, Timer, Timers};

/// What a primitive does with the calls on it. Every method is a function of its arguments and
/// leaves the state untouched when it fails.
pub trait Primitive {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure>;

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure>;

    /// The outputs of a query that streams, from the present state. Made one by one, as records are.
    fn list(&self, operation: u32, _input: Bytes) -> Result<Records<'_>, Failure> {
        let message = format!("operation {operation} does not stream here");
        Err(Failure::new(Status::NotSupported, message))
    }

    /// An open command ended without an answer: its caller gave it up.
    fn on_command_canceled(&mut self, command: CommandKey, context: &mut Context<'_>);

    /// The session ended, or closed this primitive. Its open commands are ended already.
    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>);

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>);

    fn digest(&self, digest: &mut Digest);

    /// The whole state as encoded records, in a fixed order. They are made one by one: a large state
    /// is many records and never in memory twice.
    fn snapshot(&self) -> Records<'_>;

    /// Takes one of these records into a primitive that was new before the first of them. The
    /// message says what is wrong with the record; a record comes from outside and may be anything.
    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String>;
}

pub type Records<'a> = Box<dyn Iterator<Item = Bytes> + Send + 'a>;

/// Names a command: these two numbers are what makes it take effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandKey {
    pub session_id: u64,
    pub sequence_num: u64,
}

impl CommandKey {
    fn digest(&self, digest: &mut Digest) {
        let Self { session_id, sequence_num } = self;
        digest.word(*session_id);
        digest.word(*sequence_num);
    }
}

#[derive(Clone, Debug)]
pub struct Call {
    pub command: CommandKey,
    pub operation: u32,
    pub input: Bytes,
}

/// What applying a command brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The encoded output; nothing follows.
    Complete(Bytes),
    /// Outputs follow, by [`Context::emit`], now or with later entries.
    Open,
}

/// An operation that did not happen, as the headers of its response carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Status::Invalid, message)
    }
}

/// The surroundings of a primitive while it handles one event.
#[derive(Debug)]
pub struct Context<'a> {
    /// The machine's index: becomes the version of what is written.
    pub index: u64,
    pub log_time: u64,
    primitive_id: u64,
    timers: &'a mut Timers,
    emitted: &'a mut Vec<Emitted>,
    /// Approximate memory of `emitted`.
    emitted_bytes: u64,
}

/// An output for an open command.
#[derive(Debug)]
pub struct Emitted {
    pub command: CommandKey,
    pub result: Result<Bytes, Failure>,
    pub last: bool,
}

impl Emitted {
    fn bytes(&self) -> u64 {
        COMMAND_OVERHEAD_BYTES + self.result.as_ref().map_or(0, |output| output.len() as u64)
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        (index, log_time): (u64, u64),
        primitive_id: u64,
        timers: &'a mut Timers,
        emitted: &'a mut Vec<Emitted>,
    ) -> Self {
        Self { index, log_time, primitive_id, timers, emitted, emitted_bytes: 0 }
    }

    /// Calls `on_timer` with the timer's id once log time has reached now + `delay_millis`; never
    /// at the present log time, so that a chain of timers cannot stand still.
    pub fn arm(&mut self, delay_millis: u64) -> Timer {
        let due = self.log_time.saturating_add(delay_millis.clamp(1, TTL_MILLIS_MAX));
        self.timers.arm(due, Owner::Primitive(self.primitive_id))
    }

    pub fn disarm(&mut self, timer: Timer) {
        self.timers.disarm(timer);
    }

    /// Adds an output to an open command.
    pub fn emit(&mut self, emitted: Emitted) {
        self.emitted_bytes += emitted.bytes();
        self.emitted.push(emitted);
    }

    /// True: [`EMITTED_BYTES_MAX`] is reached. What can be left out is left out now.
    pub fn emitted_enough(&self) -> bool {
        self.emitted_bytes >= EMITTED_BYTES_MAX
    }
}

/// What is restored already when the state of a primitive is.
#[derive(Debug)]
pub struct RestoreContext<'a> {
    primitive_id: u64,
    timers: &'a mut RestoredTimers,
    sessions: &'a OrdMap<u64, Session>,
}

impl<'a> RestoreContext<'a> {
    pub(crate) fn new(
        primitive_id: u64,
        timers: &'a mut RestoredTimers,
        sessions: &'a OrdMap<u64, Session>,
    ) -> Self {
        Self { primitive_id, timers, sessions }
    }

    /// Arms a timer again that the primitive held armed.
    pub fn arm(&mut self, timer: Timer) -> Result<(), String> {
        self.timers.arm(timer, Owner::Primitive(self.primitive_id))
    }

    /// Whatever a session holds or waits for, it must be attached for: else nobody would end it.
    pub fn check_attached(&self, session_id: u64) -> Result<(), String> {
        let attached = self.sessions.get(&session_id).map(|session| &session.attached);
        if !attached.is_some_and(|attached| attached.contains(&self.primitive_id)) {
            return Err(format!("session {session_id} is not attached"));
        }
        Ok(())
    }

    /// Whatever waits for outputs of the primitive must be an open command on it: else nobody would
    /// get them.
    pub fn check_open(&self, command: CommandKey) -> Result<(), String> {
        let CommandKey { session_id, sequence_num } = command;
        let session = self.sessions.get(&session_id);
        if !session.is_some_and(|s| s.commands.is_open(sequence_num, self.primitive_id)) {
            return Err(format!("command {sequence_num} of session {session_id} is not open here"));
        }
        Ok(())
    }
}

/// The services that clients can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Counter,
    CounterMap,
    IndexedMap,
    LeaderElection,
    Lock,
    Map,
    MultiMap,
    Set,
    Value,
}

const SERVED: [Service; 9] = [
    Service::Counter,
    Service::CounterMap,
    Service::IndexedMap,
    Service::LeaderElection,
    Service::Lock,
    Service::Map,
    Service::MultiMap,
    Service::Set,
    Service::Value,
];

impl Service {
    pub fn find(name: &str) -> Result<Self, Failure> {
        let unknown = || Failure::new(Status::Forbidden, "service: unknown type of primitive");
        SERVED.into_iter().find(|service| service.name() == name).ok_or_else(unknown)
    }

    pub fn name(self) -> &'static str {
        match self {
            Service::Counter => "atomix.runtime.counter.v1.Counter",
            Service::CounterMap => "atomix.runtime.countermap.v1.CounterMap",
            Service::IndexedMap => "atomix.runtime.indexedmap.v1.IndexedMap",
            Service::LeaderElection => "atomix.runtime.election.v1.LeaderElection",
            Service::Lock => "atomix.runtime.lock.v1.Lock",
            Service::Map => "atomix.runtime.map.v1.Map",
            Service::MultiMap => "atomix.runtime.multimap.v1.MultiMap",
            Service::Set => "atomix.runtime.set.v1.Set",
            Service::Value => "atomix.runtime.value.v1.Value",
        }
    }
}

/// One created primitive.
#[derive(Clone, Debug)]
pub struct Slot {
    pub service: Service,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Counter(counter::Counter),
    CounterMap(countermap::CounterMap),
    IndexedMap(indexedmap::IndexedMap),
    LeaderElection(election::LeaderElection),
    Lock(lock::Lock),
    Map(map::Map),
    MultiMap(multimap::MultiMap),
    Set(set::Set),
    Value(value::Value),
}

impl Slot {
    pub fn new(service: Service, namespace: Arc<str>, name: Arc<str>) -> Self {
        let state = match service {
            Service::Counter => State::Counter(counter::Counter::default()),
            Service::CounterMap => State::CounterMap(countermap::CounterMap::default()),
            Service::IndexedMap => State::IndexedMap(indexedmap::IndexedMap::default()),
            Service::LeaderElection => State::LeaderElection(Default::default()),
            Service::Lock => State::Lock(lock::Lock::default()),
            Service::Map => State::Map(map::Map::default()),
            Service::MultiMap => State::MultiMap(multimap::MultiMap::default()),
            Service::Set => State::Set(set::Set::default()),
            Service::Value => State::Value(value::Value::default()),
        };
        Self { service, namespace, name, state }
    }

    pub fn primitive(&self) -> &dyn Primitive {
        match &self.state {
            State::Counter(counter) => counter,
            State::CounterMap(map) => map,
            State::IndexedMap(map) => map,
            State::LeaderElection(election) => election,
            State::Lock(lock) => lock,
            State::Map(map) => map,
            State::MultiMap(map) => map,
            State::Set(set) => set,
            State::Value(value) => value,
        }
    }

    pub fn primitive_mut(&mut self) -> &mut dyn Primitive {
        match &mut self.state {
            State::Counter(counter) => counter,
            State::CounterMap(map) => map,
            State::IndexedMap(map) => map,
            State::LeaderElection(election) => election,
            State::Lock(lock) => lock,
            State::Map(map) => map,
            State::MultiMap(map) => map,
            State::Set(set) => set,
            State::Value(value) => value,
        }
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { service, namespace, name, state: _ } = self;
        digest.bytes(service.name().as_bytes());
        digest.bytes(namespace.as_bytes());
        digest.bytes(name.as_bytes());
        self.primitive().digest(digest);
    }
}

/// Decodes the input of an operation. The message is ours, not the decoder's: answers are cached
/// and must not change with a library.
fn decode<M: prost::Message + Default>(input: Bytes) -> Result<M, Failure> {
    M::decode(input).map_err(|_| Failure::invalid("input does not decode"))
}

fn encode(output: &impl prost::Message) -> Bytes {
    output.encode_to_vec().into()
}

fn decode_record<M: prost::Message + Default>(record: Bytes) -> Result<M, String> {
    M::decode(record).map_err(|e| format!("state does not decode: {e}"))
}

fn ttl_millis(field: &str, (seconds, nanos): (i64, i32)) -> Result<u64, Failure> {
    duration_millis(seconds, nanos).map_err(|e| Failure::invalid(format!("{field}: {e}")))
}

/// A stream of entries that goes on with later changes.
fn watch(is_wanted: bool) -> Result<(), Failure> {
    if is_wanted {
        let message = "watch: is not served by this release; Events tells of changes";
        return Err(Failure::new(Status::NotSupported, message));
    }
    Ok(())
}

/// A number that the service's table does not have, or has for the other kind of call.
fn unknown_operation(service: Service, operation: u32) -> Failure {
    let message = format!("operation {operation} of {} is not served here", service.name());
    Failure::new(Status::NotSupported, message)
}

/// Restores primitive 1 from records. Session 1 is attached to it and has commands 1 to 3 open on it,
/// session 2 is not attached; timers up to 9 were given out, and it is log time 1,000.
#[cfg(test)]
fn restored(primitive: &mut dyn Primitive, records: &[impl prost::Message]) -> Result<(), String> {
    use crate::commands::{Commands, Open, Waiter};
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

#[cfg(test)]
mod restore_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use multiraft_proto::rpc;

    fn digest(slot: &Slot) -> u64 {
        let mut digest = Digest::new();
        slot.digest(&mut digest);
        digest.finish()
    }

    #[test]
    fn each_field_of_a_slot_is_in_the_digest() {
        let slot = Slot::new(Service::Counter, "space".into(), "name".into());
        let other = Slot::new(Service::Map, "space".into(), "name".into()).state;
        each_field_changes_the_digest!(slot, Slot::digest, Slot {
            service => *service = Service::Map,
            namespace => *namespace = "other".into(),
            name => *name = "other".into(),
            state => *state = other,
        });
    }

    #[test]
    fn an_operation_of_another_type_is_refused_and_changes_nothing() {
        let mut slot = Slot::new(Service::Map, "space".into(), "map".into());
        let before = digest(&slot);
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        // The inputs decode as a map's `Put`: only the number tells them apart.
        let input = encode(&multiraft_proto::map::PutInput {
            key: "key".into(),
            value: "value".into(),
            ..Default::default()
        });
        for operation in [rpc::set::ADD, rpc::counter::UPDATE, rpc::multimap::PUT] {
            let call = Call { command, operation, input: input.clone() };
            let failure = slot.primitive_mut().apply(call, &mut context).unwrap_err();
            assert_eq!(failure.status, Status::NotSupported);
        }
        assert_eq!(digest(&slot), before);
        assert!(emitted.is_empty());
    }
    #[test]
    fn a_query_that_streams_is_no_query_with_one_answer() {
        let services = [
            (Service::CounterMap, rpc::countermap::ENTRIES, rpc::countermap::SIZE),
            (Service::IndexedMap, rpc::indexedmap::ENTRIES, rpc::indexedmap::SIZE),
            (Service::MultiMap, rpc::multimap::ENTRIES, rpc::multimap::SIZE),
            (Service::Counter, rpc::counter::GET, rpc::counter::GET),
        ];
        for (service, streams, answers) in services {
            let slot = Slot::new(service, "space".into(), "name".into());
            let primitive = slot.primitive();
            assert!(primitive.query(answers, Bytes::new()).is_ok());
            let failure = primitive.list(answers, Bytes::new()).map(drop).unwrap_err();
            assert_eq!(failure.status, Status::NotSupported);
            if streams != answers {
                assert_eq!(primitive.list(streams, Bytes::new()).unwrap().count(), 0);
                let failure = primitive.query(streams, Bytes::new()).unwrap_err();
                assert_eq!(failure.status, Status::NotSupported);
            }
        }
    }
    #[test]
    fn a_listener_that_leaves_leaves_nothing_behind() {
        type Leave = fn(&mut dyn Primitive, CommandKey, &mut Context<'_>);
        let leaves: [Leave; 2] = [
            |primitive, command, context| primitive.on_command_canceled(command, context),
            |primitive, command, context| primitive.on_session_closed(command.session_id, context),
        ];
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        for (service, operation) in [
            (Service::CounterMap, rpc::countermap::EVENTS),
            (Service::IndexedMap, rpc::indexedmap::EVENTS),
            (Service::MultiMap, rpc::multimap::EVENTS),
        ] {
            for leave in leaves {
                let mut slot = Slot::new(service, "space".into(), "name".into());
                let before = digest(&slot);
                let (mut timers, mut emitted) = (Timers::default(), Vec::new());
                let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
                let call = Call { command, operation, input: Bytes::new() };
                let step = slot.primitive_mut().apply(call, &mut context);
                assert_eq!(step, Ok(Step::Open));
                assert_ne!(digest(&slot), before);
                leave(slot.primitive_mut(), command, &mut context);
                assert_eq!(digest(&slot), before);
            }
        }
    }
}
