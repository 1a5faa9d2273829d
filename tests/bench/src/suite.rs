//! Both systems on this machine, measured in turn.

mod faults;
mod groups;
mod hand_over;
mod locks;
mod snapshots;
mod subscribers;
mod violation;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{self, Measured, Plan, Run};
use crate::processes::{self, Cluster};
use crate::report::{self, Row, median};
use crate::{Operation, System};

/// Floors of a pair that differ by more make the pair worthless.
const FLOOR_FACTOR_MAX: f64 = 1.5;
/// After forming groups, until elections and their writes are over.
const SETTLE_TIME: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Arguments {
    /// Pairs of runs, ours and etcd in turn; medians are reported.
    #[arg(long, default_value_t = 2)]
    pairs: usize,
    /// Seconds of counting in each run.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Seconds before counting.
    #[arg(long, default_value_t = 2)]
    warm: u64,
    /// What to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "put,get,idle,start,kill,restart"
    )]
    parts: Vec<Part>,
    /// Counts of clients.
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    clients: Vec<usize>,
    /// Counts of idle groups.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    idle_groups: Vec<u32>,
    /// Counts of groups with load, of part active.
    #[arg(long, value_delimiter = ',', default_value = "16,1,256,1024,4096")]
    active_groups: Vec<u32>,
    /// Counts of groups among which 16 have load, of part sparse.
    #[arg(long, value_delimiter = ',', default_value = "16,1000,10000")]
    sparse_groups: Vec<u32>,
    /// Groups that are formed, of part start.
    #[arg(long, default_value_t = 1000)]
    formed_groups: u32,
    /// Groups of a node that starts again, of part start.
    #[arg(long, default_value_t = 10_000)]
    restart_groups: u32,
    /// Counts of groups, of part kill.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    kill_groups: Vec<u32>,
    /// Keys of 1 KiB in all, of part snapshots.
    #[arg(long, default_value_t = 1_000_000)]
    snapshot_keys: u64,
    /// Sessions, of part locks.
    #[arg(long, default_value_t = 10_000)]
    lock_sessions: usize,
    /// Seconds of churn, of part locks.
    #[arg(long, default_value_t = 120)]
    lock_seconds: u64,
    /// Sessions, of part hand-over.
    #[arg(long, default_value_t = 1000)]
    contenders: usize,
    /// Subscribers, of part subscribers.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Seconds of each phase, of part subscribers.
    #[arg(long, default_value_t = 20)]
    subscriber_seconds: u64,
    /// Changes per second, of part subscribers.
    #[arg(long, default_value_t = 200.0)]
    subscriber_rate: f64,
    /// Seconds that idle clusters are watched.
    #[arg(long, default_value_t = 15)]
    idle_seconds: u64,
    /// Where the nodes keep their data while they run, and where report.json goes.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// [default: multiraft-node beside this program].
    #[arg(long)]
    node_program: Option<PathBuf>,
    /// [default: etcd in PATH, or in the project's cache].
    #[arg(long)]
    etcd_program: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Rate, latency and CPU of puts.
    Put,
    /// The same for linearizable gets.
    Get,
    /// Puts over session streams, beside etcd's unary ones: it has no such thing.
    PutStreamed,
    /// Linearizable gets over session streams.
    GetStreamed,
    /// Puts by the protocol of Atomix clients.
    PutRsm,
    /// Linearizable gets by it.
    GetRsm,
    /// Nine linearizable gets to one put.
    Mixed,
    /// The same over session streams.
    MixedStreamed,
    /// What a node costs while nothing happens, by count of groups.
    Idle,
    /// 256 clients over more and more groups.
    Active,
    /// 16 groups with load among many without.
    Sparse,
    /// Forming groups, and a node's restart with many.
    Start,
    /// SIGKILL of a node: how long its groups go without an answer.
    Kill,
    /// SIGTERM of every node in turn: the same.
    Restart,
    /// 1 GB of state: puts while snapshots are written, disk, restart, a new member. 10 minutes.
    Snapshots,
    /// Sessions that hold a lock or wait for it while nodes are killed: never two holders, tokens
    /// only grow; grants, gaps, memory per session. 3 minutes.
    Locks,
    /// Locks that pass from session to session, beside etcd's: grants, and how long a hand-over takes.
    HandOver,
    /// Subscribers of one hot key, beside etcd's watches: no gap, no repeat; events, lag, memory, and what a client with 40
    /// subscriptions that stops reading does to the others. 2 minutes.
    Subscribers,
}

