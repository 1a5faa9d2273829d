//! TLS of one node: how its ports are opened, and how it reaches its peers.

use crate::connect::Connector;
use crate::credentials::{Credentials, Refreshed};
use crate::door::{Admitted, Caller, Door, dismiss};
use crate::error::TlsError;
use crate::identity::{Identity, Role};
use crate::limits::{HANDSHAKE_TIMEOUT, LOG_PERIOD};
use crate::settings::{Mode, Settings};
use crate::state::State;
use crate::stream::Stream;
use crate::validity::{Span, now};
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is spoken under TLS (ALPN): a port never takes the other's connections.
const HTTP2: &[u8] = b"h2";
const LINK: &[u8] = b"multiraft-link";

/// Said to a peer when its certificate was looked at. TLS 1.3 lets a client begin before that: it
/// would take a refusal for a broken connection.
const WELCOME: u8 = 1;
const NOT_WELCOME: u8 = 0;

/// Plain HTTP/2 is told why it is refused: SETTINGS, then GOAWAY for INADEQUATE_SECURITY.
const NOT_PLAIN: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x30\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis node takes TLS only: give a CA file";

/// TLS of one node.
#[derive(Debug)]
pub struct Tls {
    clients: Door,
    peers: Door,
    /// There is none where TLS is disabled.
    connector: Option<Connector>,
    fallbacks: AtomicU64,
    dials_failed: AtomicU64,
    reloads: AtomicU64,
    reload_failures: AtomicU64,
    said: Mutex<[Option<Instant>; KINDS]>,
}

/// What is logged no more often than [`LOG_PERIOD`], each by itself.
#[derive(Clone, Copy)]
enum Line {
    Client,
    Peer,
    Dial,
    Expired,
}
const KINDS: usize = 4;

