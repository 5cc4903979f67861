//! OTLP over gRPC: the three export calls.
//!
//! A unary call is one message behind five bytes, so it is read here rather than by tonic's server, whose answers OTLP
//! gives another sense: it says OUT_OF_RANGE of a message too large, which tells an exporter to try again for ever, and
//! INTERNAL of broken gzip.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Frame;
use hyper::body::Incoming;
use prost::Message as _;
use tonic::{Code, Status};

use crate::core::body_budget::HeldBytes;
use crate::core::otlp::google_rpc::{self, Any, Delay, RetryInfo};
use crate::core::signal::Signal;
use crate::edge::http::{BodyError, Received, discard_body, receive_body};
use crate::edge::receiver::answer::Answer;
use crate::edge::receiver::compression::{Compression, DecompressError};
use crate::edge::receiver::refusals::Kind;
use crate::edge::receiver::{Arrival, Intake, Receiver, Refusal, disabled};

/// A flag that tells whether the message is compressed, and its length.
const PREFIX_LEN: usize = 5;

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// A call that is refused.
struct Refused {
    kind: Kind,
    status: Status,
}

/// Says whether a request is gRPC, or a dialect of it.
pub(super) fn is_meant(head: &HeaderMap) -> bool {
    content_type(head).starts_with("application/grpc")
}

