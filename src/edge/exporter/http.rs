//! OTLP/HTTP with protobuf bodies, as the OTLP specification has it.

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use reqwest::RequestBuilder;

use super::{ANSWER_LIMIT, body::Encoded};
use crate::core::retry::{Failure, Verdict};

pub(super) const CONTENT_TYPE: &str = "application/x-protobuf";

pub(super) async fn send(mut request: RequestBuilder, body: &Encoded) -> Result<Verdict, reqwest::Error> {
    if body.gzip {
        request = request.header(CONTENT_ENCODING, "gzip");
    }
    let answer = request.body(body.body(Bytes::new())).send().await?;
    let verdict = Verdict::of_http(answer.status().as_u16());
    if !matches!(verdict, Verdict::Accepted { .. }) {
        return Ok(verdict);
    }
    let answer: ::http::Response<reqwest::Body> = answer.into();
    let (head, answer) = answer.into_parts();
    let protobuf = head
        .headers
        .get(CONTENT_TYPE_HEADER)
        .is_none_or(|value| value.as_bytes().starts_with(CONTENT_TYPE.as_bytes()));
    let message = match Limited::new(answer, ANSWER_LIMIT).collect().await {
        Ok(message) => message.to_bytes(),
        Err(error) => {
            return match error.downcast::<reqwest::Error>() {
                Ok(error) => Err(*error),
                Err(_) => Ok(Verdict::Refused(Failure::Answer("it is larger than an OTLP answer"))),
            };
        }
    };
    Ok(match (message.is_empty(), protobuf) {
        (true, _) => Verdict::Accepted { rejected: 0 },
        (false, true) => super::of_answer(&message),
        // A web page answers 200 to anything, and takes nothing.
        (false, false) => {
            Verdict::Refused(Failure::Answer("HTTP 200 with another content type than asked for"))
        }
    })
}
