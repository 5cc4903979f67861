//! OTLP over HTTP/1.1 or HTTP/2: protobuf and JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use prost::Message as _;
use tonic::Code;

use crate::edge::body::WholeBody;
use crate::edge::http::{BodyError, ReceivedBody, discard_body, receive_body};
use crate::edge::receiver::compression::{ContentEncoding, DecompressError};
use crate::edge::receiver::refusals::RefusalKind;
use crate::edge::receiver::{
    OtlpIntake, ReceiverOptions, ReceiverState, RequestRefusal, RequestTarget, disabled,
};
use rotel_core::otlp::google_rpc;
use rotel_core::otlp::{JsonError, json_to_protobuf};
use rotel_core::signal::Signal;

/// The longest JSON of a deliberately empty request: `{"resourceMetrics":[]}`.
const MAX_EMPTY_JSON_LEN: usize = 22;

/// The format of a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

/// A response with an error status.
#[derive(Debug)]
struct Rejection {
    kind: RefusalKind,
    status: StatusCode,
    code: Code,
    message: String,
    /// The additional header of this status.
    header: Option<(HeaderName, &'static str)>,
}

pub(super) async fn answer<I: OtlpIntake>(
    request: Request<Incoming>,
    port: u16,
    receiver: &ReceiverState<I>,
) -> Response<WholeBody> {
    let format = Format::of(request.headers());
    let response_format = format.unwrap_or(Format::Json);
    match export(request, format, port, receiver).await {
        Ok(()) => response_format.success(),
        Err(rejection) => {
            receiver.refusals.record(rejection.kind, port, || rejection.message.clone());
            response_format.failure(&rejection)
        }
    }
}

async fn export<I: OtlpIntake>(
    request: Request<Incoming>,
    format: Option<Format>,
    port: u16,
    receiver: &ReceiverState<I>,
) -> Result<(), Rejection> {
    let (head, mut body) = request.into_parts();
    let parsed = match check_head(&head, format, &receiver.options) {
        Ok(parsed) => parsed,
        Err(rejection) => {
            discard_body(&head.headers, &mut body).await;
            return Err(rejection);
        }
    };
    let limit = receiver.options.http_body_limit;
    let ReceivedBody { bytes, mut held } = match receive_body(&mut body, limit, &receiver.budget).await {
        Ok(body) => body,
        Err(error) => {
            if matches!(error, BodyError::TooLarge { .. } | BodyError::NoRoom) {
                discard_body(&head.headers, &mut body).await;
            }
            return Err(error.into());
        }
    };
    let _conversion = receiver.conversion.lock().await;
    let bytes = parsed.encoding.decompress(bytes, limit, &mut held).await?;
    let (bytes, is_empty) = match parsed.format {
        Format::Protobuf => {
            let is_empty = bytes.is_empty();
            (bytes, is_empty)
        }
        Format::Json => {
            let is_empty = bytes.trim_ascii().len() <= MAX_EMPTY_JSON_LEN;
            let converted = json_to_protobuf(parsed.signal, &bytes, limit.min(receiver.budget.limit()))?;
            drop(bytes);
            let converted = Bytes::from(converted.into_boxed_slice());
            held.shrink_to(converted.len());
            (converted, is_empty)
        }
    };
    let target = RequestTarget { port, path: head.uri.path(), is_empty };
    Ok(receiver.accept(parsed.signal, bytes, target).await?)
}

/// The facts about a request in its head.
struct RequestHead {
    signal: Signal,
    format: Format,
    encoding: ContentEncoding,
}

fn check_head(
    head: &http::request::Parts,
    format: Option<Format>,
    options: &ReceiverOptions,
) -> Result<RequestHead, Rejection> {
    let path = head.uri.path();
    let Some(signal) = signal_of(path, options) else {
        let paths = Signal::ALL.map(|signal| options.endpoints.of(signal).http_path.as_str()).join(", ");
        return Err(Rejection::new(
            RefusalKind::Path,
            StatusCode::NOT_FOUND,
            Code::NotFound,
            format!("no OTLP endpoint at {path}, only at {paths}; fix the exporter's endpoint"),
        ));
    };
    if !options.endpoints.of(signal).enabled {
        let status = StatusCode::NOT_FOUND;
        return Err(Rejection::new(RefusalKind::Disabled, status, Code::Unimplemented, disabled(signal)));
    }
    if head.method != Method::POST {
        let message = format!("method {} is not allowed at {path}; use POST", head.method);
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Rejection::new(RefusalKind::Method, status, Code::Unimplemented, message)
            .with(header::ALLOW, "POST"));
    }
    let Some(format) = format else {
        let message = format!(
            "unsupported content type at {path}; send application/x-protobuf or application/json, or set the exporter's protocol to http/protobuf or grpc"
        );
        return Err(Rejection::unsupported(RefusalKind::ContentType, message)
            .with(header::ACCEPT, Format::CONTENT_TYPES));
    };
    let name = head.headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let Some(encoding) = ContentEncoding::parse(name) else {
        let message = format!(
            "unsupported content encoding {}; use one of {}",
            String::from_utf8_lossy(name),
            ContentEncoding::NAMES
        );
        return Err(Rejection::unsupported(RefusalKind::Encoding, message)
            .with(header::ACCEPT_ENCODING, ContentEncoding::NAMES));
    };
    Ok(RequestHead { signal, format, encoding })
}

