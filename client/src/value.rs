//! Values: one string of bytes each, or none.

use std::time::Duration;

use bytes::Bytes;
use multiraft_proto::rpc::value as operation;
use multiraft_proto::value as wire;

use crate::event::meant;
use crate::primitive::{Primitive, found};
use crate::version::{Version, Versioned, Write, Written, duration, wire_index};
use crate::{Answer, Change, Cluster, Error, Stream};

/// One value of at most 512 KiB with a version, or none.
#[derive(Clone)]
pub struct Value(Primitive);

impl Value {
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

    /// Reads the value; `None` when there is none.
    pub async fn get(&self) -> Result<Answer<Option<Versioned>>, Error> {
        let answer = found(self.0.here(operation::GET, &wire::GetInput {}).await)?;
        Ok(answer.map(|output| output.and_then(|o: wire::GetOutput| o.value).map(Into::into)))
    }

    /// Writes the value, whether there is one or not.
    pub async fn set(&self, value: impl Into<Bytes>) -> Result<Answer<Written>, Error> {
        self.set_with(value, None).await
    }

    /// Writes a value that removes itself after some time.
    pub async fn set_with(
        &self,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Answer<Written>, Error> {
        let input = wire::SetInput { value: value.into(), ttl: ttl.map(duration) };
        let answer = self.0.here(operation::SET, &input).await?;
        Ok(answer.map(|output: wire::SetOutput| written(output.index, output.prev_value)))
    }

    /// Writes the value where there is none; rejected as already existing otherwise.
    pub async fn insert(
        &self,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Answer<Written>, Error> {
        let input = wire::InsertInput { value: value.into(), ttl: ttl.map(duration) };
        let answer = self.0.here(operation::INSERT, &input).await?;
        Ok(answer.map(|output: wire::InsertOutput| written(output.index, None)))
    }

    /// Replaces the value; rejected as not found when there is none, as a conflict when it has
    /// another version.
    pub async fn update(
        &self,
        value: impl Into<Bytes>,
        write: Write,
    ) -> Result<Answer<Written>, Error> {
        let input = wire::UpdateInput {
            value: value.into(),
            prev_index: write.wire_index(),
            ttl: write.wire_ttl(),
        };
        let answer = self.0.here(operation::UPDATE, &input).await?;
        Ok(answer.map(|output: wire::UpdateOutput| written(output.index, output.prev_value)))
    }

    /// Changes from now on: those made after this returned are in it. It goes on at another node
    /// when one fails, and tells nothing twice; it ends with [`Error::SessionExpired`] when the client
    /// was cut off for too long.
    pub async fn events(&self) -> Result<Stream<Change<Versioned>>, Error> {
        let home = self.0.home();
        let outputs = self.0.subscribe(home, operation::EVENTS, &wire::EventsInput {}).await?;
        Ok(meant(outputs, |output: wire::EventsOutput| change(output.event?)))
    }

    /// The present value if there is one, then every later one; `None` when it was removed. When a
    /// node fails it begins again at another, with the value as it is then.
    pub async fn watch(&self) -> Result<Stream<Option<Versioned>>, Error> {
        let outputs = self.0.watch(operation::WATCH, &wire::WatchInput {}).await?;
        Ok(meant(outputs, |output: wire::WatchOutput| Some(output.value.map(Into::into))))
    }

    /// Removes the value, if it has this version, and answers with what it was; rejected as not found
    /// or as a conflict otherwise.
    pub async fn delete(
        &self,
        if_version: Option<Version>,
    ) -> Result<Answer<Option<Versioned>>, Error> {
        let input = wire::DeleteInput { prev_index: wire_index(if_version) };
        let answer = self.0.here(operation::DELETE, &input).await?;
        Ok(answer.map(|output: wire::DeleteOutput| output.value.map(Into::into)))
    }
}

fn change(wire: wire::Event) -> Option<Change<Versioned>> {
    use wire::event::Event as Wire;
    Some(match wire.event? {
        Wire::Created(created) => Change::Inserted(created.value?.into()),
        Wire::Updated(wire::event::Updated { value, prev_value }) => {
            Change::Updated { value: value?.into(), previous: prev_value?.into() }
        }
        Wire::Deleted(wire::event::Deleted { value, expired }) => {
            Change::Removed { value: value?.into(), expired }
        }
    })
}

fn written(index: u64, previous: Option<wire::IndexedValue>) -> Written {
    Written { version: Version(index), previous: previous.map(Into::into) }
}
