//! A pass over one cluster: fetch → validate → plan → apply → report.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use multiraft_plan::{OperatorPods, Surroundings, plan, validate};
use tokio::time::Instant;

use crate::apply::{Applier, ApplyError, Held};
use crate::backoff::{Backoff, jittered};
use crate::certificate::Certificate;
use crate::errors::chain;
use crate::limits::{
    CONCURRENCY, ERROR_DELAY_MAX, ERROR_DELAY_MIN, PASS_TIME_MAX, REFUSED_DELAY, RESYNC,
};
use crate::metrics::{Metrics, Outcome, PassResult};
use crate::queue::Queue;
use crate::report::Reporter;
use crate::store::Key;
use crate::watch::Board;

/// What every pass shares.
#[derive(Clone)]
pub struct Reconciler {
    pub applier: Applier,
    pub reporter: Reporter,
    pub queue: Arc<Queue>,
    pub board: Board,
    pub metrics: Arc<Metrics>,
    pub node_image: String,
    pub operator_pods: Option<OperatorPods>,
    pub certificate: Certificate,
    /// Delays of clusters whose last pass failed.
    pub failures: Arc<std::sync::Mutex<std::collections::BTreeMap<Key, Backoff>>>,
    /// What the last pass over a cluster did not do, for its status.
    pub held: Arc<std::sync::Mutex<std::collections::BTreeMap<Key, Held>>>,
}

impl Reconciler {
    /// Takes clusters from the queue for ever, several at once.
    pub async fn run(self) {
        let places = Arc::new(tokio::sync::Semaphore::new(CONCURRENCY));
        loop {
            let key = self.queue.next().await;
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let this = self.clone();
            tokio::spawn(async move {
                let again = this.guarded(&key).await;
                this.queue.done(&key, again);
                drop(place);
            });
        }
    }

    /// One pass within its time; when to look again.
    async fn guarded(&self, key: &Key) -> Option<Duration> {
        self.metrics.queue_depth.set(i64::try_from(self.queue.depth()).unwrap_or(i64::MAX));
        let started = Instant::now();
        let passed = tokio::time::timeout(PASS_TIME_MAX, self.pass(key)).await;
        self.metrics.pass_seconds.observe(started.elapsed().as_secs_f64());
        let (result, again) = match passed {
            Ok(Ok(again)) => {
                self.failures().remove(key);
                (PassResult::Ok, again)
            }
            Ok(Err(error)) if error.is_not_leading() => (PassResult::Ok, None),
            Ok(Err(error)) => {
                tracing::warn!(cluster = %key, error = chain(&error), "pass failed");
                (PassResult::Error, Some(self.delay(key)))
            }
            Err(_) => {
                tracing::warn!(cluster = %key, "pass took too long");
                (PassResult::Timeout, Some(self.delay(key)))
            }
        };
        self.metrics.passes.get_or_create(&Outcome { result }).inc();
        again
    }

    async fn pass(&self, key: &Key) -> Result<Option<Duration>, ApplyError> {
        // Before everything is listed an absent object proves nothing; a standby only watches.
        let (true, Some(epoch)) = (self.board.all_synced(), self.applier.gate.epoch()) else {
            return Ok(Some(Duration::from_secs(1)));
        };
        let Some(cluster) = self.applier.stores.clusters.get(key) else {
            self.held().remove(key);
            return Ok(None);
        };
        let held = self.held().get(key).cloned().unwrap_or_default();
        let mut observed = self.applier.stores.observe(key, &self.applier.nodes, held);
        observed.certificate = self.applier.find_certificate(&cluster).await?;
        let env = Surroundings {
            now: Time(Timestamp::now()),
            operator_epoch: epoch,
            node_image: self.node_image.clone(),
            node_pull_policy: None,
            operator_pods: self.operator_pods.clone(),
            certificate: self.certificate.state(),
        };
        let validated = validate(&cluster);
        let plan = plan(&cluster, &validated, &observed, &env);
        let applied = self.applier.apply(key, &plan).await;
        // What is seen is reported also when something could not be done; only a latch must not
        // be: it says that what comes before it is done.
        let reported = match &applied {
            Ok(_) => self.reporter.report(&cluster, &plan).await,
            Err(_) if latches(&cluster, &plan) => Ok(None),
            Err(_) => self.reporter.report(&cluster, &plan).await,
        };
        let held = applied?;
        let before = self.held().insert(key.clone(), held.clone()).unwrap_or_default();
        // What is new in it belongs into the status.
        let soon = (held.refused || before != held).then_some(REFUSED_DELAY);
        let held_back = reported?;
        let resync = jittered(RESYNC, 0.1);
        let wishes = held_back.into_iter().chain(plan.wake_up).chain(soon);
        Ok(Some(wishes.fold(resync, Duration::min)))
    }

    fn delay(&self, key: &Key) -> Duration {
        let mut failures = self.failures();
        failures
            .entry(key.clone())
            .or_insert_with(|| Backoff::new(ERROR_DELAY_MIN, ERROR_DELAY_MAX))
            .next()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<Key, Held>> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<Key, Backoff>> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether the plan's status would set the latch of the bootstrap.
fn latches(cluster: &multiraft_api::MultiRaftCluster, plan: &multiraft_plan::Plan) -> bool {
    let latched = |s: &multiraft_api::MultiRaftClusterStatus| {
        s.bootstrap.as_ref().is_some_and(|b| b.completed_at.is_some())
    };
    latched(&plan.status) && !cluster.status.as_ref().is_some_and(latched)
}
