//! Both systems on this machine, measured in turn.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{self, Measured, Plan, Run};
use crate::processes::{self, Cluster, NODES};
use crate::report::{self, Row, median};
use crate::{Operation, System, probe};

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
    #[arg(long, value_enum, value_delimiter = ',', default_value = "put,get,idle")]
    parts: Vec<Part>,
    /// Counts of clients.
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    clients: Vec<usize>,
    /// Counts of idle groups.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    idle_groups: Vec<u32>,
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
    Put,
    Get,
    Idle,
}

impl Part {
    /// What clients do in it.
    fn operation(self) -> Option<Operation> {
        match self {
            Part::Put => Some(Operation::Put),
            Part::Get => Some(Operation::Get),
            Part::Idle => None,
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
        if parts.contains(&Part::Idle) {
            self.idle().await?;
        }
        Ok(())
    }

    async fn load(&mut self, operations: &[Operation]) -> anyhow::Result<()> {
        let dir = self.arguments.dir.clone();
        let ours = Cluster::ours(&self.node, &dir, 1).await.context("our nodes")?;
        let etcd = Cluster::etcd(&self.etcd, &dir).await.context("etcd")?;
        tokio::time::sleep(SETTLE_TIME).await;
        for operation in operations.iter().copied() {
            for clients in self.arguments.clients.clone() {
                let mut pairs = Vec::new();
                for pair in 1..=self.arguments.pairs {
                    let a = self.one(System::Ours, operation, &ours, clients).await?;
                    let b = self.one(System::Etcd, operation, &etcd, clients).await?;
                    eprintln!(
                        "{operation:?} {clients} clients, pair {pair}: ours {:.0}/s at {:.1} µs, etcd {:.0}/s at {:.1} µs of CPU",
                        a.ops_per_second, a.server_us_per_op, b.ops_per_second, b.server_us_per_op
                    );
                    pairs.push((a, b));
                }
                self.add_load(operation, clients, &pairs);
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
        let plan = Plan {
            clients,
            groups: 1,
            to: None,
            rate: None,
            value_bytes: 128,
            warm: Duration::from_secs(self.arguments.warm),
            time: Duration::from_secs(self.arguments.seconds),
        };
        let measured = load::measure(&run, &plan).await;
        measured.with_context(|| format!("{system:?} {operation:?} with {clients} clients"))
    }

    fn add_load(&mut self, operation: Operation, clients: usize, pairs: &[(Measured, Measured)]) {
        let name = match operation {
            Operation::Put => "put",
            Operation::Get => "linearizable get",
        };
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
        if operation == Operation::Put {
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

    /// CPU and memory of a node while nothing happens; etcd has one group only.
    async fn idle(&mut self) -> anyhow::Result<()> {
        let dir = self.arguments.dir.clone();
        let etcd = Cluster::etcd(&self.etcd, &dir).await.context("etcd")?;
        let peer = self.watch(&etcd).await;
        drop(etcd);
        for groups in self.arguments.idle_groups.clone() {
            let ours = Cluster::ours(&self.node, &dir, groups).await;
            let ours = ours.with_context(|| format!("our nodes with {groups} groups"))?;
            let (cpu, memory) = self.watch(&ours).await;
            eprintln!("{groups} idle groups: {cpu:.2} % of a core, {memory:.0} MiB per node");
            for (what, unit, ours, peer) in
                [("CPU", "% of a core", cpu, peer.0), ("memory", "MiB", memory, peer.1)]
            {
                let peer = (groups == 1).then_some(peer);
                self.rows.push(Row {
                    name: format!("idle, {groups} groups: {what} per node"),
                    unit,
                    ours,
                    peer,
                    ratio: peer.map(|peer| ours / peer),
                    floor: None,
                });
            }
        }
        Ok(())
    }

    /// (percent of a core, MiB) per node.
    async fn watch(&self, cluster: &Cluster) -> (f64, f64) {
        tokio::time::sleep(SETTLE_TIME).await;
        let pids = cluster.pids();
        let before = probe::cpu(&pids);
        tokio::time::sleep(Duration::from_secs(self.arguments.idle_seconds)).await;
        let used = probe::cpu(&pids) - before;
        let share = 100.0 * used / self.arguments.idle_seconds as f64 / NODES as f64;
        (share, probe::memory(&pids) / NODES as f64)
    }
}
