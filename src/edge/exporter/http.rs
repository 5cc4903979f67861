//! OTLP/HTTP with protobuf bodies.

use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use bytes::Bytes;

use super::Target;
use super::body::EncodedBody;
use crate::edge::http_client::{Client, Error};
use rotel_core::delivery::verdict::{Failure, Verdict};

pub(super) const CONTENT_TYPE: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";

pub(super) async fn send(client: &Client, target: &Target, body: &EncodedBody) -> Result<Verdict, Error> {
    let mut request = target.request();
    if let Some(encoding) = body.encoding {
        request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if body.len() == 0 {
        // The HTTP client omits the length of an empty body, and some proxies respond 411 to that.
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let answer = client.send(request.map(|()| body.body(Bytes::new()))).await?;
    if !answer.status().is_success() {
        return Ok(target.refusal(answer.status(), answer.headers()));
    }
    let (head, answer) = answer.into_parts();
    let header = |name| head.headers.get(name).map(|value: &HeaderValue| value.as_bytes());
    let content_type = header(CONTENT_TYPE_HEADER).unwrap_or(CONTENT_TYPE.as_bytes());
    // Over TLS, HTTP/2 can reach a gRPC server, which responds to an unknown method with status 200 and no
    // message.
    if content_type.starts_with(super::grpc::CONTENT_TYPE.as_bytes()) {
        return Ok(Verdict::Refused(Failure::Answer("gRPC instead of HTTP")));
    }
    let message = match super::read(answer).await {
        Ok(message) => message.to_bytes(),
        Err(verdict) => return Ok(verdict),
    };
    if message.is_empty() {
        return Ok(Verdict::ACCEPTED);
    }
    let is_json = content_type.starts_with(JSON.as_bytes());
    if !is_json && !content_type.starts_with(CONTENT_TYPE.as_bytes()) {
        // A web page responds 200 to anything and stores nothing.
        return Ok(Verdict::Refused(Failure::Answer("HTTP 200 with an unexpected content type")));
    }
    // No encoding was requested, but some proxies compress anyway.
    let encoding = header(CONTENT_ENCODING).unwrap_or_default().to_ascii_lowercase();
    Ok(match super::decompressed(&encoding, &message) {
        Some(Ok(message)) if is_json => target.verdict_of_json(&message),
        Some(Ok(message)) => target.verdict(&message),
        Some(Err(_)) => Verdict::Refused(Failure::Answer("message cannot be decompressed")),
        // The status says that the batch was accepted.
        None => Verdict::ACCEPTED,
    })
}
