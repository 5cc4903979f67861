//! OTLP over HTTP/1.1 or HTTP/2: protobuf and JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use prost::Message as _;
use tonic::Code;

use crate::core::otlp::google_rpc;
use crate::core::otlp::{JsonError, json_to_protobuf};
use crate::core::signal::Signal;
use crate::edge::http::{BodyError, Received, discard_body, receive_body};
use crate::edge::receiver::answer::Answer;
use crate::edge::receiver::compression::{Compression, DecompressError};
use crate::edge::receiver::refusals::Kind;
use crate::edge::receiver::{Arrival, Intake, Receiver, Refusal, Served, disabled};

/// The longest JSON of a request that is empty for good: `{"resourceMetrics":[]}`.
const EMPTY_JSON_MOST: usize = 22;

/// How requests and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

/// An answer that is not 200.
#[derive(Debug)]
struct Rejection {
    kind: Kind,
    status: StatusCode,
    code: Code,
    message: String,
    /// What this status has beside its body.
    header: Option<(HeaderName, &'static str)>,
}

pub(super) async fn answer<I: Intake>(
    request: Request<Incoming>,
    port: u16,
    receiver: &Receiver<I>,
) -> Response<Answer> {
    let format = Format::of(request.headers());
    let answered_in = format.unwrap_or(Format::Json);
    match export(request, format, port, receiver).await {
        Ok(()) => answered_in.exported(),
        Err(rejection) => {
            receiver.refusals.note(rejection.kind, port, || rejection.message.clone());
            answered_in.rejected(&rejection)
        }
    }
}

async fn export<I: Intake>(
    request: Request<Incoming>,
    format: Option<Format>,
    port: u16,
    receiver: &Receiver<I>,
) -> Result<(), Rejection> {
    let (head, mut body) = request.into_parts();
    let expected = match check_head(&head, format, &receiver.served) {
        Ok(expected) => expected,
        Err(rejection) => {
            discard_body(&head.headers, &mut body).await;
            return Err(rejection);
        }
    };
    let limit = receiver.served.http_body_limit;
    let Received { bytes, mut held } = match receive_body(&mut body, limit, &receiver.budget).await {
        Ok(body) => body,
        Err(error) => {
            if matches!(error, BodyError::TooLarge { .. } | BodyError::NoRoom) {
                discard_body(&head.headers, &mut body).await;
            }
            return Err(error.into());
        }
    };
    let _turn = receiver.turn.lock().await;
    let bytes = expected.compression.decompress(bytes, limit, &mut held).await?;
    let (bytes, is_empty) = match expected.format {
        Format::Protobuf => {
            let is_empty = bytes.is_empty();
            (bytes, is_empty)
        }
        Format::Json => {
            let is_empty = bytes.trim_ascii().len() <= EMPTY_JSON_MOST;
            let converted = json_to_protobuf(expected.signal, &bytes, limit.min(receiver.budget.limit()))?;
            drop(bytes);
            let converted = Bytes::from(converted.into_boxed_slice());
            held.shrink_to(converted.len());
            (converted, is_empty)
        }
    };
    let arrival = Arrival { port, path: head.uri.path(), is_empty };
    Ok(receiver.accept(expected.signal, bytes, arrival).await?)
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
    let Some(signal) = signal_of(path, served) else {
        let paths = Signal::ALL.map(|signal| served.endpoints.of(signal).http_path.as_str()).join(", ");
        return Err(Rejection::new(
            Kind::Path,
            StatusCode::NOT_FOUND,
            Code::NotFound,
            format!("there is nothing at {path}, only at {paths}; correct the exporter's endpoint"),
        ));
    };
    if !served.endpoints.of(signal).enabled {
        let status = StatusCode::NOT_FOUND;
        return Err(Rejection::new(Kind::Disabled, status, Code::Unimplemented, disabled(signal)));
    }
    if head.method != Method::POST {
        let message = format!("{} is not what {path} is for, only POST", head.method);
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(
            Rejection::new(Kind::Method, status, Code::Unimplemented, message).with(header::ALLOW, "POST")
        );
    }
    let Some(format) = format else {
        let message = format!(
            "{path} takes application/x-protobuf or application/json; set the exporter's protocol to http/protobuf or grpc"
        );
        return Err(
            Rejection::unsupported(Kind::ContentType, message).with(header::ACCEPT, Format::CONTENT_TYPES)
        );
    };
    let name = head.headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let Some(compression) = Compression::named(name) else {
        let message = format!(
            "the content encoding {} is not known here, only one of {}",
            String::from_utf8_lossy(name),
            Compression::NAMES
        );
        return Err(
            Rejection::unsupported(Kind::Encoding, message).with(header::ACCEPT_ENCODING, Compression::NAMES)
        );
    };
    Ok(Expected { signal, format, compression })
}

/// The signal of a path. Slashes too many are overlooked, and so is the path of a signal before it, which exporters make of
/// an `OTEL_EXPORTER_OTLP_ENDPOINT` that has one already.
fn signal_of(path: &str, served: &Served) -> Option<Signal> {
    let path_of = |signal: Signal| served.endpoints.of(signal).http_path.as_str();
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

    /// With an empty `Export…ServiceResponse`, which is written alike for every signal.
    fn exported(self) -> Response<Answer> {
        self.response(match self {
            Self::Protobuf => Bytes::new(),
            Self::Json => Bytes::from_static(b"{}"),
        })
    }

    fn rejected(self, rejection: &Rejection) -> Response<Answer> {
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

    fn response(self, body: Bytes) -> Response<Answer> {
        let mut response = Response::new(Answer::of(vec![Frame::data(body)]));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        response
    }
}

impl Rejection {
    fn new(kind: Kind, status: StatusCode, code: Code, message: String) -> Self {
        Self { kind, status, code, message, header: None }
    }

    fn malformed(kind: Kind, message: String) -> Self {
        Self::new(kind, StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    fn unsupported(kind: Kind, message: String) -> Self {
        Self::new(kind, StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message)
    }

    fn too_large(kind: Kind, message: String) -> Self {
        Self::new(kind, StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
    }

    fn try_again(kind: Kind, message: String) -> Self {
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
            BodyError::TooLarge { .. } => return Self::too_large(Kind::TooLarge, message),
            BodyError::NoRoom => return Self::try_again(Kind::NoRoom, message),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            BodyError::Broken => (StatusCode::BAD_REQUEST, Code::Cancelled),
        };
        Self::new(Kind::Incomplete, status, code, message)
    }
}

impl From<DecompressError> for Rejection {
    fn from(error: DecompressError) -> Self {
        let message = error.to_string();
        match error {
            DecompressError::TooLarge { .. } => Self::too_large(Kind::TooLarge, message),
            DecompressError::Corrupt(_) => Self::malformed(Kind::Corrupt, message),
            DecompressError::NoRoom => Self::try_again(Kind::NoRoom, message),
        }
    }
}

impl From<JsonError> for Rejection {
    fn from(error: JsonError) -> Self {
        let message = error.to_string();
        match error {
            JsonError::Invalid(_) => Self::malformed(Kind::Malformed, message),
            JsonError::TooLarge { .. } => Self::too_large(Kind::TooLarge, message),
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let (kind, message) = (refusal.kind(), refusal.to_string());
        match refusal {
            Refusal::Malformed(_) => Self::malformed(kind, message),
            Refusal::Busy => Self::try_again(kind, message),
            Refusal::LargerThanBuffer { .. } | Refusal::Amplified(_) => Self::too_large(kind, message),
        }
    }
}
