//! What the handles of all primitives share: one path for every operation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use multiraft_proto::rpc::{Kind, RPCS, Rpc};
use prost::Message;

use crate::cluster::{Cluster, Operation};
use crate::session::{Spec, decode};
use crate::{Answer, Answers, Error, v1};

/// A primitive by name, and how its calls are made.
#[derive(Clone)]
pub struct Primitive {
    pub cluster: Cluster,
    pub spec: Arc<Spec>,
    pub timeout: Duration,
    consistency: v1::Consistency,
}

impl Primitive {
    pub fn new(cluster: Cluster, service: &'static str, name: String) -> Self {
        Self {
            spec: cluster.spec(service, name),
            timeout: cluster.options().timeout,
            cluster,
            consistency: v1::Consistency::Linearizable,
        }
    }

    pub fn local(mut self) -> Self {
        self.consistency = v1::Consistency::Local;
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// An operation by its number, ready to be sent.
    pub fn operation<I: Message>(&self, number: u32, input: &I) -> Operation {
        let Rpc { kind, .. } = rpc(number);
        Operation {
            spec: self.spec.clone(),
            number,
            input: input.encode_to_vec().into(),
            timeout: self.timeout,
            query: (*kind == Kind::Query).then_some(self.consistency),
        }
    }

    /// Calls the partition of the primitive's name.
    pub async fn here<I, O>(&self, number: u32, input: &I) -> Result<Answer<O>, Error>
    where
        I: Message,
        O: Message + Default,
    {
        self.at(&self.spec.name, number, input).await
    }

    /// Calls the partition of a key.
    pub async fn at<I, O>(&self, key: &str, number: u32, input: &I) -> Result<Answer<O>, Error>
    where
        I: Message,
        O: Message + Default,
    {
        let position = self.cluster.position(key);
        let answer = self.cluster.at(position, self.operation(number, input)).await?;
        let output = decode(&answer.value)?;
        Ok(answer.map(|_| output))
    }

    /// Calls every partition.
    pub async fn everywhere<I, O>(&self, number: u32, input: &I) -> Result<Answers<Vec<O>>, Error>
    where
        I: Message,
        O: Message + Default,
    {
        let operation = self.operation(number, input);
        let count = self.cluster.partitions().len();
        self.each((0..count).map(|position| (position, operation.clone()))).await
    }

    /// Calls partitions by their positions, each with an operation of its own.
    pub async fn each<O: Message + Default>(
        &self,
        calls: impl IntoIterator<Item = (usize, Operation)>,
    ) -> Result<Answers<Vec<O>>, Error> {
        let Answers { value, indexes } = self.cluster.each(calls).await?;
        let value = value.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Answers { value, indexes })
    }

    /// What goes to which partition, by position.
    pub fn spread<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> &str,
    ) -> BTreeMap<usize, Vec<T>> {
        let mut spread: BTreeMap<usize, Vec<T>> = BTreeMap::new();
        for item in items {
            spread.entry(self.cluster.position(key(&item))).or_default().push(item);
        }
        spread
    }
}

/// The row of an operation in the table of all.
pub fn rpc(number: u32) -> &'static Rpc {
    let row = RPCS.iter().find(|rpc| rpc.operation == number);
    row.expect("the numbers are constants that are generated with the table")
}

/// `None` for what is not there.
pub fn found<T>(answer: Result<Answer<T>, Error>) -> Result<Answer<Option<T>>, Error> {
    match answer {
        Ok(answer) => Ok(answer.map(Some)),
        Err(Error::Rejected(rejection)) if rejection.status == crate::Status::NotFound => {
            Ok(Answer { value: None, partition: rejection.partition, index: rejection.index })
        }
        Err(error) => Err(error),
    }
}
