//! Counter maps: signed 64-bit numbers by key, spread over all partitions.

use std::time::Duration;

use multiraft_proto::countermap as wire;
use multiraft_proto::rpc::countermap as operation;

use crate::event::meant;
use crate::key_locks::{KeyLocks, LockedKeys};
use crate::primitive::{Primitive, found};
use crate::range::KeyRange;
use crate::{Answer, Answers, Change, Cluster, Error, Event, Stream};

/// A map from strings to signed 64-bit numbers. Each key (at most 1 KiB) lives in the partition that
/// its hash names; a call to the whole map is one call to each partition.
#[derive(Clone)]
pub struct CounterMap(Primitive);

impl CounterMap {
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

    /// Reads the number of a key; `None` when the key is not there.
    pub async fn get(&self, key: &str) -> Result<Answer<Option<i64>>, Error> {
        let input = wire::GetInput { key: key.into() };
        let answer = found(self.0.at(key, operation::GET, &input).await)?;
        Ok(answer.map(|output| output.map(|output: wire::GetOutput| output.value)))
    }

    /// Sets the number of a key, whether it is there or not, and answers with the number before, 0
    /// for a new key.
    pub async fn set(&self, key: &str, value: i64) -> Result<Answer<i64>, Error> {
        let input = wire::SetInput { key: key.into(), value };
        let answer = self.0.at(key, operation::SET, &input).await?;
        Ok(answer.map(|output: wire::SetOutput| output.prev_value))
    }

    /// Makes a new key; rejected as already existing when it is there.
    pub async fn insert(&self, key: &str, value: i64) -> Result<Answer<()>, Error> {
        let input = wire::InsertInput { key: key.into(), value };
        let answer = self.0.at(key, operation::INSERT, &input).await?;
        Ok(answer.map(|wire::InsertOutput {}| ()))
    }

    /// Sets the number of a key that has the number `compare`; rejected as not found or as a
    /// conflict otherwise.
    pub async fn update(&self, key: &str, compare: i64, value: i64) -> Result<Answer<()>, Error> {
        let input = wire::UpdateInput { key: key.into(), value, prev_value: compare };
        let answer = self.0.at(key, operation::UPDATE, &input).await?;
        Ok(answer.map(|_: wire::UpdateOutput| ()))
    }

    /// Adds to the number of a key, 0 when it is new, and answers with the number **before**. A delta
    /// of 0 counts as 1. Rejected as invalid when it would leave the range of `i64`.
    pub async fn increment(&self, key: &str, delta: i64) -> Result<Answer<i64>, Error> {
        let input = wire::IncrementInput { key: key.into(), delta };
        let answer = self.0.at(key, operation::INCREMENT, &input).await?;
        Ok(answer.map(|output: wire::IncrementOutput| output.prev_value))
    }

    /// Subtracts from the number of a key; otherwise as [`CounterMap::increment`].
    pub async fn decrement(&self, key: &str, delta: i64) -> Result<Answer<i64>, Error> {
        let input = wire::DecrementInput { key: key.into(), delta };
        let answer = self.0.at(key, operation::DECREMENT, &input).await?;
        Ok(answer.map(|output: wire::DecrementOutput| output.prev_value))
    }

    /// Removes a key that has the number `compare`; rejected as not found or as a conflict
    /// otherwise.
    pub async fn remove(&self, key: &str, compare: i64) -> Result<Answer<()>, Error> {
        let input = wire::RemoveInput { key: key.into(), prev_value: compare };
        let answer = self.0.at(key, operation::REMOVE, &input).await?;
        Ok(answer.map(|_: wire::RemoveOutput| ()))
    }

    /// Counts the keys, partition by partition.
    pub async fn size(&self) -> Result<Answers<u64>, Error> {
        let answers = self.0.everywhere(operation::SIZE, &wire::SizeInput {}).await?;
        let size = |output: &wire::SizeOutput| u64::from(output.size);
        Ok(answers.map(|outputs| outputs.iter().map(size).sum()))
    }

    /// Removes all keys, partition by partition.
    pub async fn clear(&self) -> Result<Answers<()>, Error> {
        let answers = self.0.everywhere(operation::CLEAR, &wire::ClearInput {}).await?;
        Ok(answers.map(|_: Vec<wire::ClearOutput>| ()))
    }

    /// Changes of one key, or of all keys, from now on: those made after this returned are in it.
    /// It goes on at another node when one fails, and tells nothing twice; it ends with
    /// [`Error::SessionExpired`] when the client was cut off for too long.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Event<i64>>, Error> {
        let positions = key.map_or(self.0.all(), |key| vec![self.0.cluster.position(key)]);
        let input = wire::EventsInput { key: key.unwrap_or_default().into(), ..Default::default() };
        self.follow(positions, input).await
    }

    /// The same of the keys that begin with this, in all partitions.
    pub async fn events_with_prefix(&self, prefix: &str) -> Result<Stream<Event<i64>>, Error> {
        let input = wire::EventsInput { prefix: prefix.into(), ..Default::default() };
        self.follow(self.0.all(), input).await
    }

    async fn follow(
        &self,
        positions: Vec<usize>,
        input: wire::EventsInput,
    ) -> Result<Stream<Event<i64>>, Error> {
        let outputs = self.0.subscribe(positions, operation::EVENTS, &input).await?;
        Ok(meant(outputs, |output: wire::EventsOutput| event(output.event?)))
    }

    /// All keys with their numbers, as [`crate::Map::entries`] lists them. It ends with an error
    /// when a node fails on the way; then read again.
    pub fn entries(&self) -> Stream<(String, i64)> {
        self.entries_in(KeyRange::default())
    }

    /// The same of a part of the keys; it costs as much as it gives.
    pub fn entries_in(&self, range: KeyRange) -> Stream<(String, i64)> {
        let KeyRange { prefix, start, end } = range;
        let input = wire::EntriesInput { prefix, start, end, ..Default::default() };
        let outputs = self.0.list(self.0.all(), operation::ENTRIES, &input);
        meant(outputs, |output: wire::EntriesOutput| {
            output.entry.map(|wire::Entry { key, value }| (key, value))
        })
    }

    /// Locks keys, as [`crate::Map::lock`] does.
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
}

fn event(wire: wire::Event) -> Option<Event<i64>> {
    use wire::event::Event as Wire;
    let change = match wire.event? {
        Wire::Inserted(inserted) => Change::Inserted(inserted.value),
        Wire::Updated(wire::event::Updated { value, prev_value }) => {
            Change::Updated { value, previous: prev_value }
        }
        Wire::Removed(removed) => Change::Removed { value: removed.value, expired: false },
    };
    Some(Event { key: wire.key, change })
}