impl Tls {
    /// Plain text only.
    pub fn disabled() -> Arc<Tls> {
        let doors = (Door::new(Mode::Disabled, HTTP2), Door::new(Mode::Disabled, LINK));
        Arc::new(Tls::new(doors, None))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn load(settings: Settings) -> std::result::Result<Arc<Tls>, TlsError> {
        let Settings { mode, cluster, operators, clients, peers } = settings;
        if mode == Mode::Disabled {
            return Ok(Tls::disabled());
        }
        let same = peers == clients;
        let peer_credentials = Credentials::load(peers.files(Some((cluster.clone(), Role::Node))))?;
        let client_credentials = match same {
            true => peer_credentials.clone(),
            false => Credentials::load(clients.files(None))?,
        };
        let client_door = Door {
            cluster: cluster.clone(),
            operators,
            credentials: Some(client_credentials),
            farewell: NOT_PLAIN,
            ..Door::new(mode, HTTP2)
        };
        let peer_door = Door {
            cluster,
            credentials: Some(peer_credentials.clone()),
            certificate_needed: true,
            ..Door::new(mode, LINK)
        };
        let connector = Connector::new(peer_credentials, LINK);
        Ok(Arc::new(Tls::new((client_door, peer_door), Some(connector))))
    }

    fn new((clients, peers): (Door, Door), connector: Option<Connector>) -> Tls {
        let (fallbacks, dials_failed, reloads, reload_failures) = Default::default();
        let said = Mutex::default();
        Tls { clients, peers, connector, fallbacks, dials_failed, reloads, reload_failures, said }
    }

    pub fn mode(&self) -> Mode {
        self.clients.mode
    }

    /// Name of the cluster in certificates.
    pub fn cluster(&self) -> &str {
        &self.clients.cluster
    }

    /// Lets a client's connection in. `first`: how long its first byte may take.
    pub async fn admit_client(&self, tcp: TcpStream, first: Duration) -> Option<Admitted> {
        let from = tcp.peer_addr().ok();
        match self.clients.admit(tcp, first).await {
            Ok(admitted) => Some(admitted),
            Err(error) => {
                // Probes and scans of ports come and go without a word.
                if !is_silence(&error) && self.may_say(Line::Client) {
                    tracing::warn!(?from, %error, "a client's connection is refused");
                }
                None
            }
        }
    }

    /// Lets a peer's connection in.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn admit_peer(&self, tcp: TcpStream, first: Duration) -> Result<Stream> {
        if self.mode() == Mode::Disabled {
            tcp.set_nodelay(true)?;
            self.peers.counters.plain.fetch_add(1, Relaxed);
            return Ok(Stream::Plain(tcp));
        }
        let from = tcp.peer_addr().ok();
        let welcomed = match self.peers.admit(tcp, first).await {
            Ok(admitted) => self.welcome(admitted).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &welcomed
            && !is_silence(error)
            && self.may_say(Line::Peer)
        {
            tracing::warn!(?from, %error, "a connection to the port of peers is refused");
        }
        welcomed
    }

    async fn welcome(&self, Admitted { mut stream, caller, .. }: Admitted) -> Result<Stream> {
        match caller {
            Caller::Anonymous => {}
            Caller::Named(Identity { role: Role::Node, .. }) => {
                stream.write_u8(WELCOME).await?;
                stream.flush().await?;
            }
            Caller::Named(_) | Caller::Stranger => {
                self.peers.counters.tls.fetch_sub(1, Relaxed);
                self.peers.counters.failed.fetch_add(1, Relaxed);
                let who = match caller {
                    Caller::Named(identity) => identity.to_string(),
                    _ => "somebody else".into(),
                };
                dismiss(stream, &[NOT_WELCOME]).await;
                let cluster = self.cluster();
                return Err(Error::other(format!(
                    "its certificate names {who}, not a node of cluster {cluster}"
                )));
            }
        }
        Ok(stream)
    }

    /// Connects to a peer (host:port) as the mode says. In Permissive mode a peer that takes no TLS,
    /// or refuses ours, is spoken to in plain text.
    ///
    /// # Errors
    /// It cannot be reached, or is not whom its address says.
    pub async fn dial_peer(&self, address: &str) -> Result<Stream> {
        let tcp = dial(address).await?;
        let Some(connector) = &self.connector else { return Ok(Stream::Plain(tcp)) };
        let error = match self.greet(connector, tcp, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let falls_back = self.mode() == Mode::Permissive && error.kind() != ErrorKind::TimedOut;
        let count = if falls_back { &self.fallbacks } else { &self.dials_failed };
        count.fetch_add(1, Relaxed);
        if self.may_say(Line::Dial) {
            match falls_back {
                true => tracing::warn!(address, %error, "a peer is spoken to in plain text"),
                false => tracing::warn!(address, %error, "a peer cannot be spoken to"),
            }
        }
        match falls_back {
            true => dial(address).await.map(Stream::Plain),
            false => Err(error),
        }
    }

    async fn greet(&self, connector: &Connector, tcp: TcpStream, address: &str) -> Result<Stream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let mut stream = connector.connect(tcp, host).await?;
        if let Stream::Tls(tls) = &stream {
            let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let named = shown.and_then(|certificate| Identity::of(certificate, self.cluster()));
            if named.is_none_or(|identity| identity.role != Role::Node) {
                return Err(Error::other(format!(
                    "the certificate of {host} names no node of cluster {}",
                    self.cluster()
                )));
            }
        }
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.read_u8()).await {
            Ok(Ok(WELCOME)) => Ok(stream),
            Ok(Ok(_)) => Err(Error::other(format!(
                "{host} does not take our certificate for that of a node of its cluster"
            ))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Takes over what the files hold now; to be called again and again. Blocks for as long as reading
    /// takes.
    pub fn refresh(&self) {
        for credentials in self.credentials() {
            match credentials.refresh() {
                Refreshed::Unchanged => {}
                Refreshed::Replaced => {
                    self.reloads.fetch_add(1, Relaxed);
                    let left = credentials.current().validity.map_or(0, |v| v.not_after);
                    let left = Span(left.saturating_sub(now())).to_string();
                    tracing::info!(left, "new certificates are in use");
                }
                Refreshed::Kept(error) => {
                    self.reload_failures.fetch_add(1, Relaxed);
                    tracing::error!(%error, "new certificates cannot be used: the old ones stay");
                }
            }
            let expired = credentials.current().validity.is_some_and(|v| v.not_after < now());
            if expired && self.may_say(Line::Expired) {
                let file = credentials.files().pair.as_ref().map(|pair| pair.certificate.display());
                let file = file.map(|file| file.to_string()).unwrap_or_default();
                tracing::error!(file, "the certificate expired: nobody trusts this node any more");
            }
        }
    }

    /// Each once.
    fn credentials(&self) -> impl Iterator<Item = &Arc<Credentials>> {
        let (clients, peers) = (&self.clients.credentials, &self.peers.credentials);
        let same = matches!((clients, peers), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        clients.iter().chain(peers.iter().filter(move |_| !same))
    }

    pub fn state(&self) -> State {
        let validity = |door: &Door| door.credentials.as_ref().and_then(|c| c.current().validity);
        let not_after = |door: &Door| validity(door).map_or(0, |validity| validity.not_after);
        let problems: Vec<_> = self.credentials().map(|c| c.problem()).collect();
        let problem = problems.into_iter().find(|problem| !problem.is_empty());
        State {
            mode: self.mode(),
            not_after: not_after(&self.clients),
            peer_not_after: not_after(&self.peers),
            not_before: validity(&self.clients).map_or(0, |validity| validity.not_before),
            clients: self.clients.counters.counts(),
            peers: self.peers.counters.counts(),
            fallbacks: self.fallbacks.load(Relaxed),
            dials_failed: self.dials_failed.load(Relaxed),
            reloads: self.reloads.load(Relaxed),
            reload_failures: self.reload_failures.load(Relaxed),
            problem: problem.unwrap_or_default(),
        }
    }

    fn may_say(&self, line: Line) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut said[line as usize];
        let may = last.is_none_or(|last| last.elapsed() >= LOG_PERIOD);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

fn is_silence(error: &Error) -> bool {
    use ErrorKind::{ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | TimedOut | UnexpectedEof)
}

/// Bounded by whoever connects.
async fn dial(address: &str) -> Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
