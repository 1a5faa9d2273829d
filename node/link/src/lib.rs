//! Connections between nodes.
//!
//! Each node keeps one TCP connection to every peer and sends its frames there in order; what the
//! peer has to say comes over the connection that the peer made. A connection begins with
//! [`PREFACE`]; then come frames, each behind its length and CRC-32 (u32, big-endian, the length
//! counts both). What is inside a frame is the shard's business.
//!
//! (A gRPC stream for the same frames costs 5–9 % of the whole write path, and buys nothing that
//! the pair session does not give already.)

mod inbound;
pub mod limits;
mod outbound;
mod transfer;

pub use inbound::{Purpose, accept, purpose, read_frames};
pub use outbound::Links;
pub use transfer::{Incoming, Offer, Outgoing, SNAPSHOT_PREFACE};

use bytes::Bytes;
use std::sync::Arc;

/// First bytes of every connection: tells a peer of another release, or a stranger, at once.
pub const PREFACE: &[u8; 8] = b"MRLINK\x00\x02";

/// Before each frame stands its CRC-32: TCP's own checksum misses one damaged packet in some
/// millions (Stone and Partridge, SIGCOMM 2000).
const CRC_BYTES: usize = 4;

/// What happened on a connection.
#[derive(Debug)]
pub enum LinkEvent {
    /// Our connection to the peer was made.
    Opened { peer: u64 },
    /// Our connection to the peer ended; what was queued is lost.
    Closed { peer: u64 },
    /// A frame came in; its header names the sender.
    Frame(Bytes),
    /// A peer offers a snapshot.
    Snapshot(Incoming),
}

/// Where events go. Called from tasks; must not block.
pub type Sink = Arc<dyn Fn(LinkEvent) + Send + Sync>;
