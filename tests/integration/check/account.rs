//! The output and the arguments of `--check`.

use std::process::Output;

use lambda_sandbox::collector::Protocol;
use support::PROTOCOLS;

use super::harness::{Check, HEADERS, KEY, collector, locked, run};

#[tokio::test(flavor = "multi_thread")]
async fn one_item_of_each_signal_is_accepted() {
    for protocol in PROTOCOLS {
        let collector = locked().await;
        let check = Check::collector(&collector, protocol)
            .with(HEADERS, format!("Authorization={KEY}"))
            .with("AWS_LAMBDA_FUNCTION_NAME", "my-function");
        let account = check.account().await;
        assert!(account.ends_with("exit code 0"), "{account}");
        let received = collector.received();
        let counts = received.counts();
        assert_eq!((counts.logs, counts.metric_points, counts.spans), (1, 1, 1), "{counts:?}");
        let services = [
            received.logs().next().expect("a log record").resource_attribute("service.name"),
            received.metrics().next().expect("a metric").resource_attribute("service.name"),
            received.spans().next().expect("a span").resource_attribute("service.name"),
        ];
        assert_eq!(services, [(); 3].map(|()| Some("my-function".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_configuration_is_shown_with_sources() {
    let collector = locked().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rotel.env");
    std::fs::write(&file, "ROTEL_FLUSH_TIMEOUT=2s\n").expect("a file");
    let whole = Check::collector(&collector, Protocol::Grpc)
        .with(HEADERS, format!("Authorization={KEY}"))
        .with("ROTEL_ENV_FILE", file.to_string_lossy())
        .whole()
        .await;
    insta::assert_snapshot!(whole.replace(&*file.to_string_lossy(), "[file]"), @"
    Configuration
      ROTEL_ENV_FILE                      environment  [file]
      ROTEL_OTLP_EXPORTER_ENDPOINT        environment  http://[host]
      ROTEL_OTLP_EXPORTER_PROTOCOL        environment  grpc
      ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS  environment  Authorization=[redacted]
      ROTEL_FLUSH_TIMEOUT                 file         2s

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    OK: all signals with an endpoint were accepted
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn blackhole_passes_and_sends_nothing() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_EXPORTER", "blackhole");
    insta::assert_snapshot!(check.account().await, @"
    OK: ROTEL_EXPORTER disables sending (blackhole)
    exit code 0
    ");
    assert_eq!(collector.received().requests().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_without_an_endpoint_is_no_failure() {
    let collector = collector().await;
    let mut check = Check::collector(&collector, Protocol::Grpc);
    check.variables = vec![("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT".to_owned(), collector.url(Protocol::Grpc))];
    insta::assert_snapshot!(check.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     –       no endpoint, so it is received and dropped
      metrics  –       no endpoint, so it is received and dropped
      traces   ok      grpc  http://[host]

    OK: all signals with an endpoint were accepted
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_shows_the_defaults_as_they_hold() {
    let variables = vec![
        ("ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned(), "http://192.0.2.1:4317".to_owned()),
        ("ROTEL_EXPORTER_RETRY_MAX_BACKOFF".to_owned(), "7s".to_owned()),
    ];
    let output = run(&["--all", "--check", "--offline"], variables).await;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let shown = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        line.expect("a line").split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown("ROTEL_OTLP_EXPORTER_COMPRESSION"), "default gzip");
    assert_eq!(shown("ROTEL_EXPORTER_RETRY_MAX_BACKOFF"), "environment 7s");
    assert_eq!(
        shown("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF"),
        "default 7s",
        "of the variable that is its default"
    );
    assert!(output.status.success(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_stable_names() {
    let collector = locked().await;
    let variables = vec![
        ("ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned(), collector.url(Protocol::Grpc)),
        ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), "Authorization=Bearer hunter2".to_owned()),
        ("ROTEL_KAFKA_BROKERS".to_owned(), "broker:9092".to_owned()),
        ("ROTEL_BATCH_MAX_SIZE".to_owned(), "many".to_owned()),
    ];
    let output = run(&["--check", "--json"], variables).await;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains("hunter2") && !output.status.success());
    let report: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(report["ok"], false);
    assert_eq!(report["summary"], "FAILED: 1 error, 3 signals not accepted");
    let setting = &report["configuration"][0];
    assert_eq!(setting["variable"], "ROTEL_OTLP_EXPORTER_ENDPOINT");
    assert_eq!(
        (&setting["value"], &setting["source"]),
        (&collector.url(Protocol::Grpc).into(), &"environment".into())
    );
    let record = &report["records"][0];
    assert_eq!(
        (&record["signal"], &record["protocol"], &record["exporter"]),
        (&"logs".into(), &"grpc".into(), &serde_json::Value::Null)
    );
    assert!(record["error"].as_str().is_some_and(|error| error.contains("UNAUTHENTICATED")), "{record}");
    assert!(report["warnings"][0].as_str().is_some_and(|warning| warning.starts_with("ROTEL_KAFKA_BROKERS")));
    assert!(report["errors"][0].as_str().is_some_and(|error| error.starts_with("ROTEL_BATCH_MAX_SIZE")));
    assert_eq!(report["secrets"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_alone_do_not_fail_the_check() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_KAFKA_BROKERS", "broker:9092");
    insta::assert_snapshot!(check.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    Warnings
      ROTEL_KAFKA_BROKERS: has no effect, because this extension does not support the Kafka exporter and receiver; remove it

    OK: all signals with an endpoint were accepted
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_arguments_print_the_usage() {
    for arguments in [&["--chekc"][..], &["--offline"], &["--check", "--online"], &["--check", "--help"]] {
        let Output { status, stdout, stderr } = run(arguments, Vec::new()).await;
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{arguments:?}");
        assert!(stderr.contains(&arguments.join(" ")) && stderr.contains("--offline"), "{stderr}");
    }
    let help = run(&["--help"], Vec::new()).await;
    assert!(String::from_utf8_lossy(&help.stdout).contains("--offline"));
    assert!(help.status.success());
}
