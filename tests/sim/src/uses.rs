//! Calls of clients that use all primitives, each with a model of its own ([`crate::models`]).

use fastrand::Rng;
use multiraft_proto::{countermap, election, indexedmap, map, multimap, rpc, set, value};
use prost::Message;

/// A primitive with a model. Counters and locks are used by other clients and judged elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Primitive {
    CounterMap,
    Election,
    IndexedMap,
    Map,
    MultiMap,
    Set,
    Value,
}

impl Primitive {
    pub const ALL: [Self; 7] = [
        Self::CounterMap,
        Self::Election,
        Self::IndexedMap,
        Self::Map,
        Self::MultiMap,
        Self::Set,
        Self::Value,
    ];

    pub fn service(self) -> &'static str {
        match self {
            Self::CounterMap => rpc::countermap::TYPE,
            Self::Election => rpc::election::TYPE,
            Self::IndexedMap => rpc::indexedmap::TYPE,
            Self::Map => rpc::map::TYPE,
            Self::MultiMap => rpc::multimap::TYPE,
            Self::Set => rpc::set::TYPE,
            Self::Value => rpc::value::TYPE,
        }
    }

    /// What clients call. The first changes a key that was never used, whatever its state.
    fn operations(self) -> &'static [u32] {
        match self {
            Self::CounterMap => {
                use rpc::countermap::*;
                &[INCREMENT, SET, INSERT, UPDATE, REMOVE, CLEAR, GET]
            }
            Self::Election => {
                use rpc::election::*;
                &[ENTER, WITHDRAW, ANOINT, PROMOTE, DEMOTE, EVICT, GET_TERM]
            }
            Self::IndexedMap => {
                use rpc::indexedmap::*;
                &[APPEND, UPDATE, REMOVE, CLEAR, GET, LAST_ENTRY]
            }
            Self::Map => {
                use rpc::map::*;
                &[PUT, INSERT, UPDATE, REMOVE, CLEAR, GET]
            }
            Self::MultiMap => {
                use rpc::multimap::*;
                &[PUT, REPLACE, REMOVE, CLEAR, GET]
            }
            Self::Set => {
                use rpc::set::*;
                &[ADD, REMOVE, CLEAR, CONTAINS]
            }
            Self::Value => {
                use rpc::value::*;
                &[SET, INSERT, UPDATE, DELETE, GET]
            }
        }
    }

    /// The query that lists what is there and goes on with what changes: (operation, input).
    pub fn watch(self) -> (u32, Vec<u8>) {
        let watch = true;
        match self {
            Self::CounterMap => {
                let input = countermap::EntriesInput { watch, ..Default::default() };
                (rpc::countermap::ENTRIES, input.encode_to_vec())
            }
            Self::Election => (rpc::election::WATCH, Vec::new()),
            Self::IndexedMap => {
                let input = indexedmap::EntriesInput { watch, ..Default::default() };
                (rpc::indexedmap::ENTRIES, input.encode_to_vec())
            }
            Self::Map => {
                let input = map::EntriesInput { watch, ..Default::default() };
                (rpc::map::ENTRIES, input.encode_to_vec())
            }
            Self::MultiMap => {
                let input = multimap::EntriesInput { watch, ..Default::default() };
                (rpc::multimap::ENTRIES, input.encode_to_vec())
            }
            Self::Set => {
                let input = set::ElementsInput { watch, ..Default::default() };
                (rpc::set::ELEMENTS, input.encode_to_vec())
            }
            Self::Value => (rpc::value::WATCH, Vec::new()),
        }
    }
}

/// One call of one primitive, in numbers: what they stand for depends on the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub primitive: Primitive,
    pub operation: u32,
    pub key: u64,
    /// No other call of any client has the same.
    pub value: u64,
    /// Compared with what is there; 0 = anything.
    pub version: u64,
}

/// Keys that are used again and again, of each primitive.
const KEYS: u64 = 3;

