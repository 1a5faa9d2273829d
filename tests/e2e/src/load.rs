//! Clients that increment one counter, put into one map, write and read shared entries, and
//! remember all answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use multiraft_check::counter::{self, Call};
use multiraft_check::register::{self, Action, Fault, Operation};
use multiraft_client::{Cluster, Counter, Map, Options, Routing};
use tokio::task::JoinHandle;

/// Long enough for every election and restart: a call that ends with an error fails the test.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Entries that all clients write and read, in a map of their own.
const SHARED: u64 = 4;

/// What one client saw.
#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    /// Of each shared entry.
    shared: [Vec<Operation<u64>>; SHARED as usize],
}

/// Clients at work.
pub struct Load {
    endpoints: Vec<String>,
    name: String,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Starts clients, each with another one of the nodes' addresses as its first. `name`: of the
    /// counter, and with an ending of the map; nothing of that name was used before.
    pub async fn start(endpoints: Vec<String>, name: &str, clients: usize) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let epoch = Instant::now();
        let mut tasks = Vec::new();
        for client in 0..clients {
            let cluster = connect(&endpoints, client).await;
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            tasks.push(tokio::spawn(run(
                cluster,
                name.to_owned(),
                client,
                epoch,
                acknowledged,
                stop,
            )));
        }
        Self { endpoints, name: name.to_owned(), acknowledged, stop, clients: tasks }
    }

    /// Waits until `count` more increments are acknowledged; how long that took.
    pub async fn progress(&self, count: u64) -> Duration {
        let started = Instant::now();
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        while self.acknowledged.load(Ordering::Relaxed) < wanted {
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(90), "no progress for {waited:?}");
            let failed = self.clients.iter().any(|client| client.is_finished());
            assert!(!failed, "a client ended early; its error stands above");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    }

    /// Ends the clients and checks all that they saw: the counter has exactly the increments, no
    /// acknowledged entry is missing, and no read went back.
    pub async fn check(self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        let mut puts = Vec::new();
        let mut shared: [Vec<Operation<u64>>; SHARED as usize] = Default::default();
        for (client, task) in self.clients.into_iter().enumerate() {
            let own = task.await.expect("every call is answered");
            puts.push((client, own.calls.iter().filter(|call| call.delta > 0).count()));
            calls.extend(own.calls);
            shared.iter_mut().zip(own.shared).for_each(|(all, own)| all.extend(own));
        }
        for (key, history) in shared.iter().enumerate() {
            if let Err(Fault { order, misfit }) = register::check(0, history) {
                let last = &order[order.len().saturating_sub(10)..];
                panic!("shared entry {key}: {misfit:?} fits nowhere; the order ends {last:?}");
            }
        }
        let cluster = connect(&self.endpoints, 0).await;
        let (counter, map) = primitives(&cluster, &self.name);
        let value = counter.get().await.expect("readable").value as u64;
        let increments = calls.iter().filter(|call| call.delta > 0).count();
        counter::check(&calls, value).expect("the history has an order");
        assert_eq!(value, increments as u64);
        for (client, count) in puts {
            for number in 0..count {
                let key = format!("{client}-{number}");
                let entry = map.get(&key).await.expect("readable").value;
                let entry = entry.unwrap_or_else(|| panic!("acknowledged entry {key} is missing"));
                assert_eq!(entry.value, key.as_bytes(), "entry {key}");
            }
        }
        let size = map.size().await.expect("countable").value;
        assert_eq!(size, increments as u64, "each entry once");
        let shared: usize = shared.iter().map(Vec::len).sum();
        let reads = calls.len() - increments;
        println!("{increments} increments and puts, {reads} reads, {shared} of shared entries");
        cluster.close().await;
    }
}

async fn connect(endpoints: &[String], first: usize) -> Cluster {
    let mut endpoints = endpoints.to_vec();
    let count = endpoints.len();
    endpoints.rotate_left(first % count);
    Options::default()
        .timeout(CALL_TIMEOUT)
        .routing(Routing::InOrder)
        .connect(endpoints)
        .await
        .expect("the cluster is there")
}

fn primitives(cluster: &Cluster, name: &str) -> (Counter, Map) {
    (cluster.counter(name), cluster.map(format!("{name}-entries")))
}

/// One client: put, increment, read, and again.
async fn run(
    cluster: Cluster,
    name: String,
    client: usize,
    epoch: Instant,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Seen {
    let (counter, map) = primitives(&cluster, &name);
    let shared = cluster.map(format!("{name}-shared"));
    let now = || epoch.elapsed().as_nanos() as u64;
    let mut seen = Seen::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{client}-{number}");
        map.put(&key, key.clone()).await.expect("a put is retried to an answer");
        number += 1;
        let entry = number % SHARED;
        let operation = touch(&shared, entry, client as u64, number, &now).await;
        seen.shared[entry as usize].push(operation);
        for delta in [1, 0] {
            let started = now();
            let answer = match delta {
                0 => counter.get().await,
                _ => counter.increment(1).await,
            };
            let value = answer.expect("a call is retried to an answer").value as u64;
            seen.calls.push(Call { started, ended: now(), delta, value });
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    seen
}

/// Writes a shared entry, which no other write of any client equals, or reads it.
async fn touch(
    shared: &Map,
    entry: u64,
    client: u64,
    number: u64,
    now: impl Fn() -> u64,
) -> Operation<u64> {
    let key = format!("shared-{entry}");
    let started = now();
    let action = if (number / SHARED + client).is_multiple_of(2) {
        let value = (client << 32) + number;
        shared.put(&key, value.to_string()).await.expect("a put is retried to an answer");
        Action::Write(value)
    } else {
        let read = shared.get(&key).await.expect("a read is retried to an answer").value;
        // Nobody writes 0: what is read before the first write.
        Action::Read(read.map_or(0, |e| text(&e.value).parse().expect("we wrote numbers")))
    };
    Operation { started, ended: Some(now()), action }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("we wrote text")
}
