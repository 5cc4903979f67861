//! Answers of backends that are unusual, broken or hostile: what the exporter makes of them, and what the log says.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lambda_sandbox::Sandbox;
use lambda_sandbox::collector::Protocol;
use rotel_core::config::{self, Destination, Exports};
use rotel_core::delivery::verdict::{BackendMessage, Failure, Verdict};
use rotel_core::signal::Signal;
use rotel_lambda_extension::edge::exporter::Exporter;
use serde_json::Value;
use tokio::net::TcpListener;

use support::storm::{self, CONTINUE, storming};
use support::{PROTOCOLS, end, invoke, name, unconfigured, working};

const KEY: &str = "hunter2-ingestion-key";

/// The answer to every request.
#[derive(Clone, Default)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Answer {
    fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Of gRPC, with a message in a frame of its own.
    fn grpc(message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let body = [&[0][..], &length, message].concat();
        Self { body, ..Self::status(200) }
            .header("content-type", b"application/grpc")
            .trailer("grpc-status", b"0")
    }

    /// Of OTLP/HTTP.
    fn http(content_type: &str, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::status(200) }.header("content-type", content_type.as_bytes())
    }

    /// A partial success, over either protocol.
    fn partial_success(protocol: Protocol, rejected: i64, words: &str) -> Self {
        let mut part = vec![0x08];
        prost::encoding::encode_varint(rejected.cast_unsigned(), &mut part);
        prost::encoding::string::encode(2, &words.to_owned(), &mut part);
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(part.len() as u64, &mut message);
        message.extend(part);
        match protocol {
            Protocol::Grpc => Self::grpc(&message),
            Protocol::Http => Self::http("application/x-protobuf", &message),
        }
    }

    fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        let value = HeaderValue::from_bytes(value).expect("a value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    fn trailer(mut self, name: &'static str, value: &[u8]) -> Self {
        let value = HeaderValue::from_bytes(value).expect("a value");
        self.trailers.insert(HeaderName::from_static(name), value);
        self
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        // To the end, or the client would find its request cut off.
        let _ = request.into_body().collect().await;
        let trailers = (!self.trailers.is_empty()).then(|| Ok(self.trailers.clone()));
        let body = Full::new(Bytes::from(self.body.clone())).with_trailers(async { trailers });
        let mut response = Response::new(body.boxed());
        *response.status_mut() = self.status.try_into().expect("a status");
        *response.headers_mut() = self.headers.clone();
        Ok(response)
    }
}

type Body = BoxBody<Bytes, Infallible>;

/// A backend that gives every request this answer; its endpoint.
async fn backend(protocol: Protocol, answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request| Arc::clone(&answer).respond(request));
            tokio::spawn(async move {
                let stream = TokioIo::new(stream);
                match protocol {
                    Protocol::Grpc => {
                        drop(
                            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
                        );
                    }
                    Protocol::Http => drop(http1::Builder::new().serve_connection(stream, service).await),
                }
            });
        }
    });
    endpoint
}

/// An exporter to this endpoint.
fn exporter(protocol: Protocol, endpoint: &str) -> Exporter {
    let variables = [
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", endpoint),
        ("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol)),
        ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", &format!("Authorization={KEY}")),
        ("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "60s"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    match config::read(&variables).config.destinations.as_slice() {
        [Destination { exports: Exports::Known(exports), .. }] => Exporter::new(exports).0,
        others => panic!("{others:?}"),
    }
}

/// The verdict of an attempt to which this is the answer.
async fn verdict(protocol: Protocol, answer: Answer) -> Verdict {
    let endpoint = backend(protocol, answer).await;
    exporter(protocol, &endpoint).attempt(Signal::Logs, vec![Bytes::from_static(b"\n\0")]).await
}

fn rejected(rejected: usize, words: &str) -> Verdict {
    Verdict::Accepted { rejected, message: BackendMessage::new(words, []) }
}

#[tokio::test]
async fn the_grpc_status_alone_decides() {
    let unavailable = Verdict::retry(Failure::Grpc(14));
    for (name, value) in [
        ("grpc-status-details-bin", &b"!"[..]),
        ("grpc-status-details-bin", b"\xff\xfe"),
        ("grpc-message", b"%ff%fe"),
        ("grpc-message", b"\xff"),
    ] {
        let in_trailers = Answer::grpc(b"").trailer("grpc-status", b"14").trailer(name, value);
        assert_eq!(verdict(Protocol::Grpc, in_trailers).await, unavailable, "{name}");
        let in_head = Answer::http("application/grpc", b"").header("grpc-status", b"14").header(name, value);
        assert_eq!(verdict(Protocol::Grpc, in_head).await, unavailable, "{name}");
    }
}

#[tokio::test]
async fn partial_success_is_read_in_json_and_compressed() {
    let json = br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}"#;
    let protobuf = b"\x0a\x0b\x08\x03\x12\x07too old";
    let expected = rejected(3, "too old");
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("it goes to memory");
        encoder.finish().expect("it goes to memory")
    };
    for (content_type, body) in [("application/json", &json[..]), ("application/x-protobuf", protobuf)] {
        let answers = [
            Answer::http(content_type, body),
            Answer::http(content_type, &gzip(body)).header("content-encoding", b"gzip"),
            Answer::http(content_type, &zstd::encode_all(body, 1).expect("zstd"))
                .header("content-encoding", b"zstd"),
        ];
        for answer in answers {
            assert_eq!(verdict(Protocol::Http, answer).await, expected, "{content_type}");
        }
    }
    let unknown = Answer::http("application/x-protobuf", b"?").header("content-encoding", b"br");
    assert_eq!(verdict(Protocol::Http, unknown).await, Verdict::ACCEPTED);
    let broken = Answer::http("application/x-protobuf", b"?").header("content-encoding", b"gzip");
    assert!(matches!(verdict(Protocol::Http, broken).await, Verdict::Refused(Failure::Answer(_))));
}