/// The signal of a path. Extra slashes are ignored, and so is another signal's path before it, which exporters
/// produce from an `OTEL_EXPORTER_OTLP_ENDPOINT` that already has a signal's path.
fn signal_of(path: &str, options: &ReceiverOptions) -> Option<Signal> {
    let path_of = |signal: Signal| options.endpoints.of(signal).http_path.as_str();
    if let Some(signal) = Signal::ALL.into_iter().find(|signal| path_of(*signal) == path) {
        return Some(signal);
    }
    let parts = |path: &str| -> String {
        path.split('/').filter(|part| !part.is_empty()).flat_map(|part| ["/", part]).collect()
    };
    let path = parts(path);
    Signal::ALL.into_iter().find(|signal| {
        let before = path.strip_suffix(&parts(path_of(*signal)));
        before.is_some_and(|before| {
            before.is_empty() || Signal::ALL.into_iter().any(|signal| parts(path_of(signal)) == before)
        })
    })
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

    /// A success with an empty `Export…ServiceResponse`, which is the same for every signal.
    fn success(self) -> Response<WholeBody> {
        self.response(match self {
            Self::Protobuf => Bytes::new(),
            Self::Json => Bytes::from_static(b"{}"),
        })
    }

    fn failure(self, rejection: &Rejection) -> Response<WholeBody> {
        let (code, message) = (i32::from(rejection.code), rejection.message.clone());
        let mut response = self.response(match self {
            Self::Protobuf => {
                let message = message.into_bytes();
                google_rpc::Status { code, message, details: Vec::new() }.encode_to_vec().into()
            }
            Self::Json => serde_json::json!({ "code": code, "message": message }).to_string().into(),
        });
        *response.status_mut() = rejection.status;
        if let Some((name, value)) = &rejection.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn response(self, body: Bytes) -> Response<WholeBody> {
        let mut response = Response::new(WholeBody::of(vec![Frame::data(body)]));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        response
    }
}

impl Rejection {
    fn new(kind: RefusalKind, status: StatusCode, code: Code, message: String) -> Self {
        Self { kind, status, code, message, header: None }
    }

    fn malformed(kind: RefusalKind, message: String) -> Self {
        Self::new(kind, StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    fn unsupported(kind: RefusalKind, message: String) -> Self {
        Self::new(kind, StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message)
    }

    fn too_large(kind: RefusalKind, message: String) -> Self {
        Self::new(kind, StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
    }

    fn try_again(kind: RefusalKind, message: String) -> Self {
        Self::new(kind, StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message)
            .with(header::RETRY_AFTER, "1")
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        let (status, code) = match error {
            BodyError::TooLarge { .. } => return Self::too_large(RefusalKind::TooLarge, message),
            BodyError::NoRoom => return Self::try_again(RefusalKind::NoRoom, message),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            BodyError::Broken => (StatusCode::BAD_REQUEST, Code::Cancelled),
        };
        Self::new(RefusalKind::Incomplete, status, code, message)
    }
}

impl From<DecompressError> for Rejection {
    fn from(error: DecompressError) -> Self {
        let message = error.to_string();
        match error {
            DecompressError::TooLarge { .. } => Self::too_large(RefusalKind::TooLarge, message),
            DecompressError::Corrupt(_) => Self::malformed(RefusalKind::Corrupt, message),
            DecompressError::NoRoom => Self::try_again(RefusalKind::NoRoom, message),
        }
    }
}

impl From<JsonError> for Rejection {
    fn from(error: JsonError) -> Self {
        let message = error.to_string();
        match error {
            JsonError::Invalid(_) => Self::malformed(RefusalKind::Malformed, message),
            JsonError::TooLarge { .. } => Self::too_large(RefusalKind::TooLarge, message),
        }
    }
}

impl From<RequestRefusal> for Rejection {
    fn from(refusal: RequestRefusal) -> Self {
        let (kind, message) = (refusal.kind(), refusal.to_string());
        match refusal {
            RequestRefusal::Malformed(_) => Self::malformed(kind, message),
            RequestRefusal::Busy => Self::try_again(kind, message),
            RequestRefusal::LargerThanBuffer { .. } | RequestRefusal::Amplified(_) => {
                Self::too_large(kind, message)
            }
        }
    }
}
