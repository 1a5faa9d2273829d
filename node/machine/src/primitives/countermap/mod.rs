//! Keys to signed 64-bit numbers, and locks on the keys.

mod snapshot;

use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::countermap::v1 as wire;
use multiraft_proto::rpc::countermap as operation;

use super::checks::check_key;
use super::key_locks::KeyLocks;
use super::listeners::{Filter, Listeners};
use super::measured::Measured;
use super::selection::Keys;
use super::{
    At, Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size,
    Status, Step, decode, decode_record, encode, ttl_millis, unknown_operation,
};
use crate::digest::Digest;

#[derive(Clone, Debug, Default)]
pub struct CounterMap {
    entries: Measured<Arc<str>, i64>,
    locks: KeyLocks,
    listeners: Listeners,
}

impl Primitive for CounterMap {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        let output = match operation {
            operation::SET => self.set(decode(input)?, context)?,
            operation::INSERT => self.insert(decode(input)?, context)?,
            operation::UPDATE => self.update(decode(input)?, context)?,
            operation::INCREMENT => self.increment(decode(input)?, context)?,
            operation::DECREMENT => self.decrement(decode(input)?, context)?,
            operation::REMOVE => self.remove(decode(input)?, context)?,
            operation::CLEAR => self.clear(decode(input)?, context),
            operation::LOCK => return self.lock(command, decode(input)?, context),
            operation::UNLOCK => {
                let wire::UnlockInput { keys } = decode(input)?;
                self.locks.unlock(command.session_id, &keys, context)?
            }
            operation::EVENTS => return self.events(command, decode(input)?, context),
            other => return Err(unknown_operation(Service::CounterMap, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET => self.get(decode(input)?),
            operation::SIZE => {
                let wire::SizeInput {} = decode(input)?;
                let size = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                Ok(encode(&wire::SizeOutput { size }))
            }
            other => Err(unknown_operation(Service::CounterMap, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::ENTRIES => self.entries(decode(input)?),
            other => Err(unknown_operation(Service::CounterMap, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, context: &mut Context<'_>) {
        self.listeners.close(command);
        self.locks.cancel(command, context);
    }

    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>) {
        self.listeners.close_session(session_id);
        self.locks.close_session(session_id, context);
    }

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        self.locks.on_timer(timer_id, context);
    }

    fn size(&self) -> Size {
        let Self { entries, locks, listeners } = self;
        Size::new(entries.len(), entries.bytes() + locks.bytes() + listeners.bytes())
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { entries, locks, listeners } = self;
        digest.number(entries.len());
        for (key, value) in entries.iter() {
            digest.bytes(key.as_bytes());
            digest.word(*value as u64);
        }
        locks.digest(digest);
        listeners.digest(digest);
    }

    fn snapshot(&self) -> Records<'_> {
        Box::new(self.records().map(|record| encode(&record)))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        self.restore_record(decode_record(record)?, context)
    }
}

impl CounterMap {
    fn set(&mut self, input: wire::SetInput, context: &mut Context<'_>) -> Result<Bytes, Failure> {
        let wire::SetInput { key, value } = input;
        check_key("key", &key)?;
        let prev_value = self.write(&key, value, context);
        Ok(encode(&wire::SetOutput { prev_value }))
    }

    fn insert(
        &mut self,
        wire::InsertInput { key, value }: wire::InsertInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        if self.entries.contains_key(&*key) {
            return Err(Failure::new(Status::AlreadyExists, "key: has a number"));
        }
        self.write(&key, value, context);
        Ok(encode(&wire::InsertOutput {}))
    }

    fn update(
        &mut self,
        wire::UpdateInput { key, value, prev_value }: wire::UpdateInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        self.compare(&key, prev_value)?;
        self.write(&key, value, context);
        Ok(encode(&wire::UpdateOutput { prev_value }))
    }

    fn increment(
        &mut self,
        wire::IncrementInput { key, delta }: wire::IncrementInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let prev_value = self.add(&key, delta, i64::checked_add, context)?;
        Ok(encode(&wire::IncrementOutput { prev_value }))
    }

    fn decrement(
        &mut self,
        wire::DecrementInput { key, delta }: wire::DecrementInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let prev_value = self.add(&key, delta, i64::checked_sub, context)?;
        Ok(encode(&wire::DecrementOutput { prev_value }))
    }

    /// Returns the number before. The original wraps around silently; see the counter.
    fn add(
        &mut self,
        key: &str,
        delta: i64,
        sum: fn(i64, i64) -> Option<i64>,
        context: &mut Context<'_>,
    ) -> Result<i64, Failure> {
        check_key("key", key)?;
        let delta = if delta == 0 { 1 } else { delta };
        let prev_value = self.entries.get(key).copied().unwrap_or(0);
        let value = sum(prev_value, delta);
        let value =
            value.ok_or_else(|| Failure::invalid("delta: number would overflow 64 bits"))?;
        self.write(key, value, context);
        Ok(prev_value)
    }

    fn remove(
        &mut self,
        wire::RemoveInput { key, prev_value: value }: wire::RemoveInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        self.compare(&key, value)?;
        self.entries.remove(&*key);
        self.changed(&key, || removed(value), context);
        Ok(encode(&wire::RemoveOutput { value }))
    }

    fn clear(&mut self, _: wire::ClearInput, context: &mut Context<'_>) -> Bytes {
        for (key, value) in std::mem::take(&mut self.entries) {
            self.changed(&key, || removed(value), context);
        }
        encode(&wire::ClearOutput {})
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

    fn events(
        &mut self,
        command: CommandKey,
        wire::EventsInput { key, prefix }: wire::EventsInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let filter = Filter::new(key, prefix)?;
        let first = event_output(filter.text(), None);
        self.listeners.open(command, filter, first, context)
    }

    fn get(&self, wire::GetInput { key }: wire::GetInput) -> Result<Bytes, Failure> {
        check_key("key", &key)?;
        let value = *self.entries.get(&*key).ok_or_else(missing)?;
        Ok(encode(&wire::GetOutput { value }))
    }

    fn entries(&self, input: wire::EntriesInput) -> Result<Records<'_>, Failure> {
        let wire::EntriesInput { watch, prefix, start, end, after, limit } = input;
        let found = Keys { prefix, start, end, after, limit }.of(watch, &self.entries)?;
        Ok(Box::new(found.map(|(key, value)| entries_output(key, *value))))
    }

    fn compare(&self, key: &str, prev_value: i64) -> Result<(), Failure> {
        match self.entries.get(key) {
            None => Err(missing()),
            Some(value) if *value == prev_value => Ok(()),
            Some(_) => Err(Failure::new(Status::Conflict, "prev_value: the number is another")),
        }
    }

    /// Returns the number before, 0 if there was none.
    fn write(&mut self, key: &str, value: i64, context: &mut Context<'_>) -> i64 {
        let Some(mut present) = self.entries.get_mut(key) else {
            self.entries.insert(key.into(), value);
            let inserted = || Event::Inserted(wire::event::Inserted { value });
            self.changed(key, inserted, context);
            return 0;
        };
        let prev_value = std::mem::replace(&mut *present, value);
        drop(present);
        let updated = || Event::Updated(wire::event::Updated { value, prev_value });
        self.changed(key, updated, context);
        prev_value
    }

    /// Every change of an entry comes by here, after it was made.
    fn changed(&mut self, key: &str, event: impl FnOnce() -> Event, context: &mut Context<'_>) {
        self.listeners.tell(key, || event_output(key, Some(event())), context);
        context.changed(At::Key(key), || {
            let value = self.entries.get(key).copied().unwrap_or_default();
            entries_output(key, value)
        });
    }
}

/// One entry; for who watches, 0 also stands for one that was removed.
fn entries_output(key: &str, value: i64) -> Bytes {
    let entry = Some(wire::Entry { key: key.to_owned(), value });
    encode(&wire::EntriesOutput { entry })
}

use wire::event::Event;

fn removed(value: i64) -> Event {
    Event::Removed(wire::event::Removed { value })
}

fn event_output(key: &str, event: Option<Event>) -> Bytes {
    let event = Some(wire::Event { key: key.to_owned(), event });
    encode(&wire::EventsOutput { event })
}

fn missing() -> Failure {
    Failure::new(Status::NotFound, "key: has no number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    #[test]
    fn each_field_of_a_counter_map_is_in_the_digest() {
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        let mut map = CounterMap::default();
        map.write("a", 1, &mut context);
        each_field_changes_the_digest!(map.clone(), CounterMap::digest, CounterMap {
            entries => entries.insert("b".into(), 1),
            locks => locks.lock(command, &["a".into()], None, &mut context).unwrap(),
            listeners => listeners.open(command, Filter::all(), Bytes::new(), &mut context).unwrap(),
        });
        each_field_changes_the_digest!(map, CounterMap::digest, CounterMap {
            entries => entries.insert("a".into(), -1),
            locks => locks.lock(command, &["b".into()], None, &mut context).unwrap(),
            listeners => listeners.open(command, Filter::prefix("a".into()), Bytes::new(), &mut context).unwrap(),
        });
    }
}
