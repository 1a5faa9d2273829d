//! Several writes that happen together or not at all: at once (Apply), or prepared first and
//! decided later (Prepare, then Commit or Abort), when they span groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::map::v1 as wire;

use super::Map;
use super::write::Write;
use crate::digest::Digest;
use crate::limits::{ENTRY_OVERHEAD_BYTES, TRANSACTION_WRITES_MAX, TRANSACTIONS_MAX};
use crate::primitives::measured::Footprint;
use crate::primitives::{Context, Failure, Status, encode};

/// A client names its transaction by its session and a sequence number of that session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionKey {
    pub session_id: u64,
    pub sequence_num: u64,
}

/// Validated writes to distinct keys. Shared: a view of the map must stay cheap.
pub type Transaction = Arc<[Write]>;

impl Map {
    pub fn apply_transaction(
        &mut self,
        input: wire::ApplyInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let writes = self.validate(input.inputs)?;
        let outputs = self.write_all(&writes, context);
        Ok(encode(&wire::ApplyOutput { outputs }))
    }

    pub fn prepare(
        &mut self,
        session_id: u64,
        input: wire::PrepareInput,
    ) -> Result<Bytes, Failure> {
        let key = TransactionKey { session_id, sequence_num: input.sequence_num };
        if self.prepared.contains_key(&key) {
            return Err(Failure::new(Status::Conflict, "sequence_num: is prepared already"));
        }
        if self.prepared.len() >= TRANSACTIONS_MAX {
            let message = format!("more than {TRANSACTIONS_MAX} prepared transactions");
            return Err(Failure::new(Status::Conflict, message));
        }
        let mut writes = self.validate(input.inputs)?;
        for write in &mut writes {
            write.detach();
            self.prepared_keys.insert(Arc::from(write.key.as_str()), key);
        }
        self.prepared.insert(key, Arc::from(writes));
        Ok(encode(&wire::PrepareOutput {}))
    }

    pub fn commit(
        &mut self,
        session_id: u64,
        input: wire::CommitInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let key = TransactionKey { session_id, sequence_num: input.sequence_num };
        let Some(writes) = self.prepared.remove(&key) else {
            return Err(Failure::new(Status::NotFound, "sequence_num: nothing is prepared"));
        };
        let outputs = self.write_all(&writes, context);
        self.unlock(&writes, context);
        Ok(encode(&wire::CommitOutput { outputs }))
    }

    pub fn abort(
        &mut self,
        session_id: u64,
        input: wire::AbortInput,
        context: &mut Context<'_>,
    ) -> Bytes {
        let key = TransactionKey { session_id, sequence_num: input.sequence_num };
        if let Some(writes) = self.prepared.remove(&key) {
            self.unlock(&writes, context);
        }
        encode(&wire::AbortOutput {})
    }

    /// Forgets everything that a session has prepared.
    pub fn roll_back(&mut self, session_id: u64, context: &mut Context<'_>) {
        let first = TransactionKey { session_id, sequence_num: 0 };
        let last = TransactionKey { session_id, sequence_num: u64::MAX };
        let keys: Vec<_> = self.prepared.range(first..=last).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(writes) = self.prepared.remove(&key) {
                self.unlock(&writes, context);
            }
        }
    }

    /// Everything that could fail is checked here, before anything is written or locked.
    fn validate(&self, inputs: Vec<wire::MapInput>) -> Result<Vec<Write>, Failure> {
        if inputs.len() > TRANSACTION_WRITES_MAX {
            let message = format!("inputs: {}, at most {TRANSACTION_WRITES_MAX}", inputs.len());
            return Err(Failure::invalid(message));
        }
        let mut writes = Vec::with_capacity(inputs.len());
        for (position, input) in inputs.into_iter().enumerate() {
            let write = to_write(input).map_err(|failure| at(position, failure))?;
            self.check_unlocked(&write.key).map_err(|failure| at(position, failure))?;
            let current = self.entries.get(&*write.key);
            write.check(current).map_err(|failure| at(position, failure))?;
            writes.push(write);
        }
        let keys: BTreeSet<&str> = writes.iter().map(|write| write.key.as_str()).collect();
        if keys.len() < writes.len() {
            return Err(Failure::new(Status::Conflict, "inputs: a key is written twice"));
        }
        Ok(writes)
    }

    fn write_all(&mut self, writes: &[Write], context: &mut Context<'_>) -> Vec<wire::MapOutput> {
        let write = |write: &Write| {
            let written = self.write(write.clone(), context);
            // Distinct keys, checked against this state or locked ever since.
            written.expect("validated writes cannot fail").into_output()
        };
        writes.iter().map(write).collect()
    }

    /// Opens keys for others. A time to live that ran out meanwhile takes effect now.
    fn unlock(&mut self, writes: &[Write], context: &mut Context<'_>) {
        for write in writes {
            self.prepared_keys.remove(&*write.key);
            let expiry = self.entries.get(&*write.key).and_then(|entry| entry.expiry);
            if expiry.is_some_and(|timer| timer.due <= context.log_time) {
                self.expire(&write.key, context);
            }
        }
    }
}

impl Footprint for TransactionKey {
    fn footprint(&self) -> u64 {
        0
    }
}

impl Footprint for Transaction {
    /// At least what its commit may add, so that no quota comes between a transaction and its commit.
    fn footprint(&self) -> u64 {
        let text = |write: &Write| write.key.len() + write.value.len();
        self.iter().map(|write| ENTRY_OVERHEAD_BYTES + text(write) as u64).sum()
    }
}

impl TransactionKey {
    pub fn digest(&self, digest: &mut Digest) {
        let Self { session_id, sequence_num } = self;
        digest.word(*session_id);
        digest.word(*sequence_num);
    }
}

fn to_write(input: wire::MapInput) -> Result<Write, Failure> {
    use wire::map_input::Input;
    match input.input {
        Some(Input::Put(input)) => Write::put(input),
        Some(Input::Insert(input)) => Write::insert(input),
        Some(Input::Update(input)) => Write::update(input),
        Some(Input::Remove(input)) => Write::remove(input),
        Some(_) => Err(Failure::invalid("only put, insert, update and remove can be written")),
        None => Err(Failure::invalid("input is absent")),
    }
}

fn at(position: usize, failure: Failure) -> Failure {
    Failure::new(failure.status, format!("inputs[{position}]: {}", failure.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_a_transaction_key_is_in_the_digest() {
        let key = TransactionKey { session_id: 1, sequence_num: 2 };
        each_field_changes_the_digest!(key, TransactionKey::digest, TransactionKey {
            session_id => *session_id = 2,
            sequence_num => *sequence_num = 1,
        });
    }
}
