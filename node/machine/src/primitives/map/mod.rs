//! Keys to versioned values, with times to live and transactions over several keys.
//!
//! The version of an entry is the index of the command that wrote it. Every other write to a prepared
//! key fails, and its time to live waits until commit or abort.

mod snapshot;
mod transaction;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::atomix::multiraft::map::v1 as wire;
use multiraft_proto::rpc::map as operation;

use super::checks::check_key;
use super::key_locks::KeyLocks;
use super::listeners::{Filter, Listeners};
use super::measured::{Footprint, Measured};
use super::selection::Keys;
use super::{
    At, Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size,
    Status, Step, decode, decode_record, encode, ttl_millis, unknown_operation,
};
use crate::digest::Digest;
use crate::timers::Timer;
use transaction::{Transaction, TransactionKey};
use wire::event::Event;
use write::Write;

#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Measured<Arc<str>, Entry>,
    /// Armed timer → the key that it will expire.
    expiries: OrdMap<u64, Arc<str>>,
    /// Prepared key → its transaction.
    prepared_keys: OrdMap<Arc<str>, TransactionKey>,
    prepared: Measured<TransactionKey, Transaction>,
    locks: KeyLocks,
    listeners: Listeners,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    /// Version: index of the command that wrote it.
    index: u64,
    /// Fired already when its time came while the key was prepared.
    expiry: Option<Timer>,
}

impl Primitive for Map {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        let output = match operation {
            operation::PUT => self.unary(Write::put(decode(input)?)?, context)?,
            operation::INSERT => self.unary(Write::insert(decode(input)?)?, context)?,
            operation::UPDATE => self.unary(Write::update(decode(input)?)?, context)?,
            operation::REMOVE => self.unary(Write::remove(decode(input)?)?, context)?,
            operation::CLEAR => self.clear(decode(input)?, context)?,
            operation::PREPARE => self.prepare(command.session_id, decode(input)?)?,
            operation::COMMIT => self.commit(command.session_id, decode(input)?, context)?,
            operation::ABORT => self.abort(command.session_id, decode(input)?, context),
            operation::APPLY => self.apply_transaction(decode(input)?, context)?,
            operation::LOCK => return self.lock(command, decode(input)?, context),
            operation::UNLOCK => {
                let wire::UnlockInput { keys } = decode(input)?;
                self.locks.unlock(command.session_id, &keys, context)?
            }
            operation::EVENTS => return self.listen(command, decode(input)?, context),
            other => return Err(unknown_operation(Service::Map, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET => self.get(decode(input)?),
            operation::SIZE => self.size(decode(input)?),
            other => Err(unknown_operation(Service::Map, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::ENTRIES => self.entries(decode(input)?),
            other => Err(unknown_operation(Service::Map, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, context: &mut Context<'_>) {
        self.locks.cancel(command, context);
        self.listeners.close(command);
    }

    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>) {
        self.listeners.close_session(session_id);
        self.locks.close_session(session_id, context);
        self.roll_back(session_id, context);
    }

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        let Some(key) = self.expiries.remove(&timer_id) else {
            return self.locks.on_timer(timer_id, context);
        };
        if !self.prepared_keys.contains_key(&key) {
            self.expire(&key, context);
        }
    }

    fn size(&self) -> Size {
        let Self { entries, expiries: _, prepared_keys: _, prepared, locks, listeners } = self;
        let others = prepared.bytes() + locks.bytes() + listeners.bytes();
        Size::new(entries.len(), entries.bytes() + others)
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { entries, expiries, prepared_keys, prepared, locks, listeners } = self;
        digest.number(entries.len());
        for (key, entry) in entries.iter() {
            digest.bytes(key.as_bytes());
            entry.digest(digest);
        }
        digest.number(expiries.len());
        for (timer_id, key) in expiries.iter() {
            digest.word(*timer_id);
            digest.bytes(key.as_bytes());
        }
        digest.number(prepared_keys.len());
        for (key, transaction) in prepared_keys.iter() {
            digest.bytes(key.as_bytes());
            transaction.digest(digest);
        }
        digest.number(prepared.len());
        for (transaction, writes) in prepared.iter() {
            transaction.digest(digest);
            digest.number(writes.len());
            writes.iter().for_each(|write| write.digest(digest));
        }
        // Younger than the first snapshots: see the rule of the digest.
        if !locks.is_empty() {
            digest.word(1);
            locks.digest(digest);
        }
        if !listeners.is_empty() {
            digest.word(2);
            listeners.digest(digest);
        }
    }

    fn snapshot(&self) -> Records<'_> {
        Box::new(self.records().map(|record| encode(&record)))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        self.restore_record(decode_record(record)?, context)
    }
}

impl Map {
    fn get(&self, wire::GetInput { key }: wire::GetInput) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        let value = Some(value(&self.entries, &key).ok_or_else(missing)?);
        Ok(encode(&wire::GetOutput { value }))
    }

    fn size(&self, wire::SizeInput {}: wire::SizeInput) -> Result<Bytes, Failure> {
        let size = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        Ok(encode(&wire::SizeOutput { size }))
    }

    fn entries(&self, input: wire::EntriesInput) -> Result<Records<'_>, Failure> {
        let wire::EntriesInput { watch, prefix, start, end, after, limit } = input;
        let found = Keys { prefix, start, end, after, limit }.of(watch, &self.entries)?;
        Ok(Box::new(found.map(|(key, entry)| entries_output(key, Some(entry.indexed_value())))))
    }

