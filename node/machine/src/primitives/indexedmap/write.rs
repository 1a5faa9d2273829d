//! Changes of an indexed map.

use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::indexedmap::v1 as wire;
use wire::event::Event;

use super::read::missing;
use super::{Entry, IndexedMap};
use crate::primitives::checks::{check_key, check_value};
use crate::primitives::{Context, Failure, Status, encode, ttl_millis};
use crate::timers::Timer;

impl IndexedMap {
    pub fn append(
        &mut self,
        wire::AppendInput { key, value, ttl }: wire::AppendInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        check_value("value", &value)?;
        let ttl = ttl.map(|ttl| ttl_millis("ttl", (ttl.seconds, ttl.nanos))).transpose()?;
        if self.indexes.contains_key(&*key) {
            return Err(Failure::new(Status::AlreadyExists, "key: has an entry"));
        }
        let next = self.last_index.checked_add(1);
        let index = next.ok_or_else(|| Failure::invalid("all indexes are used up"))?;
        self.last_index = index;
        let key: Arc<str> = key.into();
        self.indexes.insert(Arc::clone(&key), index);
        let expiry = self.arm(index, ttl, context);
        let value = Bytes::copy_from_slice(&value);
        let entry = Entry { key, value, version: context.index, expiry };
        self.entries.insert(index, entry.clone());
        let inserted = || Event::Inserted(wire::event::Inserted { value: entry.value() });
        self.changed(&entry.key, index, inserted, context);
        Ok(encode(&wire::AppendOutput { entry: entry.at(index) }))
    }

    pub fn update(
        &mut self,
        input: wire::UpdateInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let wire::UpdateInput { key, index, value, ttl, prev_version } = input;
        check_key("key", &key)?;
        check_value("value", &value)?;
        let ttl = ttl.map(|ttl| ttl_millis("ttl", (ttl.seconds, ttl.nanos))).transpose()?;
        if key.is_empty() && index == 0 {
            return Err(Failure::invalid("key, index: one of them has to be set"));
        }
        let (index, old) = self.find(&key, index, prev_version)?;
        if old.value == value {
            return Ok(encode(&wire::UpdateOutput { entry: old.at(index) }));
        }
        let old = old.clone();
        self.disarm(old.expiry, context);
        let (key, expiry) = (Arc::clone(&old.key), self.arm(index, ttl, context));
        let value = Bytes::copy_from_slice(&value);
        let entry = Entry { key, value, version: context.index, expiry };
        self.entries.insert(index, entry.clone());
        let updated = || {
            let (value, prev_value) = (entry.value(), old.value());
            Event::Updated(wire::event::Updated { value, prev_value })
        };
        self.changed(&entry.key, index, updated, context);
        Ok(encode(&wire::UpdateOutput { entry: entry.at(index) }))
    }

    pub fn remove(
        &mut self,
        wire::RemoveInput { key, index, prev_version }: wire::RemoveInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        let (index, _) = self.find(&key, index, prev_version)?;
        let entry = self.take(index, false, context).ok_or_else(missing)?;
        Ok(encode(&wire::RemoveOutput { entry: entry.at(index) }))
    }

    /// Removes an entry with all that belongs to it.
    pub(super) fn take(
        &mut self,
        index: u64,
        expired: bool,
        context: &mut Context<'_>,
    ) -> Option<Entry> {
        let entry = self.entries.remove(&index)?;
        self.indexes.remove(&entry.key);
        self.disarm(entry.expiry, context);
        self.removed(index, &entry, expired, context);
        Some(entry)
    }

    /// The counter of the indexes goes on.
    pub fn clear(&mut self, _: wire::ClearInput, context: &mut Context<'_>) -> Bytes {
        self.indexes.clear();
        for (index, entry) in std::mem::take(&mut self.entries) {
            self.disarm(entry.expiry, context);
            self.removed(index, &entry, false, context);
        }
        encode(&wire::ClearOutput {})
    }

    fn removed(&mut self, index: u64, entry: &Entry, expired: bool, context: &mut Context<'_>) {
        let removed = || Event::Removed(wire::event::Removed { value: entry.value(), expired });
        self.changed(&entry.key, index, removed, context);
    }

    /// The entry of an index, or of a key if no index is given.
    fn find(&self, key: &str, index: u64, prev_version: u64) -> Result<(u64, &Entry), Failure> {
        let index = match index {
            0 => *self.indexes.get(key).ok_or_else(missing)?,
            index => index,
        };
        let entry = self.entries.get(&index).ok_or_else(missing)?;
        if !key.is_empty() && *entry.key != *key {
            return Err(Failure::new(Status::Conflict, "key: the entry has another key"));
        }
        if prev_version != 0 && prev_version != entry.version {
            let message = "prev_version: the entry has another version";
            return Err(Failure::new(Status::Conflict, message));
        }
        Ok((index, entry))
    }

    fn arm(&mut self, index: u64, ttl: Option<u64>, context: &mut Context<'_>) -> Option<Timer> {
        let timer = context.arm(ttl?);
        self.expiries.insert(timer.id, index);
        Some(timer)
    }

    fn disarm(&mut self, expiry: Option<Timer>, context: &mut Context<'_>) {
        if let Some(timer) = expiry {
            self.expiries.remove(&timer.id);
            context.disarm(timer);
        }
    }
}