pub(super) async fn answer<I: Intake>(
    request: Request<Incoming>,
    port: u16,
    receiver: &Receiver<I>,
) -> Response<Answer> {
    // Before anything else, as gRPC asks: a client that speaks something else could not read a gRPC answer.
    if !is_grpc(request.headers()) || request.version() < Version::HTTP_2 {
        receiver.refusals.note(Kind::ContentType, port, || {
            format!(
                "{:?} with content type {}; set the exporter's protocol to grpc or http/protobuf",
                request.version(),
                content_type(request.headers())
            )
        });
        let (head, mut body) = request.into_parts();
        if head.version < Version::HTTP_2 {
            discard_body(&head.headers, &mut body).await;
        }
        return refusal_in_http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if request.method() != Method::POST {
        receiver.refusals.note(Kind::Method, port, || format!("a gRPC call by {}", request.method()));
        return refusal_in_http(StatusCode::METHOD_NOT_ALLOWED);
    }
    match export(request, port, receiver).await {
        Ok(()) => exported(),
        Err(Refused { kind, status }) => {
            receiver.refusals.note(kind, port, || format!("gRPC: {}", status.message()));
            let (head, ()) = status.into_http::<()>().into_parts();
            Response::from_parts(head, Answer::default())
        }
    }
}

fn content_type(head: &HeaderMap) -> &str {
    head.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn is_grpc(head: &HeaderMap) -> bool {
    content_type(head)
        .strip_prefix("application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(';') || rest.starts_with("+proto"))
}

/// An empty `Export…ServiceResponse`, which is no bytes, whatever the signal.
fn exported() -> Response<Answer> {
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let message = Bytes::from_static(&[0; PREFIX_LEN]);
    let mut response = Response::new(Answer::of(vec![Frame::data(message), Frame::trailers(trailers)]));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn refusal_in_http(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::default());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

async fn export<I: Intake>(
    request: Request<Incoming>,
    port: u16,
    receiver: &Receiver<I>,
) -> Result<(), Refused> {
    let served = &receiver.served;
    let (head, mut body) = request.into_parts();
    let path = head.uri.path();
    let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path) else {
        let message = format!("there is no method {path} here, only OTLP's Export");
        return Err(Kind::Path.with(Status::unimplemented(message)));
    };
    if !served.endpoints.of(signal).enabled {
        return Err(Kind::Disabled.with(Status::unimplemented(disabled(signal))));
    }
    let compression = match head.headers.get(ENCODING) {
        Some(name) => Compression::named(name.as_bytes()).ok_or_else(|| unknown_encoding(name))?,
        None => Compression::Identity,
    };
    let limit = served.grpc_message_limit;
    let call = receive_body(&mut body, limit.saturating_add(PREFIX_LEN), &receiver.budget).await;
    let Received { bytes, mut held } = call.map_err(|error| match error {
        BodyError::TooLarge { .. } => too_large(limit.min(receiver.budget.limit())),
        BodyError::TooSlow => Kind::Incomplete.with(Status::deadline_exceeded(error.to_string())),
        BodyError::Broken => Kind::Incomplete.with(Status::cancelled(error.to_string())),
        BodyError::NoRoom => Kind::NoRoom.with(try_again(error.to_string())),
    })?;
    let _turn = receiver.turn.lock().await;
    let message = decompressed(bytes, compression, limit, &mut held).await?;
    let arrival = Arrival { port, path, is_empty: message.is_empty() };
    receiver.accept(signal, message, arrival).await.map_err(|refusal| {
        let message = refusal.to_string();
        refusal.kind().with(match refusal {
            Refusal::Malformed(_) => Status::invalid_argument(message),
            Refusal::Busy => try_again(message),
            Refusal::LargerThanBuffer { .. } | Refusal::Amplified(_) => Status::resource_exhausted(message),
        })
    })
}

/// The only message of a call.
async fn decompressed(
    mut call: Bytes,
    compression: Compression,
    limit: usize,
    held: &mut HeldBytes,
) -> Result<Bytes, Refused> {
    let (Ok(flag), Ok(len)) = (call.try_get_u8(), call.try_get_u32()) else {
        return Err(Kind::Corrupt.with(Status::invalid_argument("the call holds no message")));
    };
    if call.len() as u64 != u64::from(len) {
        return Err(Kind::Corrupt.with(Status::invalid_argument(format!(
            "the call is to hold one message of {len} bytes and holds {} bytes",
            call.len()
        ))));
    }
    let compression = match (flag, compression) {
        (0, _) => Compression::Identity,
        // So gRPC has it.
        (1, Compression::Identity) => {
            let message = "the message is compressed, and grpc-encoding does not say how";
            return Err(Kind::Encoding.with(Status::internal(message)));
        }
        (1, compression) => compression,
        _ => {
            let message = "the message is neither compressed nor not compressed";
            return Err(Kind::Corrupt.with(Status::invalid_argument(message)));
        }
    };
    compression.decompress(call, limit, held).await.map_err(|error| match error {
        DecompressError::TooLarge { limit } => too_large(limit),
        DecompressError::Corrupt(_) => Kind::Corrupt.with(Status::invalid_argument(error.to_string())),
        DecompressError::NoRoom => Kind::NoRoom.with(try_again(error.to_string())),
    })
}

/// UNAVAILABLE with the wish to be asked again in a second.
fn try_again(message: String) -> Status {
    let retry_info = RetryInfo { retry_delay: Some(Delay { seconds: 1, nanos: 0 }) };
    let detail = Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: retry_info.encode_to_vec(),
    };
    let status = google_rpc::Status {
        code: Code::Unavailable.into(),
        message: message.clone().into_bytes(),
        details: vec![detail],
    };
    Status::with_details(Code::Unavailable, message, status.encode_to_vec().into())
}

impl Kind {
    fn with(self, status: Status) -> Refused {
        Refused { kind: self, status }
    }
}

/// In OTLP this says, without details about a retry, that there is to be none.
fn too_large(limit: usize) -> Refused {
    Kind::TooLarge.with(Status::resource_exhausted(format!(
        "the message is larger than the limit of {limit} bytes; let the exporter send smaller batches"
    )))
}

fn unknown_encoding(name: &HeaderValue) -> Refused {
    let name = String::from_utf8_lossy(name.as_bytes());
    let names = Compression::NAMES;
    let mut status =
        Status::unimplemented(format!("the encoding {name} is not known here, only one of {names}"));
    if let Ok(names) = names.parse() {
        status.metadata_mut().insert(ACCEPT_ENCODING, names);
    }
    Kind::Encoding.with(status)
}
