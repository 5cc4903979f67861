//! Execution environments other than those created on demand: managed instances, snapshots, environments created ahead of
//! time, and local emulators without a Telemetry API.

use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws};
use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Builder, Fault, Function, Initialization, Operation, Sandbox, Status, Transport};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use support::{PATIENCE, compare, end, extension, sandbox, working};

const KEY: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ingestion-key-a1B2c3";

/// A test over both protocols, side by side.
macro_rules! over_both {
    ($over:expr) => {{
        let over = $over;
        tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
    }};
}

/// Three invocations that are under way at the same time, each with lines and spans of its own.
fn together() -> Function {
    let together = Arc::new(Barrier::new(3));
    Function::builtin(move |context| {
        let together = Arc::clone(&together);
        async move {
            together.wait().await;
            context.log_json(json!({
                "level": "INFO",
                "requestId": context.request_id,
                "message": format!("of {}", context.request_id),
            }));
            context.log_lines(4);
            context.send_spans(Transport::Grpc, 4).await.expect("the receiver takes spans");
            together.wait().await;
            Ok(Value::Null)
        }
    })
}

/// Waits until everything has arrived that was emitted, whatever the platform does meanwhile.
async fn everything_arrives(sandbox: &Sandbox, collector: &Collector) {
    let whole = |received: &lambda_sandbox::collector::Received| {
        let comparison = sandbox.ledger().compare(received);
        comparison.missing.is_empty() && comparison.once > 0
    };
    let arrived = collector.wait_until(whole, PATIENCE).await;
    arrived.unwrap_or_else(|error| panic!("{error}: {:?}", compare(sandbox, collector)));
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_send_by_timer() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let builder = sandbox(&collector, protocol).function(together()).concurrency(3);
        let builder = builder.initialization(Initialization::ManagedInstances);
        let sandbox = builder.start().await.expect("a sandbox");
        for _ in 0..3 {
            let (a, b, c) = tokio::join!(
                sandbox.invoke(Value::Null),
                sandbox.invoke(Value::Null),
                sandbox.invoke(Value::Null)
            );
            for invocation in [a, b, c] {
                assert_eq!(invocation.expect("an invocation").status, Status::Success);
            }
            // No event says that it is time.
            everything_arrives(&sandbox, &collector).await;
        }
        let calls = sandbox.journal();
        assert_eq!((calls.count(Operation::Register), calls.count(Operation::Next)), (1, 1));
        end(&sandbox).await;
        assert!(compare(&sandbox, &collector).is_exact());
        let received = collector.received();
        let logged: Vec<_> = received.logs().filter(|log| log.body().starts_with("of ")).collect();
        assert_eq!(logged.len(), 9);
        for log in logged {
            let request_id = log.attribute("faas.invocation_id").expect("a request id");
            assert_eq!(log.body(), format!("of {request_id}"));
        }
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_plain_line_gets_no_request_id() {
    let collector = Collector::start().await.expect("a collector");
    let builder = sandbox(&collector, Protocol::Http).function(together()).concurrency(3);
    let sandbox = builder.initialization(Initialization::ManagedInstances).start().await.expect("a sandbox");
    let _ =
        tokio::join!(sandbox.invoke(Value::Null), sandbox.invoke(Value::Null), sandbox.invoke(Value::Null));
    everything_arrives(&sandbox, &collector).await;
    end(&sandbox).await;
    let received = collector.received();
    let plain: Vec<_> = received.logs().filter(|log| log.body().contains("line 0")).collect();
    assert_eq!(plain.len(), 3);
    for log in plain {
        assert_eq!(log.attribute("faas.invocation_id"), None, "{}", log.body());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_line_of_sole_invocation_gets_request_id() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        context.log(format!("of {}", context.request_id));
        Ok(Value::Null)
    });
    let builder = sandbox(&collector, Protocol::Http).function(function).concurrency(3);
    let sandbox = builder.initialization(Initialization::ManagedInstances).start().await.expect("a sandbox");
    for number in 1..=3 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
        let arrived = collector.wait_until(|received| received.counts().logs == number, PATIENCE).await;
        arrived.expect("the line");
    }
    end(&sandbox).await;
    let received = collector.received();
    let plain: Vec<_> = received.logs().filter(|log| log.body().starts_with("of ")).collect();
    assert_eq!(plain.len(), 3);
    for log in plain {
        let request_id = log.attribute("faas.invocation_id").expect("a request id");
        assert_eq!(log.body(), format!("of {request_id}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_on_managed_instances_loses_nothing() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let extension = support::impatient(extension(&collector, protocol));
        let builder = Sandbox::builder().extension(extension).function(working()).concurrency(2);
        let builder = builder.initialization(Initialization::ManagedInstances);
        let sandbox = builder.start().await.expect("a sandbox");
        collector.refuse_connections().await;
        for _ in 0..5 {
            sandbox.invoke(Value::Null).await.expect("an invocation");
        }
        collector.come_back().await.expect("its ports are free");
        everything_arrives(&sandbox, &collector).await;
        end(&sandbox).await;
        assert!(compare(&sandbox, &collector).is_exact());
    });
}

