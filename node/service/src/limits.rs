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

/// A new connection has this long to send its first byte, and again for HTTP/2's opening.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client whose certificate ended keeps its connection for so long, without new calls: those that it
/// has may end, and streams go on over another connection.
pub const EXPIRED_TIME: Duration = Duration::from_secs(5);

/// Whether a certificate ended is looked at no less often than this.
pub const EXPIRY_PERIOD: Duration = Duration::from_secs(60);

/// Connections at once; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 4096;

/// A response up to this size is handed over whole, a larger one as fast as the client reads it:
/// bounds what a client that does not read can make us hold.
pub const UNRESERVED_BYTES_MAX: usize = 4 << 10;

/// Answers that wait for a client that reads a stream, and for one with a session stream.
pub const STREAM_ANSWERS_MAX: usize = 1024;
pub const SESSION_STREAM_ANSWERS_MAX: usize = 4 * SESSION_STREAM_WINDOW;

/// Calls that may be open on one session stream.
pub const SESSION_STREAM_WINDOW: usize = 4096;

/// Who leads is looked up this often for clients with session streams.
pub const LEADERS_PERIOD: Duration = Duration::from_secs(1);

/// Partitions of one session stream whose leaders its client is told of; calls of others are passed on
/// all the same.
pub const SESSION_STREAM_LEADERS_MAX: usize = 1024;

/// What is there of a stream leaves in pieces of about this size.
pub const STREAM_BATCH_BYTES: usize = 32 << 10;

/// A stream that cannot go on here ends after this pause: existing clients open it again without one
/// (27,000 times a second were measured).
pub const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Groups in one Bootstrap call, and members in one group.
pub const BOOTSTRAP_GROUPS_MAX: usize = 1024;
pub const MEMBERS_MAX: usize = 16;

/// A request that was answered before it ended is kept for so long: callers send its end right
/// behind its message.
pub const REQUEST_END_TIMEOUT: Duration = Duration::from_secs(1);
