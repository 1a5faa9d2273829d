//! What is to be known of a node's TLS.

use crate::settings::Mode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What came to a port since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub tls: AtomicU64,
    pub plain: AtomicU64,
    pub refused_plain: AtomicU64,
    pub failed: AtomicU64,
}

/// Connections by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Under TLS.
    pub tls: u64,
    /// In plain text, where that is allowed.
    pub plain: u64,
    /// In plain text, where it is not.
    pub refused_plain: u64,
    /// Handshakes that failed, and certificates that may not come in here.
    pub failed: u64,
}

/// What is to be known of a node's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub mode: Mode,
    /// When the certificates end, in seconds since 1970; 0 without TLS.
    pub not_after: u64,
    pub peer_not_after: u64,
    /// When the certificate towards clients began.
    pub not_before: u64,
    pub clients: Counts,
    pub peers: Counts,
    /// Connections to peers that went on in plain text, as the peer did not take TLS.
    pub fallbacks: u64,
    /// Connections to peers that failed for TLS.
    pub dials_failed: u64,
    /// Changes of files that were taken over, and that could not be.
    pub reloads: u64,
    pub reload_failures: u64,
    /// Why the files as they are now are not in use; empty when they are.
    pub problem: String,
}

impl Counters {
    pub fn counts(&self) -> Counts {
        Counts {
            tls: self.tls.load(Relaxed),
            plain: self.plain.load(Relaxed),
            refused_plain: self.refused_plain.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}
