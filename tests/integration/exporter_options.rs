//! The exporter's options, each against a collector that verifies its effect.

use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Extension, Sandbox, Signal};

use support::{PROTOCOLS, assert_exact, behind_tls, extension};

async fn live(extension: Extension) -> Sandbox {
    support::live(Sandbox::builder().extension(extension.env("ROTEL_FLUSH_TIMEOUT", "60s"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_compression_is_used_when_set() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let sandbox =
            live(extension(&collector, protocol).env("ROTEL_OTLP_EXPORTER_COMPRESSION", "zstd")).await;
        assert_exact(&sandbox, &collector.received());
        let received = collector.received();
        let with_items = received
            .kept()
            .filter(|request| request.payload.as_ref().is_some_and(|payload| payload.items() > 0));
        assert!(
            with_items.map(|request| request.compression.as_deref()).all(|encoding| encoding == Some("zstd"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_presented() {
    let client = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key.pem");
    std::fs::write(&key, client.signing_key.serialize_pem()).expect("a file");
    for protocol in PROTOCOLS {
        let (collector, certificate) = behind_tls(Some(client.cert.pem())).await;
        let extension = extension(&collector, protocol)
            .env("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", certificate)
            .env("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", client.cert.pem())
            .env("ROTEL_OTLP_EXPORTER_TLS_KEY_FILE", key.to_str().expect("a path"));
        assert_exact(&live(extension).await, &collector.received());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_certificate_needs_skip_verify() {
    for protocol in PROTOCOLS {
        let (collector, _) = behind_tls(None).await;
        live(extension(&collector, protocol)).await;
        assert_eq!(collector.received().kept().count(), 0);
        let unseeing = extension(&collector, protocol).env("ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY", "true");
        assert_exact(&live(unseeing).await, &collector.received());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_has_its_own_endpoint() {
    let common = Collector::start().await.expect("a collector");
    let of_logs = Collector::start().await.expect("a collector");
    let endpoint = format!("{}/v1/logs", of_logs.url(Protocol::Http));
    let extension = extension(&common, Protocol::Grpc)
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "X-Way=common")
        .env("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", endpoint)
        .env("ROTEL_OTLP_EXPORTER_LOGS_PROTOCOL", "http")
        .env("ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS", "X-Way=logs");
    live(extension).await;
    for (collector, way, counts) in [(&common, "common", (0, 10)), (&of_logs, "logs", (10, 0))] {
        let received = collector.received();
        let found = received.counts();
        assert_eq!((found.logs, found.spans), counts, "{way}");
        assert!(
            received.kept().all(|request| request.headers.get("x-way").is_some_and(|value| value == way))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_without_endpoint_spares_others() {
    let collector = Collector::start().await.expect("a collector");
    let extension =
        support::unconfigured().env("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", collector.url(Protocol::Grpc));
    let sandbox = live(extension).await;
    let received = collector.received();
    assert_eq!((received.counts().logs, received.counts().spans), (0, 10));
    assert!(received.requests().all(|request| request.signal == Signal::Traces));
    assert_eq!(sandbox.extension_output(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication_is_sent() {
    let collector = Collector::builder().authorization("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let collector = collector.start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Http)
        .env("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic")
        .env("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "Aladdin")
        .env("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "open sesame");
    assert_exact(&live(extension).await, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn unselected_telemetry_types_are_not_sent() {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Grpc).env("ROTEL_LAMBDA_TELEMETRY_TYPES", "platform");
    live(extension).await;
    let counts = collector.received().counts();
    assert_eq!((counts.logs, counts.spans), (0, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_tls_of_one_signal_spares_others() {
    for protocol in PROTOCOLS {
        let (collector, certificate) = behind_tls(None).await;
        let extension = extension(&collector, protocol)
            .env("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", certificate)
            .env("ROTEL_OTLP_EXPORTER_LOGS_TLS_CA_FILE", "/nowhere/ca.pem");
        let sandbox = live(extension).await;
        let counts = collector.received().counts();
        assert_eq!((counts.logs, counts.spans), (0, 10));
        assert_eq!(
            sandbox.extension_output(),
            [
                "ERROR ROTEL_OTLP_EXPORTER_LOGS_TLS_CA_FILE: \"/nowhere/ca.pem\" does not exist; add it to the \
                 deployment package (its files are in /var/task), or fix the path"
            ]
        );
    }
}
