//! Counters: one signed 64-bit number each.

use std::sync::Arc;
use std::time::Duration;

use multiraft_proto::{counter, rpc};
use prost::Message;

use crate::cluster::Operation;
use crate::session::{Spec, decode};
use crate::{Answer, Cluster, Error, v1};

/// A signed 64-bit number, 0 when it is new. Every operation answers with the value after it.
#[derive(Clone)]
pub struct Counter {
    cluster: Cluster,
    spec: Arc<Spec>,
    timeout: Duration,
    consistency: v1::Consistency,
}

impl Counter {
    pub(crate) fn new(cluster: Cluster, name: String) -> Self {
        Self {
            spec: cluster.spec(rpc::counter::TYPE, name),
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

    /// Reads the value.
    pub async fn get(&self) -> Result<Answer<i64>, Error> {
        let path = "/atomix.multiraft.counter.v1.Counter/Get";
        let input = counter::GetInput {};
        let output: Answer<counter::GetOutput> =
            self.call(path, &input, Some(self.consistency)).await?;
        Ok(output.map(|output| output.value))
    }

    /// Sets the value.
    pub async fn set(&self, value: i64) -> Result<Answer<i64>, Error> {
        let path = "/atomix.multiraft.counter.v1.Counter/Set";
        let output: Answer<counter::SetOutput> =
            self.call(path, &counter::SetInput { value }, None).await?;
        Ok(output.map(|output| output.value))
    }

    /// Sets the value if it is `compare`; rejected as a conflict otherwise.
    pub async fn update(&self, compare: i64, update: i64) -> Result<Answer<i64>, Error> {
        let path = "/atomix.multiraft.counter.v1.Counter/Update";
        let input = counter::UpdateInput { compare, update };
        let output: Answer<counter::UpdateOutput> = self.call(path, &input, None).await?;
        Ok(output.map(|output| output.value))
    }

    /// Adds to the value; rejected as invalid when it would leave the range of `i64`.
    pub async fn increment(&self, delta: i64) -> Result<Answer<i64>, Error> {
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let input = counter::IncrementInput { delta };
        let output: Answer<counter::IncrementOutput> = self.call(path, &input, None).await?;
        Ok(output.map(|output| output.value))
    }

    /// Subtracts from the value; rejected as invalid when it would leave the range of `i64`.
    pub async fn decrement(&self, delta: i64) -> Result<Answer<i64>, Error> {
        let path = "/atomix.multiraft.counter.v1.Counter/Decrement";
        let input = counter::DecrementInput { delta };
        let output: Answer<counter::DecrementOutput> = self.call(path, &input, None).await?;
        Ok(output.map(|output| output.value))
    }

    async fn call<I: Message, O: Message + Default>(
        &self,
        path: &'static str,
        input: &I,
        query: Option<v1::Consistency>,
    ) -> Result<Answer<O>, Error> {
        let operation = Operation {
            spec: self.spec.clone(),
            path,
            input: input.encode_to_vec().into(),
            timeout: self.timeout,
            query,
        };
        let answer = self.cluster.one(&self.spec.name, operation).await?;
        let output = decode(&answer.value)?;
        Ok(answer.map(|_| output))
    }
}
