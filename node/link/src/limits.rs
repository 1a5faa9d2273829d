//! Bounds of the connections between nodes.

use std::time::Duration;

/// Bytes of one frame on the wire: twice what a shard fills, plus one largest message.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes that may wait for one peer. A peer that is slower for so long is disconnected: raft
/// recovers from what the log holds, and memory stays bounded.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A connection attempt is given up after this long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between attempts: doubles from the first to the second.
pub const RETRY_MIN: Duration = Duration::from_millis(20);
pub const RETRY_MAX: Duration = Duration::from_secs(1);

/// A snapshot's connection that stands still for this long is given up.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// An offered snapshot may wait this long for its turn, and for being verified at the end.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(120);

/// While a transfer waits for its peer's word, the peer's machine is asked this often whether it is
/// there, and given up when it leaves so many questions open.
pub const KEEPALIVE_PERIOD: Duration = Duration::from_secs(3);
pub const KEEPALIVE_PROBES: u32 = 3;

/// Bytes of an offer: a raft message that names a configuration of some dozen members.
pub const OFFER_BYTES_MAX: usize = 1 << 20;

/// A stranger has this long to say who it is.
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Incoming connections at once: a full mesh of 99 nodes, several times over.
pub const CONNECTIONS_MAX: usize = 512;
