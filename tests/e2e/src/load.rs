//! Clients that increment one counter, put into one map, write and read shared entries, and
//! remember all answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use multiraft_check::counter::{self, Call};
use multiraft_check::register::{self, Action, Fault, Operation};
use multiraft_client::{Cluster, Map, Options, Routing, Tls};
use tokio::task::JoinHandle;

use crate::client::{Client, Seen, key};
use crate::mixed::{Happened, Mixed};
use crate::pulse::Pulse;
use crate::reads::Reads;

/// Long enough for every election and restart: a call that ends with an error fails the test.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A node that is well answers sooner.
const LATE: Duration = Duration::from_millis(200);

/// No progress for so long fails a test.
const PATIENCE: Duration = Duration::from_secs(90);

/// Increments that are timed to know what the machine can do.
const PACE_SAMPLE: u64 = 400;

/// Acknowledged entries that are read in the end, besides counting all of them.
const SAMPLE: usize = 200;

/// What all clients saw; every answer fits.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Commands that were answered.
    pub acknowledged: u64,
    pub reads: u64,
    /// Commands that were given up, with an unknown outcome.
    pub unknown: u64,
    /// Reads at one node that took longer than [`LATE`]: of one that stood still, or was cut off.
    pub late: u64,
    /// The longest that any client waited for any answer.
    pub longest: Duration,
    /// Histories of the shared entries, which begin as 0.
    pub shared: Vec<Vec<Operation<u64>>>,
    /// By kind of primitive, those of [`Load::use_all`].
    pub happened: Vec<Happened>,
}

/// Clients at work.
pub struct Load {
    endpoints: Vec<String>,
    tls: Option<Tls>,
    name: String,
    epoch: Instant,
    /// Increments by client.
    acknowledged: Arc<[AtomicU64]>,
    pause: Arc<AtomicU64>,
    pulse: Arc<Pulse>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
    reads: Option<Reads>,
    mixed: Option<Mixed>,
}

impl Load {
    /// Starts clients, each with another one of the nodes' addresses as its first. `name`: of the
    /// counter, and with an ending of the maps; nothing of that name was used before.
    pub async fn start(endpoints: Vec<String>, name: &str, clients: usize) -> Self {
        Self::start_under(None, endpoints, name, clients).await
    }

    /// The same with connections under TLS, or in plain text.
    pub async fn start_under(
        tls: Option<Tls>,
        endpoints: Vec<String>,
        name: &str,
        clients: usize,
    ) -> Self {
        let mut load = Self {
            endpoints,
            tls,
            name: name.to_owned(),
            epoch: Instant::now(),
            acknowledged: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            pause: Arc::default(),
            pulse: Arc::default(),
            stop: Arc::new(AtomicBool::new(false)),
            clients: Vec::new(),
            reads: None,
            mixed: None,
        };
        for number in 0..clients {
            let cluster = connect(&load.endpoints, load.tls.clone(), number).await;
            let client = Client {
                number,
                counter: cluster.counter(name),
                map: cluster.map(entries(name)),
                shared: cluster.map(format!("{name}-shared")),
                epoch: load.epoch,
                acknowledged: load.acknowledged.clone(),
                pause: load.pause.clone(),
                pulse: load.pulse.clone(),
                seen: Seen::default(),
            };
            load.clients.push(tokio::spawn(client.run(load.stop.clone())));
        }
        load
    }

    /// From now on reads the counter at every node, too, also at one that stands still.
    pub async fn read_everywhere(&mut self) {
        let reads = Reads::start(&self.endpoints, &self.name, self.epoch, self.stop.clone());
        self.reads = Some(reads.await);
    }

    /// From now on uses every kind of primitive and listens to what changes.
    pub async fn use_all(&mut self) {
        let mut clusters = Vec::new();
        for number in 0..Mixed::CLUSTERS {
            clusters.push(connect(&self.endpoints, self.tls.clone(), number).await);
        }
        self.mixed = Some(Mixed::start(clusters, &self.name, self.epoch).await);
    }

