//! Connections under TLS.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use multiraft_tls::{Connector, Credentials, Files, Pair, Stream};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tracing::warn;

use crate::Error;

/// What is spoken under TLS (ALPN).
const HTTP2: &[u8] = b"h2";

/// How a client uses TLS: whom it trusts, and what it shows.
///
/// The files are PEM, and are read again for every new connection: what is in them then is used, and
/// what was in them before as long as it is bad.
///
/// ```no_run
/// # async fn example() -> Result<(), multiraft_client::Error> {
/// use multiraft_client::{Options, Tls};
/// let tls = Tls::new("/etc/shop/ca.crt").certificate("/etc/shop/tls.crt", "/etc/shop/tls.key");
/// let cluster = Options::default().tls(tls).connect(["orders-0.orders:5678"]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    ca: PathBuf,
    pair: Option<Pair>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts nodes whose certificates are of the CAs in this file.
    pub fn new(ca: impl Into<PathBuf>) -> Self {
        Self { ca: ca.into(), pair: None, server_name: None }
    }

    /// Shows a certificate, which says who the client is and what it may do.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.pair = Some(Pair { certificate: certificate.into(), key: key.into() });
        self
    }

    /// The name that nodes' certificates must have, instead of the host that is connected to: for a
    /// forwarded port.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn connector(&self) -> Result<Connector, Error> {
        let invalid = |message: String| Error::Invalid { message: format!("TLS: {message}") };
        let files = Files { ca: self.ca.clone(), pair: self.pair.clone(), must_name: None };
        let credentials = Credentials::load(files).map_err(|e| invalid(e.to_string()))?;
        let connector = Connector::new(credentials, HTTP2);
        match &self.server_name {
            None => Ok(connector),
            Some(name) => connector.server_name(name.clone()).map_err(|e| invalid(e.to_string())),
        }
    }
}

/// A channel that connects when it is first used, and again when the connection was lost.
pub fn connect_lazy(endpoint: &Endpoint, tls: Option<&Connector>) -> Channel {
    match tls {
        None => endpoint.connect_lazy(),
        Some(connector) => endpoint.connect_with_connector_lazy(Dialer(connector.clone())),
    }
}

#[derive(Clone)]
struct Dialer(Connector);

impl tower_service::Service<http::Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let connector = self.0.clone();
        Box::pin(async move { dial(connector, &uri).await.map(TokioIo::new) })
    }
}

async fn dial(connector: Connector, uri: &http::Uri) -> io::Result<Stream> {
    let looking = connector.clone();
    // Files may be on a volume that takes its time.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || looking.refresh()).await {
        warn!(%error, "new certificates cannot be used: the old ones stay");
    }
    let address = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    connector.connect(tcp, uri.host().unwrap_or_default()).await
}
