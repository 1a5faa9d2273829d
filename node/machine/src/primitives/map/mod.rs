//! Keys to versioned values, with times to live and transactions over several keys.
//!
//! The version of an entry is the index of the command that wrote it. Prepared keys are locked:
//! every other write to them fails, and their time to live waits until commit or abort.

mod snapshot;
mod transaction;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use multiraft_proto::atomix::multiraft::map::v1 as wire;
use multiraft_proto::rpc::map as operation;

use super::{
    Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Status, Step,
    decode, decode_record, encode, unknown_operation,
};
use crate::digest::Digest;
use crate::timers::Timer;
use transaction::{Transaction, TransactionKey};
use write::{Write, check_key};

#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: OrdMap<Arc<str>, Entry>,
    /// Armed timer → the key that it will expire.
    expiries: OrdMap<u64, Arc<str>>,
    /// Prepared key → its transaction.
    locks: OrdMap<Arc<str>, TransactionKey>,
    prepared: OrdMap<TransactionKey, Transaction>,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    /// Version: index of the command that wrote it.
    index: u64,
    /// Fired already when its time came while the key was locked.
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

    fn on_command_canceled(&mut self, _: CommandKey, _: &mut Context<'_>) {}

    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>) {
        self.roll_back(session_id, context);
    }

    fn on_timer(&mut self, timer_id: u64, _: &mut Context<'_>) {
        let Some(key) = self.expiries.remove(&timer_id) else { return };
        if !self.locks.contains_key(&key) {
            self.entries.remove(&key);
        }
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { entries, expiries, locks, prepared } = self;
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
        digest.number(locks.len());
        for (key, transaction) in locks.iter() {
            digest.bytes(key.as_bytes());
            transaction.digest(digest);
        }
        digest.number(prepared.len());
        for (transaction, writes) in prepared.iter() {
            transaction.digest(digest);
            digest.number(writes.len());
            writes.iter().for_each(|write| write.digest(digest));
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
        let entry = self.entries.get(&*key).ok_or_else(missing)?;
        let value = Some(entry.indexed_value());
        Ok(encode(&wire::GetOutput { value }))
    }

    fn size(&self, wire::SizeInput {}: wire::SizeInput) -> Result<Bytes, Failure> {
        let size = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        Ok(encode(&wire::SizeOutput { size }))
    }

    fn clear(&mut self, _: wire::ClearInput, context: &mut Context<'_>) -> Result<Bytes, Failure> {
        if !self.locks.is_empty() {
            return Err(Failure::new(Status::Conflict, "a key is locked by a transaction"));
        }
        for entry in self.entries.values() {
            entry.expiry.into_iter().for_each(|timer| context.disarm(timer));
        }
        self.entries.clear();
        self.expiries.clear();
        Ok(encode(&wire::ClearOutput {}))
    }

    fn check_unlocked(&self, key: &str) -> Result<(), Failure> {
        if !self.locks.is_empty() && self.locks.contains_key(key) {
            return Err(Failure::new(Status::Conflict, "key: locked by a transaction"));
        }
        Ok(())
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

fn missing() -> Failure {
    Failure::new(Status::NotFound, "key: no such entry")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    fn entry() -> Entry {
        Entry { value: "value".into(), index: 1, expiry: Some(Timer { due: 0, id: 0 }) }
    }

    #[test]
    fn each_field_of_a_map_is_in_the_digest() {
        let transaction = TransactionKey { session_id: 1, sequence_num: 1 };
        each_field_changes_the_digest!(Map::default(), Map::digest, Map {
            entries => entries.insert("key".into(), entry()),
            expiries => expiries.insert(1, "key".into()),
            locks => locks.insert("key".into(), transaction),
            prepared => prepared.insert(transaction, Arc::from([])),
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
