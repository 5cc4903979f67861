//! Unary OTLP/gRPC: sends a frame, receives a frame and a status.
//!
//! The framing is done here because tonic's client would compress at its own level, again for each attempt, and
//! copy every body. The status is parsed here, too: tonic's parser panics on details that are not base64, and
//! replaces the status if its message is not UTF-8.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, TE};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{BufMut, BytesMut};
use prost::Message;
use tonic::metadata::MetadataMap;

use super::Target;
use super::body::EncodedBody;
use crate::edge::http_client::{Client, Error};
use rotel_core::delivery::verdict::{Failure, Verdict};
use rotel_core::otlp::google_rpc::{self, Any, Delay, RetryInfo};

pub(super) const CONTENT_TYPE: &str = "application/grpc";
/// The length of a frame's head: a compression flag, and the message length in four bytes.
const FRAME_HEAD_LEN: usize = 5;
const DETAILS: &str = "grpc-status-details-bin";
/// The accepted compressions of a response. No response is worth compressing, but many servers, such as Go's,
/// use the compression of the request regardless of this header.
const ACCEPTED_ENCODINGS: &str = "identity,gzip,zstd";

pub(super) async fn send(client: &Client, target: &Target, body: &EncodedBody) -> Result<Verdict, Error> {
    let Ok(length) = u32::try_from(body.len()) else {
        return Ok(Verdict::Refused(Failure::Answer("the request exceeds gRPC's 4 GiB")));
    };
    let mut head = BytesMut::with_capacity(FRAME_HEAD_LEN);
    head.put_u8(body.encoding.is_some().into());
    head.put_u32(length);
    let mut request = target.request();
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED_ENCODINGS));
    if let Some(encoding) = body.encoding {
        headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
    }
    let answer = client.send(request.map(|()| body.body(head.freeze()))).await?;
    let status = answer.status();
    if !status.is_success() {
        return Ok(target.refusal(status, answer.headers()));
    }
    let (head, answer) = answer.into_parts();
    let is_grpc = head
        .headers
        .get(CONTENT_TYPE_HEADER)
        .is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE.as_bytes()));
    if !is_grpc {
        return Ok(Verdict::Refused(Failure::Answer("HTTP instead of gRPC")));
    }
    // Without a message the status may be in the head.
    if let Some(verdict) = verdict_of_status(&head.headers) {
        return Ok(verdict);
    }
    let answer = match super::read(answer).await {
        Ok(answer) => answer,
        Err(verdict) => return Ok(verdict),
    };
    Ok(match answer.trailers().and_then(verdict_of_status) {
        Some(Verdict::Accepted { .. }) => message(target, &head.headers, &answer.to_bytes()),
        Some(verdict) => verdict,
        None => super::incomplete("response ended before its status"),
    })
}

/// The verdict of the status, which is in the trailers, or in the head if there is no message. Only its code
/// decides; invalid details are ignored.
fn verdict_of_status(headers: &HeaderMap) -> Option<Verdict> {
    const UNKNOWN: i32 = 2;
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.trim().parse().ok());
    let details = headers.get(DETAILS).and_then(|details| {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(DETAILS), details.clone())]);
        MetadataMap::from_headers(headers).get_bin(DETAILS)?.to_bytes().ok()
    });
    Some(Verdict::of_grpc(code.unwrap_or(UNKNOWN), retry_info(&details.unwrap_or_default())))
}

/// The verdict of the single frame of a successful response; no frame is an empty message.
fn message(target: &Target, headers: &HeaderMap, frames: &[u8]) -> Verdict {
    let Some((head, message)) = frames.split_at_checked(FRAME_HEAD_LEN) else {
        return Verdict::ACCEPTED;
    };
    let compressed = head.first() == Some(&1);
    let encoding =
        headers.get("grpc-encoding").filter(|_| compressed).map_or(&b""[..], |name| name.as_bytes());
    match super::decompressed(encoding, message) {
        Some(Ok(message)) => target.verdict(&message),
        Some(Err(_)) | None => Verdict::Refused(Failure::Answer("message cannot be decompressed")),
    }
}

