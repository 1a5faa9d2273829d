//! The loop of a measurement, the same for every system.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::probe::{self, Floor};
use crate::{Operation, System, etcd, ours};

/// Keys in use: enough to differ, few enough to stay in every cache.
pub const KEYS: u64 = 1000;
/// A call that takes longer is counted as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// In a mixed load one call in so many is a put.
const MIXED_PERIOD: u64 = 10;
/// Failures that one run may have before it is void.
const FAILURES_MAX: u64 = 1000;

/// What is measured.
pub struct Run {
    pub system: System,
    pub operation: Operation,
    pub endpoints: Vec<String>,
    pub pids: Vec<u32>,
    pub floor_dir: PathBuf,
}

/// How it is loaded.
#[derive(Clone, Copy)]
pub struct Plan {
    pub clients: usize,
    pub groups: u32,
    pub to: Option<usize>,
    pub rate: Option<f64>,
    pub value_bytes: usize,
    /// Keys in use, in each group.
    pub keys: u64,
    pub warm: Duration,
    pub time: Duration,
}

#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub clients: usize,
    pub ops_per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub server_us_per_op: f64,
    pub client_us_per_op: f64,
    pub server_memory_mib: f64,
    /// Raft entries per sync over all nodes; ours only.
    pub entries_per_sync: Option<f64>,
    /// Syncs per second and node; ours only.
    pub syncs_per_second: Option<f64>,
    pub failed: u64,
    pub floor_before: Floor,
    pub floor_after: Floor,
}

/// One client of one system; it has one call in flight.
pub enum Client {
    Ours(ours::Client),
    Etcd(Box<etcd::Client>),
}

impl Client {
    pub async fn put(&mut self, key: String, value: &[u8]) -> anyhow::Result<()> {
        match self {
            Client::Ours(client) => client.put(key, value).await,
            Client::Etcd(client) => client.put(key, value).await,
        }
    }

    async fn get(&mut self, key: String) -> anyhow::Result<usize> {
        match self {
            Client::Ours(client) => client.get(key).await,
            Client::Etcd(client) => client.get(key).await,
        }
    }

    pub async fn close(self) {
        match self {
            Client::Ours(client) => client.close().await,
            Client::Etcd(_) => {}
        }
    }
}

/// What all clients of a run share.
struct Shared {
    stop: Cell<bool>,
    counting: Cell<bool>,
    failed: Cell<u64>,
    first_failure: RefCell<Option<String>>,
    times: RefCell<Histogram<u64>>,
    keys: u64,
    random: Cell<u64>,
}

impl Shared {
    fn key(&self) -> String {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        key(x % self.keys)
    }

