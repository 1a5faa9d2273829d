//! The acceptor of the client port: tells TLS from plain by the first byte, and outlives every
//! failed accept or handshake.

use crate::limits::{CONNECTIONS_MAX, FIRST_BYTE_TIMEOUT};
use std::io;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// First byte of a TLS record that opens a connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// Connections that begin in plain text.
pub fn plain(listener: TcpListener) -> ReceiverStream<io::Result<TcpStream>> {
    let (sender, stream) = mpsc::channel(CONNECTIONS_MAX);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((connection, from)) => {
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        if let Some(connection) = check(connection, from).await {
                            let _ = sender.send(Ok(connection)).await;
                        }
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a client's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

async fn check(connection: TcpStream, from: std::net::SocketAddr) -> Option<TcpStream> {
    let mut first = [0u8; 1];
    let peeked = tokio::time::timeout(FIRST_BYTE_TIMEOUT, connection.peek(&mut first)).await;
    match peeked {
        Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {
            tracing::warn!(%from, "client wants TLS, which is disabled on this node");
            None
        }
        Ok(Ok(1)) => {
            if let Err(e) = connection.set_nodelay(true) {
                tracing::debug!(%from, error = %e, "cannot set TCP_NODELAY");
            }
            Some(connection)
        }
        _ => None,
    }
}
