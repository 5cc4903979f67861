//! What an error of the HTTP client means.
//!
//! The outermost error would show the URL, and the deepest says what is the matter; between them are those whose types
//! say of what kind it is.

use std::error::Error;
use std::io;
use std::iter;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::core::delivery::connection_failure::{Cause, ConnectionFailure};
use crate::core::delivery::verdict::Failure;
use crate::core::echo;
use crate::edge::http_client::{self, NameError};

const NOT_TLS: &str = "no TLS is spoken on this port; write http:// in place of https://";
const CLOSED: &str = "the connection was closed before an answer";

/// The failure of a request that was not answered.
pub(super) fn of(error: &http_client::Error) -> Failure {
    let links = || iter::successors(error.source(), |link| deeper(*link));
    let cause = links().filter_map(cause).last().unwrap_or(Cause::Other);
    let words = match (cause, links().last()) {
        (Cause::NotTls, _) => NOT_TLS.to_owned(),
        // The HTTP client's own words are of its channels, and which of them come is chance.
        (Cause::Closed, _) => CLOSED.to_owned(),
        // A certificate's names are among them, as the other side wrote them.
        (_, Some(deepest)) => echo::untrusted(&words(deepest), echo::UNTRUSTED_LIMIT),
        (_, None) => "the request could not be sent".to_owned(),
    };
    Failure::Connection(ConnectionFailure { cause, words })
}

/// What an error was made of. The system's errors hide theirs from `source`.
fn deeper<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// An HTTP/2 error may repeat what the other side wrote at its end.
fn words(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<h2::Error>() {
        Some(error) => match (error.get_io(), error.reason()) {
            (Some(error), _) => error.to_string(),
            (None, Some(reason)) => reason.description().to_owned(),
            (None, None) => "HTTP/2 failed".to_owned(),
        },
        None => error.to_string(),
    }
}

fn cause(error: &(dyn Error + 'static)) -> Option<Cause> {
    if error.is::<NameError>() {
        Some(Cause::Name)
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        of_system(error)
    } else if let Some(error) = error.downcast_ref::<rustls::Error>() {
        Some(of_tls(error))
    } else if let Some(error) = error.downcast_ref::<h2::Error>() {
        of_http2(error)
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        of_http(error)
    } else {
        None
    }
}

fn of_system(error: &io::Error) -> Option<Cause> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Cause::Refused),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::TimedOut => Some(Cause::Unreachable),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(Cause::Closed),
        // HTTP/2 keeps of TLS's own error the words only. What a server refuses once the handshake is over is, in TLS
        // 1.3, the client's certificate.
        io::ErrorKind::InvalidData => Some(Cause::ClientCertificate),
        _ => None,
    }
}

fn of_tls(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Cause::NotTls,
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::NoApplicationProtocol
        | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Cause::NoCommonProtocol,
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => Cause::ClientCertificate,
        _ => Cause::Tls,
    }
}

fn of_certificate(error: &CertificateError) -> Cause {
    match error {
        // An authority of the same name whose key is another one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::UnknownAuthority,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Cause::WrongName
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Cause::Expired,
        _ => Cause::Certificate,
    }
}

fn of_http2(error: &h2::Error) -> Option<Cause> {
    match error.get_io() {
        Some(error) => of_system(error),
        None if error.is_library() => Some(Cause::NotHttp2),
        None => None,
    }
}

fn of_http(error: &hyper::Error) -> Option<Cause> {
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        Some(Cause::Closed)
    } else if error.is_parse() || error.source().is_none() {
        // What has neither a source nor a name of its own is a server that speaks before it is asked, as HTTP/2's do.
        Some(Cause::NotHttp1)
    } else {
        None
    }
}
