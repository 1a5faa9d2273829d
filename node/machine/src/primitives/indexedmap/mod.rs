//! A map that keeps the order of insertion: an entry has a key and an index, and is found by either.
//!
//! Indexes come from a counter that never goes back. The version of an entry is the index of the
//! command that wrote it.

mod read;
mod snapshot;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::atomix::multiraft::indexedmap::v1 as wire;
use multiraft_proto::rpc::indexedmap as operation;

use super::listeners::{Filter, Listeners};
use super::measured::{Footprint, Measured};
use super::{
    At, Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size,
    Step, decode, decode_record, encode, unknown_operation,
};
use crate::digest::Digest;
use crate::timers::Timer;

#[derive(Clone, Debug, Default)]
pub struct IndexedMap {
    entries: Measured<u64, Entry>,
    /// Key → index of its entry.
    indexes: OrdMap<Arc<str>, u64>,
    /// The last index that was given to an entry.
    last_index: u64,
    /// Armed timer → index of the entry that it will expire.
    expiries: OrdMap<u64, u64>,
    listeners: Listeners,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Arc<str>,
    value: Bytes,
    /// Index of the command that wrote it.
    version: u64,
    expiry: Option<Timer>,
}

impl Primitive for IndexedMap {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command, operation, input } = call;
        let output = match operation {
            operation::APPEND => self.append(decode(input)?, context)?,
            operation::UPDATE => self.update(decode(input)?, context)?,
            operation::REMOVE => self.remove(decode(input)?, context)?,
            operation::CLEAR => self.clear(decode(input)?, context),
            operation::EVENTS => return self.events(command, decode(input)?, context),
            other => return Err(unknown_operation(Service::IndexedMap, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET => self.get(decode(input)?),
            operation::SIZE => self.size(decode(input)?),
            operation::FIRST_ENTRY => self.first_entry(decode(input)?),
            operation::LAST_ENTRY => self.last_entry(decode(input)?),
            operation::PREV_ENTRY => self.prev_entry(decode(input)?),
            operation::NEXT_ENTRY => self.next_entry(decode(input)?),
            other => Err(unknown_operation(Service::IndexedMap, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::ENTRIES => self.entries(decode(input)?),
            other => Err(unknown_operation(Service::IndexedMap, other)),
        }
    }

    fn on_command_canceled(&mut self, command: CommandKey, _: &mut Context<'_>) {
        self.listeners.close(command);
    }

    fn on_session_closed(&mut self, session_id: u64, _: &mut Context<'_>) {
        self.listeners.close_session(session_id);
    }

    fn on_timer(&mut self, timer_id: u64, context: &mut Context<'_>) {
        if let Some(index) = self.expiries.get(&timer_id).copied() {
            self.take(index, true, context);
        }
    }

    fn size(&self) -> Size {
        let Self { entries, indexes: _, last_index: _, expiries: _, listeners } = self;
        Size::new(entries.len(), entries.bytes() + listeners.bytes())
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { entries, indexes, last_index, expiries, listeners } = self;
        digest.number(entries.len());
        for (index, entry) in entries.iter() {
            digest.word(*index);
            entry.digest(digest);
        }
        digest.number(indexes.len());
        for (key, index) in indexes.iter() {
            digest.bytes(key.as_bytes());
            digest.word(*index);
        }
        digest.word(*last_index);
        digest.number(expiries.len());
        for (timer_id, index) in expiries.iter() {
            digest.word(*timer_id);
            digest.word(*index);
        }
        listeners.digest(digest);
    }

    fn snapshot(&self) -> Records<'_> {
        Box::new(self.records().map(|record| encode(&record)))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        self.restore_record(decode_record(record)?, context)
    }
}

impl IndexedMap {
    fn events(
        &mut self,
        command: CommandKey,
        wire::EventsInput { key, prefix }: wire::EventsInput,
        context: &mut Context<'_>,
    ) -> Result<Step, Failure> {
        let filter = Filter::new(key, prefix)?;
        let first = event_output(filter.text(), 0, None);
        self.listeners.open(command, filter, first, context)
    }

    /// Every change of an entry comes by here, after it was made.
    fn changed(
        &mut self,
        key: &str,
        index: u64,
        event: impl FnOnce() -> Event,
        context: &mut Context<'_>,
    ) {
        self.listeners.tell(key, || event_output(key, index, Some(event())), context);
        context.changed(At::Index(index), || {
            let value = self.entries.get(&index).and_then(Entry::value);
            let entry = Some(wire::Entry { key: key.to_owned(), index, value });
            encode(&wire::EntriesOutput { entry })
        });
    }
}

use wire::event::Event;

fn event_output(key: &str, index: u64, event: Option<Event>) -> Bytes {
    let event = Some(wire::Event { key: key.to_owned(), index, event });
    encode(&wire::EventsOutput { event })
}

impl Footprint for Entry {
    fn footprint(&self) -> u64 {
        self.key.footprint() + self.value.footprint()
    }
}

impl Entry {
    fn digest(&self, digest: &mut Digest) {
        let Self { key, value, version, expiry } = self;
        digest.bytes(key.as_bytes());
        digest.bytes(value);
        digest.word(*version);
        digest.option(*expiry, Digest::timer);
    }

    fn at(&self, index: u64) -> Option<wire::Entry> {
        Some(wire::Entry { key: self.key.to_string(), index, value: self.value() })
    }

    fn value(&self) -> Option<wire::Value> {
        Some(wire::Value { value: self.value.clone(), version: self.version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    fn entry() -> Entry {
        let expiry = Some(Timer { due: 0, id: 0 });
        Entry { key: "key".into(), value: "value".into(), version: 1, expiry }
    }

    #[test]
    fn each_field_of_an_indexed_map_is_in_the_digest() {
        let command = CommandKey { session_id: 1, sequence_num: 1 };
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        each_field_changes_the_digest!(IndexedMap::default(), IndexedMap::digest, IndexedMap {
            entries => entries.insert(1, entry()),
            indexes => indexes.insert("key".into(), 1),
            last_index => *last_index = 1,
            expiries => expiries.insert(1, 1),
            listeners => listeners.open(command, Filter::all(), Bytes::new(), &mut context).unwrap(),
        });
    }

    #[test]
    fn each_field_of_an_entry_is_in_the_digest() {
        for other in [None, Some(Timer { due: 1, id: 0 }), Some(Timer { due: 0, id: 1 })] {
            each_field_changes_the_digest!(entry(), Entry::digest, Entry {
                key => *key = "other".into(),
                value => *value = "other".into(),
                version => *version = 2,
                expiry => *expiry = other,
            });
        }
    }
}
