//! Failures of TLS in words that say what to do.

use rustls::{AlertDescription, CertificateError, Error as RustlsError};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Why a handshake that we began failed.
pub fn handshake(error: Error, host: &str, ca: &Path) -> Error {
    let reason = match tls(&error) {
        Some(RustlsError::InvalidCertificate(reason)) => certificate(reason, host, ca),
        Some(RustlsError::AlertReceived(alert)) => alerted(*alert),
        Some(RustlsError::InvalidMessage(_)) => Some("it does not speak TLS".into()),
        Some(_) => None,
        None => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Some(
                "it ended the handshake: it may take plain text only (tls.mode Disabled)".into(),
            ),
            _ => None,
        },
    };
    Error::new(error.kind(), format!("TLS with {host}: {}", reason.unwrap_or(error.to_string())))
}

/// The same for what comes behind the handshake.
pub fn late(error: Error) -> Error {
    match tls(&error) {
        Some(RustlsError::AlertReceived(alert)) => match alerted(*alert) {
            Some(reason) => Error::new(error.kind(), format!("TLS: {reason}")),
            None => error,
        },
        _ => error,
    }
}

fn tls(error: &Error) -> Option<&RustlsError> {
    error.get_ref()?.downcast_ref()
}

fn certificate(reason: &CertificateError, host: &str, ca: &Path) -> Option<String> {
    Some(match reason {
        CertificateError::UnknownIssuer => {
            format!("its certificate is of no CA in {}", ca.display())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate expired; or this machine's clock is wrong".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; or this machine's clock is wrong".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate does not name {host}: ask by a name that it has, or say which")
        }
        _ => return None,
    })
}

fn alerted(alert: AlertDescription) -> Option<String> {
    Some(match alert {
        AlertDescription::CertificateRequired => {
            "it wants a certificate of ours: give certificate and key".into()
        }
        AlertDescription::UnknownCA => "our certificate is of no CA that it trusts".into(),
        AlertDescription::CertificateExpired => {
            "our certificate expired, or is not valid yet by its clock".into()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            format!("it refuses our certificate ({alert:?})")
        }
        AlertDescription::AccessDenied => {
            "our certificate does not name who may connect there".into()
        }
        AlertDescription::NoApplicationProtocol => {
            "it serves something else there: is it the right port?".into()
        }
        AlertDescription::ProtocolVersion => "it does not take TLS 1.3".into(),
        _ => return None,
    })
}
