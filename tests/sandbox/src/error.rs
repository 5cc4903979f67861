//! What can go wrong with the sandbox itself, as opposed to what it shows.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// By what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address or port to listen on.
    #[error("the sandbox cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// The extension or the function's command does not start.
    #[error("{path}: cannot be started: {source}", path = path.display())]
    Spawn {
        /// What was to be run.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The init phase did not end well; the text has the reason and the extension's own last lines.
    #[error("init failed: {0}")]
    Init(String),
    /// A call at a moment when the environment cannot take it.
    #[error("the environment is {0}")]
    Phase(&'static str),
    /// A signal did not reach the process.
    #[error("the process cannot be signalled: {0}")]
    Signal(#[source] io::Error),
    /// What was waited for did not come.
    #[error("not so after {0:?}: {1}")]
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
        /// Why.
        reason: String,
    },
}
