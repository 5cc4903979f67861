//! OTLP over gRPC: the three export calls.
//!
//! A unary call is one message after a prefix of five bytes, so it is parsed here rather than by tonic's
//! server, whose status codes have another meaning in OTLP: for a message that is too large it returns
//! OUT_OF_RANGE, which makes an exporter retry forever, and for invalid gzip INTERNAL.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Frame;
use hyper::body::Incoming;
use prost::Message as _;
use tonic::{Code, Status};

use crate::edge::body::WholeBody;
use crate::edge::http::{BodyError, ReceivedBody, discard_body, receive_body};
use crate::edge::receiver::compression::{ContentEncoding, DecompressError};
use crate::edge::receiver::refusals::RefusalKind;
use crate::edge::receiver::{OtlpIntake, ReceiverState, RequestRefusal, RequestTarget, disabled};
use rotel_core::body_budget::HeldBytes;
use rotel_core::otlp::google_rpc::{self, Any, Delay, RetryInfo};
use rotel_core::signal::Signal;

/// The length of the prefix: a compression flag and the message length.
const PREFIX_LEN: usize = 5;

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// A refused call.
struct RefusedCall {
    kind: RefusalKind,
    status: Status,
}

/// Returns true if a request is gRPC or a variant of it.
pub(super) fn claims_grpc(head: &HeaderMap) -> bool {
    content_type(head).starts_with("application/grpc")
}