impl Part {
    /// What clients do in it.
    fn operation(self) -> Option<(System, Operation)> {
        match self {
            Part::Put => Some((System::Ours, Operation::Put)),
            Part::Get => Some((System::Ours, Operation::Get)),
            Part::PutStreamed => Some((System::Streamed, Operation::Put)),
            Part::GetStreamed => Some((System::Streamed, Operation::Get)),
            Part::PutRsm => Some((System::Rsm, Operation::Put)),
            Part::GetRsm => Some((System::Rsm, Operation::Get)),
            Part::Mixed => Some((System::Ours, Operation::Mixed)),
            Part::MixedStreamed => Some((System::Streamed, Operation::Mixed)),
            _ => None,
        }
    }
}

/// Name, unit, and where it is found.
type Figure = (&'static str, &'static str, fn(&Measured) -> f64);

struct Suite {
    arguments: Arguments,
    node: PathBuf,
    etcd: PathBuf,
    rows: Vec<Row>,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let node = arguments.node_program.clone().map_or_else(processes::our_program, Ok)?;
    let etcd = arguments.etcd_program.clone().map_or_else(processes::etcd_program, Ok)?;
    std::fs::create_dir_all(&arguments.dir).context("--dir")?;
    let file = arguments.dir.join("report.json");
    let mut suite = Suite { arguments, node, etcd, rows: Vec::new() };
    let mut terminated = signal(SignalKind::terminate())?;
    // Ended early, it ends its nodes all the same: the future is dropped with all it holds.
    tokio::select! {
        result = suite.measure() => result?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminated.recv() => anyhow::bail!("terminated"),
    }
    report::print(&suite.rows);
    report::write(&suite.rows, &file)?;
    println!("written to {}", file.display());
    Ok(())
}

impl Suite {
    async fn measure(&mut self) -> anyhow::Result<()> {
        let parts = self.arguments.parts.clone();
        let operations: Vec<_> = parts.iter().filter_map(|part| part.operation()).collect();
        if !operations.is_empty() {
            self.load(&operations).await?;
        }
        for part in parts {
            match part {
                Part::Put
                | Part::Get
                | Part::PutStreamed
                | Part::GetStreamed
                | Part::PutRsm
                | Part::GetRsm
                | Part::Mixed
                | Part::MixedStreamed => {}
                Part::Idle => self.idle().await?,
                Part::Active => self.active().await?,
                Part::Sparse => self.sparse().await?,
                Part::Start => self.start().await?,
                Part::Kill => self.kill().await?,
                Part::Restart => self.restart().await?,
                Part::Snapshots => self.snapshots().await?,
                Part::Locks => self.locks().await?,
                Part::HandOver => self.hand_over().await?,
                Part::Subscribers => self.subscribers().await?,
            }
        }
        Ok(())
    }