impl Use {
    /// `known`: some version that the client once saw.
    pub fn draw(rng: &mut Rng, value: u64, known: impl Fn(Primitive) -> u64) -> Self {
        let primitive = Primitive::ALL[rng.usize(..Primitive::ALL.len())];
        let operations = primitive.operations();
        let drawn = operations[rng.usize(..operations.len())];
        // What is cleared all the time is always empty.
        let keeps = is_clear(drawn) && rng.u32(..4) > 0;
        let operation = if keeps { operations[0] } else { drawn };
        let version = if rng.bool() { known(primitive) } else { 0 };
        Use { primitive, operation, key: rng.u64(..KEYS), value, version }
    }

    /// A call that changes something for certain.
    pub fn mark(primitive: Primitive, value: u64) -> Self {
        let operation = primitive.operations()[0];
        Use { primitive, operation, key: KEYS + value, value, version: 0 }
    }

    /// A call that reads what others use.
    pub fn query(primitive: Primitive) -> Self {
        let get = match primitive {
            Primitive::CounterMap => rpc::countermap::GET,
            Primitive::Election => rpc::election::GET_TERM,
            Primitive::IndexedMap => rpc::indexedmap::LAST_ENTRY,
            Primitive::Map => rpc::map::GET,
            Primitive::MultiMap => rpc::multimap::GET,
            Primitive::Set => rpc::set::CONTAINS,
            Primitive::Value => rpc::value::GET,
        };
        Use { primitive, operation: get, key: 0, value: 0, version: 0 }
    }

    pub fn is_query(&self) -> bool {
        use rpc::{countermap, election, indexedmap, map, multimap, set, value};
        let queries = [
            countermap::GET,
            election::GET_TERM,
            indexedmap::GET,
            indexedmap::LAST_ENTRY,
            map::GET,
            multimap::GET,
            set::CONTAINS,
            value::GET,
        ];
        queries.contains(&self.operation)
    }

    pub fn name(&self) -> String {
        format!("key-{}", self.key)
    }

    pub fn bytes(&self) -> prost::bytes::Bytes {
        prost::bytes::Bytes::copy_from_slice(&self.value.to_be_bytes())
    }

    /// A small number: what is compared with it has a chance to be equal.
    pub fn number(&self) -> i64 {
        (self.value % 3) as i64
    }

    pub fn previous_number(&self) -> i64 {
        (self.version % 3) as i64
    }

    /// Values of a key of a multimap, sorted.
    pub fn values(&self) -> Vec<String> {
        let mut values = vec![self.value % 4, self.value / 4 % 4];
        values.sort_unstable();
        values.dedup();
        values.iter().map(u64::to_string).collect()
    }

    pub fn input(&self) -> Vec<u8> {
        match self.primitive {
            Primitive::CounterMap => self.of_counter_map(),
            Primitive::Election => self.of_election(),
            Primitive::IndexedMap => self.of_indexed_map(),
            Primitive::Map => self.of_map(),
            Primitive::MultiMap => self.of_multi_map(),
            Primitive::Set => self.of_set(),
            Primitive::Value => self.of_value(),
        }
    }

    fn of_counter_map(&self) -> Vec<u8> {
        use rpc::countermap as operation;
        let (key, value, prev_value) = (self.name(), self.number(), self.previous_number());
        match self.operation {
            operation::INCREMENT => {
                countermap::IncrementInput { key, delta: value + 1 }.encode_to_vec()
            }
            operation::SET => countermap::SetInput { key, value }.encode_to_vec(),
            operation::INSERT => countermap::InsertInput { key, value }.encode_to_vec(),
            operation::UPDATE => countermap::UpdateInput { key, value, prev_value }.encode_to_vec(),
            operation::REMOVE => countermap::RemoveInput { key, prev_value }.encode_to_vec(),
            operation::GET => countermap::GetInput { key }.encode_to_vec(),
            _ => Vec::new(),
        }
    }

