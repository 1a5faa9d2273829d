//! The load tool: one program and one thread for every system that is measured, so that what the
//! clients cost is the same for all.

mod etcd;
mod lane;
mod load;
mod ours;
mod probe;
mod processes;
mod report;
mod rsm;
mod session;
mod steady;
mod streamed;
mod suite;

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::{Plan, Run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Multiraft, alone or beside etcd, with fsync on.
///
/// Absolute rates depend on the disk and on neighbours: trust microseconds of CPU per operation,
/// ratios, and runs whose sync floors before and after are alike.
#[derive(Parser)]
#[command(name = "multiraft-bench", version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One measurement of a cluster that runs already; prints one JSON object.
    Run(RunArguments),
    /// Starts 3 nodes of ours and of etcd here and measures both in turn; prints a table.
    Suite(suite::Arguments),
    /// Measures the disk only: synced writes of 4 KiB to a growing file.
    Floor {
        /// Directory on the disk to measure.
        #[arg(default_value = ".")]
        dir: std::path::PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Our unary calls: Map.Put and Map.Get, one session per client.
    Ours,
    /// The same over session streams, one for all clients of a node.
    Streamed,
    /// The same by the protocol of Atomix clients.
    Rsm,
    /// etcd's put and range.
    Etcd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    Put,
    /// Linearizable.
    Get,
    /// Nine gets to one put.
    Mixed,
}

#[derive(Args)]
struct RunArguments {
    #[arg(long, value_enum, default_value = "ours")]
    system: System,
    #[arg(long, value_enum, default_value = "put")]
    operation: Operation,
    /// Client addresses of all nodes, host:port, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// Clients, each with one call in flight.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Ours: groups that the clients are spread over, ids from 1.
    #[arg(long, default_value_t = 1)]
    groups: u32,
    /// Ours: all clients talk to this node (its place in --endpoints, from 1), which passes on
    /// what it does not lead [default: the leading node].
    #[arg(long, value_name = "NODE")]
    to: Option<usize>,
    /// Open loop: operations per second in total, timed from when they should have started
    /// [default: closed loop, each client as fast as it can].
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128)]
    value: usize,
    /// Seconds before counting.
    #[arg(long, default_value_t = 3)]
    warm: u64,
    /// Seconds of counting.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Processes whose CPU is the servers' [default: all of the system's program].
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Directory on the servers' disk, for the sync floor.
    #[arg(long, default_value = ".")]
    dir: std::path::PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match arguments.command {
            Command::Run(run) => one(run).await,
            Command::Suite(suite) => suite::run(suite).await,
            Command::Floor { dir } => {
                println!("{}", serde_json::to_string(&probe::floor(&dir)?)?);
                Ok(())
            }
        }
    })
}

async fn one(arguments: RunArguments) -> anyhow::Result<()> {
    let program = match arguments.system {
        System::Ours | System::Streamed | System::Rsm => processes::OURS,
        System::Etcd => processes::ETCD,
    };
    let mut pids = arguments.pids;
    if pids.is_empty() {
        pids = probe::processes_of(program);
    }
    let run = Run {
        system: arguments.system,
        operation: arguments.operation,
        endpoints: arguments.endpoints,
        pids,
        floor_dir: arguments.dir,
    };
    let plan = Plan {
        clients: arguments.clients,
        groups: arguments.groups,
        to: arguments.to,
        rate: arguments.rate,
        value_bytes: arguments.value,
        keys: load::KEYS,
        warm: Duration::from_secs(arguments.warm),
        time: Duration::from_secs(arguments.seconds),
    };
    let result = load::measure(&run, &plan).await.context("measurement")?;
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}
