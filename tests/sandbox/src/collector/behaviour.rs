//! The collector's behaviour: it accepts requests, unless a test sets otherwise.

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use crate::otlp::Signal;

/// The treatment of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Behaviour {
    /// Kept and acknowledged.
    #[default]
    Accept,
    /// Kept and acknowledged after this delay.
    Slow(Duration),
    /// Read, not kept and never answered.
    Hang,
    /// Rejected.
    Refuse(Refusal),
    /// Kept, and acknowledged as a partial success that claims to reject some items.
    PartialSuccess {
        /// The number of rejected items sent to the client.
        rejected: i64,
    },
    /// Rejected with 413 or RESOURCE_EXHAUSTED if it is larger after decompression, like behind a proxy with a lower limit than
    /// the collector's.
    Limit {
        /// The maximum size of an HTTP body or a gRPC message.
        bytes: usize,
    },
    /// The connection is closed in the middle of the body; nothing is kept.
    CutRequest {
        /// The bytes of the body on the wire that are read first.
        after: usize,
    },
    /// Kept, then the connection is closed instead of answering.
    CutAnswer,
}

impl Behaviour {
    /// The size limit of a request, in bytes; at most `most`.
    pub(super) fn limit(&self, most: usize) -> usize {
        match self {
            Self::Limit { bytes } => most.min(*bytes),
            _ => most,
        }
    }
}

/// An error answer, for both protocols.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The status over HTTP.
    pub status: u16,
    /// The code over gRPC.
    pub code: Code,
    /// `Retry-After` in whole seconds over HTTP, `RetryInfo` over gRPC.
    pub retry_after: Option<Duration>,
    /// The message for humans.
    pub message: String,
}

impl Refusal {
    /// An HTTP status and the corresponding gRPC code.
    pub fn status(status: u16) -> Self {
        let code = match status {
            400 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            413 | 429 => Code::ResourceExhausted,
            500 => Code::Internal,
            504 => Code::DeadlineExceeded,
            502 | 503 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Self { status, code, retry_after: None, message: format!("refused with {status} by the test") }
    }

    /// Replaces the gRPC code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Asks the client to retry after this time.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Replaces the message.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The gRPC status.
    pub(super) fn grpc(&self) -> Status {
        match self.retry_after {
            None => Status::new(self.code, self.message.clone()),
            Some(_) => Status::with_details(self.code, self.message.clone(), self.encode().into()),
        }
    }

    /// Encodes `google.rpc.Status` as protobuf: the body of an OTLP/HTTP error, and the details of a gRPC one.
    pub(super) fn encode(&self) -> Vec<u8> {
        let details = self.retry_after.map(|wait| RpcAny {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: RpcRetryInfo {
                retry_delay: Some(RpcDuration {
                    seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                    nanos: i32::try_from(wait.subsec_nanos()).unwrap_or(0),
                }),
            }
            .encode_to_vec(),
        });
        RpcStatus {
            code: i32::from(self.code),
            message: self.message.clone(),
            details: details.into_iter().collect(),
        }
        .encode_to_vec()
    }
}

/// The rules that choose a behaviour. The first that matches applies.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    signal: Option<Signal>,
    remaining: Option<usize>,
    behaviour: Behaviour,
}

impl Rules {
    /// Sets the behaviour for all requests, and clears all earlier rules.
    pub(super) fn set(&mut self, behaviour: Behaviour) {
        self.0 = vec![Rule { signal: None, remaining: None, behaviour }];
    }

    /// Sets the behaviour for one signal.
    pub(super) fn set_for(&mut self, signal: Signal, behaviour: Behaviour) {
        self.0.retain(|rule| rule.signal != Some(signal));
        self.0.insert(0, Rule { signal: Some(signal), remaining: None, behaviour });
    }

    /// Sets the behaviour for the next `requests` requests; it precedes every other rule.
    pub(super) fn set_next(&mut self, requests: usize, behaviour: Behaviour) {
        self.0.insert(0, Rule { signal: None, remaining: Some(requests), behaviour });
    }

    pub(super) fn choose(&mut self, signal: Signal) -> Behaviour {
        self.0.retain(|rule| rule.remaining != Some(0));
        let fits = |rule: &&mut Rule| rule.signal.is_none_or(|only| only == signal);
        let Some(rule) = self.0.iter_mut().find(fits) else { return Behaviour::Accept };
        rule.remaining = rule.remaining.map(|left| left - 1);
        rule.behaviour.clone()
    }
}

// The few google.rpc messages that OTLP errors consist of.

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcAny>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcRetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_for_next_requests_ends() {
        let mut rules = Rules::default();
        assert_eq!(rules.choose(Signal::Logs), Behaviour::Accept);
        rules.set(Behaviour::Hang);
        rules.set_next(1, Behaviour::CutAnswer);
        assert_eq!(rules.choose(Signal::Logs), Behaviour::CutAnswer);
        assert_eq!(rules.choose(Signal::Logs), Behaviour::Hang);
    }

    #[test]
    fn rule_for_one_signal_spares_others() {
        let mut rules = Rules::default();
        rules.set_for(Signal::Traces, Behaviour::Hang);
        assert_eq!(rules.choose(Signal::Logs), Behaviour::Accept);
        assert_eq!(rules.choose(Signal::Traces), Behaviour::Hang);
    }
}
