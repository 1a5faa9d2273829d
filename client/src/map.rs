//! Maps: keys with values and versions, spread over all partitions.

use std::time::Duration;

use bytes::Bytes;
use multiraft_proto::map as wire;
use multiraft_proto::rpc::map as operation;

use crate::event::meant;
use crate::key_locks::{KeyLocks, LockedKeys};
use crate::primitive::{Primitive, found};
use crate::range::KeyRange;
use crate::transaction::Transaction;
use crate::version::{Version, Versioned, Write, Written, duration, wire_index};
use crate::{Answer, Answers, Change, Cluster, Error, Event, Stream};

/// A map from strings (at most 1 KiB) to bytes (at most 512 KiB). Each key lives in the partition
/// that its hash names, so writes to different keys do not wait for each other, and a call to the
/// whole map is one call to each partition.
///
/// Every write is rejected as a conflict while a [`Transaction`] that writes the key is on its way.
#[derive(Clone)]
pub struct Map(Primitive);

impl Map {
    pub(crate) fn new(cluster: Cluster, name: String) -> Self {
        Self(Primitive::new(cluster, operation::TYPE, name))
    }

    /// A handle whose reads may be stale: never older than what this client has seen.
    pub fn local(self) -> Self {
        Self(self.0.local())
    }

    /// A handle whose calls end after this time.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Reads an entry; `None` when it is not there.
    pub async fn get(&self, key: &str) -> Result<Answer<Option<Versioned>>, Error> {
        let input = wire::GetInput { key: key.into() };
        let answer = found(self.0.at(key, operation::GET, &input).await)?;
        Ok(answer.map(|output| output.and_then(|o: wire::GetOutput| o.value).map(Into::into)))
    }

