//! A cluster as its client sees it: partitions, and a session with each that was needed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::calls::Deadline;
use crate::limits::{FAN_OUT_MAX, SESSION_TIMEOUT_MAX, SESSION_TIMEOUT_MIN};
use crate::nodes::Nodes;
use crate::session::{Command, Session, Setting, Spec};
use crate::{
    Answer, Answers, Counter, CounterMap, Election, Error, IndexedMap, Lock, Map, MultiMap,
    Options, Set, Tls, Value, discovery, route, v1, wire,
};

/// A cluster. Cheap to clone; clones share connections and sessions.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    /// Ids of the groups, in order.
    partitions: Vec<u32>,
    /// The session with the partition at the same position. Replaced when it has expired.
    sessions: Vec<RwLock<Slot>>,
    setting: Setting,
    closed: AtomicBool,
    discovery: JoinHandle<()>,
}

/// Opened by the first call that needs it; the others wait for it.
type Slot = Arc<OnceCell<Arc<Session>>>;

impl Drop for Shared {
    fn drop(&mut self) {
        self.discovery.abort();
    }
}

/// One operation of one primitive, ready to be sent.
#[derive(Clone)]
pub(crate) struct Operation {
    pub spec: Arc<Spec>,
    pub number: u32,
    pub input: Bytes,
    pub timeout: Duration,
    /// How to ask; `None` makes it a command.
    pub query: Option<v1::Consistency>,
}

impl Operation {
    /// The command of a session, for a primitive by its id.
    pub fn command(&self, primitive: u64) -> Command {
        wire::operation(primitive, self.number, self.input.clone())
    }
}

impl Cluster {
    /// Opens a cluster by the addresses (`host:port`) of some of its nodes. See [`Options`] for more.
    pub async fn connect<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Self, Error> {
        Options::default().connect(endpoints).await
    }

    pub(crate) async fn open(endpoints: Vec<String>, options: Options) -> Result<Self, Error> {
        let tls = options.tls.as_ref().map(Tls::connector).transpose()?;
        let nodes = Arc::new(Nodes::new(&endpoints, options.routing, tls)?);
        let partitions = discovery::partitions(&nodes, &options).await?;
        let leaders = nodes.leaders.clone();
        let keeper = discovery::keep(Arc::downgrade(&nodes), leaders, options.discover);
        let timeout = options.session_timeout.clamp(SESSION_TIMEOUT_MIN, SESSION_TIMEOUT_MAX);
        let setting = Setting { nodes, timeout, began: Instant::now() };
        let shared = Shared {
            sessions: partitions.iter().map(|_| RwLock::default()).collect(),
            partitions,
            options,
            setting,
            closed: AtomicBool::new(false),
            discovery: tokio::spawn(keeper),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The counter of this name.
    pub fn counter(&self, name: impl Into<String>) -> Counter {
        Counter::new(self.clone(), name.into())
    }

    /// The counter map of this name.
    pub fn counter_map(&self, name: impl Into<String>) -> CounterMap {
        CounterMap::new(self.clone(), name.into())
    }

    /// The election of this name.
    pub fn election(&self, name: impl Into<String>) -> Election {
        Election::new(self.clone(), name.into())
    }

    /// The indexed map of this name.
    pub fn indexed_map(&self, name: impl Into<String>) -> IndexedMap {
        IndexedMap::new(self.clone(), name.into())
    }

    /// The lock of this name.
    pub fn lock(&self, name: impl Into<String>) -> Lock {
        Lock::new(self.clone(), name.into())
    }

    /// The map of this name.
    pub fn map(&self, name: impl Into<String>) -> Map {
        Map::new(self.clone(), name.into())
    }

    /// The multimap of this name.
    pub fn multi_map(&self, name: impl Into<String>) -> MultiMap {
        MultiMap::new(self.clone(), name.into())
    }

    /// The set of this name.
    pub fn set(&self, name: impl Into<String>) -> Set {
        Set::new(self.clone(), name.into())
    }

    /// The value of this name.
    pub fn value(&self, name: impl Into<String>) -> Value {
        Value::new(self.clone(), name.into())
    }

    /// Ids of the groups, in order.
    pub fn partitions(&self) -> &[u32] {
        &self.shared.partitions
    }

    /// Addresses of the nodes known so far.
    pub fn nodes(&self) -> Vec<String> {
        self.shared.setting.nodes.list().iter().map(|node| node.address.clone()).collect()
    }

    /// Closes all sessions; calls in flight end with an error. Takes two seconds at most for each
    /// partition that does not answer, all at the same time.
    pub async fn close(self) {
        self.shared.closed.store(true, Ordering::Release);
        let open: Vec<_> = self
            .shared
            .sessions
            .iter()
            .filter_map(|slot| slot.read().unwrap_or_else(PoisonError::into_inner).get().cloned())
            .collect();
        futures::stream::iter(open)
            .for_each_concurrent(FAN_OUT_MAX, |session| async move { session.close().await })
            .await;
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn spec(&self, service: &'static str, name: String) -> Arc<Spec> {
        Arc::new(Spec { service, namespace: self.options().namespace.clone(), name })
    }

    /// Where the partition of a key stands among the others.
    pub(crate) fn position(&self, key: &str) -> usize {
        route::position(key.as_bytes(), self.shared.partitions.len())
    }

    /// Sends operations to the partitions at these positions.
    pub(crate) async fn each(
        &self,
        calls: impl IntoIterator<Item = (usize, Operation)>,
    ) -> Result<Answers<Vec<Bytes>>, Error> {
        let calls = calls.into_iter().map(|(position, operation)| self.at(position, operation));
        let answers: Vec<_> =
            futures::stream::iter(calls).buffered(FAN_OUT_MAX).try_collect().await?;
        let indexes: BTreeMap<_, _> = answers.iter().map(|a| (a.partition, a.index)).collect();
        Ok(Answers { value: answers.into_iter().map(|answer| answer.value).collect(), indexes })
    }

    /// Sends an operation to the partition at a position.
    pub(crate) async fn at(
        &self,
        position: usize,
        operation: Operation,
    ) -> Result<Answer<Bytes>, Error> {
        let deadline = Deadline::after(operation.timeout);
        let session = self.session_by(position, deadline).await?;
        session.operate(operation, deadline).await
    }

    /// The session with the partition at a position, opened within a time if need be.
    pub(crate) async fn session(
        &self,
        position: usize,
        timeout: Duration,
    ) -> Result<Arc<Session>, Error> {
        self.session_by(position, Deadline::after(timeout)).await
    }

    async fn session_by(&self, position: usize, deadline: Deadline) -> Result<Arc<Session>, Error> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let slot = self.slot(position);
        let partition = self.shared.partitions[position];
        let open = || Session::open(self.shared.setting.clone(), partition, deadline);
        slot.get_or_try_init(open).await.cloned()
    }

    /// The slot at a position, a new one when its session has expired.
    fn slot(&self, position: usize) -> Slot {
        let lock = &self.shared.sessions[position];
        let expired = |slot: &Slot| slot.get().is_some_and(|session| session.is_expired());
        let slot = lock.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !expired(&slot) {
            return slot;
        }
        let mut current = lock.write().unwrap_or_else(PoisonError::into_inner);
        if expired(&current) {
            *current = Slot::default();
        }
        current.clone()
    }
}