    /// From now on every client begins a round at most this often.
    pub fn every(&self, period: Duration) {
        self.pause.store(period.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Calls that ended with an error.
    pub fn failures(&self) -> u64 {
        self.pulse.failures()
    }

    /// The longest time until now in which no command was acknowledged.
    pub fn longest_gap(&self) -> Duration {
        self.pulse.longest_gap(self.epoch.elapsed().as_nanos() as u64)
    }

    /// Increments that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Measures how many increments a second there are as fast as possible, and from now on makes
    /// this percentage of them; returns both rates.
    pub async fn pace(&self, percent: u64) -> (f64, f64) {
        self.pause.store(0, Ordering::Relaxed);
        self.progress(PACE_SAMPLE / 4).await;
        let most = PACE_SAMPLE as f64 / self.progress(PACE_SAMPLE).await.as_secs_f64();
        let wanted = most * percent as f64 / 100.0;
        self.every(Duration::from_secs_f64(self.clients.len() as f64 / wanted));
        (most, wanted)
    }

    /// Waits until `count` more increments are acknowledged; how long that took.
    pub async fn progress(&self, count: u64) -> Duration {
        let wanted = self.acknowledged() + count;
        self.wait(|| self.acknowledged() >= wanted).await
    }

    /// Waits until every client has gone on; how long that took.
    pub async fn all_go_on(&self) -> Duration {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let before: Vec<u64> = self.acknowledged.iter().map(now).collect();
        // The first may have been on its way already.
        let passed = || self.acknowledged.iter().zip(&before).all(|(count, b)| now(count) > b + 1);
        self.wait(passed).await
    }

    async fn wait(&self, done: impl Fn() -> bool) -> Duration {
        let started = Instant::now();
        while !done() {
            let waited = started.elapsed();
            assert!(waited < PATIENCE, "no progress for {waited:?}");
            let failed = self.clients.iter().any(|client| client.is_finished());
            assert!(!failed, "a client ended early; its error stands above");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    }

    /// Ends the clients and checks all that they saw: the counter has exactly the increments, no
    /// acknowledged entry is missing, and no read went back.
    pub async fn check(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let happened = match self.mixed {
            Some(mixed) => mixed.check().await,
            None => Vec::new(),
        };
        let mut all = Seen::default();
        let mut puts = Vec::new();
        for task in self.clients {
            let own = task.await.expect("nothing in a client panics");
            puts.push(own.puts);
            all.calls.extend(own.calls);
            all.longest = all.longest.max(own.longest);
            for (key, history) in own.shared {
                all.shared.entry(key).or_default().extend(history);
            }
        }
        assert_eq!(self.pulse.failures(), 0, "every call is answered; the errors stand above");
        let increments: u64 = puts.iter().sum();
        let longest = all.longest;
        let mut outcome = Outcome { longest, happened, ..Outcome::default() };
        check_shared(&all.shared, &mut outcome);
        let elsewhere = match self.reads {
            Some(reads) => reads.end().await,
            None => Vec::new(),
        };
        let is_late = |call: &&Call| u128::from(call.ended - call.started) > LATE.as_nanos();
        outcome.late = elsewhere.iter().filter(is_late).count() as u64;
        let pinned = elsewhere.len();
        all.calls.extend(elsewhere);
        outcome.acknowledged += 2 * increments;
        outcome.reads += all.calls.len() as u64 - increments;

        let cluster = connect(&self.endpoints, self.tls.clone(), 0).await;
        let value = cluster.counter(&self.name).get().await.expect("readable").value as u64;
        counter::check(&all.calls, value).expect("the history has an order");
        assert_eq!(value, increments);
        check_entries(&cluster.map(entries(&self.name)), &puts).await;
        outcome.shared = all.shared.into_values().collect();
        for Happened { kind, calls, events } in &outcome.happened {
            println!("{kind}: {calls} calls, {events} events");
        }
        let Outcome { acknowledged, reads, unknown, late, longest, .. } = outcome;
        println!(
            "{acknowledged} commands acknowledged, {unknown} given up, {reads} reads ({pinned} at \
             one node, {late} of them late), longest call {longest:?}"
        );
        cluster.close().await;
        outcome
    }
}

fn check_shared(shared: &BTreeMap<u64, Vec<Operation<u64>>>, outcome: &mut Outcome) {
    for (key, history) in shared {
        if let Err(Fault { order, misfit }) = register::check(0, history) {
            let last = &order[order.len().saturating_sub(10)..];
            panic!("shared entry {key}: {misfit:?} fits nowhere; the order ends {last:?}");
        }
        for operation in history {
            match (operation.action, operation.ended) {
                (Action::Read(_), _) => outcome.reads += 1,
                (Action::Write(_), Some(_)) => outcome.acknowledged += 1,
                (Action::Write(_), None) => outcome.unknown += 1,
            }
        }
    }
}

/// Every entry is there once: nothing else was put, so their number says it. Some are read, and
/// all of them to name one that is missing.
async fn check_entries(map: &Map, puts: &[u64]) {
    let all =
        puts.iter().enumerate().flat_map(|(client, count)| (0..*count).map(move |n| (client, n)));
    let all: Vec<String> = all.map(|(client, number)| key(client, number)).collect();
    let size = map.size().await.expect("countable").value;
    let step = if size == all.len() as u64 { all.len().div_ceil(SAMPLE).max(1) } else { 1 };
    for key in all.iter().step_by(step) {
        let entry = map.get(key).await.expect("readable").value;
        let entry = entry.unwrap_or_else(|| panic!("acknowledged entry {key} is missing"));
        assert_eq!(entry.value, key.as_bytes(), "entry {key}");
    }
    assert_eq!(size, all.len() as u64, "each entry once");
}

fn entries(name: &str) -> String {
    format!("{name}-entries")
}

async fn connect(endpoints: &[String], tls: Option<Tls>, first: usize) -> Cluster {
    let mut endpoints = endpoints.to_vec();
    let count = endpoints.len();
    endpoints.rotate_left(first % count);
    let mut options = Options::default().timeout(CALL_TIMEOUT).routing(Routing::InOrder);
    if let Some(tls) = tls {
        options = options.tls(tls);
    }
    options.connect(endpoints).await.expect("the cluster is there")
}
