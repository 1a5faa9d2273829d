//! Sets of strings, spread over all partitions.

use std::time::Duration;

use multiraft_proto::rpc::set as operation;
use multiraft_proto::set as wire;

use crate::event::meant;
use crate::primitive::Primitive;
use crate::range::KeyRange;
use crate::version::duration;
use crate::{Answer, Answers, Change, Cluster, Error, Stream};

/// A set of strings. Each element (at most 1 KiB) lives in the partition that its hash names; a call
/// to the whole set is one call to each partition.
#[derive(Clone)]
pub struct Set(Primitive);

impl Set {
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

    /// Adds an element; true when it was not there.
    pub async fn add(&self, element: &str) -> Result<Answer<bool>, Error> {
        self.add_with(element, None).await
    }

    /// Adds an element that removes itself after some time. One that is there stays as it is.
    pub async fn add_with(
        &self,
        element: &str,
        ttl: Option<Duration>,
    ) -> Result<Answer<bool>, Error> {
        let input = wire::AddInput { element: wire_element(element), ttl: ttl.map(duration) };
        let answer = self.0.at(element, operation::ADD, &input).await?;
        Ok(answer.map(|output: wire::AddOutput| output.added))
    }

    /// Removes an element; true when it was there.
    pub async fn remove(&self, element: &str) -> Result<Answer<bool>, Error> {
        let input = wire::RemoveInput { element: wire_element(element) };
        let answer = self.0.at(element, operation::REMOVE, &input).await?;
        Ok(answer.map(|output: wire::RemoveOutput| output.removed))
    }

    /// Whether an element is there.
    pub async fn contains(&self, element: &str) -> Result<Answer<bool>, Error> {
        let input = wire::ContainsInput { element: wire_element(element) };
        let answer = self.0.at(element, operation::CONTAINS, &input).await?;
        Ok(answer.map(|output: wire::ContainsOutput| output.contains))
    }

    /// Changes from now on: those made after this returned are in it. It goes on at another node
    /// when one fails, and tells nothing twice; it ends with [`Error::SessionExpired`] when the client
    /// was cut off for too long.
    pub async fn events(&self) -> Result<Stream<Change<String>>, Error> {
        let positions = self.0.all();
        let outputs =
            self.0.subscribe(positions, operation::EVENTS, &wire::EventsInput::default()).await?;
        Ok(meant(outputs, |output: wire::EventsOutput| change(output.event?)))
    }

    /// All elements, as [`crate::Map::entries`] lists entries. It ends with an error when a node
    /// fails on the way; then read again.
    pub fn elements(&self) -> Stream<String> {
        self.elements_in(KeyRange::default())
    }

    /// The same of a part of the elements; it costs as much as it gives.
    pub fn elements_in(&self, range: KeyRange) -> Stream<String> {
        let KeyRange { prefix, start, end } = range;
        let input = wire::ElementsInput { prefix, start, end, ..Default::default() };
        let outputs = self.0.list(self.0.all(), operation::ELEMENTS, &input);
        meant(outputs, |output: wire::ElementsOutput| output.element.map(|element| element.value))
    }

    /// Counts the elements, partition by partition.
    pub async fn size(&self) -> Result<Answers<u64>, Error> {
        let answers = self.0.everywhere(operation::SIZE, &wire::SizeInput {}).await?;
        let size = |output: &wire::SizeOutput| u64::from(output.size);
        Ok(answers.map(|outputs| outputs.iter().map(size).sum()))
    }

    /// Removes all elements, partition by partition.
    pub async fn clear(&self) -> Result<Answers<()>, Error> {
        let answers = self.0.everywhere(operation::CLEAR, &wire::ClearInput {}).await?;
        Ok(answers.map(|_: Vec<wire::ClearOutput>| ()))
    }
}

fn change(wire: wire::Event) -> Option<Change<String>> {
    use wire::event::Event as Wire;
    Some(match wire.event? {
        Wire::Added(added) => Change::Inserted(added.element?.value),
        Wire::Removed(wire::event::Removed { element, expired }) => {
            Change::Removed { value: element?.value, expired }
        }
    })
}

fn wire_element(element: &str) -> Option<wire::Element> {
    Some(wire::Element { value: element.into() })
}
