//! One write to one key: its limits, its preconditions, its effect. The same code serves single
//! commands and transactions.

use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::map::v1 as wire;
use wire::event::{Event, Inserted, Updated};

use super::{Entry, Map, missing, removed, tell, value};
use crate::digest::Digest;
use crate::primitives::checks::{check_key, check_value};
use crate::primitives::{Context, Failure, Status, encode, ttl_millis};

#[derive(Clone, Debug)]
pub struct Write {
    pub kind: Kind,
    pub key: String,
    /// Empty for a removal.
    pub value: Bytes,
    pub ttl_millis: Option<u64>,
    /// 0 = any version.
    pub prev_index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Insert,
    Update,
    Remove,
}

/// What a write did.
#[derive(Debug)]
pub struct Written {
    kind: Kind,
    /// Version of the entry now.
    index: u64,
    prev_value: Option<wire::IndexedValue>,
}

impl Write {
    pub fn put(input: wire::PutInput) -> Result<Self, Failure> {
        let ttl = input.ttl.map(|ttl| (ttl.seconds, ttl.nanos));
        Self::new(Kind::Put, input.key, input.value, ttl, input.prev_index)
    }

    pub fn insert(input: wire::InsertInput) -> Result<Self, Failure> {
        let ttl = input.ttl.map(|ttl| (ttl.seconds, ttl.nanos));
        Self::new(Kind::Insert, input.key, input.value, ttl, 0)
    }

    pub fn update(input: wire::UpdateInput) -> Result<Self, Failure> {
        let ttl = input.ttl.map(|ttl| (ttl.seconds, ttl.nanos));
        Self::new(Kind::Update, input.key, input.value, ttl, input.prev_index)
    }

    pub fn remove(input: wire::RemoveInput) -> Result<Self, Failure> {
        Self::new(Kind::Remove, input.key, Bytes::new(), None, input.prev_index)
    }

    fn new(
        kind: Kind,
        key: String,
        value: Bytes,
        ttl: Option<(i64, i32)>,
        prev_index: u64,
    ) -> Result<Self, Failure> {
        check_key("key", &key)?;
        check_value("value", &value)?;
        let ttl_millis = ttl.map(|ttl| ttl_millis("ttl", ttl)).transpose()?;
        Ok(Self { kind, key, value, ttl_millis, prev_index })
    }

    /// Cuts the value loose from the entry that it came in, which would stay in memory with it.
    pub fn detach(&mut self) {
        self.value = Bytes::copy_from_slice(&self.value);
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { kind, key, value, ttl_millis, prev_index } = self;
        digest.word(*kind as u64);
        digest.bytes(key.as_bytes());
        digest.bytes(value);
        digest.option(*ttl_millis, Digest::word);
        digest.word(*prev_index);
    }

    /// The preconditions against the present entry of the key.
    pub(super) fn check(&self, current: Option<&Entry>) -> Result<(), Failure> {
        let matches = match current {
            Some(entry) => self.prev_index == 0 || self.prev_index == entry.index,
            None => self.prev_index == 0,
        };
        match (self.kind, current) {
            (Kind::Insert, Some(_)) => {
                Err(Failure::new(Status::AlreadyExists, "key: has an entry"))
            }
            (Kind::Update | Kind::Remove, None) => Err(missing()),
            _ if !matches => {
                Err(Failure::new(Status::Conflict, "prev_index: the entry has another index"))
            }
            (Kind::Put | Kind::Insert | Kind::Update | Kind::Remove, _) => Ok(()),
        }
    }
}

impl Map {
    /// Carries out one write as a command of its own.
    pub fn unary(&mut self, write: Write, context: &mut Context<'_>) -> Result<Bytes, Failure> {
        self.check_unlocked(&write.key)?;
        self.write(write, context).map(|written| written.encode())
    }

