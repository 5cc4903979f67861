//! Endpoints to which no connection is made.

use lambda_sandbox::collector::Protocol;

use super::harness::{Check, causes, collector};

#[tokio::test(flavor = "multi_thread")]
async fn unresolved_host_name_is_reported() {
    let causes = causes(|protocol| Check::of("https://clickstack.invalid:4317", protocol).with_patience());
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: host name does not resolve; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and check DNS resolution if the function is in a VPC
    http: [host]: host name does not resolve; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and check DNS resolution if the function is in a VPC
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_suspected_where_one_is_set() {
    let check = Check::of("https://clickstack.invalid:4317", Protocol::Grpc);
    let proxy = check.with("HTTPS_PROXY", "http://me:hunter2@proxy.invalid:3128").with_patience();
    insta::assert_snapshot!(proxy.cause().await, @"[host]: host name does not resolve; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and check DNS resolution if the function is in a VPC; requests go through the proxy in HTTPS_PROXY, so the proxy may be the cause");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connection_is_reported() {
    let collector = collector().await;
    // A port that was closed may be held open for a moment by a process that another test is about to start.
    let never_open = format!("http://{}:4319", collector.address(Protocol::Grpc).ip());
    insta::assert_snapshot!(causes(|protocol| Check::of(&never_open, protocol)).await, @"
    grpc: [host]: connection refused, because nothing listens there; start the backend, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT
    http: [host]: connection refused, because nothing listens there; start the backend, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_endpoint_is_reported() {
    let collector = collector().await;
    collector.go_deaf();
    let causes = causes(|protocol| {
        Check::collector(&collector, protocol).with("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "250ms")
    });
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: no response within 250ms; check that firewalls and security groups allow the connection and that DNS works; if the endpoint is slow, increase ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT
    http: [host]: no response within 250ms; check that firewalls and security groups allow the connection and that DNS works; if the endpoint is slow, increase ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT
    ");
}
