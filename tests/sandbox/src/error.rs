//! Errors of the sandbox itself, as opposed to those of an extension.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address or port to listen on.
    #[error("the sandbox cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// The extension or the function's command does not start.
    #[error("{path}: cannot start: {source}", path = path.display())]
    Spawn {
        /// The executable.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The init phase failed; the text has the reason and the extension's own last lines.
    #[error("init failed: {0}")]
    Init(String),
    /// A call that the phase of the environment does not allow.
    #[error("the environment is {0}")]
    Phase(&'static str),
    /// A signal did not reach the process.
    #[error("cannot signal the process: {0}")]
    Signal(#[source] io::Error),
    /// A condition was not met in time.
    #[error("timed out after {0:?}: {1}")]
    Timeout(Duration, String),
    /// A certificate, key or configuration that rustls does not take.
    #[error("TLS: {0}")]
    Tls(String),
    /// Nobody has subscribed to the Telemetry API.
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
