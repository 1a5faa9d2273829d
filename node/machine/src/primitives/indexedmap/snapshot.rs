//! An indexed map in a snapshot: its counter, its entries, its listeners.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::log::indexed_map_record::Record;
use multiraft_proto::log::{IndexedMapCounter, IndexedMapEntry, IndexedMapRecord};

use super::{Entry, IndexedMap};
use crate::primitives::RestoreContext;
use crate::timers::Timer;

impl IndexedMap {
    pub fn records(&self) -> impl Iterator<Item = IndexedMapRecord> + Send + '_ {
        // Without `..`: a new field needs a decision. Indexes and expiries follow from the entries.
        let Self { entries, indexes: _, last_index, expiries: _, listeners } = self;
        let counter = Record::Counter(IndexedMapCounter { last_index: *last_index });
        let entries = entries.iter().map(|(index, entry)| {
            let Entry { key, value, version, expiry } = entry;
            Record::Entry(IndexedMapEntry {
                index: *index,
                key: key.to_string(),
                value: value.clone(),
                version: *version,
                expiry: expiry.map(Timer::into),
            })
        });
        let listeners = listeners.records().map(Record::Listener);
        let records = iter::once(counter).chain(entries).chain(listeners);
        records.map(|record| IndexedMapRecord { record: Some(record) })
    }

    pub fn restore_record(
        &mut self,
        IndexedMapRecord { record }: IndexedMapRecord,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Counter(IndexedMapCounter { last_index }) => {
                self.last_index = last_index;
                Ok(())
            }
            Record::Entry(entry) => self.restore_entry(entry, context),
            Record::Listener(listener) => self.listeners.restore(listener, context),
        }
    }

    fn restore_entry(
        &mut self,
        entry: IndexedMapEntry,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        let IndexedMapEntry { index, key, value, version, expiry } = entry;
        if index == 0 || index > self.last_index {
            // It would be given out again.
            return Err(format!("index {index} is not in 1 to {}", self.last_index));
        }
        let expiry = expiry.map(Timer::from);
        if let Some(timer) = expiry {
            context.arm(timer)?;
            self.expiries.insert(timer.id, index);
        }
        let key: Arc<str> = key.into();
        if self.indexes.insert(Arc::clone(&key), index).is_some() {
            return Err("a key has two entries".into());
        }
        // A copy: a part would keep the whole chunk in memory.
        let value = Bytes::copy_from_slice(&value);
        match self.entries.insert(index, Entry { key, value, version, expiry }) {
            None => Ok(()),
            Some(_) => Err(format!("index {index} has two entries")),
        }
    }
}
