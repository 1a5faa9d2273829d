//! Bounds of TLS.

use std::time::Duration;

/// A handshake takes a few messages: whoever has not ended it by now holds a place in vain.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handshakes at once on one port; more wait, as nothing but an open connection. Each takes some
/// dozen KiB, so strangers can make a node hold about 10 MiB.
pub const HANDSHAKES_MAX: usize = 256;

/// Files that hold certificates are looked at this often. Reading them takes some microseconds.
pub const REFRESH_PERIOD: Duration = Duration::from_secs(2);

/// Bytes of one file: some hundred certificates. A larger one is none of these.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a refused caller still sends is taken for so long, and so much of it: closing earlier would
/// reset the connection, and with it take away the word that says why.
pub const LINGER_TIME: Duration = Duration::from_secs(1);
pub const LINGER_BYTES_MAX: usize = 64 << 10;

/// Refusals of one kind are logged at most so often; all of them are counted.
pub const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Letters of each part of a name in a certificate: as many as a DNS name has.
pub const NAME_LETTERS_MAX: usize = 253;
