//! OTLP over gRPC: the three export calls.
//!
//! A unary call is one message behind five bytes, so it is read here rather than by tonic's server, whose answers OTLP
//! gives another sense: it says OUT_OF_RANGE of a message too large, which tells an exporter to try again for ever, and
//! INTERNAL of broken gzip.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tonic::Status;

use crate::core::signal::Signal;
use crate::edge::http::{BodyError, read_body, serve_http2};
use crate::edge::receiver::compression::{Compression, DecompressError};
use crate::edge::receiver::{Intake, Refusal, Served, disabled};

/// A flag that tells whether the message is compressed, and its length.
const PREFIX_LEN: usize = 5;

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Serves OTLP/gRPC on the listeners for as long as the future is polled.
pub async fn serve<I: Intake>(listeners: Vec<TcpListener>, served: Arc<Served>, intake: I) -> Infallible {
    serve_http2(listeners, move |request| answer(request, Arc::clone(&served), intake.clone())).await
}

/// The body of an answer: a message and the trailers, or nothing where all is said in the head.
#[derive(Default)]
struct Answer {
    frames: std::vec::IntoIter<Frame<Bytes>>,
}

impl Answer {
    fn of(frames: Vec<Frame<Bytes>>) -> Self {
        Self { frames: frames.into_iter() }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.frames.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.as_slice().is_empty()
    }
}

async fn answer<I: Intake>(request: Request<Incoming>, served: Arc<Served>, intake: I) -> Response<Answer> {
    // Before anything else, as gRPC asks: a client that speaks something else could not read a gRPC answer.
    if !is_grpc(request.headers()) {
        return refusal_in_http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if request.method() != Method::POST {
        return refusal_in_http(StatusCode::METHOD_NOT_ALLOWED);
    }
    match export(request, &served, &intake).await {
        Ok(()) => exported(),
        Err(status) => status.into_http(),
    }
}

fn is_grpc(head: &HeaderMap) -> bool {
    let content_type =
        head.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type
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

async fn export<I: Intake>(request: Request<Incoming>, served: &Served, intake: &I) -> Result<(), Status> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path();
    let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path) else {
        return Err(Status::unimplemented(format!("there is no method {path} here, only OTLP's Export")));
    };
    if !served.endpoints.of(signal).enabled {
        return Err(Status::unimplemented(disabled(signal)));
    }
    let compression = match head.headers.get(ENCODING) {
        Some(name) => Compression::named(name.as_bytes()).ok_or_else(|| unknown_encoding(name))?,
        None => Compression::Identity,
    };
    let limit = served.grpc_message_limit;
    let call = read_body(&mut body, limit.saturating_add(PREFIX_LEN)).await.map_err(|error| match error {
        BodyError::TooLarge { .. } => too_large(limit),
        BodyError::TooSlow => Status::deadline_exceeded(error.to_string()),
        BodyError::Broken => Status::cancelled(error.to_string()),
    })?;
    let message = decompressed(Bytes::from(call), compression, limit)?;
    intake.accept(signal, message).map_err(|refusal| match refusal {
        Refusal::Malformed(_) => Status::invalid_argument(refusal.to_string()),
        Refusal::Busy => Status::unavailable(refusal.to_string()),
    })
}

/// The only message of a call.
fn decompressed(mut call: Bytes, compression: Compression, limit: usize) -> Result<Bytes, Status> {
    let (Ok(flag), Ok(len)) = (call.try_get_u8(), call.try_get_u32()) else {
        return Err(Status::invalid_argument("the call holds no message"));
    };
    if call.len() as u64 != u64::from(len) {
        return Err(Status::invalid_argument(format!(
            "the call is to hold one message of {len} bytes and holds {} bytes",
            call.len()
        )));
    }
    let compression = match (flag, compression) {
        (0, _) => Compression::Identity,
        // So gRPC has it.
        (1, Compression::Identity) => {
            return Err(Status::internal("the message is compressed, and grpc-encoding does not say how"));
        }
        (1, compression) => compression,
        _ => return Err(Status::invalid_argument("the message is neither compressed nor not compressed")),
    };
    compression.decompress(call, limit).map_err(|error| match error {
        DecompressError::TooLarge { .. } => too_large(limit),
        DecompressError::Corrupt(_) => Status::invalid_argument(error.to_string()),
    })
}

/// In OTLP this says, without details about a retry, that there is to be none.
fn too_large(limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the message is larger than the limit of {limit} bytes; let the exporter send smaller batches"
    ))
}

fn unknown_encoding(name: &HeaderValue) -> Status {
    let name = String::from_utf8_lossy(name.as_bytes());
    let names = Compression::NAMES;
    let mut status =
        Status::unimplemented(format!("the encoding {name} is not known here, only one of {names}"));
    if let Ok(names) = names.parse() {
        status.metadata_mut().insert(ACCEPT_ENCODING, names);
    }
    status
}
