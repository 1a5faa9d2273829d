//! A counter map in a snapshot: its entries, then its locks in the order of their commands, then its
//! listeners.

use multiraft_proto::log::counter_map_record::Record;
use multiraft_proto::log::{CounterMapEntry, CounterMapRecord};

use super::CounterMap;
use crate::primitives::RestoreContext;

impl CounterMap {
    pub fn records(&self) -> impl Iterator<Item = CounterMapRecord> + Send + '_ {
        // Without `..`: a new field needs a decision.
        let Self { entries, locks, listeners } = self;
        let entries = entries.iter().map(|(key, value)| {
            Record::Entry(CounterMapEntry { key: key.to_string(), value: *value })
        });
        let locks = locks.records().map(Record::Lock);
        let listeners = listeners.records().map(Record::Listener);
        let records = entries.chain(locks).chain(listeners);
        records.map(|record| CounterMapRecord { record: Some(record) })
    }

    pub fn restore_record(
        &mut self,
        CounterMapRecord { record }: CounterMapRecord,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Entry(CounterMapEntry { key, value }) => {
                match self.entries.insert(key.into(), value) {
                    None => Ok(()),
                    Some(_) => Err("a key has two entries".into()),
                }
            }
            Record::Lock(lock) => self.locks.restore(lock, context),
            Record::Listener(listener) => self.listeners.restore(listener, context),
        }
    }
}
