//! Refusals of an endpoint that is the right one.

use lambda_sandbox::collector::{Behaviour, Refusal};

use super::harness::{Check, both, causes, collector};

#[tokio::test(flavor = "multi_thread")]
async fn rejected_items_are_reported() {
    let collector = collector().await;
    collector.behave_for(lambda_sandbox::Signal::Metrics, Behaviour::PartialSuccess { rejected: 1 });
    insta::assert_snapshot!(both(|protocol| Check::collector(&collector, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   ok      grpc  http://[host]

    Diagnosis
      metrics: [host]: accepted the request but rejected the item in it; backend message: rejected by the test

    FAILED: 1 signal not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     ok      http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   ok      http  http://[host]/v1/traces

    Diagnosis
      metrics: [host]: accepted the request but rejected the item in it; backend message: rejected by the test

    FAILED: 1 signal not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_or_broken_endpoint_is_reported() {
    let collector = collector().await;
    let mut shown = Vec::new();
    for status in [429, 500, 503] {
        collector.behave(Behaviour::Refuse(Refusal::status(status)));
        shown.push(causes(|protocol| Check::collector(&collector, protocol)).await);
    }
    insta::assert_snapshot!(shown.join("\n"), @"
    grpc: [host]: answered gRPC RESOURCE_EXHAUSTED; raise the backend's limits, or try again later
    http: [host]: HTTP 429: the backend is overloaded; try again later, or raise its limits
    grpc: [host]: answered gRPC INTERNAL; see the backend's log
    http: [host]: HTTP 500: internal error of the backend; see its log
    grpc: [host]: answered gRPC UNAVAILABLE; check that ClickStack is running, and any proxy in front of it
    http: [host]: HTTP 503: its proxy or load balancer cannot reach a backend; check that ClickStack is running
    ");
}
