//! What is wrong with files of certificates.

use crate::validity::Span;
use std::io;
use std::path::PathBuf;

/// Why certificates cannot be used; each names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: cannot be read ({source}): check the path and who may read it", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: has more than {max} bytes, which no list of certificates has", path.display())]
    TooLarge { path: PathBuf, max: u64 },
    #[error(
        "{}: holds no certificate in PEM: it must hold '-----BEGIN CERTIFICATE-----', the node's own \
         certificate first, then those between it and the CA", path.display()
    )]
    NoCertificate { path: PathBuf },
    #[error(
        "{}: holds no CA in PEM: it must hold '-----BEGIN CERTIFICATE-----' at least once", path.display()
    )]
    NoAuthority { path: PathBuf },
    #[error(
        "{}: holds no private key in PEM: it must hold '-----BEGIN PRIVATE KEY-----', not encrypted",
        path.display()
    )]
    NoKey { path: PathBuf },
    #[error("{}: is not whole PEM ({reason}): write the file again", path.display())]
    Pem { path: PathBuf, reason: String },
    #[error("{}: the certificate is damaged ({reason}): issue it again", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error("{}: the key cannot be used ({reason}): take ECDSA P-256, Ed25519 or RSA", path.display())]
    Key { path: PathBuf, reason: String },
    #[error(
        "{}: is not the key of the certificate in {}: replace both together",
        key.display(), certificate.display()
    )]
    Mismatch { key: PathBuf, certificate: PathBuf },
    #[error("{}: the certificate expired {ago} ago: renew it", path.display())]
    Expired { path: PathBuf, ago: Span },
    #[error(
        "{}: the certificate is valid only in {until}: check this machine's clock and the issuer's",
        path.display()
    )]
    NotYetValid { path: PathBuf, until: Span },
    #[error("{}: a CA cannot be used ({reason}): issue it again", path.display())]
    Authority { path: PathBuf, reason: String },
    /// The certificate does not say what its bearer has to be.
    #[error(
        "{}: does not name a {role} of cluster {cluster}: issue it with the URI \
         multiraft://{cluster}/{role}/NAME among its alternative names", path.display()
    )]
    NotNamed { path: PathBuf, cluster: String, role: &'static str },
}
