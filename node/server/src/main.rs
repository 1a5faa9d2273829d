//! `multiraft-node`: one process, one data directory, many Raft groups.

mod metrics;
mod probes;

use anyhow::Context as _;
use clap::Parser;
use multiraft_host::{Node, Options, StartError};
use multiraft_server::config::{Config, Flags, LogFormat};
use multiraft_tls::limits::REFRESH_PERIOD;
use multiraft_tls::{Mode, Tls};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls in flight get this long to end after SIGTERM, before leaderships are handed over. A node
/// that is well answers in milliseconds; streams never end by themselves, and go on elsewhere.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Exit codes, as `--help` lists them.
const USAGE: u8 = 2;
const DATA_DIRECTORY: u8 = 3;
const BROKEN: u8 = 4;
const DAMAGED: u8 = 5;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(e) => return fail(USAGE, &e),
    };
    if flags.check {
        if let Err(e) = Tls::load(config.tls.settings()) {
            return fail(USAGE, &anyhow::Error::from(e).context("tls"));
        }
        print!("{}", config.to_yaml());
        return ExitCode::SUCCESS;
    }
    start_logging(&config);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(BROKEN, &anyhow::Error::from(e).context("start the runtime")),
    };
    let code = runtime.block_on(run(config));
    // A blocking read of the log may be under way; it must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("multiraft-node: {error:#}");
    ExitCode::from(code)
}

fn start_logging(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn run(config: Config) -> ExitCode {
    let tls = match Tls::load(config.tls.settings()) {
        Ok(tls) => tls,
        Err(e) => return fail(USAGE, &anyhow::Error::from(e).context("tls")),
    };
    let ports = match Ports::bind(&config).await {
        Ok(ports) => ports,
        Err(e) => return fail(USAGE, &e),
    };
    let Ok((client_port, peer_port)) = ports.numbers() else {
        return fail(USAGE, &anyhow::anyhow!("read the bound addresses"));
    };
    let options = Options {
        data_dir: config.data_dir.clone(),
        advertise_host: config.advertise_host.clone(),
        client_port,
        peer_port,
        version: env!("CARGO_PKG_VERSION").into(),
        election_timeout: config.election_timeout.0,
        heartbeat: config.heartbeat.0,
        snapshot_log_bytes: config.snapshot_log_bytes,
        tls: tls.clone(),
    };
    let node = match Node::start(options, ports.peer).await {
        Ok(node) => node,
        Err(e @ StartError::Boot(_)) => return fail(BROKEN, &e.into()),
        Err(e) => {
            let context = format!("data_dir {}", config.data_dir.display());
            let code = if e.is_damage() { DAMAGED } else { DATA_DIRECTORY };
            return fail(code, &anyhow::Error::from(e).context(context));
        }
    };
    tracing::info!(client = client_port, peer = peer_port, "node started");
    match serve(node, tls, ports.client, ports.http).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(BROKEN, &e),
    }
}

/// Serves until a signal comes or the node is broken.
async fn serve(
    node: Node,
    tls: Arc<Tls>,
    client: TcpListener,
    http: TcpListener,
) -> anyhow::Result<()> {
    let handle = node.handle();
    let certificates = tokio::spawn(keep(tls.clone()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until_stopped = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        // A dropped sender means that the process ends anyway.
        let _ = stopped.wait_for(|s| *s).await;
    };
    let probes = tokio::spawn(probes::serve(http, handle.clone()));
    let service = multiraft_service::serve(client, tls, handle, until_stopped(stopped.clone()));
    let mut service = tokio::spawn(service);
    let asked_to_stop = async {
        terminated().await;
        // First the clients: nobody answers what is in flight when the node has stopped.
        let _ = stop.send(true);
        if tokio::time::timeout(DRAIN_TIME, &mut service).await.is_err() {
            tracing::warn!("some clients kept their calls open, closing them");
        }
    };
    let ran = node.run_until(asked_to_stop).await;
    service.abort();
    probes.abort();
    certificates.abort();
    ran.context("the node is broken and must not go on")
}

/// Takes over certificates whose files change, on SIGHUP at once.
async fn keep(tls: Arc<Tls>) {
    if tls.mode() == Mode::Disabled {
        return;
    }
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        // The time is over, or somebody asked.
        let _ = tokio::time::timeout(REFRESH_PERIOD, asked).await;
        let tls = tls.clone();
        // Files may be on a volume that does not answer.
        if tokio::task::spawn_blocking(move || tls.refresh()).await.is_err() {
            tracing::error!("looking at the files of certificates ended early");
        }
    }
}

/// SIGTERM or SIGINT.
async fn terminated() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("asked to stop");
}

/// Every port is bound before the data directory is opened.
struct Ports {
    client: TcpListener,
    peer: TcpListener,
    http: TcpListener,
}

impl Ports {
    async fn bind(config: &Config) -> anyhow::Result<Ports> {
        Ok(Ports {
            client: bind("client_address", &config.client_address).await?,
            peer: bind("peer_address", &config.peer_address).await?,
            http: bind("http_address", &config.http_address).await?,
        })
    }

    fn numbers(&self) -> std::io::Result<(u16, u16)> {
        Ok((self.client.local_addr()?.port(), self.peer.local_addr()?.port()))
    }
}

async fn bind(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{key}: cannot listen on {address}; is another process using the port?")
    })
}
