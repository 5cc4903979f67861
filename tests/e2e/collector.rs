//! The endpoint is a real OpenTelemetry Collector with ClickStack's settings.

use std::process::{Command, Output};
use std::time::Duration;

use lambda_sandbox::collector::Protocol;
use lambda_sandbox::{Comparison, Extension, Function, Sandbox, Signal};
use serde_json::{Value, json};
use support::{PROTOCOLS, end, invoke, name, unconfigured, working};

use crate::otelcol::Otelcol;

const KEY: &str = "5b6f1c7e-ingestion-key";
const HEADERS: &str = "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS";

fn extension(collector: &Otelcol, protocol: Protocol, key: &str) -> Extension {
    unconfigured()
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
        .env(HEADERS, format!("Authorization={key}"))
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
}

async fn start(extension: Extension, function: Function) -> Sandbox {
    let sandbox = Sandbox::builder().extension(extension).function(function);
    sandbox.timeout(Duration::from_mins(5)).start().await.expect("a sandbox")
}

async fn invoke_times(sandbox: &Sandbox, times: usize) -> Vec<String> {
    let mut request_ids = Vec::new();
    for _ in 0..times {
        request_ids.push(invoke(sandbox, Value::Null).await.request_id);
    }
    request_ids
}

/// Runs `rotel-extension --check` against the collector.
fn check(collector: &Otelcol, protocol: Protocol, header: &str) -> Output {
    Command::new(support::binary())
        .arg("--check")
        .env_clear()
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
        .env(HEADERS, header)
        .output()
        .expect("the extension")
}

fn is_exact(comparison: &Comparison, sandbox: &Sandbox) {
    assert!(comparison.is_exact(), "{comparison:?}\n{:#?}", sandbox.extension_output());
    assert!(comparison.once > 0);
}

