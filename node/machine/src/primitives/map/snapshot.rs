//! A map in a snapshot: its entries, then its transactions, which lean on them, then its locks in the
//! order of their commands, then its listeners.

use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::log::map_record::Record;
use multiraft_proto::log::{MapEntry, MapRecord, MapTransaction, MapWrite, MapWriteKind};

use super::transaction::{Transaction, TransactionKey};
use super::write::{Kind, Write};
use super::{Entry, Map};
use crate::primitives::RestoreContext;
use crate::timers::Timer;

impl Map {
    pub fn records(&self) -> impl Iterator<Item = MapRecord> + Send + '_ {
        // Without `..`: a new field needs a decision. The prepared keys follow from the transactions.
        let Self { entries, expiries, prepared_keys: _, prepared, locks, listeners } = self;
        let entries = entries.iter().map(move |(key, entry)| {
            let Entry { value, index, expiry } = entry;
            Record::Entry(MapEntry {
                key: key.to_string(),
                value: value.clone(),
                index: *index,
                expiry: expiry.map(Timer::into),
                expired: expiry.is_some_and(|timer| !expiries.contains_key(&timer.id)),
            })
        });
        let transactions = prepared.iter().map(|(key, writes)| {
            let TransactionKey { session_id, sequence_num } = *key;
            let writes = writes.iter().map(MapWrite::from).collect();
            Record::Transaction(MapTransaction { session_id, sequence_num, writes })
        });
        let locks = locks.records().map(Record::Lock);
        let listeners = listeners.records().map(Record::Listener);
        let records = entries.chain(transactions).chain(locks).chain(listeners);
        records.map(|record| MapRecord { record: Some(record) })
    }

    pub fn restore_record(
        &mut self,
        MapRecord { record }: MapRecord,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Entry(entry) => self.restore_entry(entry, context),
            Record::Transaction(transaction) => self.restore_transaction(transaction, context),
            Record::Lock(lock) => self.locks.restore(lock, context),
            Record::Listener(listener) => self.listeners.restore(listener, context),
        }
    }

    fn restore_entry(
        &mut self,
        entry: MapEntry,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        let MapEntry { key, value, index, expiry, expired } = entry;
        let key: Arc<str> = key.into();
        let expiry = expiry.map(Timer::from);
        if let Some(timer) = expiry.filter(|_| !expired) {
            context.arm(timer)?;
            self.expiries.insert(timer.id, Arc::clone(&key));
        }
        // A copy: a part would keep the whole chunk in memory.
        let value = Bytes::copy_from_slice(&value);
        match self.entries.insert(key, Entry { value, index, expiry }) {
            None => Ok(()),
            Some(_) => Err("a key has two entries".into()),
        }
    }

    fn restore_transaction(
        &mut self,
        transaction: MapTransaction,
        context: &mut RestoreContext<'_>,
    ) -> Result<(), String> {
        let MapTransaction { session_id, sequence_num, writes } = transaction;
        context.check_attached(session_id)?;
        let key = TransactionKey { session_id, sequence_num };
        let writes = writes.into_iter().map(Write::try_from).collect::<Result<Transaction, _>>()?;
        for write in writes.iter() {
            // What was validated once cannot fail at the commit.
            write.check(self.entries.get(&*write.key)).map_err(|failure| failure.message)?;
            if self.prepared_keys.insert(write.key.as_str().into(), key).is_some() {
                return Err("a key is prepared twice".into());
            }
        }
        match self.prepared.insert(key, writes) {
            None => Ok(()),
            Some(_) => {
                Err(format!("transaction {sequence_num} of session {session_id} comes twice"))
            }
        }
    }
}

impl From<&Write> for MapWrite {
    fn from(write: &Write) -> Self {
        let Write { kind, key, value, ttl_millis, prev_index } = write;
        let kind = match kind {
            Kind::Put => MapWriteKind::Put,
            Kind::Insert => MapWriteKind::Insert,
            Kind::Update => MapWriteKind::Update,
            Kind::Remove => MapWriteKind::Remove,
        };
        Self {
            kind: kind.into(),
            key: key.clone(),
            value: value.clone(),
            ttl_millis: *ttl_millis,
            prev_index: *prev_index,
        }
    }
}

impl TryFrom<MapWrite> for Write {
    type Error = String;

    fn try_from(write: MapWrite) -> Result<Self, String> {
        let kind = match write.kind() {
            MapWriteKind::Put => Kind::Put,
            MapWriteKind::Insert => Kind::Insert,
            MapWriteKind::Update => Kind::Update,
            MapWriteKind::Remove => Kind::Remove,
            MapWriteKind::Unspecified => return Err(format!("kind: {} is unknown", write.kind)),
        };
        let MapWrite { kind: _, key, value, ttl_millis, prev_index } = write;
        Ok(Self { kind, key, value: Bytes::copy_from_slice(&value), ttl_millis, prev_index })
    }
}
