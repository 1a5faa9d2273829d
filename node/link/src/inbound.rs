//! Connections that peers made to us.

use crate::limits::{CONNECTIONS_MAX, FRAME_BYTES_MAX, PREFACE_TIMEOUT};
use crate::transfer::{Incoming, SNAPSHOT_PREFACE};
use crate::{LinkEvent, PREFACE, Sink};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use multiraft_tls::Tls;
use std::io::{Error, Result};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::codec::LengthDelimitedCodec;

/// Accepts connections until the future is dropped. A failed accept or handshake never ends it.
pub async fn accept(listener: TcpListener, tls: Arc<Tls>, sink: Sink) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let (tls, sink) = (tls.clone(), sink.clone());
                tokio::spawn(async move {
                    if let Err(e) = receive(stream, &tls, sink).await {
                        tracing::debug!(%from, error = %e, "connection from peer ended");
                    }
                    drop(place);
                });
            }
            Err(e) => {
                // Out of file descriptors, most likely: others will be closed.
                tracing::warn!(error = %e, "cannot accept a peer's connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn receive(stream: TcpStream, tls: &Tls, sink: Sink) -> Result<()> {
    let mut stream = tls.admit_peer(stream, PREFACE_TIMEOUT).await?;
    match tokio::time::timeout(PREFACE_TIMEOUT, purpose(&mut stream)).await?? {
        Purpose::Snapshot => sink(LinkEvent::Snapshot(Incoming::accept(stream).await?)),
        Purpose::Frames => read_frames(stream, |frame| sink(LinkEvent::Frame(frame))).await?,
    }
    Ok(())
}

/// What a peer makes a connection for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Frames,
    Snapshot,
}

/// Reads the preface.
///
/// # Errors
/// It is none of ours.
pub async fn purpose<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Purpose> {
    let mut preface = [0u8; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    match &preface {
        PREFACE => Ok(Purpose::Frames),
        SNAPSHOT_PREFACE => Ok(Purpose::Snapshot),
        _ => Err(Error::other("not a node of this release")),
    }
}

/// Hands on whole frames until the stream ends.
///
/// # Errors
/// A frame is too large, cut short or damaged.
pub async fn read_frames<R: AsyncRead + Unpin>(
    stream: R,
    mut take: impl FnMut(Bytes),
) -> Result<()> {
    let mut frames =
        LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_read(stream);
    while let Some(frame) = frames.next().await {
        let mut frame = frame?.freeze();
        let crc = frame.try_get_u32().ok();
        if crc != Some(crc32fast::hash(&frame)) {
            return Err(Error::other("a frame was damaged on the way"));
        }
        take(frame);
    }
    Ok(())
}
