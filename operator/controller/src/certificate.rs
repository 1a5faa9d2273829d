//! The operator's own certificate: shown to nodes that speak TLS, read again when its files change.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use multiraft_api::OPERATORS;
use multiraft_tls::limits::REFRESH_PERIOD;
use multiraft_tls::{Connector, Credentials, Files, Pair, Refreshed, Role, Stream};
use tokio::net::TcpStream;

/// What is spoken under TLS (ALPN).
const HTTP2: &[u8] = b"h2";

/// What helps an operator without a certificate.
const REMEDY: &str = "give the chart tls.secretName or tls.issuerRef (docs/security.md)";

/// How a node takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Plain,
    /// Both; a node whose TLS fails must not be lost by that.
    Either,
    Tls,
}

/// The certificate as it is now; clones share it.
#[derive(Clone)]
pub struct Certificate {
    files: Option<Files>,
    state: Arc<Mutex<State>>,
}

/// Files that cannot be used at the start may come later.
enum State {
    Usable(Arc<Credentials>),
    Missing(String),
}

impl Certificate {
    /// `folder` holds tls.crt, tls.key and ca.crt; none: there is no certificate.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let files = folder.map(|folder| Files {
            ca: folder.join("ca.crt"),
            pair: Some(Pair { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }),
            must_name: Some((OPERATORS.to_owned(), Role::Operator)),
        });
        let words = "the operator has no certificate".to_owned();
        let state = Arc::new(Mutex::new(State::Missing(words)));
        let this = Self { files, state };
        this.refresh();
        this
    }

    /// Whether there is one; else why not, and what helps.
    pub fn state(&self) -> Result<(), String> {
        match &*self.lock() {
            State::Usable(_) => Ok(()),
            State::Missing(why) => Err(format!("{why}: {REMEDY}")),
        }
    }

    /// Looks at the files for ever; `changed` is told when there is one at last.
    pub async fn keep(self, changed: impl Fn()) {
        loop {
            tokio::time::sleep(REFRESH_PERIOD).await;
            let this = self.clone();
            // Files may be on a volume that takes its time.
            if tokio::task::spawn_blocking(move || this.refresh()).await.unwrap_or(false) {
                changed();
            }
        }
    }

    /// Whether it can be used and could not be before.
    fn refresh(&self) -> bool {
        let Some(files) = &self.files else { return false };
        if let Some(credentials) = self.credentials() {
            match credentials.refresh() {
                Refreshed::Unchanged => {}
                Refreshed::Replaced => tracing::info!("a new certificate is in use"),
                Refreshed::Kept(error) => {
                    tracing::error!(%error, "the new certificate cannot be used: the old one stays");
                }
            }
            return false;
        }
        let loaded = Credentials::load(files.clone());
        let mut state = self.lock();
        match loaded {
            Ok(credentials) => {
                tracing::info!("the operator's certificate is in use");
                *state = State::Usable(credentials);
                true
            }
            Err(error) => {
                let why = error.to_string();
                if !matches!(&*state, State::Missing(known) if *known == why) {
                    tracing::error!(error = why, "the operator's certificate cannot be used");
                }
                *state = State::Missing(why);
                false
            }
        }
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        match &*self.lock() {
            State::Usable(credentials) => Some(credentials.clone()),
            State::Missing(_) => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to a node, whose certificate must have `name`: it is dialled by its address.
    pub async fn dial(
        &self,
        address: (IpAddr, u16),
        name: &str,
        speech: Speech,
    ) -> std::io::Result<Stream> {
        let tcp = connect(address).await?;
        match (speech, self.credentials()) {
            (Speech::Plain, _) | (Speech::Either, None) => Ok(Stream::Plain(tcp)),
            (Speech::Tls, None) => {
                Err(std::io::Error::other(self.state().err().unwrap_or_default()))
            }
            (Speech::Tls, Some(credentials)) => {
                Connector::new(credentials, HTTP2).connect(tcp, name).await
            }
            (Speech::Either, Some(credentials)) => {
                match Connector::new(credentials, HTTP2).connect(tcp, name).await {
                    Ok(stream) => Ok(stream),
                    Err(error) => {
                        tracing::warn!(name, %error, "a node is spoken to in plain text");
                        connect(address).await.map(Stream::Plain)
                    }
                }
            }
        }
    }
}

async fn connect(address: (IpAddr, u16)) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

#[cfg(test)]
mod tests;
