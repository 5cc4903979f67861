//! Clients that a receiver must not trust: too much, too many, too slow, and nonsense, on every port; and lines that
//! strangers made the function write.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use flate2::write::GzEncoder;
use lambda_sandbox::collector::{Behaviour, Collector, Protocol};
use lambda_sandbox::{Context, ExportError, Exporter, Function, Payload, Sandbox, Signal, Transport};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use support::bounds::{assert_memory, assert_time, is_release};
use support::{PROTOCOLS, assert_exact, end, extension, impatient, invoke, lines, sandbox, working};

mod backends;
mod files;
mod release;

const MIB: usize = 1024 * 1024;

/// The receiver's two ports, and that of the Telemetry API listener.
const PORTS: [u16; 3] = [4317, 4318, 8990];

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Grpc => Transport::Grpc,
        Protocol::Http => Transport::HttpProtobuf,
    }
}

/// An SDK's request with one log record.
fn log(body: String) -> Payload {
    let body = Some(AnyValue { value: Some(any_value::Value::StringValue(body)) });
    let scope =
        ScopeLogs { log_records: vec![LogRecord { body, ..LogRecord::default() }], ..ScopeLogs::default() };
    let resource_logs = vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }];
    Payload::Logs(ExportLogsServiceRequest { resource_logs })
}