    /// Checks the preconditions and writes. One lookup when the key has an entry.
    pub fn write(&mut self, write: Write, context: &mut Context<'_>) -> Result<Written, Failure> {
        if write.kind == Kind::Remove {
            return self.remove(&write, context);
        }
        let Some(mut entry) = self.entries.get_mut(&*write.key) else {
            write.check(None)?;
            return Ok(self.create(write, context));
        };
        write.check(Some(&entry))?;
        if write.kind == Kind::Put && entry.value == write.value {
            return Ok(Written { kind: write.kind, index: entry.index, prev_value: None });
        }
        let new = Bytes::copy_from_slice(&write.value);
        let old = std::mem::replace(&mut entry.value, new);
        let prev_value = Some(wire::IndexedValue { value: old, index: entry.index });
        entry.index = context.index;
        let expiry = entry.expiry.take();
        drop(entry);
        let updated = || {
            let value = value(&self.entries, &write.key);
            Event::Updated(Updated { value, prev_value: prev_value.clone() })
        };
        tell(&mut self.listeners, &write.key, updated, context);
        if expiry.is_some() || write.ttl_millis.is_some() {
            let key = Arc::from(write.key);
            let timer = self.rearm(&key, expiry, write.ttl_millis, context);
            let mut entry = self.entries.get_mut(&key).expect("found above");
            entry.expiry = timer;
        }
        Ok(Written { kind: write.kind, index: context.index, prev_value })
    }

    fn create(&mut self, write: Write, context: &mut Context<'_>) -> Written {
        let key: Arc<str> = Arc::from(write.key);
        let expiry = match write.ttl_millis {
            Some(_) => self.rearm(&key, None, write.ttl_millis, context),
            None => None,
        };
        let entry =
            Entry { value: Bytes::copy_from_slice(&write.value), index: context.index, expiry };
        self.entries.insert(Arc::clone(&key), entry);
        let inserted = || Event::Inserted(Inserted { value: value(&self.entries, &key) });
        tell(&mut self.listeners, &key, inserted, context);
        Written { kind: write.kind, index: context.index, prev_value: None }
    }

    fn remove(&mut self, write: &Write, context: &mut Context<'_>) -> Result<Written, Failure> {
        write.check(self.entries.get(&*write.key))?;
        let entry = self.entries.remove(&*write.key).ok_or_else(missing)?;
        if let Some(timer) = entry.expiry {
            context.disarm(timer);
            self.expiries.remove(&timer.id);
        }
        tell(&mut self.listeners, &write.key, || removed(&entry, false), context);
        let prev_value = Some(entry.indexed_value());
        Ok(Written { kind: write.kind, index: entry.index, prev_value })
    }
}

impl Written {
    pub fn encode(self) -> Bytes {
        match self.kind {
            Kind::Put => encode(&self.put()),
            Kind::Insert => encode(&self.insert()),
            Kind::Update => encode(&self.update()),
            Kind::Remove => encode(&self.remove()),
        }
    }

    pub fn into_output(self) -> wire::MapOutput {
        use wire::map_output::Output;
        let output = match self.kind {
            Kind::Put => Output::Put(self.put()),
            Kind::Insert => Output::Insert(self.insert()),
            Kind::Update => Output::Update(self.update()),
            Kind::Remove => Output::Remove(self.remove()),
        };
        wire::MapOutput { output: Some(output) }
    }

    fn put(self) -> wire::PutOutput {
        wire::PutOutput { index: self.index, prev_value: self.prev_value }
    }

    fn insert(self) -> wire::InsertOutput {
        wire::InsertOutput { index: self.index }
    }

    fn update(self) -> wire::UpdateOutput {
        wire::UpdateOutput { index: self.index, prev_value: self.prev_value }
    }

    fn remove(self) -> wire::RemoveOutput {
        wire::RemoveOutput { value: self.prev_value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_a_write_is_in_the_digest() {
        let write = Write {
            kind: Kind::Put,
            key: "key".into(),
            value: "value".into(),
            ttl_millis: None,
            prev_index: 0,
        };
        for (kind_then, ttl) in [(Kind::Insert, 0), (Kind::Update, 1), (Kind::Remove, u64::MAX)] {
            each_field_changes_the_digest!(write.clone(), Write::digest, Write {
                kind => *kind = kind_then,
                key => key.push('y'),
                value => *value = Bytes::new(),
                ttl_millis => *ttl_millis = Some(ttl),
                prev_index => *prev_index = 1,
            });
        }
    }
}