    /// Writes an entry, whether it is there or not. Writing the bytes that are there changes nothing.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<Answer<Written>, Error> {
        self.put_with(key, value, Write::default()).await
    }

    /// Writes an entry on conditions; rejected as a conflict when it has another version.
    pub async fn put_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        write: Write,
    ) -> Result<Answer<Written>, Error> {
        let answer = self.0.at(key, operation::PUT, &put(key, value.into(), write)).await?;
        Ok(answer.map(|output: wire::PutOutput| written(output.index, output.prev_value)))
    }

    /// Writes a new entry; rejected as already existing when the key is there.
    pub async fn insert(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Result<Answer<Written>, Error> {
        self.insert_with(key, value, None).await
    }

    /// Writes a new entry that removes itself after some time.
    pub async fn insert_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Answer<Written>, Error> {
        let answer = self.0.at(key, operation::INSERT, &insert(key, value.into(), ttl)).await?;
        Ok(answer.map(|output: wire::InsertOutput| written(output.index, None)))
    }

    /// Replaces an entry; rejected as not found when the key is not there.
    pub async fn update(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Result<Answer<Written>, Error> {
        self.update_with(key, value, Write::default()).await
    }

    /// Replaces an entry on conditions; rejected as a conflict when it has another version.
    pub async fn update_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        write: Write,
    ) -> Result<Answer<Written>, Error> {
        let answer = self.0.at(key, operation::UPDATE, &update(key, value.into(), write)).await?;
        Ok(answer.map(|output: wire::UpdateOutput| written(output.index, output.prev_value)))
    }

    /// Removes an entry and answers with what it was; rejected as not found when the key is not
    /// there.
    pub async fn remove(&self, key: &str) -> Result<Answer<Option<Versioned>>, Error> {
        self.remove_if(key, None).await
    }

    /// Removes an entry if it has this version; rejected as a conflict otherwise.
    pub async fn remove_if(
        &self,
        key: &str,
        version: Option<Version>,
    ) -> Result<Answer<Option<Versioned>>, Error> {
        let answer = self.0.at(key, operation::REMOVE, &remove(key, version)).await?;
        Ok(answer.map(|output: wire::RemoveOutput| output.value.map(Into::into)))
    }

    /// Counts the entries, partition by partition.
    pub async fn size(&self) -> Result<Answers<u64>, Error> {
        let answers = self.0.everywhere(operation::SIZE, &wire::SizeInput {}).await?;
        let size = |output: &wire::SizeOutput| u64::from(output.size);
        Ok(answers.map(|outputs| outputs.iter().map(size).sum()))
    }

    /// Removes all entries, partition by partition. A partition where a key is part of a transaction
    /// rejects it as a conflict.
    pub async fn clear(&self) -> Result<Answers<()>, Error> {
        let answers = self.0.everywhere(operation::CLEAR, &wire::ClearInput {}).await?;
        Ok(answers.map(|_: Vec<wire::ClearOutput>| ()))
    }

    /// Changes of one key, or of all keys, from now on: those made after this returned are in it.
    /// It goes on at another node when one fails, and tells nothing twice; it ends with
    /// [`Error::SessionExpired`] when the client was cut off for too long.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Event<Versioned>>, Error> {
        let positions = key.map_or(self.0.all(), |key| vec![self.0.cluster.position(key)]);
        let input = wire::EventsInput { key: key.unwrap_or_default().into(), ..Default::default() };
        self.follow(positions, input).await
    }

    /// The same of the keys that begin with this, in all partitions.
    pub async fn events_with_prefix(
        &self,
        prefix: &str,
    ) -> Result<Stream<Event<Versioned>>, Error> {
        let input = wire::EventsInput { prefix: prefix.into(), ..Default::default() };
        self.follow(self.0.all(), input).await
    }

    async fn follow(
        &self,
        positions: Vec<usize>,
        input: wire::EventsInput,
    ) -> Result<Stream<Event<Versioned>>, Error> {
        let outputs = self.0.subscribe(positions, operation::EVENTS, &input).await?;
        Ok(meant(outputs, |output: wire::EventsOutput| event(output.event?)))
    }

    /// All entries, partition by partition: each is of one point in time, in the order of keys. It
    /// ends with an error when a node fails on the way; then read again.
    pub fn entries(&self) -> Stream<(String, Versioned)> {
        self.entries_in(KeyRange::default())
    }

    /// The same of a part of the keys; it costs as much as it gives.
    pub fn entries_in(&self, range: KeyRange) -> Stream<(String, Versioned)> {
        let KeyRange { prefix, start, end } = range;
        let input = wire::EntriesInput { prefix, start, end, ..Default::default() };
        let outputs = self.0.list(self.0.all(), operation::ENTRIES, &input);
        meant(outputs, |output: wire::EntriesOutput| {
            let wire::Entry { key, value } = output.entry?;
            Some((key, value?.into()))
        })
    }

    /// Locks up to 1,024 keys, all of those of one partition at once, or waits for them: as long as
    /// it takes, or at most so long in each partition, and is rejected as a conflict then. The locks
    /// keep others from locking, not from writing, and keys need no entries. Not re-entrant: who has
    /// a key locked and locks it again waits for itself.
    pub async fn lock<K: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        wait: Option<Duration>,
    ) -> Result<LockedKeys, Error> {
        let keys = keys.into_iter().map(Into::into).collect();
        KeyLocks { lock: operation::LOCK, unlock: operation::UNLOCK }
            .hold(&self.0, keys, wait)
            .await
    }

    /// Several writes that happen together or not at all.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.0.clone())
    }
}

pub fn put(key: &str, value: Bytes, write: Write) -> wire::PutInput {
    let (ttl, prev_index) = (write.wire_ttl(), write.wire_index());
    wire::PutInput { key: key.into(), value, ttl, prev_index }
}

pub fn insert(key: &str, value: Bytes, ttl: Option<Duration>) -> wire::InsertInput {
    wire::InsertInput { key: key.into(), value, ttl: ttl.map(duration) }
}

pub fn update(key: &str, value: Bytes, write: Write) -> wire::UpdateInput {
    let (ttl, prev_index) = (write.wire_ttl(), write.wire_index());
    wire::UpdateInput { key: key.into(), value, ttl, prev_index }
}

pub fn remove(key: &str, version: Option<Version>) -> wire::RemoveInput {
    wire::RemoveInput { key: key.into(), prev_index: wire_index(version) }
}

fn event(wire: wire::Event) -> Option<Event<Versioned>> {
    use wire::event::Event as Wire;
    let change = match wire.event? {
        Wire::Inserted(inserted) => Change::Inserted(inserted.value?.into()),
        Wire::Updated(wire::event::Updated { value, prev_value }) => {
            Change::Updated { value: value?.into(), previous: prev_value?.into() }
        }
        Wire::Removed(wire::event::Removed { value, expired }) => {
            Change::Removed { value: value?.into(), expired }
        }
    };
    Some(Event { key: wire.key, change })
}

fn written(index: u64, previous: Option<wire::IndexedValue>) -> Written {
    Written { version: Version(index), previous: previous.map(Into::into) }
}
