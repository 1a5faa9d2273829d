//! Bounds of the client port.

use std::time::Duration;

/// One message of a client: gRPC's default, which existing clients expect.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Calls at once on one connection. Load generators and proxies share connections.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 16_384;

/// Flow-control windows: the defaults (64 KiB) throttle bulk.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
pub const HTTP2_FRAME_BYTES: u32 = 256 << 10;

/// Request headers: paths and a few metadata.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// A dead client's connection is noticed after these.
pub const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(20);
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A new connection has this long to send its first byte.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at once; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 4096;

/// First buffer of each message in the pass-through codec: most messages fit, larger ones grow it.
/// Both ways take one per call in flight.
pub const CODEC_BUFFER_BYTES: usize = 512;
pub const CODEC_YIELD_BYTES: usize = 64 << 10;

/// Groups in one Bootstrap call, and members in one group.
pub const BOOTSTRAP_GROUPS_MAX: usize = 1024;
pub const MEMBERS_MAX: usize = 16;
