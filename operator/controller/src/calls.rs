//! The one gate of every mutating call: numbered, refused unless this process leads, counted, and
//! the place where a test makes the process vanish.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::leader::Standing;
use crate::metrics::Metrics;

/// Exit status of the test hook, unlike that of any failure.
pub const EXIT_AT_CALL_STATUS: i32 = 86;

#[derive(Debug, Error)]
pub enum CallError<E: std::error::Error + 'static> {
    #[error("not leading any more")]
    NotLeading,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Failed(E),
}

/// Every API write and every changing call to a node passes here. Renewals of the lease and
/// Kubernetes events do not: they happen by the clock, and numbers would not mean the same twice.
#[derive(Clone)]
pub struct Gate {
    number: Arc<AtomicU64>,
    exit_at: Option<u64>,
    standing: watch::Receiver<Standing>,
    metrics: Arc<Metrics>,
}

impl Gate {
    pub fn new(
        standing: watch::Receiver<Standing>,
        exit_at: Option<u64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { number: Arc::new(AtomicU64::new(0)), exit_at, standing, metrics }
    }

    /// The epoch of this process, while it leads.
    pub fn epoch(&self) -> Option<u64> {
        self.standing.borrow().epoch(Instant::now())
    }

    /// Makes a mutating call if this process leads, within `limit`. `what` is a verb and a kind of
    /// bounded variety, `target` names the object.
    pub async fn call<T, E>(
        &self,
        what: &str,
        target: &str,
        limit: Duration,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>>
    where
        E: std::error::Error + 'static,
    {
        if self.epoch().is_none() {
            return Err(CallError::NotLeading);
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(call = number, what, target, "call");
        if self.exit_at == Some(number) {
            tracing::warn!(
                call = number,
                what,
                target,
                "exit before this call, as the test hook asks"
            );
            std::process::exit(EXIT_AT_CALL_STATUS);
        }
        let result = match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(CallError::Failed(error)),
            Err(_) => Err(CallError::Timeout(limit)),
        };
        self.metrics.call(what, result.is_ok());
        result
    }
}
