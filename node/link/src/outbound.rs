//! Our connections to peers: kept up, in order, bounded.

use crate::limits::{CONNECT_TIMEOUT, QUEUE_BYTES_MAX, RETRY_MAX, RETRY_MIN};
use crate::{CRC_BYTES, LinkEvent, PREFACE, Sink};
use bytes::{BufMut, Bytes, BytesMut};
use multiraft_tls::{Stream, Tls};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Bumped to drop the present connection.
    generation: u64,
}

#[derive(Default)]
struct Outbound {
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Outbound {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_connection(&self) {
        let mut queue = self.lock();
        queue.generation += 1;
        queue.frames.clear();
        queue.bytes = 0;
        drop(queue);
        self.wake.notify_one();
    }
}

/// All outgoing connections of a node. Dropping it ends them.
pub struct Links {
    sink: Sink,
    tls: Arc<Tls>,
    peers: BTreeMap<u64, (Arc<Outbound>, JoinHandle<()>)>,
}

impl Links {
    pub fn new(tls: Arc<Tls>, sink: Sink) -> Self {
        Links { sink, tls, peers: BTreeMap::new() }
    }

    /// Keeps a connection to `peer` at `address` (host:port) from now on.
    pub fn dial(&mut self, peer: u64, address: String) {
        if let Some((_, task)) = self.peers.remove(&peer) {
            task.abort();
            (self.sink)(LinkEvent::Closed { peer });
        }
        let outbound = Arc::new(Outbound::default());
        let (tls, sink) = (self.tls.clone(), self.sink.clone());
        let task = tokio::spawn(keep(peer, address, outbound.clone(), tls, sink));
        self.peers.insert(peer, (outbound, task));
    }

    /// Drops the connection and makes it anew.
    pub fn redial(&self, peer: u64) {
        if let Some((outbound, _)) = self.peers.get(&peer) {
            outbound.drop_connection();
        }
    }

    /// Queues a frame. When too much waits already the connection is dropped instead.
    pub fn send(&self, peer: u64, frame: Bytes) {
        let Some((outbound, _)) = self.peers.get(&peer) else { return };
        let mut queue = outbound.lock();
        if queue.bytes + frame.len() > QUEUE_BYTES_MAX {
            drop(queue);
            tracing::warn!(peer, "the peer takes frames too slowly, dropping the connection");
            outbound.drop_connection();
            return;
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let first = queue.frames.len() == 1;
        drop(queue);
        if first {
            outbound.wake.notify_one();
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (_, task) in self.peers.values() {
            task.abort();
        }
    }
}

/// Connects, carries frames, and begins again for ever.
async fn keep(peer: u64, address: String, outbound: Arc<Outbound>, tls: Arc<Tls>, sink: Sink) {
    let mut pause = RETRY_MIN;
    loop {
        match connect(&address, &tls).await {
            Ok(stream) => {
                pause = RETRY_MIN;
                let generation = {
                    let mut queue = outbound.lock();
                    queue.frames.clear();
                    queue.bytes = 0;
                    queue.generation
                };
                sink(LinkEvent::Opened { peer });
                let ended = carry(stream, &outbound, generation).await;
                tracing::debug!(peer, address, ?ended, "connection to peer ended");
                sink(LinkEvent::Closed { peer });
            }
            Err(e) => tracing::debug!(peer, address, error = %e, "cannot connect to peer"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn connect(address: &str, tls: &Tls) -> std::io::Result<Stream> {
    let connecting = tls.dial_peer(address);
    let mut stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    stream.write_all(PREFACE).await?;
    // Under TLS it may wait in a buffer until then.
    stream.flush().await?;
    Ok(stream)
}

/// Writes what is queued until the connection ends or is to be dropped.
async fn carry(stream: Stream, outbound: &Outbound, generation: u64) -> std::io::Result<()> {
    match stream {
        // Its halves share nothing that would have to be locked.
        Stream::Plain(tcp) => {
            let (read, write) = tcp.into_split();
            carry_on(read, write, outbound, generation).await
        }
        Stream::Tls(tls) => {
            let (read, write) = tokio::io::split(tls);
            carry_on(read, write, outbound, generation).await
        }
    }
}

async fn carry_on(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    outbound: &Outbound,
    generation: u64,
) -> std::io::Result<()> {
    let mut nothing = [0u8; 16];
    let mut buffer = BytesMut::new();
    loop {
        loop {
            let frames = {
                let mut queue = outbound.lock();
                if queue.generation != generation {
                    return Ok(());
                }
                queue.bytes = 0;
                std::mem::take(&mut queue.frames)
            };
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                buffer.put_u32(frame.len() as u32 + CRC_BYTES as u32);
                buffer.put_u32(crc32fast::hash(&frame));
                buffer.put_slice(&frame);
            }
            write.write_all(&buffer).await?;
            write.flush().await?;
            buffer.clear();
        }
        tokio::select! {
            biased;
            () = outbound.wake.notified() => {}
            // The peer never writes here: anything read is the end of the connection.
            _ = read.read(&mut nothing) => return Ok(()),
        }
    }
}
