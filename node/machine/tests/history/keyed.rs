//! Operations on counter maps, indexed maps and multimaps.

use bytes::Bytes;
use multiraft_proto::{countermap, indexedmap, multimap, rpc};

use super::{History, encode};

impl History {
    pub fn count_key(&mut self) -> (u32, Bytes) {
        let (key, value, prev_value) = (self.key(), self.rng.i64(-1..3), self.rng.i64(-1..3));
        match self.rng.u32(..16) {
            0 => (rpc::countermap::CLEAR, encode(&countermap::ClearInput {})),
            1 => (rpc::countermap::INSERT, encode(&countermap::InsertInput { key, value })),
            2 => {
                let update = countermap::UpdateInput { key, value, prev_value };
                (rpc::countermap::UPDATE, encode(&update))
            }
            3 => (rpc::countermap::REMOVE, encode(&countermap::RemoveInput { key, prev_value })),
            4 => {
                let decrement = countermap::DecrementInput { key, delta: i64::MAX };
                (rpc::countermap::DECREMENT, encode(&decrement))
            }
            5..7 => {
                let (key, prefix) = self.filter();
                (rpc::countermap::EVENTS, encode(&countermap::EventsInput { key, prefix }))
            }
            7..10 => {
                // Few keys, so that somebody waits.
                let keys = (0..self.rng.u32(..3)).map(|_| format!("key-{}", self.rng.u32(..3)));
                let mut lock = countermap::LockInput { keys: keys.collect(), timeout: None };
                if self.rng.u32(..3) > 0 {
                    lock.timeout.get_or_insert_default().seconds = self.rng.i64(-1..60);
                }
                (rpc::countermap::LOCK, encode(&lock))
            }
            10 => {
                let unlock = countermap::UnlockInput { keys: self.keys() };
                (rpc::countermap::UNLOCK, encode(&unlock))
            }
            11..13 => {
                let increment = countermap::IncrementInput { key, delta: value };
                (rpc::countermap::INCREMENT, encode(&increment))
            }
            _ => (rpc::countermap::SET, encode(&countermap::SetInput { key, value })),
        }
    }

    pub fn append(&mut self) -> (u32, Bytes) {
        let key = if self.rng.bool() { self.key() } else { String::new() };
        let (index, prev_version) = (self.rng.u64(..12), self.rng.u64(..2));
        let value = Bytes::from(vec![self.rng.u8(..); self.rng.usize(..9)]);
        match self.rng.u32(..16) {
            0 => (rpc::indexedmap::CLEAR, encode(&indexedmap::ClearInput {})),
            1..4 => {
                let remove = indexedmap::RemoveInput { key, index, prev_version };
                (rpc::indexedmap::REMOVE, encode(&remove))
            }
            4..6 => {
                let (key, prefix) = self.filter();
                (rpc::indexedmap::EVENTS, encode(&indexedmap::EventsInput { key, prefix }))
            }
            6..10 => {
                let mut update =
                    indexedmap::UpdateInput { key, index, value, prev_version, ttl: None };
                if self.rng.bool() {
                    update.ttl.get_or_insert_default().seconds = self.rng.i64(-1..15);
                }
                (rpc::indexedmap::UPDATE, encode(&update))
            }
            _ => {
                let mut append = indexedmap::AppendInput { key: self.key(), value, ttl: None };
                if self.rng.bool() {
                    append.ttl.get_or_insert_default().seconds = self.rng.i64(-1..15);
                }
                (rpc::indexedmap::APPEND, encode(&append))
            }
        }
    }

    pub fn collect(&mut self) -> (u32, Bytes) {
        let (key, value, values) = (self.key(), self.key(), self.keys());
        match self.rng.u32(..16) {
            0 => (rpc::multimap::CLEAR, encode(&multimap::ClearInput {})),
            1 => (rpc::multimap::PUT_ALL, encode(&multimap::PutAllInput { key, values })),
            2 => {
                let entries = vec![multimap::Entry { key, values }];
                (rpc::multimap::PUT_ENTRIES, encode(&multimap::PutEntriesInput { entries }))
            }
            3 => (rpc::multimap::REPLACE, encode(&multimap::ReplaceInput { key, values })),
            4..6 => (rpc::multimap::REMOVE, encode(&multimap::RemoveInput { key, value })),
            6 => (rpc::multimap::REMOVE_ALL, encode(&multimap::RemoveAllInput { key, values })),
            7 => {
                let entries = vec![multimap::Entry { key, values }];
                let remove = multimap::RemoveEntriesInput { entries };
                (rpc::multimap::REMOVE_ENTRIES, encode(&remove))
            }
            8..10 => {
                let (key, prefix) = self.filter();
                (rpc::multimap::EVENTS, encode(&multimap::EventsInput { key, prefix }))
            }
            _ => (rpc::multimap::PUT, encode(&multimap::PutInput { key, value })),
        }
    }

    /// A key and a prefix to listen to.
    pub fn filter(&mut self) -> (String, String) {
        let mut key = self.key();
        match self.rng.u32(..8) {
            0..3 => (String::new(), String::new()),
            3..5 => (key, String::new()),
            5 => (key.clone(), key),
            _ => {
                key.truncate(self.rng.usize(1..=key.len()));
                (String::new(), key)
            }
        }
    }

    fn keys(&mut self) -> Vec<String> {
        (0..self.rng.usize(..4)).map(|_| self.key()).collect()
    }
}
