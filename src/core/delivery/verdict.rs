//! The verdict on an export attempt, which decides about retries.
//!
//! The OTLP specification lists the HTTP statuses and gRPC codes that are retried. All others are final. The text of a
//! failure holds nothing that the backend wrote, because its answer can echo the ingestion key. Only the message of a partial
//! success is kept, as a [`BackendMessage`].

use std::fmt;
use std::time::Duration;

use crate::delivery::connection_failure::ConnectionFailure;
use crate::echo;

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend accepted the batch except for `rejected` items (`partial_success`).
    Accepted {
        /// Items that the backend rejected. The backend may claim more than were sent.
        rejected: usize,
        /// The reason that the backend gave.
        message: Option<BackendMessage>,
    },
    /// The same batch may be accepted later.
    Retry {
        /// The cause.
        failure: Failure,
        /// The wait that the backend requested (`Retry-After`, `RetryInfo`).
        after: Option<Duration>,
    },
    /// A smaller batch may be accepted.
    TooLarge(Failure),
    /// The same batch will never be accepted.
    Refused(Failure),
}

/// A message of the backend that is safe to log: escaped, truncated, and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendMessage(String);

impl BackendMessage {
    /// Redacts the `secrets` in the message; `None` if it is empty.
    pub fn new<'s>(message: &str, secrets: impl IntoIterator<Item = &'s str>) -> Option<Self> {
        let message = message.trim();
        (!message.is_empty()).then(|| Self(echo::redacted(message, secrets)))
    }
}

impl fmt::Display for BackendMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend message: {}", self.0)
    }
}

/// The cause of a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An HTTP status.
    Http(u16),
    /// An HTTP redirect.
    Redirect {
        /// The status.
        status: u16,
        /// The scheme, host and port of the new location.
        to: Option<String>,
    },
    /// An HTTP status with an answer that comes from a web firewall or a proxy, not from an OTLP endpoint.
    Firewall(u16),
    /// A gRPC status code.
    Grpc(i32),
    /// No answer within the request timeout.
    Timeout,
    /// No answer when the flush had to end.
    FlushTimeout,
    /// The connection failed or broke.
    Connection(ConnectionFailure),
    /// The answer is not OTLP.
    Answer(&'static str),
    /// The exporter's task panicked.
    Panicked,
}

impl Verdict {
    /// The backend accepted the whole batch.
    pub const ACCEPTED: Self = Self::Accepted { rejected: 0, message: None };

    /// A failure that may be retried without a requested wait.
    pub fn retry(failure: Failure) -> Self {
        Self::Retry { failure, after: None }
    }

    /// The verdict for an HTTP status and its `Retry-After`.
    pub fn of_http(status: u16, after: Option<Duration>) -> Self {
        let failure = Failure::Http(status);
        match status {
            200..=299 => Self::ACCEPTED,
            413 => Self::TooLarge(failure),
            429 | 502 | 503 | 504 => Self::Retry { failure, after },
            _ => Self::Refused(failure),
        }
    }

    /// The verdict for a gRPC status code and its `RetryInfo`. Without one, RESOURCE_EXHAUSTED is final for this batch. Servers
    /// also use that code for a message over their limit.
    pub fn of_grpc(code: i32, after: Option<Duration>) -> Self {
        let failure = Failure::Grpc(code);
        match code {
            0 => Self::ACCEPTED,
            // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
            1 | 4 | 10 | 11 | 14 | 15 => Self::Retry { failure, after },
            8 if after.is_some() => Self::Retry { failure, after },
            8 => Self::TooLarge(failure),
            _ => Self::Refused(failure),
        }
    }
}

impl Failure {
    /// Returns true if the backend refused the key. A web firewall does not check the key, so its refusal does not count.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Http(401 | 403) | Self::Grpc(7 | 16))
    }
}

/// The failure alone. Its remedy depends on the settings, and is in `config::diagnosis`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) | Self::Redirect { status, .. } | Self::Firewall(status) => {
                write!(f, "answered HTTP {status}")
            }
            Self::Grpc(code) => write!(f, "answered gRPC {}", grpc_name(*code)),
            Self::Timeout => f.write_str(
                "did not answer within the request timeout; if the endpoint is slow, increase ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT",
            ),
            Self::FlushTimeout => {
                f.write_str("did not answer before the flush had to end; if the endpoint is slow, increase ROTEL_FLUSH_TIMEOUT")
            }
            Self::Connection(cause) => write!(f, "could not be reached: {cause}"),
            Self::Answer(what) => {
                write!(f, "sent an answer that is not OTLP: {what}; check host, port and protocol")
            }
            Self::Panicked => f.write_str("did not get the batch: the exporter panicked on it"),
        }
    }
}

/// The name of a gRPC status code.
fn grpc_name(code: i32) -> &'static str {
    match code {
        0 => "OK",
        1 => "CANCELLED",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_secs(3));

    #[test]
    fn http_statuses_are_retried_as_specified() {
        let retried: Vec<u16> = (100..600)
            .filter(|status| matches!(Verdict::of_http(*status, None), Verdict::Retry { .. }))
            .collect();
        assert_eq!(retried, [429, 502, 503, 504]);
        assert_eq!(Verdict::of_http(200, None), Verdict::ACCEPTED);
        assert_eq!(Verdict::of_http(301, SOON), Verdict::Refused(Failure::Http(301)));
        assert_eq!(Verdict::of_http(413, None), Verdict::TooLarge(Failure::Http(413)));
    }

    #[test]
    fn grpc_codes_are_retried_as_specified() {
        let retried = |after| -> Vec<i32> {
            let is_retried = |code: &i32| matches!(Verdict::of_grpc(*code, after), Verdict::Retry { .. });
            (0..=20).filter(is_retried).collect()
        };
        assert_eq!(retried(None), [1, 4, 10, 11, 14, 15]);
        assert_eq!(retried(SOON), [1, 4, 8, 10, 11, 14, 15]);
        assert_eq!(Verdict::of_grpc(8, None), Verdict::TooLarge(Failure::Grpc(8)));
    }

    #[test]
    fn requested_wait_is_kept_with_the_verdict() {
        assert_eq!(Verdict::of_http(503, SOON), Verdict::Retry { failure: Failure::Http(503), after: SOON });
        assert_eq!(Verdict::of_grpc(14, SOON), Verdict::Retry { failure: Failure::Grpc(14), after: SOON });
    }
}