/// An environment whose ingestion key is a secret.
fn secretive(
    collector: &Collector,
    protocol: Protocol,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Builder {
    let headers = format!("Authorization=${{{KEY}}}");
    let mut extension = extension(collector, protocol)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", headers);
    for (name, value) in variables {
        extension = extension.env(name, value);
    }
    Sandbox::builder().extension(extension).collector(collector).function(working())
}

/// With which keys the secret was asked for, each time.
fn fetched(aws: &Aws) -> Vec<String> {
    let calls = aws.calls().into_iter().filter(|call| call.action == Action::GetSecretValue);
    calls.map(|call| call.access_key_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_renews_secrets_and_connections() {
    over_both!(async |protocol| {
        let aws = Aws::start().await.expect("a stand-in");
        let collector = Collector::builder().authorization("of today").start().await.expect("a collector");
        aws.keep(KEY, "of the day of the snapshot");
        let builder = secretive(&collector, protocol, aws.container_variables())
            .initialization(Initialization::SnapStart);
        let sandbox = builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
        assert!(sandbox.is_frozen().await);
        assert_eq!(fetched(&aws), ["ASIACONTAINER"]);
        // Weeks pass.
        aws.keep(KEY, "of today");
        aws.renew_keys();
        collector.close_connections();
        for _ in 0..3 {
            let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
            assert_eq!(invocation.status, Status::Success, "{invocation:?}");
        }
        end(&sandbox).await;
        let comparison = compare(&sandbox, &collector);
        assert!(comparison.is_exact(), "{comparison:?} {:#?}", sandbox.extension_output());
        assert_eq!(fetched(&aws), ["ASIACONTAINER", "ASIARENEWED"]);
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_without_secrets_keeps_those_of_snapshot() {
    let aws = Aws::start().await.expect("a stand-in");
    let collector = Collector::builder().authorization("hunter2").start().await.expect("a collector");
    aws.keep(KEY, "hunter2");
    let builder = secretive(&collector, Protocol::Grpc, aws.container_variables())
        .initialization(Initialization::SnapStart);
    let sandbox = builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
    aws.refuse(KEY, "AccessDeniedException");
    for _ in 0..3 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
    }
    end(&sandbox).await;
    let comparison = compare(&sandbox, &collector);
    assert!(comparison.is_exact(), "{comparison:?} {:#?}", sandbox.extension_output());
    let output = sandbox.extension_output();
    let logged = output.iter().filter(|line| line.contains("AccessDeniedException")).count();
    assert_eq!(logged, 1, "{output:#?}");
    assert!(!output.iter().any(|line| line.contains("hunter2")), "the key was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioned_environment_has_secrets_before_invocation() {
    over_both!(async |protocol| {
        let aws = Aws::start().await.expect("a stand-in");
        let collector = Collector::builder().authorization("hunter2").start().await.expect("a collector");
        aws.keep(KEY, "hunter2");
        let builder = secretive(&collector, protocol, aws.variables())
            .initialization(Initialization::ProvisionedConcurrency);
        let sandbox = builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
        assert!(sandbox.is_frozen().await);
        assert_eq!(fetched(&aws), ["ASIAENVIRONMENT"]);
        // While nobody called, the connection died.
        collector.close_connections();
        for _ in 0..3 {
            let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
            let at_next = invocation.collector_at_next.expect("a collector is attached");
            let comparison = sandbox.ledger().compare(&at_next);
            assert!(comparison.is_exact(), "{comparison:?} {:#?}", sandbox.extension_output());
        }
        end(&sandbox).await;
        assert_eq!(fetched(&aws).len(), 1, "secrets are fetched once");
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_data_is_sent_without_telemetry_api() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.send_spans(Transport::Grpc, 7).await.expect("the receiver takes spans");
            Ok(Value::Null)
        });
        // Emulators freeze nothing.
        let builder = sandbox(&collector, protocol).function(function).without_freeze();
        let sandbox = builder.faults([Fault::TelemetryNotSupported]).start().await.expect("a sandbox");
        sandbox.invoke(Value::Null).await.expect("an invocation");
        everything_arrives(&sandbox, &collector).await;
        collector.refuse_connections().await;
        sandbox.invoke(Value::Null).await.expect("an invocation");
        collector.come_back().await.expect("its ports are free");
        // What failed is tried again after a pause, by a timer.
        everything_arrives(&sandbox, &collector).await;
        end(&sandbox).await;
        // Where the outage cut off an answer, what had arrived rightly comes again.
        let comparison = compare(&sandbox, &collector);
        assert_eq!(comparison.missing, [], "{:#?}", sandbox.extension_output());
    });
}
