//! Plain HTTP for kubelet and Prometheus: `/startupz /readyz /livez /metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use multiraft_host::{Handle, Phase};
use std::time::Duration;
use tokio::net::TcpListener;

/// The loop answers within a round; this long without an answer means that it is stuck.
const LIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the text is; the older format of Prometheus has no end mark.
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
    let Ok(measures) = handle.measures().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    };
    match crate::metrics::text(measures) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