#[tokio::test]
async fn partial_success_message_is_bounded_and_redacted() {
    for protocol in PROTOCOLS {
        let long = format!("{KEY} is stale\nERROR forged {}", "x".repeat(1000));
        let Verdict::Accepted { rejected: 1, message: Some(words) } =
            verdict(protocol, Answer::partial_success(protocol, 1, &long)).await
        else {
            panic!("no words")
        };
        let words = words.to_string();
        assert!(words.starts_with(r"backend message: [redacted] is stale\nERROR forged xxx"), "{words}");
        assert!(words.chars().count() < 220 && !words.contains(KEY) && !words.contains('\n'), "{words}");
        let negative = verdict(protocol, Answer::partial_success(protocol, -1, "")).await;
        assert_eq!(negative, Verdict::ACCEPTED);
    }
}

#[tokio::test]
async fn empty_request_has_content_length() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let head = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("it reads");
        String::from_utf8(head).expect("text").to_lowercase()
    });
    assert_eq!(exporter(Protocol::Http, &endpoint).warm().await, Verdict::ACCEPTED);
    let head = head.join().expect("no panic");
    assert_eq!(head.matches("content-length: 0\r\n").count(), 1, "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn storm_of_1xx_responses_is_cut_off() {
    // An empty SETTINGS frame, and HEADERS with `:status: 100` on the first stream.
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let informational = b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03100";
    for (protocol, endpoint) in [
        (Protocol::Http, storming(b"", CONTINUE)),
        (Protocol::Http, storming(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n")),
        (Protocol::Grpc, storming(settings, informational)),
    ] {
        let attempt =
            exporter(protocol, &endpoint).attempt(Signal::Logs, vec![Bytes::from_static(b"\n\0")]).await;
        let Verdict::Retry { failure: Failure::Connection(failure), .. } = attempt else {
            panic!("{attempt:?}")
        };
        assert_eq!(failure.detail, storm::ERROR, "{protocol:?}");
    }
}

/// The warnings of a function's life with a backend that answers so.
async fn warnings(protocol: Protocol, answer: Answer) -> Vec<String> {
    let endpoint = backend(protocol, answer).await;
    let extension = unconfigured()
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", endpoint)
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization={KEY}"))
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("RUST_LOG", "trace");
    let sandbox = Sandbox::builder()
        .extension(extension)
        .function(working())
        .timeout(Duration::from_mins(5))
        .start()
        .await
        .expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    sandbox.extension_output().into_iter().filter(|line| line.contains("WARN")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_has_the_remedies_of_check() {
    let html = |status| Answer::http("text/html", b"<html>hunter2</html>").with_status(status);
    let moved = |status| html(status).header("location", b"https://other.example.com/hunter2?hunter2");
    let mut logged = Vec::new();
    for (protocol, answer) in [
        (Protocol::Http, moved(301)),
        (Protocol::Grpc, moved(308)),
        (Protocol::Http, html(403)),
        (Protocol::Grpc, html(403)),
        (Protocol::Http, Answer::http("application/x-protobuf", b"").with_status(403)),
        (Protocol::Http, Answer::http("text/plain", b"").with_status(401)),
        (Protocol::Http, Answer::status(404)),
        (Protocol::Grpc, Answer::grpc(b"").trailer("grpc-status", b"16")),
        (
            Protocol::Grpc,
            Answer::partial_success(Protocol::Grpc, i64::MAX, "hunter2-ingestion-key: too old\n"),
        ),
    ] {
        let warnings = warnings(protocol, answer).await;
        logged.push(warnings.first().expect("a warning").clone());
        assert!(!warnings.join("\n").contains("hunter2"), "{warnings:#?}");
    }
    // Which of them is answered first is chance.
    let logged = ["logs", "metrics", "traces"]
        .iter()
        .fold(logged.join("\n"), |logged, signal| logged.replace(&format!("of {signal}:"), "of {signal}:"));
    insta::assert_snapshot!(logged, @"
    WARN export of {signal}: the endpoint answered HTTP 301: redirects to https://other.example.com, and redirects are not followed; set ROTEL_OTLP_EXPORTER_ENDPOINT to that address; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered HTTP 308: redirects to https://other.example.com, and redirects are not followed; set ROTEL_OTLP_EXPORTER_ENDPOINT to that address; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered HTTP 403: a web firewall or proxy answered instead of the OTLP endpoint; allow this function's requests there, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered HTTP 403: a web firewall or proxy answered instead of the OTLP endpoint; allow this function's requests there, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered HTTP 403: access denied by the backend, or by a firewall or proxy in front of it; check their rules, and that the key in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS has write permission; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered HTTP 401: the endpoint does not accept the key in the authorization header; copy the ingestion API key from ClickStack's settings into ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered HTTP 404: no OTLP at this path; the extension appends /v1/logs and so on to ROTEL_OTLP_EXPORTER_ENDPOINT; correct host, port or path there; rejected items are dropped and counted
    WARN export of {signal}: the endpoint answered gRPC UNAUTHENTICATED: the endpoint does not accept the key in the authorization header; copy the ingestion API key from ClickStack's settings into ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS; rejected items are dropped and counted
    WARN export of {signal}: the endpoint accepted a request but rejected 5 of its items; backend message: [redacted]: too old
    ");
}