    async fn load(&mut self, operations: &[(System, Operation)]) -> anyhow::Result<()> {
        let dir = self.arguments.dir.clone();
        let ours = Cluster::ours(&self.node, &dir, 1).await.context("our nodes")?;
        let etcd = Cluster::etcd(&self.etcd, &dir).await.context("etcd")?;
        tokio::time::sleep(SETTLE_TIME).await;
        for (system, operation) in operations.iter().copied() {
            for clients in self.arguments.clients.clone() {
                let mut pairs = Vec::new();
                for pair in 1..=self.arguments.pairs {
                    let a = self.one(system, operation, &ours, clients).await?;
                    let b = self.one(System::Etcd, operation, &etcd, clients).await?;
                    eprintln!(
                        "{system:?} {operation:?} {clients} clients, pair {pair}: ours {:.0}/s at {:.1} µs, etcd {:.0}/s at {:.1} µs of CPU",
                        a.ops_per_second, a.server_us_per_op, b.ops_per_second, b.server_us_per_op
                    );
                    pairs.push((a, b));
                }
                self.add_load((system, operation), clients, &pairs);
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        system: System,
        operation: Operation,
        cluster: &Cluster,
        clients: usize,
    ) -> anyhow::Result<Measured> {
        let run = Run {
            system,
            operation,
            endpoints: cluster.endpoints.clone(),
            pids: cluster.pids(),
            floor_dir: self.arguments.dir.clone(),
        };
        let measured = load::measure(&run, &self.plan(clients, 1)).await;
        measured.with_context(|| format!("{system:?} {operation:?} with {clients} clients"))
    }

    fn add_load(
        &mut self,
        (system, operation): (System, Operation),
        clients: usize,
        pairs: &[(Measured, Measured)],
    ) {
        let name = match operation {
            Operation::Put => "put",
            Operation::Get => "linearizable get",
            Operation::Mixed => "nine gets to a put",
        };
        let way = match system {
            System::Streamed => " over a stream",
            System::Rsm => " by wire M",
            System::Ours | System::Etcd => "",
        };
        let name = format!("{name}{way}");
        let floors =
            |of: &Measured| [of.floor_before.syncs_per_second, of.floor_after.syncs_per_second];
        let floor: Vec<f64> =
            pairs.iter().flat_map(|(a, b)| [floors(a), floors(b)]).flatten().collect();
        let (low, high) = (
            floor.iter().copied().fold(f64::INFINITY, f64::min),
            floor.iter().copied().fold(0.0, f64::max),
        );
        if high > low * FLOOR_FACTOR_MAX {
            eprintln!(
                "{name}, {clients} clients: the disk's floor moved from {low:.0} to {high:.0}/s: trust CPU per operation only"
            );
        }
        let figures: [Figure; 6] = [
            ("rate", "op/s", |m| m.ops_per_second),
            ("p50", "µs", |m| m.p50_us as f64),
            ("p99", "µs", |m| m.p99_us as f64),
            ("p99.9", "µs", |m| m.p999_us as f64),
            ("server CPU", "µs/op", |m| m.server_us_per_op),
            ("client CPU", "µs/op", |m| m.client_us_per_op),
        ];
        for (what, unit, of) in figures {
            let ours: Vec<f64> = pairs.iter().map(|(a, _)| of(a)).collect();
            let peer: Vec<f64> = pairs.iter().map(|(_, b)| of(b)).collect();
            let ratios: Vec<f64> = pairs.iter().map(|(a, b)| of(a) / of(b)).collect();
            self.rows.push(Row {
                name: format!("{name}, {clients} clients: {what}"),
                unit,
                ours: median(&ours),
                peer: Some(median(&peer)),
                ratio: Some(median(&ratios)),
                floor: Some(median(&floor)),
            });
        }
        let entries: Vec<f64> = pairs.iter().filter_map(|(a, _)| a.entries_per_sync).collect();
        if operation != Operation::Get {
            self.rows.push(Row {
                name: format!("{name}, {clients} clients: batching"),
                unit: "entries/sync",
                ours: median(&entries),
                peer: None,
                ratio: None,
                floor: Some(median(&floor)),
            });
        }
    }

    fn dir(&self) -> PathBuf {
        self.arguments.dir.clone()
    }

    /// Three nodes of ours with their groups formed and led.
    async fn ours(&self, groups: u32, arguments: &[&str]) -> anyhow::Result<Cluster> {
        let cluster = Cluster::ours_with(&self.node, &self.dir(), groups, arguments).await;
        cluster.with_context(|| format!("our nodes with {groups} groups"))
    }

    async fn etcd(&self) -> anyhow::Result<Cluster> {
        Cluster::etcd(&self.etcd, &self.dir()).await.context("etcd")
    }

    /// One figure; the peer's where it has the same thing.
    fn row(&mut self, name: impl Into<String>, unit: &'static str, ours: f64, peer: Option<f64>) {
        let name = name.into();
        match peer {
            Some(peer) => eprintln!("{name}: {ours:.2} {unit}, etcd {peer:.2}"),
            None => eprintln!("{name}: {ours:.2} {unit}"),
        }
        let ratio = peer.map(|peer| ours / peer);
        self.rows.push(Row { name, unit, ours, peer, ratio, floor: None });
    }

    async fn put(&self, cluster: &Cluster, plan: &Plan) -> anyhow::Result<Measured> {
        let run = Run {
            system: System::Ours,
            operation: Operation::Put,
            endpoints: cluster.endpoints.clone(),
            pids: cluster.pids(),
            floor_dir: self.dir(),
        };
        load::measure(&run, plan).await
    }

    fn plan(&self, clients: usize, groups: u32) -> Plan {
        Plan {
            clients,
            groups,
            to: None,
            rate: None,
            value_bytes: 128,
            keys: load::KEYS,
            warm: Duration::from_secs(self.arguments.warm),
            time: Duration::from_secs(self.arguments.seconds),
        }
    }
}