    fn done(&self, time: Duration, result: anyhow::Result<()>) {
        match result {
            Ok(()) if self.counting.get() => {
                self.times.borrow_mut().saturating_record(time.as_micros() as u64);
            }
            Ok(()) => {}
            Err(error) => {
                self.failed.set(self.failed.get() + 1);
                self.first_failure.borrow_mut().get_or_insert(format!("{error:#}"));
                if self.failed.get() >= FAILURES_MAX {
                    self.stop.set(true);
                }
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("k{number:05}")
}

pub async fn measure(run: &Run, plan: &Plan) -> anyhow::Result<Measured> {
    let floor_before = probe::floor(&run.floor_dir)?;
    let mut clients = connect(run, plan).await?;
    let value = vec![b'v'; plan.value_bytes];
    if run.operation != Operation::Put {
        clients = preload(clients, plan).await?;
    }
    let shared = Rc::new(Shared {
        stop: Cell::new(false),
        counting: Cell::new(false),
        failed: Cell::new(0),
        first_failure: RefCell::default(),
        times: RefCell::new(Histogram::new_with_bounds(1, probe::TIME_US_MAX, 3)?),
        keys: plan.keys,
        random: Cell::new(88_172_645_463_325_252),
    });
    let start = Instant::now();
    let tasks: Vec<_> = (0..)
        .zip(clients)
        .map(|(number, client)| {
            let pace = plan.rate.map(|rate| Pace::new(start, rate, plan.clients, number));
            let (shared, value) = (shared.clone(), value.clone());
            tokio::task::spawn_local(drive(client, run.operation, shared, value, pace))
        })
        .collect();
    tokio::time::sleep(plan.warm).await;
    let before = Counters::read(run).await?;
    shared.counting.set(true);
    tokio::time::sleep(plan.time).await;
    shared.counting.set(false);
    let after = Counters::read(run).await?;
    shared.stop.set(true);
    for task in tasks {
        task.await?.close().await;
    }
    let floor_after = probe::floor(&run.floor_dir)?;
    if let Some(failure) = shared.first_failure.borrow().as_ref() {
        eprintln!("{} calls failed, the first one: {failure}", shared.failed.get());
    }
    let times = shared.times.borrow();
    anyhow::ensure!(!times.is_empty(), "no call succeeded");
    let operations = times.len() as f64;
    let logged = |of: fn(&ours::Stats) -> u64| {
        let (before, after) = (before.log.as_ref()?, after.log.as_ref()?);
        Some(of(after).saturating_sub(of(before)) as f64)
    };
    let (entries, syncs) = (logged(|log| log.entries), logged(|log| log.syncs));
    let wall = (after.at - before.at).as_secs_f64();
    Ok(Measured {
        clients: plan.clients,
        ops_per_second: operations / wall,
        p50_us: times.value_at_quantile(0.5),
        p99_us: times.value_at_quantile(0.99),
        p999_us: times.value_at_quantile(0.999),
        server_us_per_op: (after.servers - before.servers) * 1e6 / operations,
        client_us_per_op: (after.own - before.own) * 1e6 / operations,
        server_memory_mib: probe::memory(&run.pids),
        entries_per_sync: entries.zip(syncs).map(|(entries, syncs)| entries / syncs.max(1.0)),
        syncs_per_second: syncs.map(|syncs| syncs / wall / run.endpoints.len() as f64),
        failed: shared.failed.get(),
        floor_before,
        floor_after,
    })
}

pub async fn connect(run: &Run, plan: &Plan) -> anyhow::Result<Vec<Client>> {
    match run.system {
        System::Ours | System::Streamed | System::Rsm => {
            let clients = ours::connect(&run.endpoints, plan, run.system).await;
            let clients = clients.context("connect to nodes")?;
            Ok(clients.into_iter().map(Client::Ours).collect())
        }
        System::Etcd => {
            let clients = etcd::connect(&run.endpoints, plan).await.context("connect to etcd")?;
            Ok(clients.into_iter().map(|client| Client::Etcd(client.into())).collect())
        }
    }
}

/// Puts every key in every group: clients of the same group share the work.
pub async fn preload(clients: Vec<Client>, plan: &Plan) -> anyhow::Result<Vec<Client>> {
    let (groups, keys) = ((plan.groups as usize).min(plan.clients), plan.keys);
    let share = (plan.clients / groups) as u64;
    let mut tasks = Vec::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let (rank, value) = ((number / groups) as u64, vec![b'v'; plan.value_bytes]);
        tasks.push(tokio::task::spawn_local(async move {
            if rank < share {
                for number in (rank..keys).step_by(share as usize) {
                    client.put(key(number), &value).await.context("preload")?;
                }
            }
            anyhow::Ok(client)
        }));
    }
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await??);
    }
    Ok(clients)
}

/// When the calls of an open loop should start: what waits for a slow server is counted.
struct Pace {
    next: Instant,
    period: Duration,
}

impl Pace {
    fn new(start: Instant, rate: f64, clients: usize, number: usize) -> Self {
        let period = Duration::from_secs_f64(clients as f64 / rate);
        Self { next: start + period.mul_f64(number as f64 / clients as f64), period }
    }

    async fn wait(&mut self) -> Instant {
        let intended = self.next;
        self.next += self.period;
        tokio::time::sleep_until(intended).await;
        intended
    }
}

async fn drive(
    mut client: Client,
    operation: Operation,
    shared: Rc<Shared>,
    value: Vec<u8>,
    mut pace: Option<Pace>,
) -> Client {
    // Not all at the same turn.
    let mut turn = shared.random.get() % MIXED_PERIOD;
    while !shared.stop.get() {
        let start = match &mut pace {
            Some(pace) => pace.wait().await,
            None => Instant::now(),
        };
        let key = shared.key();
        turn += 1;
        let call = async {
            match operation {
                Operation::Put => client.put(key, &value).await,
                Operation::Mixed if turn.is_multiple_of(MIXED_PERIOD) => {
                    client.put(key, &value).await
                }
                Operation::Get | Operation::Mixed => {
                    let bytes = client.get(key).await?;
                    anyhow::ensure!(bytes == value.len(), "a value of {bytes} bytes");
                    Ok(())
                }
            }
        };
        let result = tokio::time::timeout(CALL_TIMEOUT, call).await;
        shared.done(start.elapsed(), result.unwrap_or_else(|late| Err(late.into())));
    }
    client
}

struct Counters {
    at: Instant,
    servers: f64,
    own: f64,
    log: Option<ours::Stats>,
}

impl Counters {
    async fn read(run: &Run) -> anyhow::Result<Self> {
        let log = match run.system {
            System::Ours | System::Streamed | System::Rsm => {
                Some(ours::stats(&run.endpoints).await?)
            }
            System::Etcd => None,
        };
        let (at, servers, own) = (Instant::now(), probe::cpu(&run.pids), probe::own_cpu());
        Ok(Self { at, servers, own, log })
    }
}
