//! What an attempt to export came to, and whether the same batch is worth another.
//!
//! The rules are the OTLP specification's: which HTTP statuses and gRPC codes are worth another attempt, and that all
//! others are final. A failure's message never hold anything the backend wrote, because its answer can echo the ingestion
//! key; of a partial success the message is kept, as [`BackendMessage`].

use std::fmt;
use std::time::Duration;

use crate::delivery::connection_failure::ConnectionFailure;
use crate::echo;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend has the batch; `rejected` items of it were refused one by one (`partial_success`).
    Accepted {
        /// Items that the backend threw away. It may be more than were sent: that is the backend's word.
        rejected: usize,
        /// The reason, as the backend gives it.
        message: Option<BackendMessage>,
    },
    /// The same batch may go through later.
    Retry {
        /// Why not now.
        failure: Failure,
        /// How long the backend asked to wait (`Retry-After`, `RetryInfo`).
        after: Option<Duration>,
    },
    /// A smaller batch may go through.
    TooLarge(Failure),
    /// The same batch will never go through.
    Refused(Failure),
}

/// Words of the backend that may stand in a line of our log: escaped, cut, and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendMessage(String);

impl BackendMessage {
    /// Takes the `secrets` out of the message; `None` where there are no message.
    pub fn new<'s>(message: &str, secrets: impl IntoIterator<Item = &'s str>) -> Option<Self> {
        let message = message.trim();
        (!message.is_empty()).then(|| Self(echo::redacted(message, secrets)))
    }
}

impl fmt::Display for BackendMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it says: {}", self.0)
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An HTTP status.
    Http(u16),
    /// An HTTP status that redirects.
    Redirect {
        /// The status.
        status: u16,
        /// Scheme, host and port of the new location.
        to: Option<String>,
    },
    /// An HTTP status with an answer that no OTLP endpoint gives, but a web firewall or a proxy.
    Firewall(u16),
    /// A gRPC status code.
    Grpc(i32),
    /// No answer within the request timeout.
    Timeout,
    /// No answer when the flush had to end.
    FlushTimeout,
    /// The connection could not be made or broke.
    Connection(ConnectionFailure),
    /// The answer was not OTLP's.
    Answer(&'static str),
    /// The exporter's own task ended without a verdict.
    Panicked,
}

impl Verdict {
    /// The backend has the whole batch.
    pub const ACCEPTED: Self = Self::Accepted { rejected: 0, message: None };

    /// A failure after which the same batch may go through, whenever.
    pub fn retry(failure: Failure) -> Self {
        Self::Retry { failure, after: None }
    }

    /// The verdict of an HTTP answer's status and its `Retry-After`.
    pub fn of_http(status: u16, after: Option<Duration>) -> Self {
        let failure = Failure::Http(status);
        match status {
            200..=299 => Self::ACCEPTED,
            413 => Self::TooLarge(failure),
            429 | 502 | 503 | 504 => Self::Retry { failure, after },
            _ => Self::Refused(failure),
        }
    }

    /// The verdict of a gRPC status code and its `RetryInfo`, without which RESOURCE_EXHAUSTED is final for this batch;
    /// it is also what servers say to a message over their limit.
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
    /// Returns true if the backend refused the key. The refusal of a web firewall is not one: it did not check the key.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Http(401 | 403) | Self::Grpc(7 | 16))
    }
}

/// The failure alone. What to do about it depends on the settings, and is in `config::diagnosis`.
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
                write!(f, "gave an answer that is not OTLP: {what}; check host, port and protocol")
            }
            Self::Panicked => f.write_str("was not asked: the exporter panicked on this batch"),
        }
    }
}

/// The name that gRPC's documentation gives a status code.
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
    fn http_statuses_are_retried_as_the_specification_lists_them() {
        let retried: Vec<u16> = (100..600)
            .filter(|status| matches!(Verdict::of_http(*status, None), Verdict::Retry { .. }))
            .collect();
        assert_eq!(retried, [429, 502, 503, 504]);
        assert_eq!(Verdict::of_http(200, None), Verdict::ACCEPTED);
        assert_eq!(Verdict::of_http(301, SOON), Verdict::Refused(Failure::Http(301)));
        assert_eq!(Verdict::of_http(413, None), Verdict::TooLarge(Failure::Http(413)));
    }

    #[test]
    fn grpc_codes_are_retried_as_the_specification_lists_them() {
        let retried = |after| -> Vec<i32> {
            let is_retried = |code: &i32| matches!(Verdict::of_grpc(*code, after), Verdict::Retry { .. });
            (0..=20).filter(is_retried).collect()
        };
        assert_eq!(retried(None), [1, 4, 10, 11, 14, 15]);
        assert_eq!(retried(SOON), [1, 4, 8, 10, 11, 14, 15]);
        assert_eq!(Verdict::of_grpc(8, None), Verdict::TooLarge(Failure::Grpc(8)));
    }

    #[test]
    fn what_the_backend_wishes_is_kept_with_the_verdict() {
        assert_eq!(Verdict::of_http(503, SOON), Verdict::Retry { failure: Failure::Http(503), after: SOON });
        assert_eq!(Verdict::of_grpc(14, SOON), Verdict::Retry { failure: Failure::Grpc(14), after: SOON });
    }
}
