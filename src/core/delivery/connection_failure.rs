//! Connection failures, classified by their remedy.

use std::fmt;

/// A connection that failed or broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFailure {
    /// The kind of cause, for decisions.
    pub cause: Cause,
    /// The error text of the system or of TLS. Holds nothing that the other side wrote.
    pub detail: String,
}

/// The cause of a connection failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host name does not resolve.
    Name,
    /// The connection was refused: nothing listens on the port, or a firewall rejects it.
    Refused,
    /// The host is unreachable.
    Unreachable,
    /// The other side closed the connection before it answered.
    Closed,
    /// The port does not speak TLS.
    NotTls,
    /// The certificate was issued by an authority that is not trusted.
    UnknownAuthority,
    /// The certificate is for another name.
    WrongName,
    /// The certificate has expired or is not yet valid.
    Expired,
    /// The certificate is invalid for another reason.
    Certificate,
    /// The client certificate is missing or rejected.
    ClientCertificate,
    /// The other side does not support our application protocol: for gRPC, HTTP/2.
    NoCommonProtocol,
    /// TLS failed for another reason.
    Tls,
    /// The answer is not HTTP/1.1.
    NotHttp1,
    /// The answer is not HTTP/2.
    NotHttp2,
    /// Anything else.
    Other,
}

impl ConnectionFailure {
    /// Returns a failure of this cause.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
