//! Keys and passwords that the endpoint does not take.

use lambda_sandbox::collector::{Behaviour, Protocol, Refusal};

use super::harness::{Check, HEADERS, KEY, both, causes, collector, locked};

#[tokio::test(flavor = "multi_thread")]
async fn key_after_bearer_is_recognized() {
    let collector = locked().await;
    let account = both(|protocol| {
        Check::collector(&collector, protocol).with(HEADERS, format!("Authorization=Bearer {KEY}"))
    });
    insta::assert_snapshot!(account.await, @r#"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Diagnosis
      logs, metrics, traces: [host]: UNAUTHENTICATED: the authorization header begins with "Bearer ", but ClickStack expects only the ingestion API key; remove "Bearer " from ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Diagnosis
      logs, metrics, traces: [host]: HTTP 401: the authorization header begins with "Bearer ", but ClickStack expects only the ingestion API key; remove "Bearer " from ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_is_reported() {
    let collector = locked().await;
    let causes = causes(|protocol| {
        Check::collector(&collector, protocol).with(HEADERS, format!("Authorization=other-{KEY}"))
    });
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: UNAUTHENTICATED: the endpoint does not accept the key in the authorization header; copy the ingestion API key from ClickStack's settings into ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS
    http: [host]: HTTP 401: the endpoint does not accept the key in the authorization header; copy the ingestion API key from ClickStack's settings into ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_key_is_reported() {
    let collector = locked().await;
    insta::assert_snapshot!(causes(|protocol| Check::collector(&collector, protocol)).await, @"
    grpc: [host]: UNAUTHENTICATED: a key is required, but no authorization header is set; set ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=<ingestion API key>
    http: [host]: HTTP 401: a key is required, but no authorization header is set; set ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=<ingestion API key>
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_reported() {
    let collector = locked().await;
    let account = Check::collector(&collector, Protocol::Http)
        .with("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic")
        .with("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me")
        .with("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2");
    insta::assert_snapshot!(account.cause().await, @"[host]: HTTP 401: wrong user name or password; correct ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME and ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD, or set an ingestion API key instead");
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_access_is_reported() {
    let collector = collector().await;
    collector.behave(Behaviour::Refuse(Refusal::status(403)));
    insta::assert_snapshot!(causes(|protocol| Check::collector(&collector, protocol)).await, @"
    grpc: [host]: PERMISSION_DENIED: access denied by the backend, or by a firewall or proxy in front of it; check their rules, and that the key in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS has write permission
    http: [host]: HTTP 403: access denied by the backend, or by a firewall or proxy in front of it; check their rules, and that the key in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS has write permission
    ");
}