    fn of_election(&self) -> Vec<u8> {
        use rpc::election as operation;
        let candidate = self.name();
        match self.operation {
            operation::ENTER => election::EnterInput { candidate }.encode_to_vec(),
            operation::WITHDRAW => election::WithdrawInput { candidate }.encode_to_vec(),
            operation::ANOINT => election::AnointInput { candidate }.encode_to_vec(),
            operation::PROMOTE => election::PromoteInput { candidate }.encode_to_vec(),
            operation::DEMOTE => election::DemoteInput { candidate }.encode_to_vec(),
            operation::EVICT => election::EvictInput { candidate }.encode_to_vec(),
            _ => Vec::new(),
        }
    }

    fn of_indexed_map(&self) -> Vec<u8> {
        use rpc::indexedmap as operation;
        let (key, value, prev_version) = (self.name(), self.bytes(), self.version);
        match self.operation {
            operation::APPEND => indexedmap::AppendInput { key, value, ttl: None }.encode_to_vec(),
            operation::UPDATE => {
                let input =
                    indexedmap::UpdateInput { key, value, prev_version, ..Default::default() };
                input.encode_to_vec()
            }
            operation::REMOVE => {
                indexedmap::RemoveInput { key, index: 0, prev_version }.encode_to_vec()
            }
            operation::GET => indexedmap::GetInput { key, index: 0 }.encode_to_vec(),
            _ => Vec::new(),
        }
    }

    fn of_map(&self) -> Vec<u8> {
        use rpc::map as operation;
        let (key, value, ttl, prev_index) = (self.name(), self.bytes(), None, self.version);
        match self.operation {
            operation::PUT => map::PutInput { key, value, ttl, prev_index }.encode_to_vec(),
            operation::INSERT => map::InsertInput { key, value, ttl }.encode_to_vec(),
            operation::UPDATE => map::UpdateInput { key, value, ttl, prev_index }.encode_to_vec(),
            operation::REMOVE => map::RemoveInput { key, prev_index }.encode_to_vec(),
            operation::GET => map::GetInput { key }.encode_to_vec(),
            _ => Vec::new(),
        }
    }

    fn of_multi_map(&self) -> Vec<u8> {
        use rpc::multimap as operation;
        let (key, values) = (self.name(), self.values());
        let value = values[0].clone();
        match self.operation {
            operation::PUT => multimap::PutInput { key, value }.encode_to_vec(),
            operation::REPLACE => multimap::ReplaceInput { key, values }.encode_to_vec(),
            operation::REMOVE => multimap::RemoveInput { key, value }.encode_to_vec(),
            operation::GET => multimap::GetInput { key }.encode_to_vec(),
            _ => Vec::new(),
        }
    }

    fn of_set(&self) -> Vec<u8> {
        use rpc::set as operation;
        let element = Some(set::Element { value: self.name() });
        match self.operation {
            operation::ADD => set::AddInput { element, ttl: None }.encode_to_vec(),
            operation::REMOVE => set::RemoveInput { element }.encode_to_vec(),
            operation::CONTAINS => set::ContainsInput { element }.encode_to_vec(),
            _ => Vec::new(),
        }
    }

    fn of_value(&self) -> Vec<u8> {
        use rpc::value as operation;
        let (value, ttl, prev_index) = (self.bytes(), None, self.version);
        match self.operation {
            operation::SET => value::SetInput { value, ttl }.encode_to_vec(),
            operation::INSERT => value::InsertInput { value, ttl }.encode_to_vec(),
            operation::UPDATE => value::UpdateInput { value, prev_index, ttl }.encode_to_vec(),
            operation::DELETE => value::DeleteInput { prev_index }.encode_to_vec(),
            _ => Vec::new(),
        }
    }
}

fn is_clear(operation: u32) -> bool {
    use rpc::{countermap, indexedmap, map, multimap, set};
    let clears = [countermap::CLEAR, indexedmap::CLEAR, map::CLEAR, multimap::CLEAR, set::CLEAR];
    clears.contains(&operation)
}
