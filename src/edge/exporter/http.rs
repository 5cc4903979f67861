//! OTLP/HTTP with protobuf bodies, as the OTLP specification has it.

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use bytes::Bytes;
use reqwest::RequestBuilder;

use super::body::Encoded;
use crate::core::delivery::verdict::{Failure, Verdict};

pub(super) const CONTENT_TYPE: &str = "application/x-protobuf";

pub(super) async fn send(mut request: RequestBuilder, body: &Encoded) -> Result<Verdict, reqwest::Error> {
    if let Some(encoding) = body.encoding {
        request = request.header(CONTENT_ENCODING, encoding);
    }
    let answer = request.body(body.body(Bytes::new())).send().await?;
    let verdict = Verdict::of_http(answer.status().as_u16(), super::retry_after(answer.headers()));
    if !matches!(verdict, Verdict::Accepted { .. }) {
        return Ok(verdict);
    }
    let answer: ::http::Response<reqwest::Body> = answer.into();
    let (head, answer) = answer.into_parts();
    let content_type =
        head.headers.get(CONTENT_TYPE_HEADER).map_or(CONTENT_TYPE.as_bytes(), |value| value.as_bytes());
    // Over TLS a gRPC server is reached with HTTP/2, and says with status 200 and no message that it knows no such
    // method.
    if content_type.starts_with(super::grpc::CONTENT_TYPE.as_bytes()) {
        return Ok(Verdict::Refused(Failure::Answer("it is gRPC, but HTTP was asked for")));
    }
    let message = match super::read(answer).await {
        Ok(message) => message.to_bytes(),
        Err(verdict) => return Ok(verdict),
    };
    Ok(if message.is_empty() || content_type.starts_with(b"application/json") {
        // JSON is not what was asked for, but some collectors answer in nothing else.
        Verdict::Accepted { rejected: 0 }
    } else if content_type.starts_with(CONTENT_TYPE.as_bytes()) {
        super::of_answer(&message)
    } else {
        // A web page answers 200 to anything, and takes nothing.
        Verdict::Refused(Failure::Answer("HTTP 200 with another content type than asked for"))
    })
}
