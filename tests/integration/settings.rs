//! The settings and their sources, and the guarantee that bad ones do not harm the function.

use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws, Behaviour};
use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Extension, Operation, Sandbox, Status};
use serde_json::Value;

use support::{PATIENCE, assert_exact, end, extension, invoke, lines, unconfigured, with_aws};

const SECRET: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123";
const PARAMETER: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key";
const KEY: &str = "hunter2-ingestion-key";

async fn collector() -> Collector {
    Collector::builder().authorization(KEY).start().await.expect("a collector")
}

async fn all_arrives(extension: Extension, collector: &Collector) {
    let sandbox = Sandbox::builder()
        .extension(extension.env("RUST_LOG", "trace"))
        .collector(collector)
        .function(lines(5))
        .start()
        .await
        .expect("a sandbox");
    for _ in 0..3 {
        invoke(&sandbox, Value::Null).await;
    }
    end(&sandbox).await;
    let output = sandbox.extension_output();
    assert_exact(&sandbox, &collector.received());
    assert!(!output.iter().any(|line| line.contains(KEY)), "the key was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_values_come_from_secrets_manager_and_parameter_store() {
    for (arn, reference) in [
        (SECRET, format!("\"Authorization=${{{SECRET}}}\"")),
        (PARAMETER, format!("\"Authorization=${{{PARAMETER}}}\"")),
        (PARAMETER, format!("Authorization=$<{PARAMETER}>")),
    ] {
        let aws = Aws::start().await.expect("a stand-in for AWS");
        aws.keep(arn, KEY);
        let collector = collector().await;
        let extension = with_aws(extension(&collector, Protocol::Grpc), &aws)
            .env("ROTEL_FLUSH_TIMEOUT", "60s")
            .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", reference);
        all_arrives(extension, &collector).await;
        assert_eq!(aws.calls().len(), 1, "{:?}", aws.calls());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn env_file_can_name_key_of_json_secret() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET, format!(r#"{{"key":"{KEY}","other":1}}"#));
    let collector = collector().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rotel.env");
    let text = format!(
        "# of the guide\r\nexport ROTEL_OTLP_EXPORTER_ENDPOINT={}\r\n\
         ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=\"Authorization=${{{SECRET}#key}}\"\r\n\
         ROTEL_OTEL_RESOURCE_ATTRIBUTES='service.name=my-lambda-api,deployment.environment=production'\r\n",
        collector.url(Protocol::Grpc)
    );
    std::fs::write(&file, text).expect("a file");
    let extension = with_aws(unconfigured(), &aws)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_ENV_FILE", file.to_string_lossy());
    all_arrives(extension, &collector).await;
    let received = collector.received();
    let log = received.logs().next().expect("a line");
    assert_eq!(log.resource_attribute("service.name").as_deref(), Some("my-lambda-api"));
    assert_eq!(log.resource_attribute("deployment.environment").as_deref(), Some("production"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_line_costs_only_itself() {
    let collector = collector().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rotel.env");
    let endpoint = format!("ROTEL_OTLP_EXPORTER_ENDPOINT={}", collector.url(Protocol::Grpc));
    for (text, expected) in [
        (
            format!(
                "{endpoint}\nROTEL_LAMBDA_LOG_EXCLUDE=^GET /health\\b\nROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization={KEY}\n\
                 ROTEL_FLUSH_TIMEOUT=60\nROTEL_LOG_LEVEL=\"info\nunrelated words\n"
            ),
            vec![
                "ERROR rotel.env:5: has an opening quote",
                "ERROR rotel.env:6: has no \"=\"",
                "ERROR rotel.env:4: ROTEL_FLUSH_TIMEOUT: \"60\" is not a duration",
            ],
        ),
        // No message says that the endpoint is missing.
        (format!("{endpoint}${{\n"), vec!["ERROR rotel.env:1: has a \"${\" without a closing \"}\""]),
    ] {
        std::fs::write(&file, text).expect("a file");
        let extension = unconfigured().env("ROTEL_ENV_FILE", file.to_string_lossy());
        let sandbox =
            Sandbox::builder().extension(extension).function(lines(5)).start().await.expect("a sandbox");
        invoke(&sandbox, Value::Null).await;
        end(&sandbox).await;
        let output = sandbox.extension_output();
        assert_eq!(output.len(), expected.len(), "{output:#?}");
        assert!(output.iter().zip(&expected).all(|(line, start)| line.starts_with(start)), "{output:#?}");
    }
    assert!(collector.counts().logs > 0, "the first file has a good endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_aws_delays_neither_init_nor_function() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.behave(Action::BatchGetSecretValue, Behaviour::Hang);
    let collector = collector().await;
    let extension = with_aws(extension(&collector, Protocol::Grpc), &aws)
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization=${{{SECRET}}}"));
    let sandbox =
        Sandbox::builder().extension(extension).function(lines(5)).start().await.expect("a sandbox");
    for _ in 0..3 {
        let invocation = invoke(&sandbox, Value::Null).await;
        // The budget for secrets is five seconds; what is waited for at most is the first half of one.
        assert!(invocation.added < Duration::from_secs(4), "{invocation:?}");
    }
    end(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_secret_is_logged_by_its_arn() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    let collector = collector().await;
    let extension = with_aws(extension(&collector, Protocol::Grpc), &aws)
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization=${{{PARAMETER}}}"));
    let sandbox =
        Sandbox::builder().extension(extension).function(lines(5)).start().await.expect("a sandbox");
    let logged = |line: &str| line.contains(PARAMETER);
    sandbox
        .wait_until(|journal| journal.output.iter().any(|line| logged(&line.text)), PATIENCE)
        .await
        .expect("it is logged");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_is_logged_once_despite_secrets() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET, KEY);
    let collector = collector().await;
    let extension = with_aws(extension(&collector, Protocol::Grpc), &aws)
        .env("ROTEL_BATCH_MAX_SIZE", "many")
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization=${{{SECRET}}}"));
    let sandbox = Sandbox::builder()
        .extension(extension.env("ROTEL_FLUSH_TIMEOUT", "60s"))
        .function(lines(5))
        .start()
        .await
        .expect("a sandbox");
    sandbox.invoke(Value::Null).await.expect("an invocation");
    // What arrived says that the secret was there, and so that the variables were read again.
    collector.wait_until(|received| received.counts().logs > 0, PATIENCE).await.expect("the lines arrive");
    end(&sandbox).await;
    let output = sandbox.extension_output();
    let logged = output.iter().filter(|line| line.contains("ROTEL_BATCH_MAX_SIZE: ")).count();
    assert_eq!(logged, 1, "{output:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_fails_init_when_asked() {
    let extension = unconfigured()
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", "collector:4317")
        .env("ROTEL_ON_INIT_ERROR", "fail");
    let sandbox = Sandbox::builder().extension(extension).function(lines(5)).open().await.expect("a sandbox");
    let init = sandbox.init().await.expect("an init");
    assert_ne!(init.status, Status::Success, "{init:?}");
    let calls = sandbox.journal().calls;
    assert!(calls.iter().any(|call| call.what == Operation::InitError && call.status == 202), "{calls:?}");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}
