//! The types of primitives, and created primitives of any of them.

use std::sync::Arc;

use super::{
    Failure, Primitive, Status, counter, countermap, election, indexedmap, lock, map, multimap,
    set, value,
};
use crate::digest::Digest;

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

    /// Approximate memory of the state.
    pub fn bytes(&self) -> u64 {
        self.primitive().size().bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::primitives::{Call, CommandKey, Context, Step, encode};
    use crate::timers::Timers;
    use bytes::Bytes;
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
            (Service::Map, rpc::map::ENTRIES, rpc::map::SIZE),
            (Service::MultiMap, rpc::multimap::ENTRIES, rpc::multimap::SIZE),
            (Service::Set, rpc::set::ELEMENTS, rpc::set::SIZE),
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
    fn a_value_or_term_that_never_was_is_an_empty_stream() {
        let watches =
            [(Service::LeaderElection, rpc::election::WATCH), (Service::Value, rpc::value::WATCH)];
        for (service, operation) in watches {
            let slot = Slot::new(service, "space".into(), "name".into());
            assert_eq!(slot.primitive().list(operation, Bytes::new()).unwrap().count(), 0);
            let queried = slot.primitive().query(operation, Bytes::new());
            assert_eq!(queried.unwrap_err().status, Status::NotSupported);
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
            (Service::Map, rpc::map::EVENTS),
            (Service::MultiMap, rpc::multimap::EVENTS),
            (Service::Set, rpc::set::EVENTS),
            (Service::Value, rpc::value::EVENTS),
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