pub(super) async fn answer<I: OtlpIntake>(
    request: Request<Incoming>,
    port: u16,
    receiver: &ReceiverState<I>,
) -> Response<WholeBody> {
    // First of all, as gRPC requires: other clients could not read a gRPC response.
    if !is_grpc(request.headers()) || request.version() < Version::HTTP_2 {
        receiver.refusals.record(RefusalKind::ContentType, port, || {
            format!(
                "unsupported gRPC request ({:?}, content type {}); set the exporter's protocol to grpc or http/protobuf",
                request.version(),
                content_type(request.headers())
            )
        });
        let (head, mut body) = request.into_parts();
        if head.version < Version::HTTP_2 {
            discard_body(&head.headers, &mut body).await;
        }
        return http_refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if request.method() != Method::POST {
        receiver.refusals.record(RefusalKind::Method, port, || {
            format!("gRPC request with method {}; use POST", request.method())
        });
        return http_refusal(StatusCode::METHOD_NOT_ALLOWED);
    }
    match export(request, port, receiver).await {
        Ok(()) => export_response(),
        Err(RefusedCall { kind, status }) => {
            receiver.refusals.record(kind, port, || format!("gRPC: {}", status.message()));
            let (head, ()) = status.into_http::<()>().into_parts();
            Response::from_parts(head, WholeBody::default())
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

/// An empty `Export…ServiceResponse`, which has no bytes, for any signal.
fn export_response() -> Response<WholeBody> {
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let message = Bytes::from_static(&[0; PREFIX_LEN]);
    let mut response = Response::new(WholeBody::of(vec![Frame::data(message), Frame::trailers(trailers)]));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn http_refusal(status: StatusCode) -> Response<WholeBody> {
    let mut response = Response::new(WholeBody::default());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

async fn export<I: OtlpIntake>(
    request: Request<Incoming>,
    port: u16,
    receiver: &ReceiverState<I>,
) -> Result<(), RefusedCall> {
    let options = &receiver.options;
    let (head, mut body) = request.into_parts();
    let path = head.uri.path();
    let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path) else {
        let message = format!("unknown gRPC method {path}; only OTLP's Export methods are served");
        return Err(RefusalKind::Path.with(Status::unimplemented(message)));
    };
    if !options.endpoints.of(signal).enabled {
        return Err(RefusalKind::Disabled.with(Status::unimplemented(disabled(signal))));
    }
    let encoding = match head.headers.get(ENCODING) {
        Some(name) => ContentEncoding::parse(name.as_bytes()).ok_or_else(|| unknown_encoding(name))?,
        None => ContentEncoding::Identity,
    };
    let limit = options.grpc_message_limit;
    let call = receive_body(&mut body, limit.saturating_add(PREFIX_LEN), &receiver.budget).await;
    let ReceivedBody { bytes, mut held } = call.map_err(|error| match error {
        BodyError::TooLarge { .. } => too_large(limit.min(receiver.budget.limit())),
        BodyError::TooSlow => RefusalKind::Incomplete.with(Status::deadline_exceeded(error.to_string())),
        BodyError::Broken => RefusalKind::Incomplete.with(Status::cancelled(error.to_string())),
        BodyError::NoRoom => RefusalKind::NoRoom.with(try_again(error.to_string())),
    })?;
    let _conversion = receiver.conversion.lock().await;
    let message = decompressed(bytes, encoding, limit, &mut held).await?;
    let target = RequestTarget { port, path, is_empty: message.is_empty() };
    receiver.accept(signal, message, target).await.map_err(|refusal| {
        let message = refusal.to_string();
        refusal.kind().with(match refusal {
            RequestRefusal::Malformed(_) => Status::invalid_argument(message),
            RequestRefusal::Busy => try_again(message),
            RequestRefusal::LargerThanBuffer { .. } | RequestRefusal::Amplified(_) => {
                Status::resource_exhausted(message)
            }
        })
    })
}

/// Returns the only message of a call, decompressed.
async fn decompressed(
    mut call: Bytes,
    encoding: ContentEncoding,
    limit: usize,
    held: &mut HeldBytes,
) -> Result<Bytes, RefusedCall> {
    let (Ok(flag), Ok(len)) = (call.try_get_u8(), call.try_get_u32()) else {
        return Err(RefusalKind::Corrupt.with(Status::invalid_argument("the request contains no message")));
    };
    if call.len() as u64 != u64::from(len) {
        return Err(RefusalKind::Corrupt.with(Status::invalid_argument(format!(
            "the request must contain one message of {len} bytes, but contains {} bytes",
            call.len()
        ))));
    }
    let encoding = match (flag, encoding) {
        (0, _) => ContentEncoding::Identity,
        // gRPC requires this status.
        (1, ContentEncoding::Identity) => {
            let message = "the message is compressed, but the header grpc-encoding is missing";
            return Err(RefusalKind::Encoding.with(Status::internal(message)));
        }
        (1, encoding) => encoding,
        _ => {
            let message = "the message has an invalid compression flag";
            return Err(RefusalKind::Corrupt.with(Status::invalid_argument(message)));
        }
    };
    encoding.decompress(call, limit, held).await.map_err(|error| match error {
        DecompressError::TooLarge { limit } => too_large(limit),
        DecompressError::Corrupt(_) => RefusalKind::Corrupt.with(Status::invalid_argument(error.to_string())),
        DecompressError::NoRoom => RefusalKind::NoRoom.with(try_again(error.to_string())),
    })
}

/// UNAVAILABLE with a retry delay of one second.
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

impl RefusalKind {
    fn with(self, status: Status) -> RefusedCall {
        RefusedCall { kind: self, status }
    }
}

/// In OTLP, this status without retry details means that the client must not retry.
fn too_large(limit: usize) -> RefusedCall {
    RefusalKind::TooLarge.with(Status::resource_exhausted(format!(
        "the message is larger than the limit of {limit} bytes; send smaller batches"
    )))
}

fn unknown_encoding(name: &HeaderValue) -> RefusedCall {
    let name = String::from_utf8_lossy(name.as_bytes());
    let names = ContentEncoding::NAMES;
    let mut status = Status::unimplemented(format!("unsupported encoding {name}; use one of {names}"));
    if let Ok(names) = names.parse() {
        status.metadata_mut().insert(ACCEPT_ENCODING, names);
    }
    RefusalKind::Encoding.with(status)
}
