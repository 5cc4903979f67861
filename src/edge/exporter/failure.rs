//! Classifies errors of the HTTP client.
//!
//! The outermost error names only its kind, and the innermost one says what is wrong. The errors between them
//! have types that give the cause.

use std::error::Error;
use std::io;
use std::iter;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::edge::http_client::{self, NameError};
use rotel_core::delivery::connection_failure::{Cause, ConnectionFailure};
use rotel_core::delivery::verdict::Failure;
use rotel_core::echo;

const NOT_TLS: &str = "the server does not use TLS on this port; write http:// instead of https://";
const CLOSED: &str = "connection closed before a response";

/// The failure of a request without a response.
pub(super) fn of(error: &http_client::Error) -> Failure {
    let links = || iter::successors(error.source(), |link| inner_error(*link));
    let cause = links().filter_map(cause).last().unwrap_or(Cause::Other);
    let detail = match (cause, links().last()) {
        (Cause::NotTls, _) => NOT_TLS.to_owned(),
        // The HTTP client describes its internal channels here, and which text comes is random.
        (Cause::Closed, _) => CLOSED.to_owned(),
        // The text may contain names from the server's certificate.
        (_, Some(deepest)) => echo::untrusted(&text(deepest), echo::UNTRUSTED_LIMIT),
        (_, None) => "the request could not be sent".to_owned(),
    };
    Failure::Connection(ConnectionFailure { cause, detail })
}

/// The source of an error. `io::Error` hides its inner error from `source`.
fn inner_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The text of an error. An HTTP/2 error may end with text from the other side, which is left out.
fn text(error: &(dyn Error + 'static)) -> String {
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
        cause_of_io(error)
    } else if let Some(error) = error.downcast_ref::<rustls::Error>() {
        Some(cause_of_tls(error))
    } else if let Some(error) = error.downcast_ref::<h2::Error>() {
        cause_of_http2(error)
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        cause_of_http(error)
    } else {
        None
    }
}

fn cause_of_io(error: &io::Error) -> Option<Cause> {
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
        // HTTP/2 keeps only the text of a TLS error. In TLS 1.3, a server that refuses after the handshake
        // refuses the client's certificate.
        io::ErrorKind::InvalidData => Some(Cause::ClientCertificate),
        _ => None,
    }
}

fn cause_of_tls(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Cause::NotTls,
        rustls::Error::InvalidCertificate(error) => cause_of_certificate(error),
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

fn cause_of_certificate(error: &CertificateError) -> Cause {
    match error {
        // A bad signature is an authority of the same name with another key.
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

fn cause_of_http2(error: &h2::Error) -> Option<Cause> {
    match error.get_io() {
        Some(error) => cause_of_io(error),
        None if error.is_library() => Some(Cause::NotHttp2),
        None => None,
    }
}

fn cause_of_http(error: &hyper::Error) -> Option<Cause> {
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        Some(Cause::Closed)
    } else if error.is_parse() || error.source().is_none() {
        // An error with neither a source nor a kind is a server that speaks before it is asked, as HTTP/2
        // servers do.
        Some(Cause::NotHttp1)
    } else {
        None
    }
}
