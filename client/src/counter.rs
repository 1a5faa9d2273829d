//! Counters: one signed 64-bit number each.

use std::time::Duration;

use multiraft_proto::counter as wire;
use multiraft_proto::rpc::counter as operation;

use crate::primitive::Primitive;
use crate::{Answer, Cluster, Error};

/// A signed 64-bit number, 0 when it is new. Every operation answers with the value after it.
#[derive(Clone)]
pub struct Counter(Primitive);

impl Counter {
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

    /// Reads the value.
    pub async fn get(&self) -> Result<Answer<i64>, Error> {
        let answer = self.0.here(operation::GET, &wire::GetInput {}).await?;
        Ok(answer.map(|output: wire::GetOutput| output.value))
    }

    /// Sets the value.
    pub async fn set(&self, value: i64) -> Result<Answer<i64>, Error> {
        let answer = self.0.here(operation::SET, &wire::SetInput { value }).await?;
        Ok(answer.map(|output: wire::SetOutput| output.value))
    }

    /// Sets the value if it is `compare`; rejected as a conflict otherwise.
    pub async fn update(&self, compare: i64, update: i64) -> Result<Answer<i64>, Error> {
        let input = wire::UpdateInput { compare, update };
        let answer = self.0.here(operation::UPDATE, &input).await?;
        Ok(answer.map(|output: wire::UpdateOutput| output.value))
    }

    /// Adds to the value; rejected as invalid when it would leave the range of `i64`.
    pub async fn increment(&self, delta: i64) -> Result<Answer<i64>, Error> {
        let answer = self.0.here(operation::INCREMENT, &wire::IncrementInput { delta }).await?;
        Ok(answer.map(|output: wire::IncrementOutput| output.value))
    }

    /// Subtracts from the value; rejected as invalid when it would leave the range of `i64`.
    pub async fn decrement(&self, delta: i64) -> Result<Answer<i64>, Error> {
        let answer = self.0.here(operation::DECREMENT, &wire::DecrementInput { delta }).await?;
        Ok(answer.map(|output: wire::DecrementOutput| output.value))
    }
}
