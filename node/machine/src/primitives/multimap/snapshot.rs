//! A multimap in a snapshot: the values of its keys, then its listeners.

use std::iter;
use std::sync::Arc;

use multiraft_proto::log::multi_map_record::Record;
use multiraft_proto::log::{MultiMapRecord, MultiMapValues};

use super::MultiMap;
use crate::limits::SNAPSHOT_VALUES_MAX;
use crate::primitives::RestoreContext;
use crate::primitives::measured::MeasuredSet;

impl MultiMap {
    pub fn records(&self) -> impl Iterator<Item = MultiMapRecord> + Send + '_ {
        // Without `..`: a new field needs a decision.
        let Self { entries, listeners } = self;
        let values = entries.iter().flat_map(|(key, values)| pieces(key, values));
        let listeners = listeners.records().map(Record::Listener);
        let records = values.map(Record::Values).chain(listeners);
        records.map(|record| MultiMapRecord { record: Some(record) })
    }

    pub fn restore_record(
        &mut self,
        MultiMapRecord { record }: MultiMapRecord,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Values(values) => self.restore_values(values),
            Record::Listener(listener) => self.listeners.restore(listener, context),
        }
    }

    fn restore_values(&mut self, values: MultiMapValues) -> Result<(), String> {
        let MultiMapValues { key, values } = values;
        if values.is_empty() {
            return Err("a key has no values".into());
        }
        let key = Arc::from(key);
        if !self.entries.contains_key(&key) {
            self.entries.insert(Arc::clone(&key), MeasuredSet::default());
        }
        let mut present = self.entries.get_mut(&key).expect("it is there now");
        for value in values {
            if present.insert(value.into()) {
                return Err("a key has a value twice".into());
            }
        }
        Ok(())
    }
}

/// Cuts many values, so that no record of them outgrows a chunk.
fn pieces<'a>(
    key: &'a Arc<str>,
    values: &'a MeasuredSet<Arc<str>>,
) -> impl Iterator<Item = MultiMapValues> + Send + 'a {
    let mut values = values.iter().map(|value| value.to_string());
    iter::from_fn(move || {
        let piece: Vec<String> = values.by_ref().take(SNAPSHOT_VALUES_MAX).collect();
        (!piece.is_empty()).then(|| MultiMapValues { key: key.to_string(), values: piece })
    })
}
