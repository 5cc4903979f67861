//! Tests both protocols with real clients over sockets.
//!
//! The gRPC clients are generated; the sandbox enables them for test builds.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::{OtlpIntake, ReceiverOptions, RequestRefusal, serve};
use crate::edge::http::bind;
use rotel_core::body_budget::BodyBudget;
use rotel_core::otlp::validate;
use rotel_core::signal::Signal;

/// Keeps accepted requests.
#[derive(Clone, Default)]
struct Keep {
    taken: Arc<Mutex<Vec<(Signal, Bytes)>>>,
    full: Arc<AtomicBool>,
}

impl OtlpIntake for Keep {
    async fn accept(&self, signal: Signal, body: Bytes) -> Result<usize, RequestRefusal> {
        if self.full.load(Ordering::Relaxed) {
            return Err(RequestRefusal::Busy);
        }
        let items = validate(signal, &body)?;
        self.taken.lock().unwrap().push((signal, body));
        Ok(items)
    }
}

impl Keep {
    fn take(&self) -> Vec<(Signal, Bytes)> {
        std::mem::take(&mut *self.taken.lock().unwrap())
    }
}

async fn start(options: ReceiverOptions) -> (Vec<SocketAddr>, Keep) {
    start_within(options, BodyBudget::new(64 << 20)).await
}

async fn start_within(options: ReceiverOptions, budget: BodyBudget) -> (Vec<SocketAddr>, Keep) {
    let listeners = bind("localhost", 0).await.unwrap();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let keep = Keep::default();
    tokio::spawn(serve(listeners, options, budget, keep.clone()));
    (addresses, keep)
}

