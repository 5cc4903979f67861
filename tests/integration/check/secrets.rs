//! References to secrets.

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::Protocol;

use super::harness::{Check, ENDPOINT, HEADERS, KEY, PARAMETER_ARN, SECRET_ARN, collector, locked};

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_fetched_and_not_shown() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, KEY);
    let collector = locked().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"));
    insta::assert_snapshot!(check.account().await, @"
    Secrets
      ok      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    OK: all signals with an endpoint were accepted
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_secret_is_reported_with_others() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, KEY);
    let collector = locked().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"))
        .with("ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS", format!("Authorization=${{{PARAMETER_ARN}}}"));
    insta::assert_snapshot!(check.account().await, @"
    Secrets
      ok      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123
      FAILED  arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key: ParameterNotFound; it does not exist; check the ARN's region, account and name

    Test records, service.name = rotel-extension-check
      logs     FAILED  not sent because of the errors below
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    FAILED: 1 secret not fetched, 1 signal not accepted
    exit code 1
    ");
}

/// A folder with a file, and the file's path.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
    std::fs::write(&path, text).expect("a file");
    (folder, path.to_string_lossy().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_env_file_win() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, KEY);
    let collector = locked().await;
    let lines: Vec<_> = aws.variables().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let (_folder, path) = file("rotel.env", &lines.concat());
    let check = Check::collector(&collector, Protocol::Grpc)
        .with("AWS_ENDPOINT_URL", "http://192.0.2.1")
        .with("AWS_ACCESS_KEY_ID", "ASIAOTHER")
        .with("AWS_SECRET_ACCESS_KEY", "other/key")
        .with("ROTEL_ENV_FILE", path)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"));
    let account = check.account().await;
    assert!(account.starts_with(&format!("Secrets\n  ok      {SECRET_ARN}\n")), "{account}");
    assert_eq!(aws.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_whole_json_secret_are_named() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, format!(r#"{{"ingest_key":"{KEY}","port":4317}}"#));
    let collector = locked().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"));
    let account = check.account().await;
    assert!(
        account.contains("select one of its keys (ingest_key, port) in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"),
        "{account}"
    );
    assert!(!account.contains(KEY), "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_profile_are_found() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, KEY);
    let collector = locked().await;
    let variables = aws.variables();
    let value = |name| variables.get(name).expect("a variable").as_str();
    let lines = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
        .map(|name| format!("{} = {}\n", name.to_ascii_lowercase(), value(name)));
    let (home, _) = file(".aws/credentials", &format!("[person]\n{}", lines.concat()));
    let check = Check::collector(&collector, Protocol::Grpc)
        .with("HOME", home.path().to_string_lossy())
        .with("AWS_PROFILE", "person")
        .with("AWS_ENDPOINT_URL", value("AWS_ENDPOINT_URL"))
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"));
    let account = check.account().await;
    assert!(account.starts_with(&format!("Secrets\n  ok      {SECRET_ARN}\n")), "{account}");
    assert_eq!(aws.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_from_secret_is_not_shown() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, "https://hunter2.invalid:4317");
    aws.keep(PARAMETER_ARN, "service.name=hunter2");
    let check = Check::new()
        .with_aws(&aws)
        .with("AWS_LAMBDA_FUNCTION_NAME", "my-function")
        .with(ENDPOINT, format!("${{{SECRET_ARN}}}"))
        .with("ROTEL_OTEL_RESOURCE_ATTRIBUTES", format!("secret://{PARAMETER_ARN}"))
        .with_patience();
    insta::assert_snapshot!(check.account().await, @"
    Secrets
      ok      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123
      ok      arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key

    Test records
      logs     FAILED  grpc  ${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}
      metrics  FAILED  grpc  ${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}
      traces   FAILED  grpc  ${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}

    Diagnosis
      logs, metrics, traces: the endpoint: host name does not resolve; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and check DNS resolution if the function is in a VPC

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_check_makes_no_calls() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    let collector = collector().await;
    let whole = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}},X-Key=${{{SECRET_ARN}#key}}"))
        .offline()
        .whole()
        .await;
    insta::assert_snapshot!(whole, @"
    Configuration
      ROTEL_OTLP_EXPORTER_ENDPOINT        environment  http://[host]
      ROTEL_OTLP_EXPORTER_PROTOCOL        environment  grpc
      ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS  environment  Authorization=${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123},X-Key=${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123#key}

    Secrets (not fetched)
      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123

    OK: no errors found offline
    exit code 0
    ");
    assert!(aws.calls().is_empty());
    assert_eq!(collector.received().requests().count(), 0);
}
