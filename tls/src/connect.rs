//! Connections that we begin.

use crate::credentials::{Credentials, Loaded, provider};
use crate::error::TlsError;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::stream::Stream;
use crate::{Refreshed, explain};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::net::TcpStream;

/// Puts connections of a client under TLS.
#[derive(Clone, Debug)]
pub struct Connector {
    credentials: Arc<Credentials>,
    /// Instead of the host that is connected to.
    server_name: Option<String>,
    protocol: &'static [u8],
}

impl Connector {
    /// `protocol`: what is spoken (ALPN), such as `h2`.
    pub fn new(credentials: Arc<Credentials>, protocol: &'static [u8]) -> Connector {
        Connector { credentials, server_name: None, protocol }
    }

    /// What certificates must name, instead of the host that is connected to.
    ///
    /// # Errors
    /// It is no name.
    pub fn server_name(mut self, name: String) -> Result<Connector> {
        parse_name(&name)?;
        self.server_name = Some(name);
        Ok(self)
    }

    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Looks whether the files changed: what is there now is used for the next connection.
    pub fn refresh(&self) -> std::result::Result<(), TlsError> {
        match self.credentials.refresh() {
            Refreshed::Kept(error) => Err(error),
            Refreshed::Unchanged | Refreshed::Replaced => Ok(()),
        }
    }

    /// A handshake with `host` on a connection to it.
    ///
    /// # Errors
    /// In words that say whose certificate is wrong, and how.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> Result<Stream> {
        let host = self.server_name.as_deref().unwrap_or(host);
        let name = parse_name(host)?;
        let config = client_config(&self.credentials.current(), self.protocol)?;
        let handshake = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let ended = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
        let ended = ended.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        let ca = &self.credentials.files().ca;
        let stream = ended.map_err(|error| explain::handshake(error, host, ca))?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

/// A DNS name or an address; IPv6 also in brackets, as it stands before a port.
fn parse_name(host: &str) -> Result<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("{host} is no name of a server")))
}

fn client_config(loaded: &Loaded, protocol: &[u8]) -> Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::other)?
        .with_root_certificates(loaded.roots.clone());
    let mut config = match &loaded.key {
        None => config.with_no_client_auth(),
        Some(key) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())))
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}
