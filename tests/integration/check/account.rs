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
      ROTEL_ENV_FILE                              environment  [file]
      ROTEL_EXPORTER                              default      otlp
      ROTEL_OTLP_EXPORTER_ENDPOINT                environment  http://[host]
      ROTEL_OTLP_EXPORTER_PROTOCOL                environment  grpc
      ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS          environment  Authorization=[redacted]
      ROTEL_OTLP_EXPORTER_COMPRESSION             default      gzip
      ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT         default      5s
      ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY         default      false
      ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF   default      ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF
      ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF       default      ROTEL_EXPORTER_RETRY_MAX_BACKOFF
      ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME  default      ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME
      ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF        default      5s
      ROTEL_EXPORTER_RETRY_MAX_BACKOFF            default      30s
      ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME       default      300s
      ROTEL_OTLP_GRPC_ENDPOINT                    default      localhost:4317
      ROTEL_OTLP_HTTP_ENDPOINT                    default      localhost:4318
      ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB       default      4
      ROTEL_TELEMETRY_ENDPOINT                    default      0.0.0.0:8990
      ROTEL_LAMBDA_TELEMETRY_TYPES                default      platform,function,extension
      ROTEL_LAMBDA_PLATFORM_EVENTS                default      metrics,spans
      ROTEL_LAMBDA_XRAY_TRACE_CONTEXT             default      false
      OTEL_SERVICE_NAME                           default      the function's name
      ROTEL_FLUSH_STRATEGY                        default      end
      ROTEL_FLUSH_TIMEOUT                         file         2s
      ROTEL_BATCH_MAX_SIZE                        default      8192
      ROTEL_BUFFER_MAX_BYTES                      default      memory size / 16, 4 to 64 MiB
      ROTEL_ON_INIT_ERROR                         default      continue
      ROTEL_LOG_LEVEL                             default      info
      ROTEL_ENABLE_INTERNAL_TELEMETRY             default      false
      ROTEL_LOG_FORMAT                            default      AWS_LAMBDA_LOG_FORMAT
      ROTEL_DEBUG_LOG_VERBOSITY                   default      basic

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
async fn warnings_alone_do_not_fail_the_check() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_KAFKA_BROKERS", "broker:9092");
    insta::assert_snapshot!(check.account().await, @"
    Warnings
      ROTEL_KAFKA_BROKERS: has no effect, because this extension does not support the Kafka exporter and receiver; remove it

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

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
        assert!(stderr.contains(&arguments.join(" ")) && stderr.contains("--check --offline"), "{stderr}");
    }
    let help = run(&["--help"], Vec::new()).await;
    assert!(String::from_utf8_lossy(&help.stdout).contains("--check --offline"));
    assert!(help.status.success());
}
