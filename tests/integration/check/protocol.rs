//! Ports and paths where something else is spoken than was asked for.

use lambda_sandbox::collector::Protocol;
use support::behind_tls;

use super::harness::{CA, Check, causes, collector};
use super::server::{Server, serve};

fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Grpc => Protocol::Http,
        Protocol::Http => Protocol::Grpc,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_without_otlp_is_reported() {
    let collector = collector().await;
    let endpoint = collector.url(Protocol::Http);
    let check = || Check::of(&endpoint, Protocol::Http);
    let accounts = [
        check().with("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", &*endpoint).account().await,
        Check::of(&format!("{endpoint}/v1/traces"), Protocol::Http).account().await,
        Check::of(&format!("{endpoint}/otlp"), Protocol::Http).account().await,
    ];
    insta::assert_snapshot!(accounts.join("\n\n"), @"
    Test records, service.name = rotel-extension-check
      logs     ok      http  http://[host]/v1/logs
      metrics  ok      http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/

    Diagnosis
      traces: [host]: HTTP 404: no OTLP at this path; ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT is used unchanged, so append /v1/traces to it

    FAILED: 1 signal not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     ok      http  http://[host]/v1/logs
      metrics  ok      http  http://[host]/v1/metrics
      traces   ok      http  http://[host]/v1/traces

    OK: all signals with an endpoint were accepted
    exit code 0

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/otlp/v1/logs
      metrics  FAILED  http  http://[host]/otlp/v1/metrics
      traces   FAILED  http  http://[host]/otlp/v1/traces

    Diagnosis
      logs, metrics, traces: [host]: HTTP 404: no OTLP at this path; the extension appends /v1/logs and so on to ROTEL_OTLP_EXPORTER_ENDPOINT; correct host, port or path there

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_to_http_port_is_reported() {
    let collector = collector().await;
    let cause = Check::of(&collector.url(Protocol::Http), Protocol::Grpc).cause().await;
    insta::assert_snapshot!(cause, @"[host]: HTTP 404: the response is HTTP without gRPC; set the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_to_http_1_port_is_reported() {
    let server = Server::Answers("HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n");
    let cause = Check::of(&serve(server).await, Protocol::Grpc).cause().await;
    insta::assert_snapshot!(cause, @"[host]: plain gRPC is not understood on this port, which may expect TLS or OTLP/HTTP; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or set the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_to_grpc_port_is_reported() {
    let collector = collector().await;
    // A server of gRPC that speaks first, as Go's does.
    let begins = serve(Server::Begins(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00")).await;
    let causes = [
        Check::of(&collector.url(Protocol::Grpc), Protocol::Http).cause().await,
        Check::of(&begins, Protocol::Http).cause().await,
    ];
    insta::assert_snapshot!(causes.join("\n"), @"
    [host]: plain HTTP is not understood on this port, and 4317 is the default port of gRPC; set the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc; if the port uses TLS, write https://
    [host]: plain HTTP is not understood on this port, which may expect TLS or gRPC; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or set the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_protocol_over_tls_is_reported() {
    let (collector, certificate) = behind_tls(None).await;
    let causes =
        causes(|protocol| Check::of(&collector.url(other(protocol)), protocol).with(CA, &*certificate));
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: HTTP 404: the response is HTTP without gRPC; set the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http
    http: [host]: its response is not OTLP: gRPC instead of HTTP; set the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connection_is_reported() {
    let endpoint = serve(Server::Answers("")).await;
    insta::assert_snapshot!(causes(|protocol| Check::of(&endpoint, protocol)).await, @"
    grpc: [host]: plain gRPC is not understood on this port, which may expect TLS or OTLP/HTTP; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or set the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http
    http: [host]: plain HTTP is not understood on this port, which may expect TLS or gRPC; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or set the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_is_reported() {
    let server = Server::Answers(
        "HTTP/1.1 301 Moved Permanently\r\nlocation: https://example.com/hunter2\r\ncontent-length: 0\r\n\r\n",
    );
    let cause = Check::of(&serve(server).await, Protocol::Http).cause().await;
    insta::assert_snapshot!(cause, @"[host]: HTTP 301: redirects to https://example.com, and redirects are not followed; set ROTEL_OTLP_EXPORTER_ENDPOINT to that address");
}

#[tokio::test(flavor = "multi_thread")]
async fn web_page_is_reported() {
    let server = Server::Answers(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>",
    );
    let cause = Check::of(&serve(server).await, Protocol::Http).cause().await;
    insta::assert_snapshot!(cause, @"[host]: its response is not OTLP: HTTP 200 with an unexpected content type; set the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc");
}