fn request() -> ExportTraceServiceRequest {
    let span =
        Span { name: "checkout".to_owned(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A connection that sends one request after the other.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.sender.ready().await.unwrap();
        let (head, body) = self.sender.send_request(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    async fn post(&mut self, content_type: &str, encoding: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        self.ask(post("/v1/traces", content_type, encoding, body)).await
    }
}

fn post(path: &str, content_type: &str, encoding: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::post(path).header(header::HOST, "localhost");
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    if !encoding.is_empty() {
        request = request.header(header::CONTENT_ENCODING, encoding);
    }
    request.body(Full::new(body.into())).unwrap()
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

#[tokio::test]
async fn all_formats_and_encodings_are_accepted() {
    let (addresses, keep) = start(ReceiverOptions::default()).await;
    let protobuf = request().encode_to_vec();
    let json = serde_json::to_vec(&request()).unwrap();
    let mut connection = Connection::open(addresses[0]).await;
    for (content_type, body, answer) in [
        (PROTOBUF, &protobuf, &b""[..]),
        (JSON, &json, b"{}"),
        ("Application/JSON; charset=utf-8", &json, b"{}"),
    ] {
        let mut zlib = ZlibEncoder::new(Vec::new(), Level::fast());
        zlib.write_all(body).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Level::fast());
        raw.write_all(body).unwrap();
        for (encoding, body) in [
            ("", body.clone()),
            ("identity", body.clone()),
            ("gzip", gzip(body)),
            ("GZIP", gzip(body)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("zstd", zstd::encode_all(body.as_slice(), 1).unwrap()),
        ] {
            let response = connection.post(content_type, encoding, body).await;
            assert_eq!(response.status(), StatusCode::OK, "{content_type} {encoding}: {response:?}");
            let answered_in = if content_type == PROTOBUF { PROTOBUF } else { JSON };
            assert_eq!(response.headers()[header::CONTENT_TYPE], answered_in);
            assert_eq!(response.body(), answer);
            let taken = keep.take();
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].0, Signal::Traces);
            assert_eq!(ExportTraceServiceRequest::decode(taken[0].1.clone()).unwrap(), request());
        }
    }
}

#[tokio::test]
async fn each_signal_is_served_on_both_loopbacks() {
    let mut options = ReceiverOptions::default();
    options.endpoints.metrics.http_path = "/otlp/metrics".to_owned();
    let (addresses, keep) = start(options).await;
    for address in addresses {
        let mut connection = Connection::open(address).await;
        for (path, signal) in
            [("/v1/logs", Signal::Logs), ("/otlp/metrics?x", Signal::Metrics), ("/v1/traces", Signal::Traces)]
        {
            assert_eq!(connection.ask(post(path, PROTOBUF, "", "")).await.status(), StatusCode::OK);
            assert_eq!(keep.take(), [(signal, Bytes::new())]);
        }
    }
}

#[tokio::test]
async fn invalid_http_requests_are_refused_with_a_reason() {
    let mut options = ReceiverOptions { http_body_limit: 1000, ..ReceiverOptions::default() };
    options.endpoints.logs.enabled = false;
    let (addresses, keep) = start(options).await;
    let good = request().encode_to_vec();
    let mut malformed = good.clone();
    malformed.pop();
    let get = |path: &str| {
        Request::get(path).header(header::HOST, "localhost").body(Full::new(Bytes::new())).unwrap()
    };
    let truncated = gzip(&good)[..20].to_vec();
    let mut connection = Connection::open(addresses[0]).await;
    for (refused, status, code, reason) in [
        (
            post("/v1/traces", PROTOBUF, "", malformed.clone()),
            400,
            3,
            "not an OTLP request: resource_spans: message ends too early",
        ),
        (post("/v1/traces", JSON, "", "{"), 400, 3, "not an OTLP/JSON request: EOF"),
        (post("/v1/traces", PROTOBUF, "gzip", good.clone()), 400, 3, "not valid gzip, or was cut short"),
        (post("/v1/traces", PROTOBUF, "gzip", truncated), 400, 3, "not valid gzip, or was cut short"),
        (post("/v1/spans", PROTOBUF, "", good.clone()), 404, 5, "no OTLP endpoint at /v1/spans"),
        (post("/v1/logs", PROTOBUF, "", ""), 404, 12, "ROTEL_OTLP_RECEIVER_LOGS_DISABLED"),
        (get("/v1/traces"), 405, 12, "method GET is not allowed at /v1/traces; use POST"),
        (post("/v1/traces", PROTOBUF, "", vec![0; 1001]), 413, 8, "larger than the limit of 1000 bytes"),
        (
            post("/v1/traces", PROTOBUF, "gzip", gzip(&[0; 1001])),
            413,
            8,
            "larger than the limit of 1000 bytes",
        ),
        (
            post("/v1/traces", "text/plain", "", good.clone()),
            415,
            3,
            "application/x-protobuf or application/json",
        ),
        (post("/v1/traces", "", "", good.clone()), 415, 3, "application/x-protobuf or application/json"),
        (
            post("/v1/traces", PROTOBUF, "br", good.clone()),
            415,
            3,
            "unsupported content encoding br; use one of gzip",
        ),
        (post("/v1/traces", PROTOBUF, "gzip, gzip", good.clone()), 415, 3, "unsupported content encoding"),
    ] {
        let in_protobuf = refused.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROTOBUF);
        let response = connection.ask(refused).await;
        assert_eq!(response.status(), status, "{reason}: {response:?}");
        let (actual_code, message) = if in_protobuf {
            let status = RpcStatus::decode(response.body().clone()).unwrap();
            assert_eq!(response.headers()[header::CONTENT_TYPE], PROTOBUF);
            (status.code, status.message)
        } else {
            let status: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(response.headers()[header::CONTENT_TYPE], JSON);
            (
                i32::try_from(status["code"].as_i64().unwrap()).unwrap(),
                status["message"].as_str().unwrap().to_owned(),
            )
        };
        assert_eq!(actual_code, code, "{message}");
        assert!(message.contains(reason), "{message}");
        if status == 405 {
            assert_eq!(response.headers()[header::ALLOW], "POST");
        }
        assert_eq!(keep.take(), []);

        assert_eq!(connection.post(PROTOBUF, "", good.clone()).await.status(), StatusCode::OK);
        assert_eq!(keep.take().len(), 1);
    }

    keep.full.store(true, Ordering::Relaxed);
    let response = connection.post(PROTOBUF, "", good).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[tokio::test]
async fn decompression_bomb_and_large_body_are_refused() {
    let (addresses, keep) = start(ReceiverOptions::default()).await;
    let mut connection = Connection::open(addresses[0]).await;
    let mut bomb = GzEncoder::new(Vec::new(), Level::best());
    for _ in 0..200 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let response = connection.post(PROTOBUF, "gzip", bomb.finish().unwrap()).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // The client writes everything before it reads, and must still get the response.
    let response = connection.post(PROTOBUF, "", vec![0; 30 << 20]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let response = connection.post("text/plain", "", vec![0; 10 << 20]).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(connection.post(PROTOBUF, "", "").await.status(), StatusCode::OK);
    assert_eq!(keep.take().len(), 1);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let (addresses, keep) = start(ReceiverOptions::default()).await;
    let head = |len: usize| {
        format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {len}\r\n\
             expect: 100-continue\r\n\r\n"
        )
    };
    let body = request().encode_to_vec();
    let mut stream = TcpStream::connect(addresses[0]).await.unwrap();
    stream.write_all(head(body.len()).as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(keep.take().len(), 1);

    let mut stream = TcpStream::connect(addresses[0]).await.unwrap();
    stream.write_all(head(1 << 30).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn bad_connections_do_not_affect_others() {
    let (http, http_keep) = start(ReceiverOptions::default()).await;
    let (grpc, grpc_keep) = start(ReceiverOptions::default()).await;
    let mut open = Vec::new();
    for address in [http[0], grpc[0]] {
        for bytes in [
            &b""[..],
            b"\x00\x01\x02 garbage\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\nhalf",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            open.push(stream);
            // And a connection that closes at once.
            TcpStream::connect(address).await.unwrap().write_all(bytes).await.unwrap();
        }
    }
    let mut connection = Connection::open(http[0]).await;
    assert_eq!(connection.post(PROTOBUF, "", request().encode_to_vec()).await.status(), StatusCode::OK);
    let mut client = TraceServiceClient::connect(format!("http://{}", grpc[0])).await.unwrap();
    client.export(request()).await.unwrap();
    assert_eq!((http_keep.take().len(), grpc_keep.take().len()), (1, 1));
    drop(open);
}

#[tokio::test]
async fn grpc_calls_are_accepted_plain_and_compressed() {
    let (addresses, keep) = start(ReceiverOptions::default()).await;
    for address in addresses {
        let url = format!("http://{address}");
        let mut traces = TraceServiceClient::connect(url.clone()).await.unwrap();
        let mut logs = LogsServiceClient::connect(url.clone()).await.unwrap();
        let mut metrics = MetricsServiceClient::connect(url).await.unwrap();
        let response = traces.export(request()).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None);
        logs.export(ExportLogsServiceRequest::default()).await.unwrap();
        metrics.export(ExportMetricsServiceRequest::default()).await.unwrap();
        let mut traces =
            traces.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        traces.export(request()).await.unwrap();
        let spans = Bytes::from(request().encode_to_vec());
        assert_eq!(
            keep.take(),
            [
                (Signal::Traces, spans.clone()),
                (Signal::Logs, Bytes::new()),
                (Signal::Metrics, Bytes::new()),
                (Signal::Traces, spans),
            ]
        );
    }
}

#[tokio::test]
async fn generated_client_understands_refusals() {
    let mut options = ReceiverOptions { grpc_message_limit: 1000, ..ReceiverOptions::default() };
    options.endpoints.logs.enabled = false;
    let (addresses, keep) = start(options).await;
    let url = format!("http://{}", addresses[0]);
    let mut traces = TraceServiceClient::connect(url.clone()).await.unwrap();
    let mut logs = LogsServiceClient::connect(url).await.unwrap();

    let status = logs.export(ExportLogsServiceRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("ROTEL_OTLP_RECEIVER_LOGS_DISABLED"), "{status:?}");

    let mut large = request();
    large.resource_spans[0].schema_url = "x".repeat(3 << 20);
    let mut compressed = traces.clone().send_compressed(CompressionEncoding::Gzip);
    for client in [&mut traces, &mut compressed] {
        let status = client.export(large.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains("limit of 1000 bytes"), "{status:?}");
    }

    let mut malformed = request();
    malformed.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![1; 3];
    let status = traces.export(malformed).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("resource_spans.scope_spans.spans.trace_id"), "{status:?}");

    keep.full.store(true, Ordering::Relaxed);
    let status = traces.export(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    // RetryInfo with a delay of one second.
    assert!(status.details().ends_with(b"/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x01"), "{status:?}");
    keep.full.store(false, Ordering::Relaxed);
    traces.export(request()).await.unwrap();
    assert_eq!(keep.take().len(), 1);
}

/// Makes a call with these bytes. Returns the head and trailers of the response.
async fn call(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (StatusCode, HeaderMap) {
    let mut request = Request::post(format!("http://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.ready().await.unwrap();
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let mut all = head.headers;
    all.extend(body.collect().await.unwrap().trailers().cloned().unwrap_or_default());
    (head.status, all)
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[tokio::test]
async fn invalid_grpc_requests_are_refused() {
    let (addresses, keep) = start(ReceiverOptions::default()).await;
    let stream = TcpStream::connect(addresses[0]).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let path = Signal::Traces.grpc_path();
    let good = request().encode_to_vec();
    let grpc = ("content-type", "application/grpc");
    let gzipped = [grpc, ("grpc-encoding", "gzip")];
    let two = [framed(0, &good), framed(0, &good)].concat();
    for (path, headers, body, code) in [
        ("/x.Y/Export", &[grpc][..], framed(0, &good), Code::Unimplemented),
        (path, &[grpc], Vec::new(), Code::InvalidArgument),
        (path, &[grpc], vec![0, 0, 0], Code::InvalidArgument),
        (path, &[grpc], framed(0, &good)[..20].to_vec(), Code::InvalidArgument),
        (path, &[grpc], two, Code::InvalidArgument),
        (path, &[grpc], framed(2, &good), Code::InvalidArgument),
        (path, &[grpc], framed(1, &good), Code::Internal),
        (path, &gzipped, framed(1, &good), Code::InvalidArgument),
        (path, &gzipped, framed(1, &gzip(&good)[..20]), Code::InvalidArgument),
        (path, &gzipped, framed(1, &gzip(&vec![0; (4 << 20) + 1])), Code::ResourceExhausted),
        (path, &[grpc, ("grpc-encoding", "snappy")], framed(1, &good), Code::Unimplemented),
        (path, &gzipped, framed(0, &good), Code::Ok),
        (path, &[("content-type", "application/grpc+proto")], framed(0, &good), Code::Ok),
        (path, &[grpc, ("grpc-encoding", "identity")], framed(0, &good), Code::Ok),
    ] {
        let (status, headers) = call(&mut sender, path, headers, body).await;
        assert_eq!(status, StatusCode::OK);
        let actual = headers.get("grpc-status").map(HeaderValue::as_bytes).map(Code::from_bytes);
        assert_eq!(actual, Some(code), "{headers:?}");
        assert_eq!(keep.take().len(), usize::from(code == Code::Ok));
    }

    for content_type in ["application/grpc-web", "application/grpc+json"] {
        let (status, _) = call(&mut sender, path, &[("content-type", content_type)], framed(0, &good)).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let get = Request::builder().method(Method::GET).uri(format!("http://localhost{path}"));
    let get = get.header(grpc.0, grpc.1).body(Full::new(Bytes::new())).unwrap();
    assert_eq!(sender.send_request(get).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let (addresses, keep) = start(ReceiverOptions::default()).await;
    let mut http = Connection::open(addresses[0]).await;
    assert_eq!(http.post(PROTOBUF, "", request().encode_to_vec()).await.status(), StatusCode::OK);
    let mut grpc = TraceServiceClient::connect(format!("http://{}", addresses[0])).await.unwrap();
    grpc.export(request()).await.unwrap();
    // OTLP/HTTP over HTTP/2 as well.
    let stream = TcpStream::connect(addresses[0]).await.unwrap();
    let (mut http2, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (status, _) =
        call(&mut http2, "/v1/traces", &[("content-type", PROTOBUF)], request().encode_to_vec()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(keep.take().len(), 3);
    // gRPC requires HTTP/2; a client without it still gets a response.
    let response = http.ask(post("/x", "application/grpc", "", vec![0; 100_000])).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn misspelled_paths_are_understood() {
    let mut options = ReceiverOptions::default();
    options.endpoints.metrics.http_path = "/otlp/metrics/".to_owned();
    let (addresses, keep) = start(options).await;
    let mut connection = Connection::open(addresses[0]).await;
    for (path, signal) in [
        ("/v1/traces/", Some(Signal::Traces)),
        ("//v1/traces", Some(Signal::Traces)),
        ("/v1/traces/v1/traces", Some(Signal::Traces)),
        ("/v1/traces/v1/logs", Some(Signal::Logs)),
        ("/v1/traces//otlp/metrics", Some(Signal::Metrics)),
        ("/otlp/metrics/", Some(Signal::Metrics)),
        ("/v1/traces/v1/traces/v1/traces", None),
        ("/v1/tracesv1/traces", None),
        ("/api/v1/traces", None),
        ("/v1", None),
        ("/", None),
    ] {
        let status = connection.ask(post(path, PROTOBUF, "", "")).await.status();
        assert_eq!(status == StatusCode::OK, signal.is_some(), "{path}");
        assert_eq!(keep.take().first().map(|(signal, _)| *signal), signal, "{path}");
    }
}

#[tokio::test]
async fn bodies_beyond_the_budget_can_be_retried() {
    let (addresses, keep) = start_within(ReceiverOptions::default(), BodyBudget::new(2 << 20)).await;
    // This request holds nearly the whole budget and never ends.
    let mut unfinished = TcpStream::connect(addresses[0]).await.unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: 2000000\r\n\r\n"
    );
    unfinished.write_all(head.as_bytes()).await.unwrap();
    unfinished.write_all(&vec![0; 1_999_999]).await.unwrap();
    let mut large = request();
    large.resource_spans[0].schema_url = "x".repeat(1 << 20);
    let mut http = Connection::open(addresses[0]).await;
    let mut grpc = TraceServiceClient::connect(format!("http://{}", addresses[0])).await.unwrap();
    // Until the receiver has read it.
    let refused = loop {
        let response = http.post(PROTOBUF, "", large.encode_to_vec()).await;
        if response.status() != StatusCode::OK {
            break response;
        }
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    let status = grpc.export(large.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.details().is_empty());
    // The decompressed body would not fit either.
    let response = http.post(PROTOBUF, "gzip", gzip(&large.encode_to_vec())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    keep.take();
    // Small bodies have a budget of their own.
    assert_eq!(http.post(PROTOBUF, "gzip", gzip(&request().encode_to_vec())).await.status(), StatusCode::OK);
    assert_eq!(keep.take().len(), 1);
    drop(unfinished);
    while http.post(PROTOBUF, "", large.encode_to_vec()).await.status() != StatusCode::OK {}
    assert_eq!(http.post(PROTOBUF, "", vec![0; 3 << 20]).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
