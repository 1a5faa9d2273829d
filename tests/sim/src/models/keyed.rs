//! Models with keys: maps of values, of numbers, of sets, and one in the order of insertion.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multiraft_machine::Status;
use multiraft_proto::rpc;
use multiraft_proto::{countermap, indexedmap, map, multimap};

use super::{Model, Outcome, compare, encode, unknown};
use crate::uses::Use;

#[derive(Default)]
pub struct Map(BTreeMap<String, map::IndexedValue>);

fn map_entry(key: &str, value: Option<map::IndexedValue>) -> Bytes {
    encode(map::EntriesOutput { entry: Some(map::Entry { key: key.to_owned(), value }) })
}

impl Model for Map {
    fn command(&mut self, one: &Use, index: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::map as operation;
        let key = one.name();
        let present = self.0.get(&key).map(|present| present.index);
        match one.operation {
            operation::CLEAR => {
                told.extend(std::mem::take(&mut self.0).keys().map(|key| map_entry(key, None)));
                return Ok(Bytes::new());
            }
            operation::INSERT if present.is_some() => return Err(Status::AlreadyExists),
            operation::UPDATE | operation::REMOVE => compare(one, present)?,
            // What is not there has no version.
            operation::PUT if one.version != 0 => {
                compare(one, present).map_err(|_| Status::Conflict)?;
            }
            _ => {}
        }
        if one.operation == operation::REMOVE {
            let value = self.0.remove(&key);
            told.push(map_entry(&key, None));
            return Ok(encode(map::RemoveOutput { value }));
        }
        let now = map::IndexedValue { value: one.bytes(), index };
        told.push(map_entry(&key, Some(now.clone())));
        let prev_value = self.0.insert(key, now);
        Ok(match one.operation {
            operation::PUT => encode(map::PutOutput { index, prev_value }),
            operation::INSERT => encode(map::InsertOutput { index }),
            operation::UPDATE => encode(map::UpdateOutput { index, prev_value }),
            _ => unknown(one),
        })
    }

    fn query(&self, one: &Use) -> Outcome {
        let value = Some(self.0.get(&one.name()).cloned().ok_or(Status::NotFound)?);
        Ok(encode(map::GetOutput { value }))
    }

    fn list(&self) -> Vec<Bytes> {
        self.0.iter().map(|(key, value)| map_entry(key, Some(value.clone()))).collect()
    }
}

#[derive(Default)]
pub struct Numbers(BTreeMap<String, i64>);

/// Of a key that was removed, too, with 0.
fn number_entry(key: &str, value: i64) -> Bytes {
    encode(countermap::EntriesOutput {
        entry: Some(countermap::Entry { key: key.to_owned(), value }),
    })
}

impl Model for Numbers {
    fn command(&mut self, one: &Use, _: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::countermap as operation;
        let (key, wanted) = (one.name(), one.previous_number());
        let present = self.0.get(&key).copied();
        let prev_value = present.unwrap_or(0);
        let (now, output) = match one.operation {
            operation::CLEAR => {
                told.extend(std::mem::take(&mut self.0).keys().map(|key| number_entry(key, 0)));
                return Ok(Bytes::new());
            }
            operation::INSERT if present.is_some() => return Err(Status::AlreadyExists),
            operation::UPDATE | operation::REMOVE if present.is_none() => {
                return Err(Status::NotFound);
            }
            operation::UPDATE | operation::REMOVE if prev_value != wanted => {
                return Err(Status::Conflict);
            }
            operation::INCREMENT => {
                let now = prev_value + one.number() + 1;
                (Some(now), encode(countermap::IncrementOutput { prev_value }))
            }
            operation::SET => (Some(one.number()), encode(countermap::SetOutput { prev_value })),
            operation::INSERT => (Some(one.number()), Bytes::new()),
            operation::UPDATE => {
                (Some(one.number()), encode(countermap::UpdateOutput { prev_value }))
            }
            operation::REMOVE => (None, encode(countermap::RemoveOutput { value: prev_value })),
            _ => unknown(one),
        };
        told.push(number_entry(&key, now.unwrap_or(0)));
        match now {
            Some(now) => self.0.insert(key, now),
            None => self.0.remove(&key),
        };
        Ok(output)
    }

    fn query(&self, one: &Use) -> Outcome {
        let value = *self.0.get(&one.name()).ok_or(Status::NotFound)?;
        Ok(encode(countermap::GetOutput { value }))
    }

