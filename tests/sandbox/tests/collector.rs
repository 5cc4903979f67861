//! Tests of the collector stand-in with a real client.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Counts, Identity, Outcome, Protocol, Refusal};
use lambda_sandbox::otlp::{Payload, Signal};
use lambda_sandbox::{Collector, Exporter, Transport};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

const PATIENCE: Duration = Duration::from_secs(20);
const TRANSPORTS: [Transport; 4] =
    [Transport::Grpc, Transport::GrpcGzip, Transport::HttpProtobuf, Transport::HttpJson];

fn request(logs: usize, body: &str) -> ExportLogsServiceRequest {
    let body = Some(AnyValue { value: Some(Value::StringValue(body.to_owned())) });
    let log_records = vec![LogRecord { body, ..LogRecord::default() }; logs];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

fn exporter(collector: &Collector) -> Exporter {
    let address = |protocol| collector.address(protocol).to_string();
    Exporter::new(address(Protocol::Grpc), address(Protocol::Http))
}

async fn send(collector: &Collector, transport: Transport) -> Result<(), String> {
    let payload = Payload::Logs(request(2, "some text"));
    exporter(collector).send(transport, &payload).await.map_err(|error| error.to_string())
}

async fn client(collector: &Collector) -> LogsServiceClient<Channel> {
    LogsServiceClient::connect(collector.url(Protocol::Grpc)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_is_received() {
    let collector = Collector::start().await.unwrap();
    for transport in TRANSPORTS {
        send(&collector, transport).await.unwrap();
    }
    let received = collector.received();
    assert_eq!(received.counts(), Counts { logs: 8, ..Counts::default() });
    assert!(received.logs().all(|log| log.body() == "some text"));
    let compression: Vec<_> = received.requests().map(|request| request.compression.as_deref()).collect();
    assert_eq!(compression, [None, Some("gzip"), None, None]);
    assert!(received.requests().all(|request| request.wire_bytes > 10 && request.outcome == Outcome::Kept));
    collector.wait_until(|received| received.counts().logs == 8, PATIENCE).await.unwrap();
    let error =
        collector.wait_until(|received| received.counts().spans > 0, Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("4 requests"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused() {
    let collector = Collector::builder().authorization("the key").start().await.unwrap();
    assert!(send(&collector, Transport::Grpc).await.unwrap_err().contains("authentication"));
    assert!(send(&collector, Transport::HttpProtobuf).await.unwrap_err().contains("401"));
    let mut with_key = tonic::Request::new(request(1, "right"));
    with_key.metadata_mut().insert("authorization", "the key".parse().unwrap());
    client(&collector).await.export(with_key).await.unwrap();
    assert_eq!(collector.counts().logs, 1);
    let outcomes: Vec<_> = collector.received().requests().map(|request| request.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused(401), Outcome::Refused(401), Outcome::Kept]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_has_retry_after() {
    let collector = Collector::start().await.unwrap();
    collector.behave_next(1, Behaviour::Refuse(Refusal::status(429).retry_after(Duration::from_secs(7))));
    let status = client(&collector).await.export(request(1, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(details.contains("type.googleapis.com/google.rpc.RetryInfo"), "{details}");
    collector.behave_next(1, Behaviour::Refuse(Refusal::status(503)));
    assert!(send(&collector, Transport::HttpJson).await.unwrap_err().contains("503"));
    send(&collector, Transport::Grpc).await.unwrap();
    assert_eq!(collector.counts().logs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_is_reported() {
    let collector = Collector::start().await.unwrap();
    collector.behave(Behaviour::PartialSuccess { rejected: 1 });
    let answer = client(&collector).await.export(request(3, "")).await.unwrap().into_inner();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 1);
    send(&collector, Transport::HttpJson).await.unwrap();
    assert!(
        collector.received().requests().all(|request| request.outcome == Outcome::KeptInPart { rejected: 1 })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_can_be_cut_before_and_after_the_data_is_kept() {
    let collector = Collector::start().await.unwrap();
    for transport in TRANSPORTS {
        collector.behave_next(1, Behaviour::CutRequest { after: 5 });
        send(&collector, transport).await.unwrap_err();
        assert_eq!(collector.received().requests().last().unwrap().outcome, Outcome::Cut);
        let before = collector.counts().logs;
        collector.behave_next(1, Behaviour::CutAnswer);
        send(&collector, transport).await.unwrap_err();
        assert_eq!(collector.counts().logs, before + 2);
        assert_eq!(collector.received().requests().last().unwrap().outcome, Outcome::KeptUnanswered);
        send(&collector, transport).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_collector_answers_late_or_never() {
    let collector = Collector::start().await.unwrap();
    collector.behave_for(Signal::Logs, Behaviour::Hang);
    for transport in [Transport::Grpc, Transport::HttpProtobuf] {
        let answer = tokio::time::timeout(Duration::from_millis(200), send(&collector, transport)).await;
        assert!(answer.is_err());
    }
    assert_eq!(collector.counts(), Counts::default());
    collector.behave(Behaviour::Slow(Duration::from_millis(50)));
    for transport in TRANSPORTS {
        send(&collector, transport).await.unwrap();
    }
    assert_eq!(collector.counts().logs, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_goes_away_and_comes_back() {
    let collector = Collector::start().await.unwrap();
    let exporter = exporter(&collector);
    let payload = Payload::Logs(request(1, ""));
    exporter.send(Transport::Grpc, &payload).await.unwrap();
    collector.refuse_connections().await;
    exporter.send(Transport::Grpc, &payload).await.unwrap_err();
    exporter.send(Transport::HttpProtobuf, &payload).await.unwrap_err();
    collector.come_back().await.unwrap();
    send(&collector, Transport::Grpc).await.unwrap();

    collector.go_deaf();
    let answer = tokio::time::timeout(Duration::from_millis(200), send(&collector, Transport::Grpc)).await;
    assert!(answer.is_err());
    collector.come_back().await.unwrap();
    send(&collector, Transport::HttpProtobuf).await.unwrap();
    let received = collector.received();
    let connections: std::collections::HashSet<_> =
        received.requests().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_collector_answers_no_connection() {
    let collector = Collector::start().await.unwrap();
    let payload = Payload::Logs(request(1, ""));
    for vanished in [false, true] {
        let old = exporter(&collector);
        for transport in [Transport::Grpc, Transport::HttpProtobuf] {
            old.send(transport, &payload).await.unwrap();
        }
        let before = collector.received().requests().count();
        if vanished {
            collector.vanish().await.unwrap();
        } else {
            collector.go_deaf();
        }
        for exporter in [old, exporter(&collector)] {
            for transport in [Transport::Grpc, Transport::HttpProtobuf] {
                let answer =
                    tokio::time::timeout(Duration::from_millis(100), exporter.send(transport, &payload))
                        .await;
                assert!(answer.is_err(), "{answer:?}");
            }
        }
        assert_eq!(collector.received().requests().count(), before);
        collector.come_back().await.unwrap();
        send(&collector, Transport::Grpc).await.unwrap();
        send(&collector, Transport::HttpProtobuf).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn smaller_limit_is_reported_in_both_protocols() {
    let collector = Collector::start().await.unwrap();
    collector.behave(Behaviour::Limit { bytes: 1_000 });
    let large = Payload::Logs(request(1, &"x".repeat(1_000)));
    for (transport, reported) in [
        (Transport::GrpcGzip, Code::ResourceExhausted.description()),
        (Transport::HttpProtobuf, "413"),
        (Transport::HttpJson, "413"),
    ] {
        let error = exporter(&collector).send(transport, &large).await.unwrap_err().to_string();
        assert!(error.contains(reported), "{error}");
        send(&collector, transport).await.unwrap();
    }
    assert_eq!(collector.counts().logs, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_beyond_the_limits_are_refused() {
    let collector = Collector::start().await.unwrap();
    let large = request(1, &"x".repeat(5 << 20));
    let status = client(&collector).await.max_encoding_message_size(64 << 20).export(large.clone()).await;
    assert_eq!(status.unwrap_err().code(), Code::ResourceExhausted);
    exporter(&collector).send(Transport::HttpProtobuf, &Payload::Logs(large)).await.unwrap();
    let larger = Payload::Logs(request(1, &"x".repeat(21 << 20)));
    let error = exporter(&collector).send(Transport::HttpProtobuf, &larger).await.unwrap_err();
    assert!(error.to_string().contains("413"), "{error}");
    let outcomes: Vec<_> = collector.received().requests().map(|request| request.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused(413), Outcome::Kept, Outcome::Refused(413)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_refused() {
    let collector = Collector::start().await.unwrap();
    let exporter = exporter(&collector);
    for (path, content_type, status) in [
        ("/v1/logs", "application/x-protobuf", "400"),
        ("/v1/logs", "application/json", "400"),
        ("/v1/logs", "text/plain", "415"),
        ("/v2/logs", "application/json", "404"),
    ] {
        let error = exporter.send_http(path, content_type, "\u{1}garbage".into()).await.unwrap_err();
        assert!(error.to_string().contains(status), "{path} {content_type}: {error}");
    }
    assert_eq!(collector.counts(), Counts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_can_speak_tls() {
    let certified = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let keep = std::sync::Arc::clone(&certified);
    let collector = Collector::builder()
        .tls(move |ip| {
            let certified = rcgen::generate_simple_self_signed([ip.to_string()]).unwrap();
            *keep.lock().unwrap() = certified.cert.pem();
            Identity {
                certificates: certified.cert.pem(),
                key: certified.signing_key.serialize_pem(),
                client_authority: None,
            }
        })
        .start()
        .await
        .unwrap();
    let certificate = Certificate::from_pem(certified.lock().unwrap().clone());
    let tls = ClientTlsConfig::new().ca_certificate(certificate);
    let endpoint = Channel::from_shared(collector.url(Protocol::Grpc)).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.unwrap();
    LogsServiceClient::new(channel).export(request(1, "over TLS")).await.unwrap();
    assert_eq!(collector.counts().logs, 1);
    // A client without TLS gets no answer that it understands.
    send(&collector, Transport::Grpc).await.unwrap_err();
    // A client with TLS gets none from a collector that no longer speaks it.
    collector.forget_tls();
    endpoint.connect().await.unwrap_err();
    send(&collector, Transport::Grpc).await.unwrap();
    collector.come_back().await.unwrap();
    endpoint.connect().await.unwrap();
}