/// The wait requested by a status; zero if its `RetryInfo` has no delay.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = google_rpc::Status::decode(details).unwrap_or_default();
    let is_retry_info = |detail: &&Any| detail.type_url.ends_with("/google.rpc.RetryInfo");
    let detail = status.details.iter().find(is_retry_info)?;
    let Delay { seconds, nanos } =
        RetryInfo::decode(&*detail.value).unwrap_or_default().retry_delay.unwrap_or_default();
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn response_is_decoded_in_each_accepted_encoding() {
        // partial_success { rejected: 3 }
        let plain = [0x0a, 0x02, 0x08, 0x03];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("memory does not fail");
        let gzip = gzip.finish().expect("memory does not fail");
        let zstd = zstd::encode_all(&plain[..], 1).expect("memory does not fail");
        let targets = super::super::tests::target(&[]);
        let target = targets.logs.as_ref().expect("a target");
        let verdict = |encoding: &'static str, compressed: u8, message: &[u8]| {
            let headers = HeaderMap::from_iter([(
                ::http::HeaderName::from_static("grpc-encoding"),
                HeaderValue::from_static(encoding),
            )]);
            super::message(target, &headers, &[&[compressed, 0, 0, 0, 0], message].concat())
        };
        let rejected = Verdict::Accepted { rejected: 3, message: None };
        for (encoding, message) in [("identity", &plain[..]), ("gzip", &gzip), ("zstd", &zstd)] {
            assert!(ACCEPTED_ENCODINGS.split(',').any(|accepted| accepted == encoding), "{encoding}");
            assert_eq!(verdict(encoding, u8::from(encoding != "identity"), message), rejected, "{encoding}");
        }
        // A message may be uncompressed despite the header.
        assert_eq!(verdict("gzip", 0, &plain), rejected);
        assert!(matches!(verdict("gzip", 1, &plain), Verdict::Refused(Failure::Answer(_))));
    }

    #[test]
    fn only_the_status_code_decides() {
        let verdict = |pairs: &[(&'static str, &[u8])]| {
            let pair = |(name, value): &(&'static str, &[u8])| {
                (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"))
            };
            verdict_of_status(&pairs.iter().map(pair).collect())
        };
        let retry = |after| Some(Verdict::Retry { failure: Failure::Grpc(14), after });
        for details in [&b"!"[..], b"a", b"\xff", b"////", b""] {
            assert_eq!(verdict(&[("grpc-status", b"14"), (DETAILS, details)]), retry(None));
        }
        assert_eq!(verdict(&[("grpc-status", b"14"), ("grpc-message", b"%ff\xff")]), retry(None));
        // RetryInfo { retry_delay: 3 s }, with padding and without.
        for details in [
            &b"GjAKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SBAoCCAM="[..],
            b"GjAKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SBAoCCAM",
        ] {
            assert_eq!(
                verdict(&[("grpc-status", b"14"), (DETAILS, details)]),
                retry(Some(Duration::from_secs(3)))
            );
        }
        assert_eq!(verdict(&[("grpc-status", b"?")]), Some(Verdict::Refused(Failure::Grpc(2))));
        assert_eq!(verdict(&[]), None);
    }

    #[test]
    fn retry_info_is_found_among_status_details() {
        let detail =
            |kind: &str, value| Any { type_url: format!("type.googleapis.com/google.rpc.{kind}"), value };
        let wait = |seconds, nanos| RetryInfo { retry_delay: Some(Delay { seconds, nanos }) }.encode_to_vec();
        let status =
            |details| google_rpc::Status { details, ..google_rpc::Status::default() }.encode_to_vec();
        let with = |value| status(vec![detail("DebugInfo", Vec::new()), detail("RetryInfo", value)]);
        assert_eq!(retry_info(&with(wait(2, 500_000_000))), Some(Duration::from_millis(2500)));
        assert_eq!(retry_info(&with(wait(-1, -1))), Some(Duration::ZERO));
        assert_eq!(retry_info(&with(b"\xff".to_vec())), Some(Duration::ZERO));
        assert_eq!(retry_info(&status(vec![detail("DebugInfo", Vec::new())])), None);
        assert_eq!(retry_info(b"\xff"), None);
    }
}
