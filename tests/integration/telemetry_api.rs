//! Input from Lambda's Telemetry API: the telemetry made of its records, and the effects that odd deliveries must not have.

use std::time::Duration;

use lambda_sandbox::collector::{Collector, Protocol, Received};
use lambda_sandbox::{Answer, Builder, Fault, Function, LogFormat, Operation, Sandbox, Transport};
use serde_json::{Value, json};

use support::{assert_exact, binary, end, extension, invoke, lines, sandbox, unconfigured};

/// Runs three invocations of ten lines under `faults`, over both protocols. Asserts that every line arrives, that each
/// invocation ends once and that nothing waits until the deadline.
async fn survives(faults: impl IntoIterator<Item = Fault> + Clone) {
    tokio::join!(survives_over(Protocol::Grpc, faults.clone()), survives_over(Protocol::Http, faults));
}

async fn survives_over(protocol: Protocol, faults: impl IntoIterator<Item = Fault>) {
    let collector = Collector::start().await.expect("a collector");
    let sandbox =
        sandbox(&collector, protocol).function(lines(10)).faults(faults).start().await.expect("a sandbox");
    for _ in 0..3 {
        let invocation = invoke(&sandbox, Value::Null).await;
        // The function's timeout is five minutes: a runtimeDone that was not seen would take as long.
        assert!(invocation.total < Duration::from_mins(4), "{invocation:?}");
    }
    end(&sandbox).await;
    let comparison = sandbox.ledger().compare(&collector.received());
    assert!(comparison.missing.is_empty(), "{comparison:?}");
    assert_eq!(comparison.once + comparison.repeated.len(), 30, "{comparison:?}");
    let calls = sandbox.journal().calls;
    assert_eq!(calls.iter().filter(|call| call.what == Operation::Next).count(), 4, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_events_spare_others() {
    survives([Fault::UnknownEvents]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_records_spare_others() {
    survives([Fault::OddRecords]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_reverse_order_are_all_taken() {
    survives([Fault::ReverseRecords]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_mebibyte_records_spare_others() {
    survives([Fault::HugeRecord(5 << 20)]).await;
}

/// Runs an invocation that writes a line before these records and one after them. Asserts that it ends with its
/// `runtimeDone`, and returns the bodies that arrived.
async fn bodies_of(builder: Builder, records: Vec<Value>) -> Vec<String> {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(move |context| {
        let records = records.clone();
        async move {
            context.log_lines(1);
            for record in records {
                match record {
                    Value::String(line) => context.log(line),
                    record => context.log_json(record),
                }
            }
            context.log_lines(1);
            Ok(Value::Null)
        }
    });
    let extension = extension(&collector, Protocol::Http).env("ROTEL_FLUSH_TIMEOUT", "60s");
    let sandbox = builder
        .extension(extension)
        .collector(&collector)
        .function(function)
        .log_format(LogFormat::Json)
        // The buffer has room for several of the largest records.
        .memory_mb(1024)
        .timeout(Duration::from_mins(5))
        .start()
        .await
        .expect("a sandbox");
    let invocation = invoke(&sandbox, Value::Null).await;
    // The extension knew of the end by its runtimeDone, and not by the deadline.
    assert!(invocation.added_after_delivery.is_some(), "{invocation:?}");
    assert!(invocation.total < Duration::from_mins(4), "{invocation:?}");
    let at_next = invocation.collector_at_next.expect("a collector is attached");
    assert!(sandbox.ledger().compare(&at_next).is_exact(), "{:?}", sandbox.ledger().compare(&at_next));
    let bodies = of_function(&at_next);
    end(&sandbox).await;
    assert_eq!(of_function(&collector.received()).len(), bodies.len(), "a record came twice, or late");
    let ids: Vec<_> = at_next.logs().filter_map(|log| log.attribute("faas.invocation_id")).collect();
    assert!(ids.iter().all(|id| *id == invocation.request_id), "{ids:?}");
    bodies
}

fn of_function(received: &Received) -> Vec<String> {
    let logs = received
        .logs()
        .filter(|log| log.attribute("aws.lambda.telemetry.type").as_deref() == Some("function"));
    logs.map(|log| log.body()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_record_is_joined() {
    let text = |bytes: usize| "\u{e9}\u{1f600}\"\\ \n".repeat(bytes / 11);
    for (max_bytes, size) in [(Some(262_144), 328 << 10), (Some(65_536), 328 << 10), (None, 5 << 20)] {
        let builder = Sandbox::builder();
        let builder = match max_bytes {
            Some(max_bytes) => builder.telemetry_max_bytes(max_bytes),
            None => builder,
        };
        let json = json!({"level": "INFO", "message": text(size), "n": [1, {"a": null}]});
        let bodies = bodies_of(builder, vec![json, json!(text(size)), json!("behind")]).await;
        assert_eq!(bodies.len(), 5);
        assert!(bodies[1] == text(size).trim_end_matches('\n'), "the object is not whole");
        assert!(bodies[2] == text(size).trim_end_matches('\n'), "the line is not whole");
        assert_eq!(bodies[3], "behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bytes_spare_their_record() {
    let replace =
        |written: &str, sent: &[u8]| Fault::Replace { written: written.into(), sent: sent.to_vec() };
    let faults = [replace("\u{e9}", b"\xe9"), replace("\\t", b"\t"), replace("TAB", b"\x01")];
    let records = vec![json!("caf\u{e9}"), json!("a\ttab"), json!({"message": "a TAB"}), json!("behind")];
    let bodies = bodies_of(Sandbox::builder().faults(faults), records).await;
    assert_eq!(bodies[1..5], ["caf\u{fffd}", "a\ttab", "a \u{1}", "behind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_record_spares_others() {
    let faults = [Fault::Replace { written: "QUOTE".into(), sent: b"\"".to_vec() }];
    let records = vec![json!("one QUOTE alone"), json!("behind")];
    let bodies = bodies_of(Sandbox::builder().faults(faults), records).await;
    assert_eq!(bodies[1..3], ["\"one \" alone\"", "behind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_without_rest_is_kept_as_text() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc).function(lines(1)).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    sandbox.thaw().await;
    let half = r#"[{"time":"2022-10-12T00:00:15.064Z","type":"function","record":{"message":"half of}]"#;
    assert_eq!(sandbox.inject(half).await.expect("there was a subscription"), Some(200));
    end(&sandbox).await;
    let received = collector.received();
    assert_exact(&sandbox, &received);
    let bodies = of_function(&received);
    assert_eq!(bodies.iter().filter(|body| *body == r#"{"message":"half of"#).count(), 1, "{bodies:?}");
    let output = sandbox.extension_output();
    let summary = "Telemetry API totals: 1 record could not be read and was kept as text";
    assert_eq!(output.iter().filter(|line| line.contains(summary)).count(), 1, "{output:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_comes_twice_ends_its_invocation_once() {
    survives([Fault::DuplicatePosts]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_lines_go_with_next_flush() {
    survives([Fault::FunctionAfterRuntimeDone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_schema_falls_back_to_older() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc)
        .function(lines(10))
        .faults([Fault::RefuseSchema("2025-01-29".to_owned())])
        .start()
        .await
        .expect("a sandbox");
    sandbox.invoke(Value::Null).await.expect("an invocation");
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
    let subscriptions: Vec<u16> = sandbox
        .journal()
        .calls
        .iter()
        .filter(|call| call.what == Operation::Subscribe)
        .map(|call| call.status)
        .collect();
    assert_eq!(subscriptions, [400, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_telemetry_api_the_sdk_is_still_forwarded() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        context.send_spans(Transport::Grpc, 7).await.expect("the receiver takes spans");
        Ok(Value::Null)
    });
    let sandbox = sandbox(&collector, Protocol::Grpc)
        .function(function)
        .faults([Fault::TelemetryNotSupported])
        .start()
        .await
        .expect("a sandbox");
    for _ in 0..3 {
        invoke(&sandbox, Value::Null).await;
    }
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_runtime_done_ends_before_deadline() {
    let over = async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = Sandbox::builder()
            .extension(extension(&collector, protocol))
            .collector(&collector)
            .function(lines(10))
            .faults([Fault::Drop("platform.runtimeDone".to_owned())])
            .timeout(Duration::from_secs(6))
            .start()
            .await
            .expect("a sandbox");
        let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
        // How near to the deadline /next comes is the lifecycle's, and tested there without a clock that can stall.
        assert!(matches!(invocation.answer, Answer::Response(_)), "{invocation:?}");
        // The flush near the deadline has sent what there was.
        let at_next = invocation.collector_at_next.expect("a collector is attached").counts();
        assert_eq!(at_next.logs, 10);
        end(&sandbox).await;
    };
    tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_may_be_the_first_event() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc).start().await.expect("a sandbox");
    end(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_configuration_does_not_harm_function() {
    for (extension, logged) in [
        (unconfigured(), "ROTEL_OTLP_EXPORTER_ENDPOINT: "),
        (
            unconfigured()
                .env("ROTEL_OTLP_EXPORTER_ENDPOINT", "collector:4317")
                .env("ROTEL_OTLP_GRPC_ENDPOINT", "192.0.2.1:4317")
                .env("ROTEL_FLUSH_TIMEOUT", "soon"),
            "ROTEL_OTLP_GRPC_ENDPOINT: ",
        ),
        (
            unconfigured()
                .env("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://127.0.0.1:4317")
                .env("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "/nowhere/ca.pem"),
            "ROTEL_OTLP_EXPORTER_TLS_CA_FILE: ",
        ),
    ] {
        let sandbox =
            Sandbox::builder().extension(extension).function(lines(10)).start().await.expect("a sandbox");
        for _ in 0..3 {
            invoke(&sandbox, Value::Null).await;
        }
        end(&sandbox).await;
        let output = sandbox.extension_output();
        assert_eq!(output.iter().filter(|line| line.contains(logged)).count(), 1, "{logged}{output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_line_arrives_with_all_fields() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        context.log_json(json!({
            "timestamp": "2022-10-12T00:03:50.125Z",
            "level": "WARN",
            "message": "stock is low",
            "order": { "id": 7, "items": ["a", "b"] },
            "ratio": 0.25,
        }));
        Ok(Value::Null)
    });
    let sandbox = Sandbox::builder()
        .extension(
            extension(&collector, Protocol::Http)
                .env("ROTEL_FLUSH_TIMEOUT", "60s")
                .env("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "\"service.name=orders,deployment.environment=test\""),
        )
        .log_format(LogFormat::Json)
        .memory_mb(256)
        .function_name("orders-function")
        .function(function)
        .start()
        .await
        .expect("a sandbox");
    let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
    end(&sandbox).await;

    let received = collector.received();
    let log = received.logs().next().expect("the line");
    assert_eq!(log.body(), "stock is low");
    // It is years back, so it is not when the record was written.
    assert!(log.item.time_unix_nano > 1_700_000_000_000_000_000);
    assert!(log.item.observed_time_unix_nano >= log.item.time_unix_nano);
    assert_eq!((log.item.severity_number, log.item.severity_text.as_str()), (13, "warn"));
    for (key, expected) in [
        ("faas.invocation_id", invocation.request_id.as_str()),
        ("timestamp", "2022-10-12T00:03:50.125Z"),
        ("order.id", "7"),
        ("ratio", "0.25"),
        ("aws.lambda.telemetry.type", "function"),
    ] {
        assert_eq!(log.attribute(key).as_deref(), Some(expected), "{key}");
    }
    assert!(log.attribute("order.items").is_some());
    for (key, expected) in [
        ("service.name", "orders"),
        ("deployment.environment", "test"),
        ("faas.name", "orders-function"),
        ("faas.max_memory", "268435456"),
        ("cloud.provider", "aws"),
        ("cloud.platform", "aws_lambda"),
    ] {
        assert_eq!(log.resource_attribute(key).as_deref(), Some(expected), "{key}");
    }
    for key in ["faas.version", "faas.instance", "cloud.region", "cloud.account.id", "cloud.resource_id"] {
        assert!(log.resource_attribute(key).is_some(), "{key} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_line_gets_its_request_id() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        let request_id = context.request_id.clone();
        context.log(format!("written by {request_id}"));
        Ok(Value::Null)
    });
    let sandbox = sandbox(&collector, Protocol::Grpc).function(function).start().await.expect("a sandbox");
    for _ in 0..20 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
    }
    end(&sandbox).await;
    let received = collector.received();
    assert_eq!(received.logs().count(), 20);
    for log in received.logs() {
        let request_id = log.attribute("faas.invocation_id").expect("a request id");
        assert_eq!(log.body(), format!("written by {request_id}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_filtered_and_masked() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        for line in ["[DEBUG] too little", "[WARN] GET /health", "[WARN] paid with 1111-2222", "no severity"]
        {
            context.log(line);
        }
        Ok(Value::Null)
    });
    let extension = extension(&collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_LAMBDA_LOG_MIN_SEVERITY", "warn")
        .env("ROTEL_LAMBDA_LOG_EXCLUDE", "^GET /health")
        .env("ROTEL_LAMBDA_LOG_MASK", "[0-9]{4}-[0-9]{4}");
    let sandbox =
        Sandbox::builder().extension(extension).function(function).start().await.expect("a sandbox");
    sandbox.invoke(Value::Null).await.expect("an invocation");
    end(&sandbox).await;
    let received = collector.received();
    let logs = received
        .logs()
        .filter(|log| log.attribute("aws.lambda.telemetry.type").as_deref() == Some("function"));
    let bodies: Vec<_> = logs.map(|log| log.body()).collect();
    assert_eq!(bodies, ["paid with [masked]", "no severity"]);
    assert!(!format!("{:?}", sandbox.extension_output()).contains("1111"));
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_name_is_the_file_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let renamed = folder.path().join("telemetry-of-mine");
    std::fs::copy(binary(), &renamed).expect("a copy");
    let sandbox = Sandbox::builder()
        .extension(lambda_sandbox::Extension::binary(&renamed))
        .start()
        .await
        .expect("a sandbox");
    end(&sandbox).await;
}
