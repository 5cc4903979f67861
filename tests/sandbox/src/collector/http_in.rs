//! The OTLP/HTTP receiver: protobuf and JSON.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message as _;

use super::Shared;
use super::arrival::Arrival;
use super::behaviour::{Behaviour, Refusal};
use crate::otlp::{Payload, Signal};

/// The size limit of a collector's HTTP receiver, for one body after decompression.
const BODY_LIMIT: usize = 20 * 1024 * 1024;

/// The signal that a path exports.
pub(super) fn signal(path: &str) -> Option<Signal> {
    match path {
        "/v1/logs" => Some(Signal::Logs),
        "/v1/metrics" => Some(Signal::Metrics),
        "/v1/traces" => Some(Signal::Traces),
        _ => None,
    }
}

/// The two encodings of OTLP/HTTP.
#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        match value.split(';').next()?.trim() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Answers a request whose head was accepted.
pub(super) async fn respond(
    shared: &Arc<Shared>,
    arrival: Arrival,
    encoding: Encoding,
    body: Incoming,
) -> Response<tonic::body::Body> {
    let body = match read(&arrival, body).await {
        Ok(body) => body,
        Err(Fault::Cut) => return arrival.cut_unread(shared).await,
        Err(Fault::Refusal(refusal)) => return refuse(&arrival.refuse(shared, refusal), encoding),
    };
    let payload = match encoding {
        Encoding::Protobuf => Payload::decode(arrival.signal, &body).map_err(|error| error.to_string()),
        Encoding::Json => Payload::decode_json(arrival.signal, &body).map_err(|error| error.to_string()),
    };
    match payload {
        Err(error) => refuse(&arrival.refuse(shared, Refusal::status(400).message(error)), encoding),
        Ok(payload) => {
            let rejected = arrival.settle(shared, payload).await;
            answer(StatusCode::OK, encoding, acknowledgement(arrival.signal, rejected, encoding))
        }
    }
}

/// An OTLP/HTTP error.
pub(super) fn refuse(refusal: &Refusal, encoding: Encoding) -> Response<tonic::body::Body> {
    let body = match encoding {
        Encoding::Protobuf => refusal.encode(),
        Encoding::Json => serde_json::json!({"code": i32::from(refusal.code), "message": refusal.message})
            .to_string()
            .into_bytes(),
    };
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, encoding, body);
    if let Some(wait) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
    }
    response
}

fn answer(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response<tonic::body::Body> {
    let mut response = Response::new(tonic::body::Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(encoding.content_type()));
    response
}

enum Fault {
    Cut,
    Refusal(Refusal),
}

async fn read(arrival: &Arrival, mut body: Incoming) -> Result<Vec<u8>, Fault> {
    let mut bytes = BytesMut::new();
    let limit = arrival.behaviour.limit(BODY_LIMIT);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::Refusal(Refusal::status(400).message(error.to_string())))?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        arrival.wire_bytes.store(bytes.len(), Ordering::Relaxed);
        if matches!(arrival.behaviour, Behaviour::CutRequest { after } if after <= bytes.len()) {
            return Err(Fault::Cut);
        }
        if bytes.len() > limit {
            return Err(Fault::Refusal(too_large(limit)));
        }
    }
    decompress(&arrival.headers, &bytes, limit).map_err(Fault::Refusal)
}

fn decompress(headers: &HeaderMap, bytes: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::new();
    let read_limit = limit as u64 + 1;
    let read = match headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => return Ok(bytes.to_vec()),
        Some(b"gzip") => flate2::read::MultiGzDecoder::new(bytes).take(read_limit).read_to_end(&mut plain),
        Some(b"deflate") => flate2::read::ZlibDecoder::new(bytes).take(read_limit).read_to_end(&mut plain),
        Some(b"zstd") => zstd::stream::read::Decoder::new(bytes)
            .and_then(|decoder| decoder.take(read_limit).read_to_end(&mut plain)),
        Some(_) => return Err(Refusal::status(400).message("unsupported content encoding")),
    };
    read.map_err(|error| Refusal::status(400).message(error.to_string()))?;
    if plain.len() > limit { Err(too_large(limit)) } else { Ok(plain) }
}

fn too_large(limit: usize) -> Refusal {
    Refusal::status(413).message(format!("the body is larger than {limit} bytes"))
}

fn acknowledgement(signal: Signal, rejected: i64, encoding: Encoding) -> Vec<u8> {
    let partial = rejected > 0;
    let error_message = "rejected by the test".to_owned();
    macro_rules! encode {
        ($response:expr) => {{
            let response = $response;
            match encoding {
                Encoding::Protobuf => response.encode_to_vec(),
                Encoding::Json => serde_json::to_vec(&response).unwrap_or_else(|_| b"{}".to_vec()),
            }
        }};
    }
    match signal {
        Signal::Logs => encode!(ExportLogsServiceResponse {
            partial_success: partial
                .then_some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message }),
        }),
        Signal::Metrics => encode!(ExportMetricsServiceResponse {
            partial_success: partial
                .then_some(ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message }),
        }),
        Signal::Traces => encode!(ExportTraceServiceResponse {
            partial_success: partial
                .then_some(ExportTracePartialSuccess { rejected_spans: rejected, error_message }),
        }),
    }
}
