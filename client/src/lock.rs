//! Locks: of one session at a time, first come first served.

use std::fmt;
use std::time::Duration;

use multiraft_proto::lock as wire;
use multiraft_proto::rpc::lock as operation;

use crate::held::{Held, Wish, hold, wait};
use crate::primitive::{Primitive, found};
use crate::session::decode;
use crate::{Answer, Cluster, Error};

/// A lock that one client at a time holds; the others wait, first come first served. It is not
/// re-entrant: who holds it and asks again waits for itself.
///
/// A client that cannot reach the cluster for its session's timeout loses the lock without noticing
/// at once. What the lock protects should therefore refuse a [`FencingToken`] that is lower than one
/// that it has seen.
#[derive(Clone)]
pub struct Lock(Primitive);

/// Grows with every holder of a lock, or with every leader of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Lock {
    pub(crate) fn new(cluster: Cluster, name: String) -> Self {
        Self(Primitive::new(cluster, operation::TYPE, name))
    }

    /// A handle whose reads may be stale: never older than what this client has seen.
    pub fn local(self) -> Self {
        Self(self.0.local())
    }

    /// A handle whose calls end after this time without any node that works. Waiting for the lock
    /// does not count.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Takes the lock, or waits for it as long as it takes. Dropping the future leaves the queue.
    pub async fn acquire(&self) -> Result<LockGuard, Error> {
        self.get(None).await
    }

    /// Takes the lock, or waits for it at most so long; rejected as a conflict then. With
    /// [`Duration::ZERO`] it does not wait. Counted in milliseconds of the cluster's log time.
    pub async fn acquire_within(&self, wait: Duration) -> Result<LockGuard, Error> {
        self.get(Some(wait)).await
    }

    async fn get(&self, longest: Option<Duration>) -> Result<LockGuard, Error> {
        let input = wire::AcquireInput { timeout: wait(longest) };
        let wish = Wish {
            get: self.0.operation(operation::ACQUIRE, &input),
            waits: true,
            give_back: self.0.operation(operation::RELEASE, &wire::ReleaseInput {}),
        };
        let position = self.0.cluster.position(&self.0.spec.name);
        let session = self.0.cluster.session(position, self.0.timeout).await?;
        let (held, answer) = hold(session, wish).await?;
        let wire::AcquireOutput { index } = decode(&answer.value)?;
        Ok(LockGuard { held, token: FencingToken(index) })
    }

    /// The token of whoever holds the lock; `None` when it is free.
    pub async fn holder(&self) -> Result<Answer<Option<FencingToken>>, Error> {
        let answer = found(self.0.here(operation::GET, &wire::GetInput {}).await)?;
        Ok(answer.map(|output| output.map(|o: wire::GetOutput| FencingToken(o.index))))
    }
}

/// A lock that is held. Dropping it releases the lock in the background.
pub struct LockGuard {
    held: Held,
    token: FencingToken,
}

impl LockGuard {
    /// Higher than that of every earlier holder.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// Releases the lock, and waits until that is done.
    pub async fn release(self) -> Result<(), Error> {
        self.held.give_back().await.map(drop)
    }

    /// Waits until somebody else may hold the lock, because the session expired or could not be kept
    /// alive in time.
    pub async fn lost(&self) {
        self.held.lost().await;
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("token", &self.token).finish_non_exhaustive()
    }
}
