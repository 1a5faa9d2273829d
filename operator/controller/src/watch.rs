//! Watches that survive: every kind and namespace in a task of its own, with a back-off of its
//! own, so that one failing watch never delays another (the library's controller shares one).

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch as state;
use tokio::time::Instant;

use crate::apiserver::Reachability;
use crate::backoff::Backoff;
use crate::limits::{
    WATCH_DELAY_MAX, WATCH_DELAY_MIN, WATCH_LIST_PACE, WATCH_SERVER_TIMEOUT_SECONDS,
};
use crate::metrics::Metrics;
use crate::store::{Store, Watched};

/// How one watch is doing.
#[derive(Debug, Clone)]
pub struct Health {
    pub name: String,
    /// A complete list was seen at least once.
    pub synced: bool,
    /// Since when it fails; none while it works.
    pub failing_since: Option<Instant>,
}

/// The health of all watches; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board {
    rows: Arc<Mutex<Vec<Health>>>,
}

impl Board {
    pub fn rows(&self) -> Vec<Health> {
        self.lock().clone()
    }

    /// Every watch has listed everything once: before that an absent object proves nothing.
    pub fn all_synced(&self) -> bool {
        self.lock().iter().all(|row| row.synced)
    }

    fn add(&self, name: &str) -> usize {
        let mut rows = self.lock();
        rows.push(Health { name: name.to_owned(), synced: false, failing_since: None });
        rows.len() - 1
    }

    fn change(&self, row: usize, change: impl FnOnce(&mut Health)) {
        change(&mut self.lock()[row]);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Health>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watch needs beside its `Api`.
#[derive(Clone)]
pub struct Surroundings {
    pub board: Board,
    pub reachability: state::Receiver<Reachability>,
    pub metrics: Arc<Metrics>,
}

/// One kind in one namespace (or in all).
pub struct Watch<K> {
    pub name: String,
    pub api: Api<K>,
    pub namespace: Option<String>,
    pub label: Option<&'static str>,
    pub store: Store<K>,
}

impl<K: Watched> Watch<K> {
    /// Keeps the store up to date for ever; `touched` hears of every change after the store has it.
    pub fn spawn(
        self,
        around: Surroundings,
        touched: impl Fn(&K) + Send + Sync + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let row = around.board.add(&self.name);
        tokio::spawn(async move {
            let mut task = Task {
                row,
                backoff: Backoff::new(WATCH_DELAY_MIN, WATCH_DELAY_MAX),
                listing: None,
                heard_at: Instant::now(),
                watch: self,
                around,
                touched,
            };
            loop {
                task.one_stream().await;
                task.around.metrics.watch_restarts.inc();
            }
        })
    }
}

struct Task<K, F> {
    row: usize,
    backoff: Backoff,
    /// Collects the initial list; none while following.
    listing: Option<Vec<K>>,
    /// When the server last said anything on this watch.
    heard_at: Instant,
    watch: Watch<K>,
    around: Surroundings,
    touched: F,
}

impl<K, F> Task<K, F>
where
    K: Watched,
    F: Fn(&K) + Send + Sync + 'static,
{
    /// Follows one stream until it hangs or its connection is older than an outage.
    async fn one_stream(&mut self) {
        let mut config = watcher::Config::default().timeout(WATCH_SERVER_TIMEOUT_SECONDS);
        config.label_selector = self.watch.label.map(str::to_owned);
        let mut stream = Box::pin(watcher::watcher(self.watch.api.clone(), config));
        let mut reachability = self.around.reachability.clone();
        self.listing = Some(Vec::new());
        self.heard_at = Instant::now();
        loop {
            let pace = async {
                match self.listing {
                    Some(_) => tokio::time::sleep(WATCH_LIST_PACE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => self.follow(event),
                    Some(Err(error)) => self.failed(&error).await,
                    None => return,
                },
                () = pace => {
                    self.mark_failing("the initial list hangs");
                    return;
                }
                changed = reachability.changed() => {
                    let returned_at = reachability.borrow_and_update().returned_at;
                    if changed.is_err() || returned_at.is_some_and(|at| at > self.heard_at) {
                        return;
                    }
                }
            }
        }
    }

    fn follow(&mut self, event: Event<K>) {
        self.heard_at = Instant::now();
        match event {
            Event::Init => self.listing = Some(Vec::new()),
            Event::InitApply(object) => self.listing.get_or_insert_default().push(object),
            Event::InitDone => self.listed(),
            Event::Apply(object) => {
                self.working();
                if self.watch.store.put(object.clone()) {
                    (self.touched)(&object);
                }
            }
            Event::Delete(object) => {
                self.working();
                self.watch.store.remove(&object);
                (self.touched)(&object);
            }
        }
    }

    fn listed(&mut self) {
        let list = self.listing.take().unwrap_or_default();
        let touched = self.watch.store.replace(self.watch.namespace.as_deref(), list);
        self.working();
        self.around.board.change(self.row, |row| row.synced = true);
        for object in &touched {
            (self.touched)(object);
        }
    }

    fn working(&mut self) {
        self.backoff.reset();
        self.around.board.change(self.row, |row| row.failing_since = None);
    }

    async fn failed(&mut self, error: &watcher::Error) {
        self.mark_failing(&crate::errors::chain(error));
        tokio::time::sleep(self.backoff.next()).await;
    }

    fn mark_failing(&self, error: &str) {
        self.around.metrics.watch_errors.inc();
        tracing::warn!(watch = self.watch.name, error, "watch failed");
        self.around.board.change(self.row, |row| {
            row.failing_since.get_or_insert_with(Instant::now);
        });
    }
}

/// The cluster that a labelled object belongs to.
pub fn cluster_of<K: ResourceExt>(object: &K, label: &str) -> Option<crate::store::Key> {
    let name = object.labels().get(label)?.clone();
    Some(crate::store::Key { namespace: object.namespace().unwrap_or_default(), name })
}
