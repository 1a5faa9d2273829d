//! `/metrics`, `/livez` and `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::apiserver::Reachability;
use crate::leader::Standing;
use crate::limits::WATCH_DEAD;
use crate::metrics::Metrics;
use crate::watch::{Board, Health};

#[derive(Clone)]
pub struct Vitals {
    pub metrics: Arc<Metrics>,
    pub board: Board,
    pub reachability: watch::Receiver<Reachability>,
    pub standing: watch::Receiver<Standing>,
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, vitals: Vitals) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(vitals);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn metrics(State(vitals): State<Vitals>) -> Response {
    let failing = vitals.board.rows().iter().filter(|row| row.failing_since.is_some()).count();
    vitals.metrics.watches_failing.set(i64::try_from(failing).unwrap_or(i64::MAX));
    let epoch = vitals.standing.borrow().epoch(Instant::now());
    vitals.metrics.leading.set(i64::from(epoch.is_some()));
    if let Some(epoch) = epoch {
        vitals.metrics.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }
    match vitals.metrics.render() {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A dead watch while the server answers is a fault that only a restart has a chance to mend; an
/// outage of the server is not.
async fn live(State(vitals): State<Vitals>) -> Response {
    let answers = vitals.reachability.borrow().answers;
    match dead_watch(&vitals.board.rows(), answers, Instant::now()) {
        Some(name) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("watch {name} is dead\n")).into_response()
        }
        None => "ok\n".into_response(),
    }
}

/// Leading, or warm and able to lead.
async fn ready(State(vitals): State<Vitals>) -> Response {
    if vitals.board.all_synced() {
        return "ok\n".into_response();
    }
    let missing: Vec<String> =
        vitals.board.rows().into_iter().filter(|row| !row.synced).map(|row| row.name).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not listed yet: {}\n", missing.join(", ")))
        .into_response()
}

fn dead_watch(rows: &[Health], api_answers: bool, now: Instant) -> Option<String> {
    let dead = |row: &&Health| {
        row.failing_since.is_some_and(|since| now.duration_since(since) >= WATCH_DEAD)
    };
    rows.iter().find(dead).filter(|_| api_answers).map(|row| row.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_watch_dead_beside_a_live_server_fails_liveness() {
        let since = Instant::now();
        let rows = [Health { name: "pods".into(), synced: true, failing_since: Some(since) }];
        assert_eq!(dead_watch(&rows, true, since + WATCH_DEAD / 2), None);
        assert_eq!(dead_watch(&rows, false, since + WATCH_DEAD), None);
        assert_eq!(dead_watch(&rows, true, since + WATCH_DEAD).as_deref(), Some("pods"));
    }
}
