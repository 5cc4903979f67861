//! Clients that a receiver must not trust: too much, too many, too slow, and nonsense, on every port.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Collector, Protocol};
use lambda_sandbox::{Context, ExportError, Exporter, Function, Payload, Sandbox, Signal, Status, Transport};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use support::{PROTOCOLS, compare, end, extension, impatient, sandbox, working};

const MIB: usize = 1024 * 1024;

/// The receiver's two, and the listener of the Telemetry API.
const PORTS: [u16; 3] = [4317, 4318, 8990];

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Grpc => Transport::Grpc,
        Protocol::Http => Transport::HttpProtobuf,
    }
}

/// A request of the SDK with one log record.
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
        posted.expect("it does not panic").expect("taken, or told to come again");
    }
    Ok(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_that_posts_64_mebibytes_faster_than_they_can_leave_costs_no_more_than_the_buffer() {
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
        let invocation = sandbox.invoke(json!("flood")).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Success, "{invocation:?}");
        let grown = sandbox.peak_resident_bytes().saturating_sub(before);
        // At its worst moment: the buffer, a copy of what is in flight, and what eight requests need while they are read.
        assert!(grown < 32 * MIB as u64, "{} MiB more", grown / MIB as u64);
        collector.behave(Behaviour::Accept);
        end(&sandbox).await;
        let kept = collector.received().logs().filter(|log| log.body().len() == MIB).count();
        assert!((1..8).contains(&kept), "{kept} of the flood were kept");
        let output = sandbox.extension_output();
        assert!(output.iter().any(|line| line.contains("lost")), "nobody told of the loss: {output:#?}");
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
            let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
            assert_eq!(invocation.status, Status::Success, "{invocation:?}");
            let at_next = invocation.collector_at_next.expect("a collector is attached");
            let comparison = sandbox.ledger().compare(&at_next);
            assert!(comparison.is_exact(), "{comparison:?}");
        }
        end(&sandbox).await;
    }
}

/// What the first bytes of a bad client are.
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
async fn slow_clients_and_garbage_on_every_port_hold_up_nobody() {
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
            let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
            assert_eq!(invocation.status, Status::Success, "{invocation:?}");
            let at_next = invocation.collector_at_next.expect("a collector is attached");
            let comparison = sandbox.ledger().compare(&at_next);
            assert!(comparison.is_exact(), "{comparison:?}");
            // One byte at a time, for ever.
            for client in &mut clients {
                let _ = client.write(b"x");
            }
        }
        end(&sandbox).await;
        assert!(compare(&sandbox, &collector).is_exact());
        assert!(sandbox.extension_output().len() <= 2, "{:#?}", sandbox.extension_output());
    }
}
