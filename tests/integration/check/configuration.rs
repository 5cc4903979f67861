//! Faults that the variables themselves have.

use lambda_sandbox::collector::Protocol;
use rotel_lambda_extension::app::check::{self, CheckOptions, ReportForm};

use super::harness::{Check, ENDPOINT, collector};

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_leading_back_is_reported() {
    let check = Check::new().with(ENDPOINT, "http://localhost:4317");
    insta::assert_snapshot!(check.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  not sent because of the errors below
      metrics  FAILED  not sent because of the errors below
      traces   FAILED  not sent because of the errors below

    Errors
      ROTEL_OTLP_EXPORTER_ENDPOINT: the endpoint is this extension's own listener, localhost:4317, so telemetry would loop; set the address of your ClickStack

    FAILED: 1 error, 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test]
async fn terminals_get_colors() {
    let variables =
        [(ENDPOINT, "http://a.example.com:4317"), ("ROTEL_ENDPIONT", "b"), ("ROTEL_FLUSH_TIMEOUT", "1")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = CheckOptions { is_offline: true, form: ReportForm::ColoredText, ..CheckOptions::default() };
    let mut report = Vec::new();
    check::run(variables.into(), options, &mut report).await.expect("it goes to memory");
    let report = String::from_utf8(report).expect("text");
    for colored in [
        "\n\u{1b}[33mWarnings\u{1b}[0m\n",
        "\n\u{1b}[31mErrors\u{1b}[0m\n",
        "\u{1b}[31mFAILED: 1 error\u{1b}[0m\n",
    ] {
        assert!(report.contains(colored), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_endpoint_is_reported() {
    insta::assert_snapshot!(Check::new().account().await, @"
    Warnings
      ROTEL_OTLP_EXPORTER_ENDPOINT: not set, so telemetry is received and dropped; set your ClickStack endpoint, such as https://host:4317

    FAILED: no endpoint, so nothing is sent; set ROTEL_OTLP_EXPORTER_ENDPOINT
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_fails_check_though_signals_are_accepted() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_BATCH_MAX_SIZE", "many");
    insta::assert_snapshot!(check.account().await, @r#"
    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    Errors
      ROTEL_BATCH_MAX_SIZE: "many" is not a valid number; use a whole number of at least 1

    FAILED: 1 error
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_one_signal_spares_others() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "collector:4317")
        .with("ROTEL_LAMBDA_LOG_EXCLUDE", "(")
        .with("ROTEL_OTLP_EXPORTER_ENDPIONT", "http://collector:4317");
    insta::assert_snapshot!(check.account().await, @r#"
    Test records, service.name = rotel-extension-check
      logs     FAILED  not sent because of the errors below
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    Warnings
      ROTEL_OTLP_EXPORTER_ENDPIONT: unknown variable, so it has no effect; did you mean ROTEL_OTLP_EXPORTER_ENDPOINT?

    Errors
      ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT: "collector:4317" has no scheme; set http://collector:4317 or https://collector:4317
      ROTEL_LAMBDA_LOG_EXCLUDE: not a regular expression: found open group without closing ')'; write one in the syntax of the Rust crate regex-lite, several joined by |

    FAILED: 2 errors, 1 signal not accepted
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_file_is_reported() {
    let check = Check::new()
        .with(ENDPOINT, "https://clickstack.example.com:4317")
        .with("ROTEL_ENV_FILE", "/nowhere/rotel.env")
        .offline();
    insta::assert_snapshot!(check.account().await, @r#"
    Endpoints (nothing is sent)
      logs     –       grpc  https://clickstack.example.com:4317
      metrics  –       grpc  https://clickstack.example.com:4317
      traces   –       grpc  https://clickstack.example.com:4317

    Errors
      ROTEL_ENV_FILE: "/nowhere/rotel.env" does not exist; add it to the deployment package (its files are in /var/task), or fix the path

    FAILED: 1 error
    exit code 1
    "#);
}