/// Posts 64 MiB, eight requests at a time.
async fn flood(context: Context, transport: Transport) -> Result<Value, lambda_sandbox::Failure> {
    let mut posts = JoinSet::new();
    for _ in 0..8 {
        let exporter = context.exporter().clone();
        posts.spawn(async move {
            for _ in 0..8 {
                match exporter.send(transport, &log("x".repeat(MIB))).await {
                    Ok(()) | Err(ExportError::Http { status: 503, .. }) => {}
                    Err(ExportError::Grpc(status)) if status.code() == tonic::Code::Unavailable => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
    }
    while let Some(posted) = posts.join_next().await {
        posted.expect("it does not panic").expect("accepted, or refused for now");
    }
    Ok(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_flood_costs_no_more_than_buffer() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(move |context| async move {
            if context.payload == json!("flood") {
                return flood(context, transport(protocol)).await;
            }
            context.send_spans(transport(protocol), 5).await.expect("the receiver takes spans");
            context.log_lines(5);
            Ok(Value::Null)
        });
        let extension =
            impatient(extension(&collector, protocol)).env("ROTEL_BUFFER_MAX_BYTES", (8 * MIB).to_string());
        let sandbox = Sandbox::builder()
            .extension(extension)
            .collector(&collector)
            .function(function)
            .timeout(Duration::from_mins(5))
            .start()
            .await
            .expect("a sandbox");
        sandbox.invoke(Value::Null).await.expect("an invocation");
        let before = sandbox.resident_bytes();
        collector.behave(Behaviour::Hang);
        invoke(&sandbox, json!("flood")).await;
        let grown = sandbox.peak_resident_bytes().saturating_sub(before);
        // At its worst moment: the buffer, a copy of what is in flight, and what eight requests need while they are read.
        assert_memory(format!("64 MiB posted over {protocol:?}, a buffer of 8 MiB"), grown, 32 * MIB as u64);
        collector.behave(Behaviour::Accept);
        end(&sandbox).await;
        let kept = collector.received().logs().filter(|log| log.body().len() == MIB).count();
        assert!((1..8).contains(&kept), "{kept} of the flood were kept");
        let output = sandbox.extension_output();
        assert!(output.iter().any(|line| line.contains("lost")), "the loss was not logged: {output:#?}");
        assert!(output.len() <= 6, "{output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_of_the_sdk_are_served_at_once() {
    const CONNECTIONS: usize = 200;
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(move |context| async move {
            let all_open = Arc::new(Barrier::new(CONNECTIONS));
            let mut clients = JoinSet::new();
            for _ in 0..CONNECTIONS {
                let marks = [(); 2].map(|()| context.mark(Signal::Logs));
                let exporter =
                    Exporter::new(context.exporter().grpc_address(), context.exporter().http_address());
                let all_open = Arc::clone(&all_open);
                clients.spawn(async move {
                    let [first, second] = marks.map(log);
                    exporter.send(transport(protocol), &first).await.expect("the receiver takes it");
                    all_open.wait().await;
                    exporter.send(transport(protocol), &second).await.expect("the receiver takes it");
                });
            }
            while let Some(client) = clients.join_next().await {
                client.expect("each client is served");
            }
            Ok(Value::Null)
        });
        let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
        for _ in 0..2 {
            let invocation = invoke(&sandbox, Value::Null).await;
            let at_next = invocation.collector_at_next.expect("a collector is attached");
            assert_exact(&sandbox, &at_next);
            let case = format!("200 connections at once over {protocol:?}");
            assert_memory(case, sandbox.peak_resident_bytes(), 64 * MIB as u64);
        }
        end(&sandbox).await;
    }
}

/// The first bytes that bad clients send.
fn openings() -> Vec<Vec<u8>> {
    let head = |rest: &str| format!("POST /v1/logs HTTP/1.1\r\nhost: localhost\r\n{rest}").into_bytes();
    let mut beyond_h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    beyond_h2.extend([0xff; 64]);
    // A settings frame that says it has more than it has.
    let mut half_a_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    half_a_frame.extend([0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3]);
    vec![
        Vec::new(),
        b"P".to_vec(),
        head(""),
        head("content-type: application/json\r\ncontent-length: 1000000\r\n\r\n[{"),
        head("content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n["),
        head(&format!("x: {}", "y".repeat(60_000))),
        [head("content-type: application/json\r\ncontent-length: 50000\r\n\r\n"), vec![b'['; 50_000]]
            .concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting in TLS".to_vec(),
        b"\x00\x01\x02\xff\xfe\r\n\r\n".repeat(1_000),
        beyond_h2,
        half_a_frame,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_and_garbage_delay_nobody() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, protocol).function(working()).start().await.expect("a sandbox");
        let mut clients = Vec::new();
        for port in PORTS {
            for opening in openings().iter().cycle().take(55) {
                let address = SocketAddr::from((sandbox.ip(), port));
                let mut client = TcpStream::connect(address).expect("the port is open");
                client.set_nonblocking(true).expect("a socket");
                // The other end may hang up on it, which is its right.
                let _ = client.write(opening);
                clients.push(client);
            }
        }
        for _ in 0..5 {
            let invocation = invoke(&sandbox, Value::Null).await;
            let at_next = invocation.collector_at_next.expect("a collector is attached");
            assert_exact(&sandbox, &at_next);
            let case = format!("165 slow or nonsensical clients over {protocol:?}");
            assert_time(case, invocation.added, Duration::from_secs(2));
            // One byte at a time, for ever.
            for client in &mut clients {
                let _ = client.write(b"x");
            }
        }
        let case = format!("165 slow or nonsensical clients over {protocol:?}");
        assert_memory(case, sandbox.peak_resident_bytes(), 64 * MIB as u64);
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
        // The first and the tenth that were refused, and what the Telemetry API's listener cannot read.
        assert!(sandbox.extension_output().len() <= 4, "{:#?}", sandbox.extension_output());
    }
}

const PROTOBUF: &str = "content-type: application/x-protobuf";
const JSON: &str = "content-type: application/json";
const GZIP: &str = "content-encoding: gzip";
const ZSTD: &str = "content-encoding: zstd";

/// The head of a POST and as much of its body as is given. Without a length, the body is chunked.
async fn begin_post(
    address: &str,
    path: &str,
    headers: &[&str],
    announced: Option<usize>,
    body: &[u8],
) -> tokio::net::TcpStream {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for header in headers {
        write!(head, "{header}\r\n").expect("a header");
    }
    match announced {
        Some(len) => write!(head, "content-length: {len}\r\n\r\n"),
        None => write!(head, "transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()),
    }
    .expect("a head");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the port is open");
    // A server that refuses a request need not read it to its end.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    stream
}

/// Returns the response status of a POST.
async fn post(address: &str, path: &str, headers: &[&str], body: &[u8]) -> u16 {
    let mut stream = begin_post(address, path, headers, Some(body.len()), body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
    status.and_then(|status| status.parse().ok()).expect("an answer")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn text(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn spans(resource: Vec<KeyValue>, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn span(name: &str) -> Span {
    Span { name: name.to_owned(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() }
}

/// A field of a message with this tag, around the content.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    let mut len = content.len();
    while len > 0x7f {
        out.push(u8::try_from(len & 0x7f).expect("seven bits") | 0x80);
        len >>= 7;
    }
    out.push(u8::try_from(len).expect("seven bits"));
    [out, content.to_vec()].concat()
}

/// Runs this in one invocation of a function; returns how much more memory in bytes the extension used by its end than
/// after an ordinary invocation.
async fn growth<F, R>(builder: lambda_sandbox::Builder, act: F) -> (Sandbox, u64)
where
    F: Fn(Context) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    let function = Function::builtin(move |context| {
        let act = act.clone();
        async move {
            if context.payload == json!("act") {
                act(context).await;
            } else {
                context.send_spans(Transport::HttpProtobuf, 5).await.expect("the receiver takes spans");
            }
            Ok(Value::Null)
        }
    });
    let sandbox = builder.function(function).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    let before = sandbox.resident_bytes();
    invoke(&sandbox, json!("act")).await;
    let grown = sandbox.peak_resident_bytes().saturating_sub(before);
    // And it lives on.
    invoke(&sandbox, Value::Null).await;
    (sandbox, grown)
}

/// `--nocapture` shows all of them.
fn assert_within(case: &str, grown: u64, most: usize) {
    println!("{case}: {} KiB more, at most {}", grown / 1024, most / 1024);
    assert!(grown < most as u64, "{case}: {} KiB more", grown / 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_without_items_cost_nothing() {
    // An item in two groups; of metrics, a gauge with a point.
    let item = field(2, &[]);
    let metric = field(2, &field(5, &field(1, &[])));
    for (path, item) in [("/v1/traces", &item), ("/v1/logs", &item), ("/v1/metrics", &metric)] {
        let empty = [field(1, &[]).repeat(1_000_000), field(1, &field(2, item))].concat();
        let scopes = field(1, &[field(2, &[]).repeat(1_000_000), field(2, item)].concat());
        let bodies = [empty, scopes].map(|body| gzip(&body));
        let collector = Collector::start().await.expect("a collector");
        let (sandbox, grown) = growth(sandbox(&collector, Protocol::Http), move |context| {
            let bodies = bodies.clone();
            async move {
                for body in bodies {
                    let address = context.exporter().http_address();
                    assert_eq!(post(address, path, &[PROTOBUF, GZIP], &body).await, 200);
                }
            }
        })
        .await;
        end(&sandbox).await;
        assert_within("groups without items", grown, 24 * MIB);
        let largest = collector.received().requests().map(|request| request.wire_bytes).max();
        assert!(largest.is_some_and(|largest| largest < 64 * 1024), "{path}: {largest:?} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_resource_is_not_multiplied() {
    let large = || vec![text("large", "x".repeat(5 * MIB))];
    // In one group, so that each part would repeat the resource.
    let resource =
        field(1, &prost::Message::encode_to_vec(&Resource { attributes: large(), ..Resource::default() }));
    let one = field(1, &[resource, field(2, &field(2, &[]).repeat(3_000_000))].concat());
    let few = prost::Message::encode_to_vec(&spans(large(), vec![span("ordinary"); 100]));
    let collector = Collector::start().await.expect("a collector");
    let builder = sandbox(&collector, Protocol::Http).memory_mb(1024);
    let (sandbox, grown) = growth(builder, move |context| {
        let (one, few) = (one.clone(), few.clone());
        async move {
            let address = context.exporter().http_address();
            assert_eq!(post(address, "/v1/traces", &[PROTOBUF], &one).await, 413);
            assert_eq!(post(address, "/v1/traces", &[PROTOBUF], &few).await, 200);
        }
    })
    .await;
    end(&sandbox).await;
    assert_within("a large resource", grown, 96 * MIB);
    let received = collector.received();
    let ordinary = received.spans().filter(|span| span.item.name == "ordinary").count();
    assert_eq!(ordinary, 100);
    let output = sandbox.extension_output();
    assert!(output.iter().any(|line| line.contains("resource is too large")), "{output:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_share_a_budget() {
    const BODY: usize = 19 * MIB;
    // Chunks do not say how many there will be.
    for announced in [Some(BODY + 1), None] {
        let collector = Collector::start().await.expect("a collector");
        let builder = sandbox(&collector, Protocol::Http).memory_mb(512);
        let (sandbox, grown) = growth(builder, move |context| async move {
            let body = Arc::new(vec![b'x'; BODY]);
            let mut posts = JoinSet::new();
            for _ in 0..100 {
                let (address, body) = (context.exporter().http_address().to_owned(), Arc::clone(&body));
                posts.spawn(async move {
                    begin_post(&address, "/v1/traces", &[PROTOBUF], announced, &body).await
                });
            }
            let streams = posts.join_all().await;
            // Others are served meanwhile, and the platform's deliveries arrive.
            context.log_lines(5);
            for transport in [Transport::Grpc, Transport::HttpProtobuf, Transport::HttpJson] {
                context.send_spans(transport, 5).await.expect("the receiver takes spans");
            }
            drop(streams);
        })
        .await;
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
        assert_within("unfinished bodies", grown, 192 * MIB);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decompression_bombs_share_a_budget() {
    let collector = Collector::start().await.expect("a collector");
    let builder = sandbox(&collector, Protocol::Http).memory_mb(512);
    let body = prost::Message::encode_to_vec(&spans(Vec::new(), vec![span(&"x".repeat(19 * MIB))]));
    let bomb = zstd::encode_all(&body[..], 1).expect("memory");
    let (sandbox, grown) = growth(builder, move |context| {
        let bomb = bomb.clone();
        async move {
            let mut posts = JoinSet::new();
            for _ in 0..64 {
                let (address, bomb) = (context.exporter().http_address().to_owned(), bomb.clone());
                posts.spawn(async move { post(&address, "/v1/traces", &[PROTOBUF, ZSTD], &bomb).await });
            }
            let answers = posts.join_all().await;
            assert!(answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
            assert!(answers.contains(&200), "{answers:?}");
        }
    })
    .await;
    end(&sandbox).await;
    assert_within("bombs", grown, 224 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_data_is_sent() {
    const POSTS: usize = 8;
    const SPANS: usize = 3_500;
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let payload = spans(
            Vec::new(),
            vec![Span { attributes: vec![text("padding", "x".repeat(1_000))], ..span("accepted") }; SPANS],
        );
        let function = Function::builtin(move |context| {
            let payload = payload.clone();
            async move {
                let mut posts = JoinSet::new();
                for _ in 0..POSTS {
                    let (exporter, payload) = (context.exporter().clone(), Payload::Traces(payload.clone()));
                    posts.spawn(async move {
                        // As an SDK does, but without its pauses.
                        loop {
                            match exporter.send(transport(protocol), &payload).await {
                                Ok(()) => return,
                                Err(ExportError::Http { status: 503, .. }) => {}
                                Err(ExportError::Grpc(status))
                                    if status.code() == tonic::Code::Unavailable => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    });
                }
                posts.join_all().await;
                Ok(Value::Null)
            }
        });
        let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
        invoke(&sandbox, Value::Null).await;
        end(&sandbox).await;
        let received = collector.received();
        let accepted = received.spans().filter(|span| span.item.name == "accepted").count();
        assert_eq!(accepted, POSTS * SPANS, "{:#?}", sandbox.extension_output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_costs_no_batch() {
    let mut body =
        prost::Message::encode_to_vec(&spans(vec![text("user", "caf_".to_owned())], vec![span("kept"); 200]));
    let at = body.windows(4).position(|window| window == b"caf_").expect("the text");
    body[at + 3] = 0xe9;
    let json = r#"{"resource_spans":[{"scopeSpans":[{"spans":[{"name":"kept","traceState":"\ud800"},{"name":"kept"}]}]}]}"#;
    let collector = Collector::start().await.expect("a collector");
    let (sandbox, _) = growth(sandbox(&collector, Protocol::Grpc), move |context| {
        let body = body.clone();
        async move {
            let address = context.exporter().http_address();
            assert_eq!(post(address, "/v1/traces", &[PROTOBUF], &body).await, 200);
            assert_eq!(post(address, "/v1/traces/v1/traces", &[JSON], json.as_bytes()).await, 200);
        }
    })
    .await;
    end(&sandbox).await;
    let received = collector.received();
    assert_eq!(received.spans().filter(|span| span.item.name == "kept").count(), 202);
    let users = received.spans().filter_map(|span| span.resource_attribute("user"));
    assert!(users.into_iter().all(|user| user == "caf\u{fffd}"));
    assert!(sandbox.extension_output().is_empty(), "{:#?}", sandbox.extension_output());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_served_on_both_ports() {
    let collector = Collector::start().await.expect("a collector");
    let (sandbox, _) = growth(sandbox(&collector, Protocol::Grpc), |context| async move {
        let exporter = context.exporter();
        let swapped = Exporter::new(exporter.http_address(), exporter.grpc_address());
        for transport in [Transport::Grpc, Transport::GrpcGzip, Transport::HttpProtobuf, Transport::HttpJson]
        {
            swapped.send(transport, &log(context.mark(Signal::Logs))).await.expect("the receiver takes it");
        }
    })
    .await;
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
    assert!(sandbox.extension_output().is_empty(), "{:#?}", sandbox.extension_output());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_are_logged_once_per_kind() {
    let collector = Collector::start().await.expect("a collector");
    let (sandbox, _) = growth(sandbox(&collector, Protocol::Grpc), |context| async move {
        let address = context.exporter().http_address();
        for _ in 0..30 {
            assert_eq!(post(address, "/v1/spans\u{1b}", &[PROTOBUF], &[]).await, 400);
            assert_eq!(post(address, "/v1/spans", &[PROTOBUF], &[]).await, 404);
            // A resource and nothing else.
            assert_eq!(post(address, "/v1/traces", &[PROTOBUF], &field(1, &field(1, &[]))).await, 200);
            assert_eq!(post(address, "/v1/traces", &[PROTOBUF], &[]).await, 200);
            assert_eq!(post(address, "/v1/traces", &[JSON], br#"{"resourceSpans":[]}"#).await, 200);
        }
    })
    .await;
    end(&sandbox).await;
    let output = sandbox.extension_output();
    for start in [
        "port 4318: request refused: no OTLP endpoint at /v1/spans, only at /v1/logs, /v1/metrics, /v1/traces",
        "port 4318: received no items: a request to /v1/traces contained no traces",
    ] {
        let lines: Vec<_> = output.iter().filter(|line| line.contains(start)).collect();
        assert_eq!(lines.len(), 2, "{output:#?}");
        assert!(lines[0].ends_with("; 1 so far") && lines[1].ends_with("; 10 so far"), "{lines:#?}");
    }
    assert_eq!(output.len(), 4, "{output:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_beyond_the_cap_make_room() {
    let collector = Collector::start().await.expect("a collector");
    let (sandbox, grown) = growth(sandbox(&collector, Protocol::Grpc), |context| async move {
        let mut idle = Vec::new();
        for nth in 0..600 {
            let exporter = context.exporter();
            let address = if nth % 2 == 0 { exporter.grpc_address() } else { exporter.http_address() };
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("the port is open");
            // It may be closed by then.
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            idle.push(stream);
        }
        context.log_lines(5);
        for transport in [Transport::Grpc, Transport::HttpProtobuf] {
            context.send_spans(transport, 5).await.expect("the receiver takes spans");
        }
        drop(idle);
    })
    .await;
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
    assert_within("idle connections", grown, 64 * MIB);
}

/// An event of the Telemetry API. The record is JSON.
fn event(kind: &str, record: &str) -> String {
    format!(r#"{{"time":"2022-10-12T00:00:15.064Z","type":"{kind}","record":{record}}}"#)
}

/// The cost of deliveries.
#[derive(Debug)]
struct Cost {
    /// The peak memory in bytes, above that before the deliveries.
    peak: u64,
    /// The same, one invocation later.
    kept: u64,
    /// The duration of the invocation that followed them.
    invocation: Duration,
    /// The extension's output.
    output: Vec<String>,
}

/// Delivers these bodies between two invocations, whose lines must all arrive.
async fn cost_of(variables: &[(&str, &str)], bodies: impl IntoIterator<Item = String>) -> Cost {
    let collector = Collector::start().await.expect("a collector");
    let mut extension = extension(&collector, Protocol::Http).env("ROTEL_FLUSH_TIMEOUT", "60s");
    for (name, value) in variables {
        extension = extension.env(*name, *value);
    }
    let sandbox =
        Sandbox::builder().extension(extension).collector(&collector).timeout(Duration::from_mins(5));
    let sandbox = sandbox.function(lines(5)).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    let before = sandbox.resident_bytes();
    sandbox.thaw().await;
    for body in bodies {
        assert_eq!(sandbox.inject(body).await.expect("a subscription"), Some(200));
    }
    let invocation = invoke(&sandbox, Value::Null).await;
    let peak = sandbox.peak_resident_bytes().saturating_sub(before);
    invoke(&sandbox, Value::Null).await;
    let kept = sandbox.resident_bytes().saturating_sub(before);
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
    Cost { peak, kept, invocation: invocation.total, output: sandbox.extension_output() }
}

/// Asserts that deliveries cost less than `memory` bytes. The bound on time is the same for all, and allows for a busy
/// machine and a debug build.
fn assert_cost(case: &str, cost: &Cost, memory: usize) {
    assert_memory(case, cost.peak, memory as u64);
    assert_time(case, cost.invocation, Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_made_to_grow_cost_little() {
    let numbered = (0..3_600).map(|n| format!(r#""a{n}":1"#)).collect::<Vec<_>>().join(",");
    let level = format!(r#""{}":{{"#, "k".repeat(800));
    let records = [
        ("a key of 32 kB around short ones", format!(r#"{{"{}":{{{numbered}}}}}"#, "k".repeat(32_000))),
        (
            "a key of 64 kB around short ones",
            format!(r#"{{"{}":{{{numbered},{numbered}}}}}"#, "k".repeat(64_000)),
        ),
        ("120 levels with keys of 800 B", format!("{{{}{numbered}{}}}", level.repeat(120), "}".repeat(120))),
        ("an array of 50,000 numbers", format!("[{}]", vec!["-1"; 50_000].join(","))),
        ("30,000 empty keys", format!("{{{}}}", vec![r#""":-1"#; 30_000].join(","))),
    ];
    for (case, record) in records {
        let body = format!("[{}]", event("function", &record));
        let cost = cost_of(&[], [body]).await;
        assert_cost(&format!("JSON record, {case}"), &cost, 16 * MIB);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_that_search_for_long_are_cut_short() {
    let cases = [("x.*y|x", "x".repeat(16 << 10)), ("[a-z]{1000}[0-9]", "a".repeat(250_000))];
    for (mask, line) in cases {
        let line = event("function", &format!("\"{line}\""));
        let body = format!("[{line},{line}]");
        let cost = cost_of(&[("ROTEL_LAMBDA_LOG_MASK", mask)], [body]).await;
        assert_cost(&format!("mask {mask}"), &cost, 16 * MIB);
        assert!(cost.output.iter().any(|line| line.contains("masked 2 records whole")), "{cost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn report_with_sixty_thousand_spans_costs_little() {
    let span = |n| format!(r#"{{"name":"s{n}","start":"2022-10-12T00:00:15.064Z","durationMs":1}}"#);
    let spans = (0..60_000).map(span).collect::<Vec<_>>().join(",");
    let record = format!(r#"{{"phase":"init","metrics":{{"durationMs":1}},"spans":[{spans}]}}"#);
    let body = format!("[{}]", event("platform.initReport", &record));
    let cost = cost_of(&[], [body]).await;
    assert_cost("platform.initReport with 60,000 spans", &cost, 24 * MIB);
    assert!(cost.output.iter().any(|line| line.contains("59936 spans")), "{cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_starts_are_forgotten() {
    // A debug build takes long for the 200,000 of `make abuse`.
    let starts = if is_release() { 50_000 } else { 12_500 };
    let forged = |delivery| {
        let start = |n| event("platform.start", &format!(r#"{{"requestId":"{delivery}-{n}"}}"#));
        format!("[{}]", (0..starts).map(start).collect::<Vec<_>>().join(","))
    };
    let cost = cost_of(&[("ROTEL_LAMBDA_PLATFORM_EVENTS", "metrics,spans,logs")], (0..4).map(forged)).await;
    // The deliveries themselves, all at once, their events one delivery at a time, and the buffer.
    let case = format!("{} forged starts", 4 * starts);
    assert_cost(&case, &cost, 256 * MIB);
    assert_memory(format!("{case}: left after"), cost.kept, 96 * MIB as u64);
}
