//! The acceptor of the client port: tells TLS from plain by the first byte, bounds the connections,
//! and outlives every failed accept or handshake.

use crate::limits::{CONNECTIONS_MAX, FIRST_BYTE_TIMEOUT};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// First byte of a TLS record that opens a connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// Such as no free file descriptors: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that begin in plain text. At the limit further ones wait in the kernel's backlog.
pub fn plain(listener: TcpListener) -> mpsc::Receiver<Plain> {
    plain_up_to(CONNECTIONS_MAX, listener)
}

fn plain_up_to(limit: usize, listener: TcpListener) -> mpsc::Receiver<Plain> {
    let (sender, stream) = mpsc::channel(limit);
    tokio::spawn(async move {
        let free = Arc::new(Semaphore::new(limit));
        tokio::select! {
            () = accept(listener, free, &sender) => {}
            () = sender.closed() => {}
        }
    });
    stream
}

async fn accept(listener: TcpListener, free: Arc<Semaphore>, sender: &mpsc::Sender<Plain>) {
    while let Ok(permit) = free.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let sender = sender.clone();
                // A task for each: one that says nothing must not hold up the others.
                tokio::spawn(async move {
                    if let Some(stream) = check(stream, from).await {
                        // The server is stopping when this fails.
                        let _ = sender.send(Plain { stream, permit }).await;
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a client's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn check(stream: TcpStream, from: SocketAddr) -> Option<TcpStream> {
    let mut first = [0u8; 1];
    match tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {
            tracing::warn!(%from, "client wants TLS, which is disabled on this node");
            None
        }
        Ok(Ok(1)) => {
            if let Err(e) = stream.set_nodelay(true) {
                tracing::debug!(%from, error = %e, "cannot set TCP_NODELAY");
            }
            Some(stream)
        }
        _ => None,
    }
}

/// A plain connection; it counts against the limit until it is dropped.
pub struct Plain {
    pub stream: TcpStream,
    pub permit: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn listen(limit: usize) -> (SocketAddr, mpsc::Receiver<Plain>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), plain_up_to(limit, listener))
    }

    async fn connect(to: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn first_bytes(plain: &mut Plain) -> [u8; 3] {
        let mut bytes = [0; 3];
        plain.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn tls_is_closed_and_plain_keeps_its_first_byte() {
        let (to, mut plain) = listen(8).await;
        let mut tls = connect(to, &[TLS_HANDSHAKE, 3, 1]).await;
        // Closed with unread bytes: the client sees an end or a reset.
        assert!(!matches!(tls.read(&mut [0; 1]).await, Ok(1)));
        let _client = connect(to, b"PRI").await;
        let mut accepted = plain.recv().await.unwrap();
        assert_eq!(&first_bytes(&mut accepted).await, b"PRI");
    }

    #[tokio::test]
    async fn silent_and_vanished_connections_do_not_stop_accepting() {
        let (to, mut plain) = listen(8).await;
        let _silent = TcpStream::connect(to).await.unwrap();
        drop(TcpStream::connect(to).await.unwrap());
        let _client = connect(to, b"PRI").await;
        let mut accepted = plain.recv().await.unwrap();
        assert_eq!(&first_bytes(&mut accepted).await, b"PRI");
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_one_to_end() {
        let (to, mut plain) = listen(1).await;
        let _first = connect(to, b"one").await;
        let held = plain.recv().await.unwrap();
        let _second = connect(to, b"two").await;
        let early = tokio::time::timeout(Duration::from_millis(50), plain.recv()).await;
        assert!(early.is_err(), "over the limit");
        drop(held);
        let mut next = plain.recv().await.unwrap();
        assert_eq!(&first_bytes(&mut next).await, b"two");
    }
}
