//! Operations on locks, elections, sets and values.

use bytes::Bytes;
use multiraft_proto::{election, lock, map, rpc, set, value};

use super::{History, encode};

impl History {
    pub fn lock(&mut self) -> (u32, Bytes) {
        if self.rng.u32(..3) == 0 {
            return (rpc::lock::RELEASE, encode(&lock::ReleaseInput {}));
        }
        let mut acquire = lock::AcquireInput::default();
        if self.rng.bool() {
            acquire.timeout.get_or_insert_default().seconds = self.rng.i64(-1..5);
        }
        (rpc::lock::ACQUIRE, encode(&acquire))
    }

    pub fn elect(&mut self) -> (u32, Bytes) {
        let candidate = ["", "a", "b", "c", "d"][self.rng.usize(..5)].to_owned();
        match self.rng.u32(..8) {
            0 => (rpc::election::WITHDRAW, encode(&election::WithdrawInput { candidate })),
            1 => (rpc::election::ANOINT, encode(&election::AnointInput { candidate })),
            2 => (rpc::election::PROMOTE, encode(&election::PromoteInput { candidate })),
            3 => (rpc::election::DEMOTE, encode(&election::DemoteInput { candidate })),
            4 => (rpc::election::EVICT, encode(&election::EvictInput { candidate })),
            _ => (rpc::election::ENTER, encode(&election::EnterInput { candidate })),
        }
    }

    pub fn add(&mut self) -> (u32, Bytes) {
        let element = Some(set::Element { value: self.key() });
        match self.rng.u32(..8) {
            0 => (rpc::set::CLEAR, encode(&set::ClearInput {})),
            1 => {
                let (_, prefix) = self.filter();
                (rpc::set::EVENTS, encode(&set::EventsInput { prefix }))
            }
            2 => (rpc::set::REMOVE, encode(&set::RemoveInput { element })),
            _ => {
                let mut add = set::AddInput { element, ttl: None };
                if self.rng.bool() {
                    add.ttl.get_or_insert_default().seconds = self.rng.i64(-1..15);
                }
                (rpc::set::ADD, encode(&add))
            }
        }
    }

    pub fn set(&mut self) -> (u32, Bytes) {
        let value = Bytes::from(vec![self.rng.u8(..); self.rng.usize(..9)]);
        let prev_index = self.rng.u64(..3);
        match self.rng.u32(..8) {
            0 => (rpc::value::EVENTS, encode(&value::EventsInput {})),
            1 => (rpc::value::DELETE, encode(&value::DeleteInput { prev_index })),
            2 => (rpc::value::INSERT, encode(&value::InsertInput { value, ttl: None })),
            3 => {
                let update = value::UpdateInput { value, prev_index, ttl: None };
                (rpc::value::UPDATE, encode(&update))
            }
            _ => {
                let mut set = value::SetInput { value, ttl: None };
                if self.rng.bool() {
                    set.ttl.get_or_insert_default().seconds = self.rng.i64(-1..15);
                }
                (rpc::value::SET, encode(&set))
            }
        }
    }

    pub fn lock_keys(&mut self) -> (u32, Bytes) {
        let count = self.rng.usize(..4);
        let keys = (0..count).map(|_| format!("key-{}", self.rng.u32(..3))).collect();
        if self.rng.u32(..4) == 0 {
            return (rpc::map::UNLOCK, encode(&map::UnlockInput { keys }));
        }
        let mut lock = map::LockInput { keys, timeout: None };
        if self.rng.bool() {
            lock.timeout.get_or_insert_default().seconds = self.rng.i64(-1..15);
        }
        (rpc::map::LOCK, encode(&lock))
    }
}
