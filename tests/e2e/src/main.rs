//! `multiraft-history`: clients at work on a fresh cluster while a command does something to it.
//!
//! When the command has ended, so do the clients, and all that they saw is checked: every
//! increment took effect once, no acknowledged entry is missing, no read went back, no call failed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use multiraft_client::Tls;
use multiraft_e2e::load::Load;
use tokio::process::Command;

#[derive(Parser)]
#[command(name = "multiraft-history", version, about, long_about = None)]
struct Options {
    /// Addresses of the nodes, as HOST:PORT
    #[arg(long, required = true, value_delimiter = ',')]
    endpoints: Vec<String>,
    /// Name of the counter; it and the map NAME-entries must be new
    #[arg(long, default_value = "history")]
    name: String,
    /// Concurrent clients
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Each client begins a round (a put, an increment, reads) at most every so many milliseconds
    #[arg(long, default_value_t = 0, value_name = "MILLIS")]
    every: u64,
    /// Folder of a client's ca.crt, tls.crt and tls.key: the clients speak TLS
    #[arg(long)]
    tls: Option<PathBuf>,
    /// What to run meanwhile; the clients' history is worth nothing if it fails
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

impl Options {
    fn tls(&self) -> Option<Tls> {
        let folder = self.tls.as_ref()?;
        let tls = Tls::new(folder.join("ca.crt"));
        Some(tls.certificate(folder.join("tls.crt"), folder.join("tls.key")))
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let tls = options.tls();
    let (name, clients) = (options.name, options.clients.into());
    let load = Load::start_under(tls, options.endpoints, &name, clients).await;
    load.every(Duration::from_millis(options.every));
    load.progress(1).await;
    println!("at work");
    let ended = Command::new(&options.command[0]).args(&options.command[1..]).status().await;
    if !matches!(&ended, Ok(status) if status.success()) {
        eprintln!("multiraft-history: {}: {ended:?}", options.command.join(" "));
        return ExitCode::FAILURE;
    }
    if load.failures() == 0 {
        let gap = load.all_go_on().await;
        println!("all clients went on within {} ms of the command's end", gap.as_millis());
    }
    judge(load).await
}

/// Says in one line what scripts read; a history with a failed call is not judged further.
async fn judge(load: Load) -> ExitCode {
    let (failed, gap) = (load.failures(), load.longest_gap().as_millis());
    if failed > 0 {
        println!("history failed={failed} gap_ms={gap} violations=unjudged");
        return ExitCode::FAILURE;
    }
    match tokio::spawn(load.check()).await {
        Ok(outcome) => {
            let (acknowledged, reads) = (outcome.acknowledged, outcome.reads);
            println!(
                "history acknowledged={acknowledged} reads={reads} failed=0 gap_ms={gap} violations=0"
            );
            ExitCode::SUCCESS
        }
        // What does not fit stands above, on standard error.
        Err(_) => {
            println!("history failed=0 gap_ms={gap} violations=1");
            ExitCode::FAILURE
        }
    }
}
