//! Certificates and keys from files, and what TLS makes of them; read again when the files change.

use crate::error::TlsError;
use crate::identity::{Identity, Role};
use crate::limits::FILE_BYTES_MAX;
use crate::validity::{Span, Validity, now};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as RustlsError, RootCertStore};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM: the own certificate, then those between it and the CA.
    pub certificate: PathBuf,
    /// PEM: the private key, not encrypted.
    pub key: PathBuf,
}

/// Where to find what is shown to others, and whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM: the CAs that are trusted; several while one takes over from another.
    pub ca: PathBuf,
    /// A client that shows no certificate has none.
    pub pair: Option<Pair>,
    /// Whom the certificate must name, by cluster and role: another would only be refused later.
    pub must_name: Option<(String, Role)>,
}

/// What the files held.
#[derive(Debug)]
pub struct Loaded {
    pub roots: Arc<RootCertStore>,
    pub key: Option<Arc<CertifiedKey>>,
    /// Of the own certificate.
    pub validity: Option<Validity>,
}

/// Certificates in use.
#[derive(Debug)]
pub struct Credentials {
    files: Files,
    current: RwLock<Arc<Loaded>>,
    seen: Mutex<Seen>,
}

/// What was last read.
#[derive(Debug)]
struct Seen {
    /// Of what is in use.
    used: Contents,
    /// Of what cannot be used, and whether that was said.
    bad: Option<(Contents, bool)>,
    problem: String,
}

/// What became of looking at the files.
#[derive(Debug)]
pub enum Refreshed {
    Unchanged,
    /// What is there now is in use for new connections.
    Replaced,
    /// What is there now cannot be used; what was in use stays. Said once for each change.
    Kept(TlsError),
}

type Contents = [Vec<u8>; 3];

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(files: Files) -> Result<Arc<Credentials>, TlsError> {
        let contents = files.read()?;
        let loaded = files.parse(&contents)?;
        let seen = Seen { used: contents, bad: None, problem: String::new() };
        let current = RwLock::new(Arc::new(loaded));
        Ok(Arc::new(Credentials { files, current, seen: Mutex::new(seen) }))
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// What is in use.
    pub fn current(&self) -> Arc<Loaded> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why what the files hold now is not in use; empty when it is.
    pub fn problem(&self) -> String {
        self.seen().problem.clone()
    }

    /// Reads the files again. Blocks for as long as that takes.
    pub fn refresh(&self) -> Refreshed {
        let (contents, read) = match self.files.read() {
            Ok(contents) => (contents, Ok(())),
            Err(error) => (Contents::default(), Err(error)),
        };
        let mut seen = self.seen();
        if seen.used == contents {
            seen.bad = None;
            seen.problem.clear();
            return Refreshed::Unchanged;
        }
        match read.and_then(|()| self.files.parse(&contents)) {
            Ok(loaded) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                *seen = Seen { used: contents, bad: None, problem: String::new() };
                Refreshed::Replaced
            }
            Err(error) => seen.refuse(contents, error),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Files that are replaced one by one do not fit for a moment: only what was found twice is said.
    fn refuse(&mut self, contents: Contents, error: TlsError) -> Refreshed {
        let found = self.bad.take().filter(|(bad, _)| *bad == contents);
        let (twice, said) = (found.is_some(), found.is_some_and(|(_, said)| said));
        self.bad = Some((contents, twice));
        if !twice || said {
            return Refreshed::Unchanged;
        }
        self.problem = error.to_string();
        Refreshed::Kept(error)
    }
}

impl Files {
    /// CA, certificate and key.
    fn read(&self) -> Result<Contents, TlsError> {
        let ca = read(&self.ca)?;
        let Some(pair) = &self.pair else { return Ok([ca, Vec::new(), Vec::new()]) };
        Ok([ca, read(&pair.certificate)?, read(&pair.key)?])
    }

    fn parse(&self, [ca, certificate, key]: &Contents) -> Result<Loaded, TlsError> {
        let roots = Arc::new(roots(&self.ca, ca)?);
        let Some(pair) = &self.pair else {
            return Ok(Loaded { roots, key: None, validity: None });
        };
        let chain = certificates(&pair.certificate, certificate)?;
        let path = || pair.certificate.clone();
        let Some(own) = chain.first() else {
            return Err(TlsError::NoCertificate { path: path() });
        };
        let validity =
            Validity::of(own).map_err(|reason| TlsError::Certificate { path: path(), reason })?;
        check_time(&pair.certificate, validity)?;
        if let Some((cluster, role)) = &self.must_name
            && Identity::of(own, cluster).is_none_or(|own| own.role != *role)
        {
            let (cluster, role) = (cluster.clone(), role.name());
            return Err(TlsError::NotNamed { path: path(), cluster, role });
        }
        let key = certified(pair, chain, key)?;
        Ok(Loaded { roots, key: Some(Arc::new(key)), validity: Some(validity) })
    }
}

/// The cryptography that all of Multiraft uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Read { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 <= FILE_BYTES_MAX {
        true => Ok(bytes),
        false => Err(TlsError::TooLarge { path: path.into(), max: FILE_BYTES_MAX }),
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| not_pem(path, &e))
}

fn not_pem(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Pem { path: path.into(), reason: error.to_string() }
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        let add = roots.add(certificate);
        add.map_err(|e| TlsError::Authority { path: path.into(), reason: e.to_string() })?;
    }
    match roots.is_empty() {
        true => Err(TlsError::NoAuthority { path: path.into() }),
        false => Ok(roots),
    }
}

fn check_time(path: &Path, validity: Validity) -> Result<(), TlsError> {
    let (path, now) = (path.to_owned(), now());
    if now > validity.not_after {
        return Err(TlsError::Expired { path, ago: Span(now - validity.not_after) });
    }
    if now < validity.not_before {
        return Err(TlsError::NotYetValid { path, until: Span(validity.not_before - now) });
    }
    Ok(())
}

fn certified(
    pair: &Pair,
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
) -> Result<CertifiedKey, TlsError> {
    let path = || pair.key.clone();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path() },
        error => not_pem(&pair.key, &error),
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        RustlsError::InconsistentKeys(_) => {
            TlsError::Mismatch { key: path(), certificate: pair.certificate.clone() }
        }
        error => TlsError::Key { path: path(), reason: error.to_string() },
    })
}
