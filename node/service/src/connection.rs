//! One client's connection. Its calls are futures of the connection's own task, not tasks: what
//! they answer in one round of the node leaves in one write.

use crate::accept::Accepted;
use crate::front::Front;
use crate::limits::*;
use crate::principal::Principal;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong};
use multiraft_tls::Stream;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Serves until the client closes, is gone, or, after `stopping` became true, its last call ended.
pub async fn serve(accepted: Accepted, front: Arc<Front>, stopping: watch::Receiver<bool>) {
    let Accepted { stream, principal, not_after, permit } = accepted;
    let from = stream.tcp().peer_addr();
    match timeout(FIRST_BYTE_TIMEOUT, builder().handshake(stream)).await {
        Ok(Ok(http)) => {
            if let Err(error) = carry(http, principal, not_after, front, stopping).await {
                tracing::debug!(?from, %error, "a client's connection ended");
            }
        }
        Ok(Err(error)) => tracing::debug!(?from, %error, "a connection does not speak HTTP/2"),
        Err(_) => tracing::debug!(?from, "a connection does not begin to speak HTTP/2"),
    }
    drop(permit);
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    builder
}

async fn carry(
    mut http: Connection<Stream, Bytes>,
    principal: Principal,
    not_after: Option<u64>,
    front: Arc<Front>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), h2::Error> {
    let pings = http.ping_pong();
    // When its certificate ends the client makes no new calls, and soon has none.
    let mut lost = pin!(async {
        tokio::select! {
            () = lost(pings) => {}
            () = expired(not_after, EXPIRED_TIME) => {}
        }
    });
    let mut stop = pin!(async {
        tokio::select! {
            // A dropped sender means that the whole service is gone.
            _ = stopping.wait_for(|stop| *stop) => {}
            () = expired(not_after, Duration::ZERO) => {}
        }
    });
    let mut stopped = false;
    let mut calls = FuturesUnordered::new();
    poll_fn(|cx| {
        if lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !stopped && stop.as_mut().poll(cx).is_ready() {
            stopped = true;
            http.graceful_shutdown();
        }
        loop {
            // Accepting also writes what was answered.
            while let Poll::Ready(accepted) = accept(&mut http, cx) {
                let Some(accepted) = accepted else { return Poll::Ready(Ok(())) };
                let (request, respond) = accepted?;
                calls.push(front.clone().answer(principal.clone(), request, respond));
            }
            let mut answered = false;
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(cx) {
                answered = true;
            }
            if !answered {
                return Poll::Pending;
            }
        }
    })
    .await
}

type Call = (http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>);

fn accept(
    http: &mut Connection<Stream, Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Call, h2::Error>>> {
    pin!(http.accept()).poll(cx)
}

/// Ends when a certificate has been over for some time.
async fn expired(not_after: Option<u64>, since: Duration) {
    let Some(not_after) = not_after else { return std::future::pending().await };
    let end = Duration::from_secs(not_after).saturating_add(since);
    loop {
        // The clock may be set meanwhile.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match end.saturating_sub(now) {
            Duration::ZERO => return,
            left => sleep(left.min(EXPIRY_PERIOD)).await,
        }
    }
}

/// Ends when the client does not answer a ping.
async fn lost(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(KEEP_ALIVE_PERIOD).await;
        if !matches!(timeout(KEEP_ALIVE_TIMEOUT, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
