//! A port of a node: tells TLS from plain by the first byte, and learns who comes.

use crate::credentials::{Credentials, Loaded, provider};
use crate::identity::{Identity, Role};
use crate::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, LINGER_BYTES_MAX, LINGER_TIME};
use crate::settings::Mode;
use crate::state::Counters;
use crate::stream::Stream;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

/// First byte of a TLS record that opens a connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Plain text, or no certificate where none is needed.
    Anonymous,
    /// A certificate of a trusted CA that names nobody in this cluster.
    Stranger,
    Named(Identity),
}

/// A connection that came in.
#[derive(Debug)]
pub struct Admitted {
    pub stream: Stream,
    pub caller: Caller,
    /// When the caller's certificate ends, in seconds since 1970.
    pub not_after: Option<u64>,
}

/// One port.
#[derive(Debug)]
pub(crate) struct Door {
    pub mode: Mode,
    /// Name in certificates.
    pub cluster: String,
    /// The same in those of operators of several clusters.
    pub operators: Option<String>,
    pub credentials: Option<Arc<Credentials>>,
    pub protocol: &'static [u8],
    /// Whoever speaks TLS must show a certificate, in any mode.
    pub certificate_needed: bool,
    /// What plain text is told when it is refused.
    pub farewell: &'static [u8],
    pub handshakes: Semaphore,
    /// Made of the certificates that it is kept with.
    pub config: Mutex<Option<(Arc<Loaded>, Arc<ServerConfig>)>>,
    pub counters: Counters,
}

impl Door {
    pub fn new(mode: Mode, protocol: &'static [u8]) -> Door {
        Door {
            mode,
            cluster: String::new(),
            operators: None,
            credentials: None,
            protocol,
            certificate_needed: mode == Mode::Strict,
            farewell: &[],
            handshakes: Semaphore::new(HANDSHAKES_MAX),
            config: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// Lets a connection in, by its first byte. `first`: how long that may take.
    ///
    /// # Errors
    /// Why it is refused; it was told as well as can be.
    pub async fn admit(&self, tcp: TcpStream, first: std::time::Duration) -> Result<Admitted> {
        let mut byte = [0u8; 1];
        match timeout(first, tcp.peek(&mut byte)).await {
            Ok(Ok(1)) => {}
            Ok(Ok(_)) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::new(ErrorKind::TimedOut, "it says nothing")),
        }
        tcp.set_nodelay(true)?;
        match (byte[0] == TLS_HANDSHAKE, &self.credentials) {
            (false, _) if self.mode == Mode::Strict => {
                self.counters.refused_plain.fetch_add(1, Relaxed);
                dismiss(tcp, self.farewell).await;
                Err(Error::other("it speaks plain text, and tls.mode is Strict"))
            }
            (false, _) => {
                self.counters.plain.fetch_add(1, Relaxed);
                let (stream, caller) = (Stream::Plain(tcp), Caller::Anonymous);
                Ok(Admitted { stream, caller, not_after: None })
            }
            (true, None) => {
                self.counters.failed.fetch_add(1, Relaxed);
                Err(Error::other("it speaks TLS, and tls.mode is Disabled"))
            }
            (true, Some(credentials)) => {
                let admitted = self.shake_hands(tcp, credentials).await;
                let count = match admitted {
                    Ok(_) => &self.counters.tls,
                    Err(_) => &self.counters.failed,
                };
                count.fetch_add(1, Relaxed);
                admitted
            }
        }
    }

    async fn shake_hands(&self, tcp: TcpStream, credentials: &Credentials) -> Result<Admitted> {
        let end = Instant::now() + HANDSHAKE_TIMEOUT;
        // Before anything is made for it: the number of those that are made is bounded.
        let place = timeout_at(end, self.handshakes.acquire()).await;
        let _place = match place {
            Ok(Ok(place)) => place,
            _ => return Err(Error::new(ErrorKind::TimedOut, "too many handshakes at once")),
        };
        let config = self.config(credentials)?;
        let handshake = tokio_rustls::TlsAcceptor::from(config).accept(tcp).into_fallible();
        let tls = match timeout_at(end, handshake).await {
            Ok(Ok(tls)) => tls,
            Ok(Err((error, tcp))) => {
                // The alert was sent.
                dismiss(tcp, &[]).await;
                return Err(error);
            }
            Err(_) => return Err(Error::new(ErrorKind::TimedOut, "the handshake takes too long")),
        };
        let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let (caller, not_after) = self.caller(shown);
        Ok(Admitted { stream: Stream::Tls(Box::new(tls.into())), caller, not_after })
    }

    fn caller(&self, certificate: Option<&CertificateDer<'_>>) -> (Caller, Option<u64>) {
        let Some(certificate) = certificate else { return (Caller::Anonymous, None) };
        let operator = || {
            let named = Identity::of(certificate, self.operators.as_ref()?);
            // Of those that are of no single cluster nobody else is let in.
            named.filter(|identity| identity.role == Role::Operator)
        };
        let identity = Identity::of(certificate, &self.cluster).or_else(operator);
        let validity = crate::Validity::of(certificate);
        let not_after = validity.ok().map(|validity| validity.not_after);
        (identity.map_or(Caller::Stranger, Caller::Named), not_after)
    }

    fn config(&self, credentials: &Credentials) -> Result<Arc<ServerConfig>> {
        let loaded = credentials.current();
        let mut kept = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*kept
            && Arc::ptr_eq(of, &loaded)
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.server_config(&loaded)?);
        *kept = Some((loaded, config.clone()));
        Ok(config)
    }

    fn server_config(&self, loaded: &Loaded) -> Result<ServerConfig> {
        let key = loaded.key.as_ref().ok_or_else(|| Error::other("there is no certificate"))?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(loaded.roots.clone(), provider());
        let verifier = match self.certificate_needed {
            true => verifier,
            false => verifier.allow_unauthenticated(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::other)?
            .with_client_cert_verifier(verifier.build().map_err(Error::other)?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
        config.alpn_protocols = vec![self.protocol.to_vec()];
        // A ticket would spare its bearer the look at its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Says a last word and closes: what still comes is taken for a moment, so that the word arrives.
pub(crate) async fn dismiss(mut stream: impl AsyncRead + AsyncWrite + Unpin, word: &[u8]) {
    let farewell = async {
        stream.write_all(word).await?;
        stream.shutdown().await?;
        let mut rest = [0u8; 1024];
        let mut taken = 0;
        while taken < LINGER_BYTES_MAX {
            match stream.read(&mut rest).await? {
                0 => break,
                count => taken += count,
            }
        }
        Result::Ok(())
    };
    // Whoever does not listen is none the worse.
    let _ = timeout(LINGER_TIME, farewell).await;
}
