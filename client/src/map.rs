//! Maps: keys with values and versions, spread over all partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use multiraft_proto::{map, rpc};
use prost::Message;

use crate::cluster::Operation;
use crate::session::{Spec, decode, duration};
use crate::{Answer, Answers, Cluster, Error, Status, v1};

/// A map from strings to bytes. Each key lives in the partition that its hash names, so writes to
/// different keys do not wait for each other, and a call to the whole map is one call to each
/// partition.
#[derive(Clone)]
pub struct Map {
    cluster: Cluster,
    spec: Arc<Spec>,
    timeout: Duration,
    consistency: v1::Consistency,
}

/// A value and its version: the index of the command that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    pub value: Bytes,
    pub index: u64,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Version of the entry now.
    pub index: u64,
    /// What was there before, when it was replaced.
    pub previous: Option<Versioned>,
}

/// Conditions and terms of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// The entry removes itself after this time; `None` = never.
    pub ttl: Option<Duration>,
    /// The version that the entry must have; rejected as a conflict otherwise.
    pub if_index: Option<u64>,
}

impl Map {
    pub(crate) fn new(cluster: Cluster, name: String) -> Self {
        Self {
            spec: cluster.spec(rpc::map::TYPE, name),
            timeout: cluster.options().timeout,
            cluster,
            consistency: v1::Consistency::Linearizable,
        }
    }

    /// A handle whose reads may be stale: never older than what this client has seen.
    pub fn local(mut self) -> Self {
        self.consistency = v1::Consistency::Local;
        self
    }

    /// A handle whose calls end after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reads an entry.
    pub async fn get(&self, key: &str) -> Result<Answer<Option<Versioned>>, Error> {
        let path = "/atomix.multiraft.map.v1.Map/Get";
        let input = map::GetInput { key: key.into() };
        match self.at_key(key, path, &input, Some(self.consistency)).await {
            Ok(answer) => Ok(answer.map(|output: map::GetOutput| output.value.map(versioned))),
            Err(Error::Rejected(r)) if r.status == Status::NotFound => {
                Ok(Answer { value: None, partition: r.partition, index: r.index })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes an entry, whether it is there or not. Writing the bytes that are there changes nothing.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<Answer<Written>, Error> {
        self.put_with(key, value, Write::default()).await
    }

    /// Writes an entry on conditions.
    pub async fn put_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        write: Write,
    ) -> Result<Answer<Written>, Error> {
        let path = "/atomix.multiraft.map.v1.Map/Put";
        let input = map::PutInput {
            key: key.into(),
            value: value.into(),
            ttl: write.ttl.and_then(duration),
            prev_index: write.if_index.unwrap_or(0),
        };
        let answer: Answer<map::PutOutput> = self.at_key(key, path, &input, None).await?;
        Ok(answer.map(|output| Written {
            index: output.index,
            previous: output.prev_value.map(versioned),
        }))
    }

    /// Writes a new entry; rejected when the key is there.
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
        let path = "/atomix.multiraft.map.v1.Map/Insert";
        let ttl = ttl.and_then(duration);
        let input = map::InsertInput { key: key.into(), value: value.into(), ttl };
        let answer: Answer<map::InsertOutput> = self.at_key(key, path, &input, None).await?;
        Ok(answer.map(|output| Written { index: output.index, previous: None }))
    }

    /// Replaces an entry; rejected when the key is not there.
    pub async fn update(
        &self,
        key: &str,
        value: impl Into<Bytes>,
    ) -> Result<Answer<Written>, Error> {
        self.update_with(key, value, Write::default()).await
    }

    /// Replaces an entry on conditions.
    pub async fn update_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        write: Write,
    ) -> Result<Answer<Written>, Error> {
        let path = "/atomix.multiraft.map.v1.Map/Update";
        let input = map::UpdateInput {
            key: key.into(),
            value: value.into(),
            ttl: write.ttl.and_then(duration),
            prev_index: write.if_index.unwrap_or(0),
        };
        let answer: Answer<map::UpdateOutput> = self.at_key(key, path, &input, None).await?;
        Ok(answer.map(|output| Written {
            index: output.index,
            previous: output.prev_value.map(versioned),
        }))
    }

    /// Removes an entry and answers with what it was; rejected when the key is not there.
    pub async fn remove(&self, key: &str) -> Result<Answer<Option<Versioned>>, Error> {
        self.remove_if(key, None).await
    }

    /// Removes an entry if it has this version.
    pub async fn remove_if(
        &self,
        key: &str,
        index: Option<u64>,
    ) -> Result<Answer<Option<Versioned>>, Error> {
        let path = "/atomix.multiraft.map.v1.Map/Remove";
        let input = map::RemoveInput { key: key.into(), prev_index: index.unwrap_or(0) };
        let answer: Answer<map::RemoveOutput> = self.at_key(key, path, &input, None).await?;
        Ok(answer.map(|output| output.value.map(versioned)))
    }

    /// Counts the entries, partition by partition.
    pub async fn size(&self) -> Result<Answers<u64>, Error> {
        let path = "/atomix.multiraft.map.v1.Map/Size";
        let operation = self.operation(path, &map::SizeInput {}, Some(self.consistency));
        let Answers { value: outputs, indexes } = self.cluster.all(operation).await?;
        let mut value = 0;
        for output in &outputs {
            value += u64::from(decode::<map::SizeOutput>(output)?.size);
        }
        Ok(Answers { value, indexes })
    }

    /// Removes all entries, partition by partition.
    pub async fn clear(&self) -> Result<Answers<()>, Error> {
        let path = "/atomix.multiraft.map.v1.Map/Clear";
        let operation = self.operation(path, &map::ClearInput {}, None);
        let answers = self.cluster.all(operation).await?;
        Ok(Answers { value: (), indexes: answers.indexes })
    }

    fn operation<I: Message>(
        &self,
        path: &'static str,
        input: &I,
        query: Option<v1::Consistency>,
    ) -> Operation {
        let (spec, input) = (self.spec.clone(), input.encode_to_vec().into());
        Operation { spec, path, input, timeout: self.timeout, query }
    }

    async fn at_key<I: Message, O: Message + Default>(
        &self,
        key: &str,
        path: &'static str,
        input: &I,
        query: Option<v1::Consistency>,
    ) -> Result<Answer<O>, Error> {
        let answer = self.cluster.one(key, self.operation(path, input, query)).await?;
        let output = decode(&answer.value)?;
        Ok(answer.map(|_| output))
    }
}

fn versioned(value: map::IndexedValue) -> Versioned {
    Versioned { value: value.value, index: value.index }
}
