//! The way to the API server: one client for requests, one for watches, and a probe that says
//! when the server was away and is back.

use std::time::Duration;

use kube::{Client, Config};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::limits::{
    API_CONNECT_TIMEOUT, API_PROBE_PERIOD, API_PROBE_TIMEOUT, API_REQUEST_TIMEOUT,
};

/// Clients with the time limits that their use needs.
#[derive(Clone)]
pub struct ApiServer {
    /// Answers within `API_REQUEST_TIMEOUT` or fails.
    pub requests: Client,
    /// No limit on reads: a watch may be silent for minutes.
    pub watches: Client,
    pub default_namespace: String,
}

impl ApiServer {
    /// By KUBECONFIG, ~/.kube/config or the pod's service account.
    pub async fn connect() -> anyhow::Result<Self> {
        let mut config = Config::infer().await?;
        config.connect_timeout = Some(API_CONNECT_TIMEOUT);
        config.write_timeout = Some(API_REQUEST_TIMEOUT);
        // The library's own retries go on for minutes inside one call; a failed pass backs off instead.
        config.default_retry = false;
        let default_namespace = config.default_namespace.clone();
        let mut bounded = config.clone();
        bounded.read_timeout = Some(API_REQUEST_TIMEOUT);
        bounded.reset_reader_on_write = true;
        config.read_timeout = None;
        Ok(Self {
            requests: Client::try_from(bounded)?,
            watches: Client::try_from(config)?,
            default_namespace,
        })
    }
}

/// What the probe knows of the API server.
#[derive(Debug, Clone, Copy)]
pub struct Reachability {
    /// The last probe was answered in time.
    pub answers: bool,
    /// When the server last came back; watches whose last news is older must start again, because
    /// a connection that survived the outage may be dead without saying so.
    pub returned_at: Option<Instant>,
}

/// Asks for the server's version for ever.
pub async fn probe(client: Client, state: watch::Sender<Reachability>) {
    let mut ticks = tokio::time::interval(API_PROBE_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answers = answers(&client, API_PROBE_TIMEOUT).await;
        state.send_if_modified(|known| {
            let before = known.answers;
            known.answers = answers;
            if answers && !before {
                known.returned_at = Some(Instant::now());
                tracing::info!("the API server answers again");
            } else if !answers && before {
                tracing::warn!("the API server does not answer");
            }
            before != answers
        });
    }
}

async fn answers(client: &Client, limit: Duration) -> bool {
    matches!(tokio::time::timeout(limit, client.apiserver_version()).await, Ok(Ok(_)))
}

/// The state before the first probe: nothing is known to be wrong.
pub fn assumed() -> Reachability {
    Reachability { answers: true, returned_at: None }
}
