//! Errors of the sandbox itself, not of an extension.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address or port to listen on.
    #[error("the sandbox cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// The extension or the function's command did not start.
    #[error("{path}: cannot start: {source}", path = path.display())]
    Spawn {
        /// The executable.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The init phase failed; the text has the reason and the extension's last log lines.
    #[error("init failed: {0}")]
    Init(String),
    /// The environment's phase does not allow this call.
    #[error("the environment is {0}")]
    Phase(&'static str),
    /// A signal could not be sent to the process.
    #[error("cannot signal the process: {0}")]
    Signal(#[source] io::Error),
    /// A condition was not met in time.
    #[error("timed out after {0:?}: {1}")]
    Timeout(Duration, String),
    /// rustls rejected a certificate, key or configuration.
    #[error("TLS: {0}")]
    Tls(String),
    /// No extension has subscribed to the Telemetry API.
    #[error("no extension has subscribed to the Telemetry API")]
    NoSubscription,
    /// A request to the extension got no answer.
    #[error("{to}: {reason}")]
    Request {
        /// The address.
        to: String,
        /// The cause.
        reason: String,
    },
}
