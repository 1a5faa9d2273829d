//! From when to when a certificate is valid.

use rustls::pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use webpki::{EndEntityCert, Error, KeyUsage};

/// Both ends are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: u64,
    pub not_after: u64,
}

impl Validity {
    /// Of one certificate. The library tells these times only of a certificate that it refuses for
    /// them, so it is asked about the first and the last second there is.
    ///
    /// # Errors
    /// What is wrong with the certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|e| e.to_string())?;
        let refused_at = |seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let usage = KeyUsage::server_auth();
            certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
        };
        let not_before = match refused_at(0) {
            Some(Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
            Some(Error::InvalidCertValidity | Error::BadDer | Error::BadDerTime) => {
                return Err("it ends before it begins, or has no such times".into());
            }
            _ => 0,
        };
        let not_after = match refused_at(u64::MAX) {
            Some(Error::CertExpired { not_after, .. }) => not_after.as_secs(),
            _ => u64::MAX,
        };
        Ok(Validity { not_before, not_after })
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time as people say it: in its largest two units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours) = (self.0 / 86_400, self.0 / 3600 % 24);
        let (minutes, seconds) = (self.0 / 60 % 60, self.0 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {seconds} s"),
            (0, ..) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units() {
        for (seconds, text) in
            [(5, "5 s"), (65, "1 min 5 s"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
