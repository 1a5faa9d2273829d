//! Multimaps: a set of strings by key, spread over all partitions.

use std::time::Duration;

use multiraft_proto::multimap as wire;
use multiraft_proto::rpc::multimap as operation;

use crate::event::meant;
use crate::primitive::Primitive;
use crate::range::KeyRange;
use crate::{Answer, Answers, Change, Cluster, Error, Event, Stream};

/// A map from strings to sets of strings, at most 1 KiB each. A key without values does not exist.
/// Each key lives in the partition that its hash names; a call to several keys is one call to each
/// of their partitions, and does not happen at one point in time.
#[derive(Clone)]
pub struct MultiMap(Primitive);

impl MultiMap {
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

    /// The values of a key, sorted; none when the key is not there.
    pub async fn get(&self, key: &str) -> Result<Answer<Vec<String>>, Error> {
        let input = wire::GetInput { key: key.into() };
        let answer = self.0.at(key, operation::GET, &input).await?;
        Ok(answer.map(|output: wire::GetOutput| output.values))
    }

    /// Whether a key has a value.
    pub async fn contains(&self, key: &str, value: &str) -> Result<Answer<bool>, Error> {
        let input = wire::ContainsInput { key: key.into(), value: value.into() };
        let answer = self.0.at(key, operation::CONTAINS, &input).await?;
        Ok(answer.map(|output: wire::ContainsOutput| output.result))
    }

    /// Adds a value to a key; rejected as already existing when it is there.
    pub async fn put(&self, key: &str, value: &str) -> Result<Answer<()>, Error> {
        let input = wire::PutInput { key: key.into(), value: value.into() };
        let answer = self.0.at(key, operation::PUT, &input).await?;
        Ok(answer.map(|wire::PutOutput {}| ()))
    }

    /// Adds those of the values that the key does not have; true when there were any.
    pub async fn put_all<V: Into<String>>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Answer<bool>, Error> {
        let input = wire::PutAllInput { key: key.into(), values: strings(values) };
        let answer = self.0.at(key, operation::PUT_ALL, &input).await?;
        Ok(answer.map(|output: wire::PutAllOutput| output.updated))
    }

    /// Adds the missing ones of several values to several keys; true when there were any.
    pub async fn put_entries<K: Into<String>, V: Into<String>>(
        &self,
        entries: impl IntoIterator<Item = (K, Vec<V>)>,
    ) -> Result<Answers<bool>, Error> {
        let calls = self.0.spread(entries.into_iter().map(entry), |entry| &entry.key);
        let calls = calls.into_iter().map(|(position, entries)| {
            let input = wire::PutEntriesInput { entries };
            (position, self.0.operation(operation::PUT_ENTRIES, &input))
        });
        let answers = self.0.each(calls).await?;
        Ok(answers.map(|all| all.iter().any(|output: &wire::PutEntriesOutput| output.updated)))
    }

    /// Gives a key exactly these values, none to remove it, and answers with those before, sorted.
    pub async fn replace<V: Into<String>>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Answer<Vec<String>>, Error> {
        let input = wire::ReplaceInput { key: key.into(), values: strings(values) };
        let answer = self.0.at(key, operation::REPLACE, &input).await?;
        Ok(answer.map(|output: wire::ReplaceOutput| output.prev_values))
    }

    /// Removes a value of a key; rejected as not found when it is not there.
    pub async fn remove(&self, key: &str, value: &str) -> Result<Answer<()>, Error> {
        let input = wire::RemoveInput { key: key.into(), value: value.into() };
        let answer = self.0.at(key, operation::REMOVE, &input).await?;
        Ok(answer.map(|_: wire::RemoveOutput| ()))
    }

    /// Removes those of the values that the key has; true when there were any. Rejected as not found
    /// when the key is not there.
    pub async fn remove_all<V: Into<String>>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Answer<bool>, Error> {
        let input = wire::RemoveAllInput { key: key.into(), values: strings(values) };
        let answer = self.0.at(key, operation::REMOVE_ALL, &input).await?;
        Ok(answer.map(|output: wire::RemoveAllOutput| output.updated))
    }

    /// Removes several values of several keys, as far as they are there; true when there were any.
    pub async fn remove_entries<K: Into<String>, V: Into<String>>(
        &self,
        entries: impl IntoIterator<Item = (K, Vec<V>)>,
    ) -> Result<Answers<bool>, Error> {
        let calls = self.0.spread(entries.into_iter().map(entry), |entry| &entry.key);
        let calls = calls.into_iter().map(|(position, entries)| {
            let input = wire::RemoveEntriesInput { entries };
            (position, self.0.operation(operation::REMOVE_ENTRIES, &input))
        });
        let answers = self.0.each(calls).await?;
        Ok(answers.map(|all| all.iter().any(|output: &wire::RemoveEntriesOutput| output.updated)))
    }

    /// Changes of one key's values, or of all keys', from now on: those made after this returned
    /// are in it. It goes on at another node when one fails, and tells nothing twice; it ends with
    /// [`Error::SessionExpired`] when the client was cut off for too long.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Event<String>>, Error> {
        let positions = key.map_or(self.0.all(), |key| vec![self.0.cluster.position(key)]);
        let input = wire::EventsInput { key: key.unwrap_or_default().into(), ..Default::default() };
        self.follow(positions, input).await
    }

    /// The same of the keys that begin with this, in all partitions.
    pub async fn events_with_prefix(&self, prefix: &str) -> Result<Stream<Event<String>>, Error> {
        let input = wire::EventsInput { prefix: prefix.into(), ..Default::default() };
        self.follow(self.0.all(), input).await
    }

    async fn follow(
        &self,
        positions: Vec<usize>,
        input: wire::EventsInput,
    ) -> Result<Stream<Event<String>>, Error> {
        let outputs = self.0.subscribe(positions, operation::EVENTS, &input).await?;
        Ok(meant(outputs, |output: wire::EventsOutput| event(output.event?)))
    }

    /// All keys with all their values, as [`crate::Map::entries`] lists them. It ends with an error
    /// when a node fails on the way; then read again.
    pub fn entries(&self) -> Stream<(String, Vec<String>)> {
        self.entries_in(KeyRange::default())
    }

    /// The same of a part of the keys; it costs as much as it gives.
    pub fn entries_in(&self, range: KeyRange) -> Stream<(String, Vec<String>)> {
        let KeyRange { prefix, start, end } = range;
        let input = wire::EntriesInput { prefix, start, end, ..Default::default() };
        let outputs = self.0.list(self.0.all(), operation::ENTRIES, &input);
        meant(outputs, |output: wire::EntriesOutput| {
            output.entry.map(|wire::Entry { key, values }| (key, values))
        })
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
}

fn event(wire: wire::Event) -> Option<Event<String>> {
    use wire::event::Event as Wire;
    let change = match wire.event? {
        Wire::Added(added) => Change::Inserted(added.value),
        Wire::Removed(removed) => Change::Removed { value: removed.value, expired: false },
    };
    Some(Event { key: wire.key, change })
}

fn strings<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Vec<String> {
    values.into_iter().map(Into::into).collect()
}

fn entry<K: Into<String>, V: Into<String>>((key, values): (K, Vec<V>)) -> wire::Entry {
    wire::Entry { key: key.into(), values: strings(values) }
}
