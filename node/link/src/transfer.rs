//! Snapshots between nodes: each on a connection of its own, so that it never delays a vote.
//!
//! ```text
//! sender    = SNAPSHOT_PREFACE, length u32, offer
//! receiver  = offset u64 of what it has of this very file, or REFUSED
//! sender    = the file from there on
//! receiver  = 1 when everything is verified, durable and taken in, or 0
//! offer     = from u64, to u64, group u32, index u64, term u64, length u64, crc u32, message
//! ```
//! Integers are big-endian. A connection that breaks is made anew by the next offer, and goes on
//! where it broke when the file is the same.

use crate::limits::{
    CONNECT_TIMEOUT, KEEPALIVE_PERIOD, KEEPALIVE_PROBES, OFFER_BYTES_MAX, OFFER_TIMEOUT,
    TRANSFER_TIMEOUT,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use multiraft_tls::{Stream, Tls};
use rustix::net::sockopt;
use std::io::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// First bytes of a connection that carries a snapshot.
pub const SNAPSHOT_PREFACE: &[u8; 8] = b"MRSNAP\x00\x01";

const REFUSED: u64 = u64::MAX;
const OFFER_HEAD_BYTES: usize = 48;

/// What a sender says before the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Node ids.
    pub from: u64,
    pub to: u64,
    pub group: u32,
    /// Raft index and term of the last entry that the snapshot contains.
    pub index: u64,
    pub term: u64,
    /// Of the file.
    pub length: u64,
    pub crc: u32,
    /// What raft on the sender has to say with it.
    pub message: Bytes,
}

impl Offer {
    pub fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(OFFER_HEAD_BYTES + self.message.len());
        out.put_u64(self.from);
        out.put_u64(self.to);
        out.put_u32(self.group);
        out.put_u64(self.index);
        out.put_u64(self.term);
        out.put_u64(self.length);
        out.put_u32(self.crc);
        out.put_slice(&self.message);
        out
    }

    /// What follows the preface. Takes memory for what came, not for what is announced.
    pub async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Self> {
        let length = stream.read_u32().await? as usize;
        if length > OFFER_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "the offer is too large"));
        }
        let mut bytes = Vec::new();
        stream.take(length as u64).read_to_end(&mut bytes).await?;
        if bytes.len() < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Self::decode(bytes.into())
    }

    fn decode(mut bytes: Bytes) -> Result<Self> {
        if bytes.len() < OFFER_HEAD_BYTES {
            return Err(Error::new(ErrorKind::InvalidData, "the offer is cut short"));
        }
        Ok(Offer {
            from: bytes.get_u64(),
            to: bytes.get_u64(),
            group: bytes.get_u32(),
            index: bytes.get_u64(),
            term: bytes.get_u64(),
            length: bytes.get_u64(),
            crc: bytes.get_u32(),
            message: bytes,
        })
    }
}

/// Our end of a transfer to a peer.
pub struct Outgoing {
    stream: Stream,
    /// Where in the file to begin.
    pub offset: u64,
}

impl Outgoing {
    /// Connects to the peer port at `address` (host:port) and offers a snapshot.
    ///
    /// # Errors
    /// The peer cannot be reached, or does not want the snapshot.
    pub async fn offer(address: &str, tls: &Tls, offer: &Offer) -> Result<Self> {
        let mut stream = within(CONNECT_TIMEOUT, tls.dial_peer(address)).await?;
        notice_a_vanished_peer(stream.tcp())?;
        let encoded = offer.encode();
        let mut head = BytesMut::from(&SNAPSHOT_PREFACE[..]);
        head.put_u32(encoded.len() as u32);
        head.put_slice(&encoded);
        within(TRANSFER_TIMEOUT, write(&mut stream, &head)).await?;
        // The peer takes few at a time: this one may have to wait for its turn.
        let offset = within(OFFER_TIMEOUT, stream.read_u64()).await?;
        if offset > offer.length {
            return Err(Error::other("the peer does not want this snapshot"));
        }
        Ok(Outgoing { stream, offset })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        within(TRANSFER_TIMEOUT, write(&mut self.stream, bytes)).await
    }

    /// Waits until the peer has taken the snapshot in.
    pub async fn finish(mut self) -> Result<()> {
        match within(OFFER_TIMEOUT, self.stream.read_u8()).await? {
            1 => Ok(()),
            _ => Err(Error::other("the peer refused the snapshot as damaged")),
        }
    }
}

/// A peer's offer to us. Dropping it refuses it.
#[derive(Debug)]
pub struct Incoming {
    stream: Stream,
    pub offer: Offer,
}

impl Incoming {
    pub(crate) async fn accept(mut stream: Stream) -> Result<Self> {
        let offer = within(TRANSFER_TIMEOUT, Offer::read(&mut stream)).await?;
        Ok(Incoming { stream, offer })
    }

    /// Asks for the file from `offset` on.
    pub async fn begin(&mut self, offset: u64) -> Result<()> {
        within(TRANSFER_TIMEOUT, write(&mut self.stream, &offset.to_be_bytes())).await
    }

    pub async fn refuse(mut self) -> Result<()> {
        self.begin(REFUSED).await
    }

    /// The next bytes of the file, at most `max`.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn receive(&mut self, max: usize) -> Result<Bytes> {
        let mut bytes = BytesMut::with_capacity(max);
        match within(TRANSFER_TIMEOUT, self.stream.read_buf(&mut bytes)).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(bytes.freeze()),
        }
    }

    /// Says whether the snapshot was taken in.
    pub async fn finish(mut self, taken: bool) -> Result<()> {
        within(TRANSFER_TIMEOUT, write(&mut self.stream, &[u8::from(taken)])).await
    }
}

/// Under TLS bytes may wait in a buffer until they are flushed.
async fn write(stream: &mut Stream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A machine that vanishes says no word, and its member is fed nothing until its transfer ends.
fn notice_a_vanished_peer(stream: &TcpStream) -> Result<()> {
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_PERIOD)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_PERIOD)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

async fn within<T>(limit: Duration, io: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, io).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_survives_the_wire_and_a_short_one_is_refused() {
        let offer = Offer {
            from: 1,
            to: 2,
            group: 3,
            index: 4,
            term: 5,
            length: 6,
            crc: 7,
            message: Bytes::from_static(b"said"),
        };
        let encoded = offer.encode().freeze();
        assert_eq!(Offer::decode(encoded.clone()).unwrap(), offer);
        for cut in 0..OFFER_HEAD_BYTES {
            assert!(Offer::decode(encoded.slice(..cut)).is_err(), "cut at {cut}");
        }
    }
}
