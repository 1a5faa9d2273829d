//! Signals that ask the program to end.

use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C: the terminal sends it to all processes that it shows.
    Interrupt,
    /// For this process alone.
    Terminate,
}

/// Waits for one. From the first call on they do not end the program by themselves.
pub async fn next() -> Signal {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Signal::Interrupt,
        _ = terminated => Signal::Terminate,
    }
}
