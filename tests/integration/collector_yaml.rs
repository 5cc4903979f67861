//! The `collector.yaml` of people who come from the OpenTelemetry collector layer, as it stands.

use std::fs;

use lambda_sandbox::Sandbox;
use lambda_sandbox::collector::{Collector, Protocol};
use serde_json::Value;
use tempfile::TempDir;

use support::{assert_exact, end, invoke, unconfigured, working};

const KEY: &str = "0123-ingestion-key";

/// The published guide's file, and its variant for debugging, for this collector.
fn published(file: &str, collector: &Collector) -> String {
    // They are what the reader is thrown at as well.
    let text = fs::read_to_string(format!("tests/fuzz/corpus/collector_yaml/{file}")).expect("a file");
    text.replace("http://clickstack.example.com:4318", &collector.url(Protocol::Http))
        .replace("0123-key", KEY)
}

fn write(folder: &TempDir, text: &str) -> String {
    let path = folder.path().join("collector.yaml");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a path").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_files_work_as_they_stand() {
    for (file, variable) in [
        ("guide", "OPENTELEMETRY_COLLECTOR_CONFIG_FILE"),
        ("guide-debug", "OPENTELEMETRY_COLLECTOR_CONFIG_URI"),
    ] {
        let collector = Collector::builder().authorization(KEY).start().await.expect("a collector");
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(&folder, &published(file, &collector));
        let extension = unconfigured().env(variable, path).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox =
            Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
        for _ in 0..3 {
            invoke(&sandbox, Value::Null).await;
        }
        let lines = sandbox.extension_output();
        end(&sandbox).await;
        let received = collector.received();
        assert_eq!(assert_exact(&sandbox, &received), 30, "{file}");
        assert_eq!(received.requests().count(), received.kept().count(), "a request without the key");
        for request in received.kept() {
            assert_eq!(request.headers.get("authorization").expect("the header"), KEY);
            if request.payload.as_ref().is_some_and(|payload| payload.items() > 0) {
                assert_eq!(request.compression.as_deref(), Some("gzip"));
            }
        }
        match file {
            "guide" => assert_eq!(lines, Vec::<String>::new()),
            // A warning of the verbosity, and a line for each flush.
            _ => assert!((2..=4).contains(&lines.len()), "{lines:#?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_in_variables_and_flawed_files_work() {
    let collector = Collector::builder().authorization(KEY).start().await.expect("a collector");
    let folder = tempfile::tempdir().expect("a folder");
    // As it was posted: an open quote, and processors that are not defined.
    let posted = published("guide", &collector)
        .replace(":4318\"\n    headers", ":4318\n    headers")
        .replace("endpoint: http", "endpoint: \"http")
        .replace("processors:\n  batch:\n  decouple:\n", "");
    let posted = write(&folder, &posted.replace(KEY, "$INGESTION_KEY"));
    for (uri, lines) in [
        ("env:CONFIG".to_owned(), 0),
        (format!("{posted},yaml:exporters::otlphttp::headers::authorization: {KEY}"), 3),
        (posted, 4),
    ] {
        let extension = unconfigured()
            .env("OPENTELEMETRY_COLLECTOR_CONFIG_URI", &uri)
            .env("CONFIG", published("guide", &collector))
            .env("INGESTION_KEY", KEY)
            .env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox =
            Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
        invoke(&sandbox, Value::Null).await;
        let logged = sandbox.extension_output();
        assert!(
            logged.len() == lines && logged.iter().all(|line| line.contains("WARN")),
            "{uri}: {logged:#?}"
        );
        end(&sandbox).await;
        let received = collector.received();
        assert!(sandbox.ledger().compare(&received).missing.is_empty(), "{uri}");
        assert_eq!(received.requests().count(), received.kept().count(), "a request without the key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_act_on_all_telemetry() {
    let collector = Collector::builder().authorization(KEY).start().await.expect("a collector");
    let folder = tempfile::tempdir().expect("a folder");
    let processors = "processors:
  batch:
  decouple:
  filter:
    logs: {log_record: ['IsMatch(body, \"^line [02468]\")']}
  transform:
    log_statements: ['set(log.attributes[\"team\"], \"shop\")']
    trace_statements: ['set(span.name, Concat([\"shop\", span.name], \" \"))']
";
    let text = published("guide", &collector)
        .replace("processors:\n  batch:\n  decouple:\n", processors)
        .replace("[batch, decouple]", "[filter, transform, batch]");
    let extension = unconfigured()
        .env("OPENTELEMETRY_COLLECTOR_CONFIG_URI", write(&folder, &text))
        .env("ROTEL_FLUSH_TIMEOUT", "60s");
    let sandbox =
        Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    let received = collector.received();
    let bodies: Vec<_> =
        received.logs().map(|log| log.body()).filter(|body| body.starts_with("line")).collect();
    assert!(!bodies.is_empty());
    assert!(bodies.iter().all(|body| body.starts_with("line 1") || body.starts_with("line 3")), "{bodies:?}");
    assert!(received.logs().all(|log| log.attribute("team").as_deref() == Some("shop")));
    // Those of the platform, too.
    assert!(received.spans().count() > 1 && received.spans().all(|span| span.item.name.starts_with("shop ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_file_does_not_harm_function() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = write(&folder, "exporters: [otlphttp\n");
    let absent = folder.path().join("absent.yaml").to_str().expect("a path").to_owned();
    for (uri, logged) in [
        (broken.as_str(), "ERROR collector.yaml:2: invalid YAML"),
        (absent.as_str(), "WARN OPENTELEMETRY_COLLECTOR_CONFIG_URI"),
        // It has no end.
        ("/dev/zero", "is not a regular file"),
        ("s3://bucket/collector.yaml", "s3: URIs are not supported"),
    ] {
        let collector = Collector::start().await.expect("a collector");
        let extension = unconfigured()
            .env("OPENTELEMETRY_COLLECTOR_CONFIG_URI", uri)
            .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(Protocol::Grpc))
            .env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox =
            Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
        invoke(&sandbox, Value::Null).await;
        let lines = sandbox.extension_output();
        assert!(lines.len() == 1 && lines.iter().all(|line| line.contains(logged)), "{uri}: {lines:#?}");
        end(&sandbox).await;
        assert_eq!(assert_exact(&sandbox, &collector.received()), 10);
    }
}