    fn list(&self) -> Vec<Bytes> {
        self.0.iter().map(|(key, value)| number_entry(key, *value)).collect()
    }
}

/// By index.
#[derive(Default)]
pub struct Indexed {
    entries: BTreeMap<u64, indexedmap::Entry>,
    last: u64,
}

impl Indexed {
    fn find(&self, key: &str) -> Option<&indexedmap::Entry> {
        self.entries.values().find(|entry| entry.key == key)
    }
}

fn indexed_entry(entry: &indexedmap::Entry) -> Bytes {
    encode(indexedmap::EntriesOutput { entry: Some(entry.clone()) })
}

fn gone(entry: &indexedmap::Entry) -> Bytes {
    indexed_entry(&indexedmap::Entry { value: None, ..entry.clone() })
}

impl Model for Indexed {
    fn command(&mut self, one: &Use, version: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::indexedmap as operation;
        let present = self.find(&one.name()).cloned();
        let old = || present.as_ref().and_then(|entry| entry.value.as_ref()).map(|v| v.version);
        let index = match one.operation {
            operation::CLEAR => {
                told.extend(std::mem::take(&mut self.entries).values().map(gone));
                return Ok(Bytes::new());
            }
            operation::APPEND if present.is_some() => return Err(Status::AlreadyExists),
            operation::APPEND => {
                self.last += 1;
                self.last
            }
            _ => {
                compare(one, old())?;
                present.as_ref().map_or(0, |entry| entry.index)
            }
        };
        if one.operation == operation::REMOVE {
            let entry = self.entries.remove(&index);
            told.extend(entry.as_ref().map(gone));
            return Ok(encode(indexedmap::RemoveOutput { entry }));
        }
        let value = Some(indexedmap::Value { value: one.bytes(), version });
        let entry = indexedmap::Entry { key: one.name(), index, value };
        told.push(indexed_entry(&entry));
        self.entries.insert(index, entry.clone());
        // Append and Update have the same output.
        Ok(encode(indexedmap::AppendOutput { entry: Some(entry) }))
    }

    fn query(&self, one: &Use) -> Outcome {
        let found = match one.operation {
            rpc::indexedmap::GET => self.find(&one.name()),
            _ => self.entries.values().next_back(),
        };
        let entry = Some(found.cloned().ok_or(Status::NotFound)?);
        Ok(encode(indexedmap::GetOutput { entry }))
    }

    fn list(&self) -> Vec<Bytes> {
        self.entries.values().map(indexed_entry).collect()
    }
}

/// Never with an empty set.
#[derive(Default)]
pub struct Multi(BTreeMap<String, BTreeSet<String>>);

impl Multi {
    fn values(&self, key: &str) -> Vec<String> {
        self.0.get(key).into_iter().flatten().cloned().collect()
    }

    /// With no values: the key is gone.
    fn entry(&self, key: &str) -> Bytes {
        let values = self.values(key);
        let entry = Some(multimap::Entry { key: key.to_owned(), values });
        encode(multimap::EntriesOutput { entry })
    }
}

impl Model for Multi {
    fn command(&mut self, one: &Use, _: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::multimap as operation;
        let (key, before) = (one.name(), self.values(&one.name()));
        let mut now: BTreeSet<String> = before.iter().cloned().collect();
        let value = &one.values()[0];
        let output = match one.operation {
            operation::CLEAR => {
                let keys = std::mem::take(&mut self.0);
                told.extend(keys.keys().map(|key| self.entry(key)));
                return Ok(Bytes::new());
            }
            operation::PUT if !now.insert(value.clone()) => return Err(Status::AlreadyExists),
            operation::REMOVE if !now.remove(value) => return Err(Status::NotFound),
            operation::PUT | operation::REMOVE => Bytes::new(),
            operation::REPLACE => {
                now = one.values().into_iter().collect();
                encode(multimap::ReplaceOutput { prev_values: before.clone() })
            }
            _ => unknown(one),
        };
        let has_changed = !now.iter().eq(&before);
        match now.is_empty() {
            true => self.0.remove(&key),
            false => self.0.insert(key.clone(), now),
        };
        told.extend(has_changed.then(|| self.entry(&key)));
        Ok(output)
    }

    fn query(&self, one: &Use) -> Outcome {
        Ok(encode(multimap::GetOutput { values: self.values(&one.name()) }))
    }

    fn list(&self) -> Vec<Bytes> {
        self.0.keys().map(|key| self.entry(key)).collect()
    }
}
