//! How a connection to the backend fails, told apart by what people can do about it.

use std::fmt;

/// A connection that could not be made, or broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFailure {
    /// The kind of cause, for decisions.
    pub cause: Cause,
    /// The cause in the detail of the system or of TLS, with nothing that the other side wrote.
    pub detail: String,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host's name has no address.
    Name,
    /// Nothing listens on the port, or a firewall says so.
    Refused,
    /// There is no way to the host.
    Unreachable,
    /// The other side closed it before it had answered.
    Closed,
    /// TLS was spoken, and what came back is none.
    NotTls,
    /// The certificate is of an authority that is not trusted.
    UnknownAuthority,
    /// The certificate is of another name.
    WrongName,
    /// The certificate's time is over, or has not begun.
    Expired,
    /// Something else is wrong with the certificate.
    Certificate,
    /// A certificate of the client is missing, or not taken.
    ClientCertificate,
    /// The other side has no application protocol in common with us: for gRPC, no HTTP/2.
    NoCommonProtocol,
    /// TLS failed otherwise.
    Tls,
    /// HTTP/1.1 was spoken, and what came back is none.
    NotHttp1,
    /// HTTP/2 was spoken, and what came back is none.
    NotHttp2,
    /// Anything else.
    Other,
}

impl ConnectionFailure {
    /// A failure of a known kind.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