/// Everything that an environment's life sends, and in what is stored of it the attributes that people look for.
async fn is_taken(mut collector: Otelcol, extension: Extension) {
    let sandbox = start(extension, working()).await;
    invoke_times(&sandbox, 3).await;
    end(&sandbox).await;
    let received = collector.received().await;
    is_exact(&sandbox.ledger().compare(&received), &sandbox);
    for log in received.logs() {
        assert_eq!(log.resource_attribute("faas.name").as_deref(), Some("sandbox-function"));
        assert_eq!(log.resource_attribute("cloud.platform").as_deref(), Some("aws_lambda"));
    }
    assert!(received.metrics().any(|metric| metric.item.name == "faas.invoke_duration"));
    assert_eq!(sandbox.extension_output(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_with_right_key_is_stored() {
    for protocol in PROTOCOLS {
        let collector = Otelcol::start(KEY).await;
        let extension = extension(&collector, protocol, KEY);
        is_taken(collector, extension).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_passes_and_its_records_are_stored() {
    for protocol in PROTOCOLS {
        let mut collector = Otelcol::start(KEY).await;
        let checked = check(&collector, protocol, &format!("Authorization={KEY}"));
        assert!(checked.status.success(), "{checked:?}");
        let received = collector.received().await;
        let [log] = &received.logs().collect::<Vec<_>>()[..] else { panic!("one log record") };
        assert_eq!(log.resource_attribute("service.name").as_deref(), Some("rotel-extension-check"));
        assert_eq!((received.spans().count(), received.metrics().count()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn written_level_is_stored_unchanged() {
    let mut collector = Otelcol::start(KEY).await;
    let function = Function::builtin(|context| async move {
        context.log("0 errors found");
        context.log_json(json!({ "level": "WARN", "message": "slow", "type": "mine", "items": [1, 2] }));
        Ok(Value::Null)
    });
    let sandbox = start(extension(&collector, Protocol::Grpc, KEY), function).await;
    let request_id = invoke(&sandbox, Value::Null).await.request_id;
    end(&sandbox).await;
    let received = collector.received().await;
    let logged: Vec<_> = received
        .logs()
        .map(|log| {
            assert_eq!(log.attribute("faas.invocation_id").as_ref(), Some(&request_id));
            let fields = ["type", "items"].map(|key| log.attribute(key));
            (log.body(), log.item.severity_text.clone(), log.item.severity_number, fields)
        })
        .collect();
    insta::assert_debug_snapshot!(logged, @r#"
    [
        (
            "0 errors found",
            "error",
            17,
            [
                None,
                None,
            ],
        ),
        (
            "slow",
            "warn",
            13,
            [
                Some(
                    "mine",
                ),
                Some(
                    "[1, 2]",
                ),
            ],
        ),
    ]
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_is_logged_once_without_harm() {
    for protocol in PROTOCOLS {
        let mut collector = Otelcol::start(KEY).await;
        let sandbox = start(extension(&collector, protocol, "hunter2"), working()).await;
        let refused = invoke_times(&sandbox, 3).await;
        let logged: Vec<_> = sandbox.extension_output();
        let [line] = &logged[..] else { panic!("once, not {logged:#?}") };
        assert!(line.contains("does not accept the key in the authorization header"), "{line}");
        assert!(line.contains("dropped and counted") && !line.contains("hunter2"), "{line}");

        // Who is let in later sends what is made from then on: what was refused for good is not kept.
        collector.stop();
        collector.change_key("hunter2");
        collector.run();
        let taken = invoke_times(&sandbox, 2).await;
        end(&sandbox).await;
        let received = collector.received().await;
        for request_id in &refused {
            assert_eq!(sandbox.ledger().compare_invocation(request_id, &received).once, 0);
        }
        for request_id in taken.iter().skip(1) {
            is_exact(&sandbox.ledger().compare_invocation(request_id, &received), &sandbox);
        }
        let logged = sandbox.extension_output();
        assert!(logged.last().expect("a line").contains("recovered after"), "{logged:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unwanted_bearer_is_refused_and_explained() {
    for protocol in PROTOCOLS {
        let mut collector = Otelcol::start(KEY).await;
        let header = format!("Authorization=Bearer {KEY}");
        let checked = check(&collector, protocol, &header);
        let logged = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(!checked.status.success(), "{logged}");
        assert!(logged.contains("remove \"Bearer \" from ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS"), "{logged}");
        assert!(!logged.contains(KEY), "{logged}");

        let sandbox = start(extension(&collector, protocol, &format!("Bearer {KEY}")), working()).await;
        invoke_times(&sandbox, 2).await;
        end(&sandbox).await;
        assert_eq!(collector.received().await.requests().count(), 0);
        let logged = sandbox.extension_output();
        assert!(logged.iter().any(|line| line.contains("remove \"Bearer \"")), "{logged:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wanted_bearer_is_sent_unchanged() {
    for protocol in PROTOCOLS {
        let collector = Otelcol::with_bearer(KEY).await;
        let extension = extension(&collector, protocol, &format!("Bearer {KEY}"));
        is_taken(collector, extension).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_certificate_is_trusted_by_its_file() {
    for protocol in PROTOCOLS {
        let (collector, certificate) = Otelcol::with_tls(KEY).await;
        let checked = check(&collector, protocol, &format!("Authorization={KEY}"));
        let logged = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(!checked.status.success() && logged.contains("certificate"), "{logged}");
        let extension = extension(&collector, protocol, KEY)
            .env("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", certificate.to_string_lossy());
        is_taken(collector, extension).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_restart_loses_nothing() {
    for protocol in PROTOCOLS {
        let mut collector = Otelcol::start(KEY).await;
        let sandbox = start(support::impatient(extension(&collector, protocol, KEY)), working()).await;
        invoke_times(&sandbox, 2).await;
        // Away and back within one freeze: the open connection is dead when the next invocation begins.
        collector.stop();
        collector.run();
        invoke_times(&sandbox, 2).await;
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
        // Away for whole invocations.
        collector.stop();
        invoke_times(&sandbox, 3).await;
        collector.run();
        invoke_times(&sandbox, 3).await;
        end(&sandbox).await;
        let received = collector.received().await;
        is_exact(&sandbox.ledger().compare(&received), &sandbox);
        let spans = sandbox.ledger().entries().iter().filter(|entry| entry.signal == Signal::Traces).count();
        assert_eq!(spans, 50);
        assert_eq!(sandbox.extension_output().len(), 2, "{:#?}", sandbox.extension_output());
    }
}
