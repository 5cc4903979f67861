//! Endpoints to which no connection is made.

use lambda_sandbox::collector::Protocol;

use crate::harness::{Check, causes, collector};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_is_told() {
    let causes = causes(|protocol| Check::of("https://clickstack.invalid:4317", protocol).with_patience());
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names
    http: [host]: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_suspected_where_one_is_set() {
    let check = Check::of("https://clickstack.invalid:4317", Protocol::Grpc);
    let proxy = check.with("HTTPS_PROXY", "http://me:hunter2@proxy.invalid:3128").with_patience();
    insta::assert_snapshot!(proxy.cause().await, @"[host]: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names; the way goes through the proxy of HTTPS_PROXY, so it may be that which fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_told() {
    let collector = collector().await;
    // A port that was closed may be held open for a moment by a process that another test is about to start.
    let never_open = format!("http://{}:4319", collector.address(Protocol::Grpc).ip());
    insta::assert_snapshot!(causes(|protocol| Check::of(&never_open, protocol)).await, @"
    grpc: [host]: connection refused, so nothing listens there; start it, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT
    http: [host]: connection refused, so nothing listens there; start it, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_is_told() {
    let collector = collector().await;
    collector.go_deaf();
    let causes = causes(|protocol| {
        Check::collector(&collector, protocol).with("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "250ms")
    });
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: no answer within 250ms; a firewall or a security group that drops packets does that, and so does a name server that is down; if the endpoint is slow, increase ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT
    http: [host]: no answer within 250ms; a firewall or a security group that drops packets does that, and so does a name server that is down; if the endpoint is slow, increase ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT
    ");
}
