//! Indexed maps: keys with values, in the order in which they came.

use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use bytes::Bytes;
use multiraft_proto::indexedmap as wire;
use multiraft_proto::rpc::indexedmap as operation;

use crate::event::meant;
use crate::primitive::{Primitive, found};
use crate::version::{Version, Versioned, Write, duration, wire_index};
use crate::{Answer, Change, Cluster, Error, Stream};

/// A map from strings (at most 1 KiB) to bytes (at most 512 KiB) that keeps the order in which its
/// entries came. It lives in one partition.
#[derive(Clone)]
pub struct IndexedMap(Primitive);

/// An entry of an indexed map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedEntry {
    pub key: String,
    /// Its place; counted from 1, and never given out again.
    pub index: u64,
    pub value: Versioned,
}

/// How an entry is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    Key(&'a str),
    /// From 1 on.
    Index(u64),
}

impl<'a> From<&'a str> for Place<'a> {
    fn from(key: &'a str) -> Self {
        Place::Key(key)
    }
}

impl From<u64> for Place<'_> {
    fn from(index: u64) -> Self {
        Place::Index(index)
    }
}

impl Place<'_> {
    /// Key and index on the wire, where index 0 means that the key counts.
    fn wire(self) -> Result<(String, u64), Error> {
        match self {
            Place::Key(key) => Ok((key.into(), 0)),
            Place::Index(0) => {
                Err(Error::Invalid { message: "index: is 0; entries are counted from 1".into() })
            }
            Place::Index(index) => Ok((String::new(), index)),
        }
    }
}

impl IndexedMap {
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

    /// Adds an entry behind the others; rejected as already existing when the key is there.
    pub async fn append(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Answer<IndexedEntry>, Error> {
        let ttl = ttl.map(duration);
        let input = wire::AppendInput { key: key.into(), value: value.into(), ttl };
        let answer = self.0.here(operation::APPEND, &input).await?;
        Ok(answer.map(|output: wire::AppendOutput| entry(output.entry)))
    }

    /// Replaces the value of an entry, which keeps its place; rejected as not found, or as a conflict
    /// when it has another version. The bytes that are there change nothing.
    pub async fn update<'a>(
        &self,
        place: impl Into<Place<'a>>,
        value: impl Into<Bytes>,
        write: Write,
    ) -> Result<Answer<IndexedEntry>, Error> {
        let (key, index) = place.into().wire()?;
        let input = wire::UpdateInput {
            key,
            index,
            value: value.into(),
            ttl: write.wire_ttl(),
            prev_version: write.wire_index(),
        };
        let answer = self.0.here(operation::UPDATE, &input).await?;
        Ok(answer.map(|output: wire::UpdateOutput| entry(output.entry)))
    }

