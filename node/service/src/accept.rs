//! The acceptor of the client port: bounds the connections, lets in who may come, and outlives every
//! failed accept or handshake.

use crate::limits::{CONNECTIONS_MAX, FIRST_BYTE_TIMEOUT};
use crate::principal::Principal;
use multiraft_tls::{Admitted, Stream, Tls};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Such as no free file descriptors: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of clients that may come in. At the limit further ones wait in the kernel's backlog.
pub fn incoming(listener: TcpListener, tls: Arc<Tls>) -> mpsc::Receiver<Accepted> {
    incoming_up_to(CONNECTIONS_MAX, listener, tls)
}

fn incoming_up_to(limit: usize, listener: TcpListener, tls: Arc<Tls>) -> mpsc::Receiver<Accepted> {
    let (sender, stream) = mpsc::channel(limit);
    tokio::spawn(async move {
        let free = Arc::new(Semaphore::new(limit));
        tokio::select! {
            () = accept(listener, tls, free, &sender) => {}
            () = sender.closed() => {}
        }
    });
    stream
}

async fn accept(
    listener: TcpListener,
    tls: Arc<Tls>,
    free: Arc<Semaphore>,
    sender: &mpsc::Sender<Accepted>,
) {
    while let Ok(permit) = free.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (tls, sender) = (tls.clone(), sender.clone());
                // A task for each: one that says nothing must not hold up the others.
                tokio::spawn(async move {
                    if let Some(admitted) = tls.admit_client(stream, FIRST_BYTE_TIMEOUT).await {
                        let Admitted { stream, caller, not_after } = admitted;
                        let principal = Principal::new(caller, tls.mode());
                        let accepted = Accepted { stream, principal, not_after, permit };
                        // The server is stopping when this fails.
                        let _ = sender.send(accepted).await;
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

/// A connection; it counts against the limit until it is dropped.
pub struct Accepted {
    pub stream: Stream,
    pub principal: Principal,
    /// When the client's certificate ends, in seconds since 1970.
    pub not_after: Option<u64>,
    pub permit: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// First byte of a TLS record that opens a connection.
    const TLS_HANDSHAKE: u8 = 0x16;

    async fn listen(limit: usize) -> (SocketAddr, mpsc::Receiver<Accepted>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), incoming_up_to(limit, listener, Tls::disabled()))
    }

    async fn connect(to: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn first_bytes(plain: &mut Accepted) -> [u8; 3] {
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
