//! OTLP over HTTP/1.1: protobuf and JSON.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::Code;

use crate::core::otlp::json_to_protobuf;
use crate::core::signal::Signal;
use crate::edge::http::{BodyError, discard_body, read_body, serve_http1};
use crate::edge::receiver::compression::{Compression, DecompressError};
use crate::edge::receiver::{Intake, Refusal, Served, disabled};

/// How requests and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

/// An answer that is not 200.
#[derive(Debug)]
struct Rejection {
    status: StatusCode,
    code: Code,
    message: String,
    /// What this status has beside its body.
    header: Option<(HeaderName, &'static str)>,
}

/// `google.rpc.Status`, the body that OTLP asks of every answer but 200.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Serves OTLP/HTTP on the listeners for as long as the future is polled.
pub async fn serve<I: Intake>(listeners: Vec<TcpListener>, served: Arc<Served>, intake: I) -> Infallible {
    serve_http1(listeners, move |request| answer(request, Arc::clone(&served), intake.clone())).await
}

async fn answer<I: Intake>(
    request: Request<Incoming>,
    served: Arc<Served>,
    intake: I,
) -> Response<Full<Bytes>> {
    let format = Format::of(request.headers());
    let answered_in = format.unwrap_or(Format::Json);
    match export(request, format, &served, &intake).await {
        Ok(()) => answered_in.exported(),
        Err(rejection) => answered_in.rejected(&rejection),
    }
}

async fn export<I: Intake>(
    request: Request<Incoming>,
    format: Option<Format>,
    served: &Served,
    intake: &I,
) -> Result<(), Rejection> {
    let (head, mut body) = request.into_parts();
    let expected = match check_head(&head, format, served) {
        Ok(expected) => expected,
        Err(rejection) => {
            discard_body(&head.headers, &mut body).await;
            return Err(rejection);
        }
    };
    let limit = served.http_body_limit;
    let body = match read_body(&mut body, limit).await {
        Ok(body) => Bytes::from(body),
        Err(error) => {
            if matches!(error, BodyError::TooLarge { .. }) {
                discard_body(&head.headers, &mut body).await;
            }
            return Err(error.into());
        }
    };
    let body = expected.compression.decompress(body, limit)?;
    let body = match expected.format {
        Format::Protobuf => body,
        Format::Json => match json_to_protobuf(expected.signal, &body) {
            Ok(body) => Bytes::from(body.into_boxed_slice()),
            Err(error) => return Err(Rejection::malformed(format!("not an OTLP request in JSON: {error}"))),
        },
    };
    Ok(intake.accept(expected.signal, body)?)
}

/// What a request is, by its head.
struct Expected {
    signal: Signal,
    format: Format,
    compression: Compression,
}

fn check_head(
    head: &http::request::Parts,
    format: Option<Format>,
    served: &Served,
) -> Result<Expected, Rejection> {
    let path = head.uri.path();
    let Some(signal) = Signal::ALL.into_iter().find(|signal| served.endpoints.of(*signal).http_path == path)
    else {
        let paths = Signal::ALL.map(|signal| served.endpoints.of(signal).http_path.as_str()).join(", ");
        return Err(Rejection::new(
            StatusCode::NOT_FOUND,
            Code::NotFound,
            format!("there is nothing at {path}, only at {paths}"),
        ));
    };
    if !served.endpoints.of(signal).enabled {
        return Err(Rejection::new(StatusCode::NOT_FOUND, Code::Unimplemented, disabled(signal)));
    }
    if head.method != Method::POST {
        let message = format!("{} is not what {path} is for, only POST", head.method);
        return Err(Rejection::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, message)
            .with(header::ALLOW, "POST"));
    }
    let Some(format) = format else {
        let message = "the content type is to be application/x-protobuf or application/json";
        return Err(Rejection::unsupported(message.to_owned()).with(header::ACCEPT, Format::CONTENT_TYPES));
    };
    let name = head.headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let Some(compression) = Compression::named(name) else {
        let message = format!(
            "the content encoding {} is not known here, only one of {}",
            String::from_utf8_lossy(name),
            Compression::NAMES
        );
        return Err(Rejection::unsupported(message).with(header::ACCEPT_ENCODING, Compression::NAMES));
    };
    Ok(Expected { signal, format, compression })
}

impl Format {
    const CONTENT_TYPES: &'static str = "application/x-protobuf, application/json";

    fn of(head: &HeaderMap) -> Option<Self> {
        let content_type = head.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|format| kind.trim().eq_ignore_ascii_case(format.content_type()))
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// With an empty `Export…ServiceResponse`, which is written alike for every signal.
    fn exported(self) -> Response<Full<Bytes>> {
        self.response(match self {
            Self::Protobuf => Bytes::new(),
            Self::Json => Bytes::from_static(b"{}"),
        })
    }

    fn rejected(self, rejection: &Rejection) -> Response<Full<Bytes>> {
        let (code, message) = (i32::from(rejection.code), rejection.message.clone());
        let mut response = self.response(match self {
            Self::Protobuf => RpcStatus { code, message }.encode_to_vec().into(),
            Self::Json => serde_json::json!({ "code": code, "message": message }).to_string().into(),
        });
        *response.status_mut() = rejection.status;
        if let Some((name, value)) = &rejection.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn response(self, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        response
    }
}

impl Rejection {
    fn new(status: StatusCode, code: Code, message: String) -> Self {
        Self { status, code, message, header: None }
    }

    fn malformed(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    fn unsupported(message: String) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message)
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        let (status, code) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            BodyError::Broken => (StatusCode::BAD_REQUEST, Code::Cancelled),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<DecompressError> for Rejection {
    fn from(error: DecompressError) -> Self {
        match error {
            DecompressError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, error.to_string())
            }
            DecompressError::Corrupt(_) => Self::malformed(error.to_string()),
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Malformed(_) => Self::malformed(message),
            Refusal::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message)
                .with(header::RETRY_AFTER, "1"),
        }
    }
}