    fn clear(&mut self, _: wire::ClearInput, context: &mut Context<'_>) -> Result<Bytes, Failure> {
        if !self.prepared_keys.is_empty() {
            return Err(Failure::new(Status::Conflict, "a transaction has prepared a key"));
        }
        self.expiries.clear();
        for (key, entry) in std::mem::take(&mut self.entries) {
            entry.expiry.into_iter().for_each(|timer| context.disarm(timer));
            tell(&mut self.listeners, &key, || removed(&entry, false), context);
        }
        Ok(encode(&wire::ClearOutput {}))
    }

    fn lock(
        &mut self,
        command: CommandKey,
        wire::LockInput { keys, timeout }: wire::LockInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let timeout = timeout.map(|t| ttl_millis("timeout", (t.seconds, t.nanos))).transpose()?;
        self.locks.lock(command, &keys, timeout, context)
    }

    fn check_unlocked(&self, key: &str) -> Result<(), Failure> {
        if !self.prepared_keys.is_empty() && self.prepared_keys.contains_key(key) {
            return Err(Failure::new(Status::Conflict, "key: a transaction has prepared it"));
        }
        Ok(())
    }

    fn listen(
        &mut self,
        command: CommandKey,
        wire::EventsInput { key, prefix }: wire::EventsInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let filter = Filter::new(key, prefix)?;
        let first = event_output(filter.text(), None);
        self.listeners.open(command, filter, first, context)
    }

    /// Removes an entry whose timer has fired.
    fn expire(&mut self, key: &str, context: &mut Context<'_>) {
        if let Some(entry) = self.entries.remove(key) {
            tell(&mut self.listeners, key, || removed(&entry, true), context);
        }
    }

    /// Gives the entry of `key` another time to live, or none.
    fn rearm(
        &mut self,
        key: &Arc<str>,
        old: Option<Timer>,
        ttl: Option<u64>,
        context: &mut Context<'_>,
    ) -> Option<Timer> {
        if let Some(timer) = old {
            context.disarm(timer);
            self.expiries.remove(&timer.id);
        }
        let timer = context.arm(ttl?);
        self.expiries.insert(timer.id, Arc::clone(key));
        Some(timer)
    }
}

impl Footprint for Entry {
    fn footprint(&self) -> u64 {
        self.value.footprint()
    }
}

impl Entry {
    fn digest(&self, digest: &mut Digest) {
        let Self { value, index, expiry } = self;
        digest.bytes(value);
        digest.word(*index);
        digest.option(*expiry, Digest::timer);
    }

    fn indexed_value(&self) -> wire::IndexedValue {
        wire::IndexedValue { value: self.value.clone(), index: self.index }
    }
}

fn value(entries: &OrdMap<Arc<str>, Entry>, key: &str) -> Option<wire::IndexedValue> {
    entries.get(key).map(Entry::indexed_value)
}

/// Called with every change of an entry, after it.
fn tell(
    listeners: &mut Listeners,
    key: &str,
    event: impl FnOnce() -> Event,
    context: &mut Context<'_>,
) {
    if !context.is_watched() {
        return listeners.tell(key, || event_output(key, Some(event())), context);
    }
    let event = event();
    context.changed(At::Key(key), || {
        let value = match &event {
            Event::Inserted(inserted) => inserted.value.clone(),
            Event::Updated(updated) => updated.value.clone(),
            Event::Removed(_) => None,
        };
        entries_output(key, value)
    });
    listeners.tell(key, || event_output(key, Some(event)), context);
}

/// One entry; for who watches, without a value when it was removed.
fn entries_output(key: &str, value: Option<wire::IndexedValue>) -> Bytes {
    encode(&wire::EntriesOutput { entry: Some(wire::Entry { key: key.to_owned(), value }) })
}

fn event_output(key: &str, event: Option<Event>) -> Bytes {
    let event = Some(wire::Event { key: key.to_owned(), event });
    encode(&wire::EventsOutput { event })
}

fn removed(entry: &Entry, expired: bool) -> Event {
    Event::Removed(wire::event::Removed { value: Some(entry.indexed_value()), expired })
}

fn missing() -> Failure {
    Failure::new(Status::NotFound, "key: no such entry")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    fn entry() -> Entry {
        Entry { value: "value".into(), index: 1, expiry: Some(Timer { due: 0, id: 0 }) }
    }

    #[test]
    fn each_field_of_a_map_is_in_the_digest() {
        let transaction = TransactionKey { session_id: 1, sequence_num: 1 };
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        each_field_changes_the_digest!(Map::default(), Map::digest, Map {
            entries => entries.insert("key".into(), entry()),
            expiries => expiries.insert(1, "key".into()),
            prepared_keys => prepared_keys.insert("key".into(), transaction),
            prepared => prepared.insert(transaction, Arc::from([])),
            locks => locks.lock(command, &["key".into()], None, &mut context).unwrap(),
            listeners => listeners.open(command, Filter::prefix("key".into()), Bytes::new(), &mut context).unwrap(),
        });
    }

    #[test]
    fn each_field_of_an_entry_is_in_the_digest() {
        for other in [None, Some(Timer { due: 1, id: 0 }), Some(Timer { due: 0, id: 1 })] {
            each_field_changes_the_digest!(entry(), Entry::digest, Entry {
                value => *value = "other".into(),
                index => *index = 2,
                expiry => *expiry = other,
            });
        }
    }
}
