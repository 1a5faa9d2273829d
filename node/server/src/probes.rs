//! Plain HTTP for kubelet and Prometheus: `/startupz /readyz /livez /metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use multiraft_host::{Handle, Phase};
use multiraft_proto::v1;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio::net::TcpListener;

/// The loop answers within a round; this long without an answer means that it is stuck.
const LIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the text is: read as Prometheus' older format, the type `info` would fail the scrape.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Reply = (StatusCode, String);

pub async fn serve(listener: TcpListener, handle: Handle) {
    let router = Router::new()
        .route("/startupz", get(startup))
        .route("/readyz", get(ready))
        .route("/livez", get(live))
        .route("/metrics", get(metrics))
        .with_state(handle);
    if let Err(e) = axum::serve(listener, router).await {
        tracing::error!(error = %e, "probes and metrics are not served any more");
    }
}

/// The log is open and every group on disk was started.
async fn startup(State(handle): State<Handle>) -> Reply {
    match *handle.phase().borrow() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".into()),
        Phase::Waiting | Phase::Serving | Phase::Stopping => (StatusCode::OK, "started\n".into()),
    }
}

/// Clients are served.
async fn ready(State(handle): State<Handle>) -> Reply {
    let text = match *handle.phase().borrow() {
        Phase::Serving => return (StatusCode::OK, "serving\n".into()),
        Phase::Starting => "starting\n",
        Phase::Waiting => "waiting to be activated: the cluster is still being formed\n",
        Phase::Stopping => "stopping\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, text.into())
}

async fn live(State(handle): State<Handle>) -> Reply {
    match tokio::time::timeout(LIVE_TIMEOUT, handle.info()).await {
        Ok(_) => (StatusCode::OK, "live\n".into()),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the loop does not answer\n".into()),
    }
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let Ok(info) = handle.info().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    };
    let mut text = String::new();
    match encode(&mut text, &registry(&info)) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

/// Node-wide figures only: series per group would cost more than the groups (performance, L18).
fn registry(info: &v1::GetInfoResponse) -> Registry {
    let mut registry = Registry::with_prefix("multiraft_node");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Release that runs", build);
    let stats = info.stats.unwrap_or_default();
    for (name, help, value) in [
        ("rounds", "Rounds of the loop that had work", stats.rounds),
        ("syncs", "Synced writes of the log", stats.syncs),
        ("records", "Records written to the log", stats.records),
        ("entries", "Raft entries written to the log", stats.entries),
        ("applied_items", "Commands, ticks and cancels applied", stats.applied_items),
        ("log_bytes", "Bytes written to the log", stats.log_bytes),
        ("reads", "Linearizable queries answered", stats.reads),
        ("read_rounds", "Read-index rounds", stats.read_rounds),
        ("forwarded", "Calls sent on to another node", stats.forwarded),
        ("sync_nanoseconds", "Time spent in synced writes", stats.sync_nanos),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    let led = info.groups.iter().filter(|g| g.leader == info.node_id).count();
    let leaderless = info.groups.iter().filter(|g| g.leader == 0).count();
    let closed = v1::GroupPhase::RolledBack;
    let rolled_back = info.groups.iter().filter(|g| g.phase() == closed).count();
    let connected = info.peers.iter().filter(|p| p.connected).count();
    for (name, help, value) in [
        ("groups", "Groups with a member on this node", info.groups.len()),
        ("groups_led", "Groups that this node leads", led),
        ("groups_leaderless", "Groups without a known leader", leaderless),
        ("groups_rolled_back", "Groups closed because their log went back", rolled_back),
        ("peers", "Nodes that this node keeps a connection to", info.peers.len()),
        ("peers_connected", "Nodes with a standing session", connected),
        ("activated", "1 when the node is open for clients", usize::from(info.activated)),
    ] {
        registry.register(name, help, ConstGauge::new(value as i64));
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_count_groups_by_what_this_node_is_to_them() {
        let group = |leader, phase: v1::GroupPhase| v1::GroupState {
            leader,
            phase: phase as i32,
            ..Default::default()
        };
        let info = v1::GetInfoResponse {
            node_id: 7,
            groups: vec![
                group(7, v1::GroupPhase::Ready),
                group(8, v1::GroupPhase::Ready),
                group(0, v1::GroupPhase::RolledBack),
            ],
            stats: Some(v1::NodeStats { syncs: 5, ..Default::default() }),
            ..Default::default()
        };
        let mut text = String::new();
        encode(&mut text, &registry(&info)).unwrap();
        for line in [
            "multiraft_node_groups 3",
            "multiraft_node_groups_led 1",
            "multiraft_node_groups_leaderless 1",
            "multiraft_node_groups_rolled_back 1",
            "multiraft_node_activated 0",
            "multiraft_node_syncs_total 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(text.contains("multiraft_node_build_info{version="));
    }
}