    /// Removes an entry, if it has this version, and answers with what it was; rejected as not found
    /// or as a conflict otherwise.
    pub async fn remove<'a>(
        &self,
        place: impl Into<Place<'a>>,
        if_version: Option<Version>,
    ) -> Result<Answer<IndexedEntry>, Error> {
        let (key, index) = place.into().wire()?;
        let input = wire::RemoveInput { key, index, prev_version: wire_index(if_version) };
        let answer = self.0.here(operation::REMOVE, &input).await?;
        Ok(answer.map(|output: wire::RemoveOutput| entry(output.entry)))
    }

    /// Reads an entry; `None` when it is not there.
    pub async fn get<'a>(
        &self,
        place: impl Into<Place<'a>>,
    ) -> Result<Answer<Option<IndexedEntry>>, Error> {
        let (key, index) = place.into().wire()?;
        let answer = self.0.here(operation::GET, &wire::GetInput { key, index }).await;
        Ok(found(answer)?.map(|output| output.map(|o: wire::GetOutput| entry(o.entry))))
    }

    /// The entry with the lowest index; `None` when the map is empty.
    pub async fn first(&self) -> Result<Answer<Option<IndexedEntry>>, Error> {
        let answer = self.0.here(operation::FIRST_ENTRY, &wire::FirstEntryInput {}).await;
        Ok(found(answer)?.map(|output| output.map(|o: wire::FirstEntryOutput| entry(o.entry))))
    }

    /// The entry with the highest index; `None` when the map is empty.
    pub async fn last(&self) -> Result<Answer<Option<IndexedEntry>>, Error> {
        let answer = self.0.here(operation::LAST_ENTRY, &wire::LastEntryInput {}).await;
        Ok(found(answer)?.map(|output| output.map(|o: wire::LastEntryOutput| entry(o.entry))))
    }

    /// The nearest entry before an index, which need not be there; `None` when there is none.
    pub async fn before(&self, index: u64) -> Result<Answer<Option<IndexedEntry>>, Error> {
        let answer = self.0.here(operation::PREV_ENTRY, &wire::PrevEntryInput { index }).await;
        Ok(found(answer)?.map(|output| output.map(|o: wire::PrevEntryOutput| entry(o.entry))))
    }

    /// The nearest entry after an index, which need not be there; `None` when there is none.
    pub async fn after(&self, index: u64) -> Result<Answer<Option<IndexedEntry>>, Error> {
        let answer = self.0.here(operation::NEXT_ENTRY, &wire::NextEntryInput { index }).await;
        Ok(found(answer)?.map(|output| output.map(|o: wire::NextEntryOutput| entry(o.entry))))
    }

    /// Changes of one key, or of all keys, from now on: those made after this returned are in it.
    /// It goes on at another node when one fails, and tells nothing twice; it ends with
    /// [`Error::SessionExpired`] when the client was cut off for too long.
    pub async fn events(&self, key: Option<&str>) -> Result<Stream<Change<IndexedEntry>>, Error> {
        let key = key.unwrap_or_default().into();
        self.follow(wire::EventsInput { key, ..Default::default() }).await
    }

    /// The same of the keys that begin with this.
    pub async fn events_with_prefix(
        &self,
        prefix: &str,
    ) -> Result<Stream<Change<IndexedEntry>>, Error> {
        self.follow(wire::EventsInput { prefix: prefix.into(), ..Default::default() }).await
    }

    async fn follow(
        &self,
        input: wire::EventsInput,
    ) -> Result<Stream<Change<IndexedEntry>>, Error> {
        let outputs = self.0.subscribe(self.0.home(), operation::EVENTS, &input).await?;
        Ok(meant(outputs, |output: wire::EventsOutput| change(output.event?)))
    }

    /// All entries of one point in time, in their order. It ends with an error when a node fails on
    /// the way; then read again.
    pub fn entries(&self) -> Stream<IndexedEntry> {
        self.entries_in(..)
    }

    /// The same of the entries with these indexes; it costs as much as it gives.
    pub fn entries_in(&self, indexes: impl RangeBounds<u64>) -> Stream<IndexedEntry> {
        let start = match indexes.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        // On the wire 0 is to the last, and no entry has index 0.
        let end = match indexes.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => (*end).max(1),
            Bound::Unbounded => 0,
        };
        let input = wire::EntriesInput { start, end, ..Default::default() };
        let outputs = self.0.list(self.0.home(), operation::ENTRIES, &input);
        meant(outputs, |output: wire::EntriesOutput| output.entry.map(|found| entry(Some(found))))
    }

    /// Counts the entries.
    pub async fn size(&self) -> Result<Answer<u64>, Error> {
        let answer = self.0.here(operation::SIZE, &wire::SizeInput {}).await?;
        Ok(answer.map(|output: wire::SizeOutput| output.size.into()))
    }

    /// Removes all entries. Their indexes are not given out again.
    pub async fn clear(&self) -> Result<Answer<()>, Error> {
        let answer = self.0.here(operation::CLEAR, &wire::ClearInput {}).await?;
        Ok(answer.map(|wire::ClearOutput {}| ()))
    }
}

fn entry(wire: Option<wire::Entry>) -> IndexedEntry {
    let wire::Entry { key, index, value } = wire.unwrap_or_default();
    let wire::Value { value, version } = value.unwrap_or_default();
    let value = Versioned { value, version: Version(version) };
    IndexedEntry { key, index, value }
}

fn change(wire: wire::Event) -> Option<Change<IndexedEntry>> {
    use wire::event::Event as Wire;
    let wire::Event { key, index, event } = wire;
    let entry = |value| entry(Some(wire::Entry { key: key.clone(), index, value }));
    Some(match event? {
        Wire::Inserted(inserted) => Change::Inserted(entry(inserted.value)),
        Wire::Updated(wire::event::Updated { value, prev_value }) => {
            Change::Updated { value: entry(value), previous: entry(prev_value) }
        }
        Wire::Removed(wire::event::Removed { value, expired }) => {
            Change::Removed { value: entry(value), expired }
        }
    })
}
