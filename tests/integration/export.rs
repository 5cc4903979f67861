//! The way to the backend: what is sent, how, and what happens when it cannot be sent.

use std::time::Duration;

use bytes::Bytes;
use lambda_sandbox::collector::{Behaviour, Collector, Protocol, Refusal};
use lambda_sandbox::{Function, Sandbox, Signal, Transport};
use serde_json::Value;

use support::{PATIENCE, PROTOCOLS, assert_exact, end, extension, invoke, sandbox, trusted, working};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_spans_are_split_without_loss() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.send_spans(Transport::HttpProtobuf, 20_000).await.expect("the receiver takes spans");
            Ok(Value::Null)
        });
        let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
        sandbox.invoke(Value::Null).await.expect("an invocation");
        end(&sandbox).await;
        let received = collector.received();
        assert_exact(&sandbox, &received);
        let requests: Vec<_> = received.kept().filter(|request| request.signal == Signal::Traces).collect();
        assert!(requests.len() >= 3, "{} requests", requests.len());
        for request in requests {
            let payload = request.payload.as_ref().expect("what was kept was decoded");
            assert!(payload.items() <= 8192, "{} spans in one request", payload.items());
            assert!(payload.encode().len() <= 4 * MIB, "{} bytes in one request", payload.encode().len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_is_refused_alone() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        for _ in 0..5 {
            context.send_spans(Transport::HttpProtobuf, 3).await.expect("the receiver takes spans");
            let malformed = Bytes::from_static(b"\x0a\xff\xff\xff\x7fnot a request");
            let refused =
                context.exporter().send_http("/v1/traces", "application/x-protobuf", malformed).await;
            let refused = refused.expect_err("a refusal").to_string();
            assert!(refused.contains("400"), "{refused}");
            context.send_spans(Transport::Grpc, 3).await.expect("the receiver takes spans");
        }
        Ok(Value::Null)
    });
    let sandbox = sandbox(&collector, Protocol::Grpc).function(function).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    assert_eq!(assert_exact(&sandbox, &collector.received()), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_headers_and_compression() {
    for protocol in PROTOCOLS {
        for (compression, expected) in [("gzip", Some("gzip")), ("none", None)] {
            let collector =
                Collector::builder().authorization("ingestion-key").start().await.expect("a collector");
            let extension = extension(&collector, protocol)
                .env("ROTEL_FLUSH_TIMEOUT", "60s")
                .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "\"Authorization=ingestion-key,X-Team=a=b\"")
                .env("ROTEL_OTLP_EXPORTER_COMPRESSION", compression);
            let sandbox =
                Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
            sandbox.invoke(Value::Null).await.expect("an invocation");
            end(&sandbox).await;
            let received = collector.received();
            assert_exact(&sandbox, &received);
            for request in received.kept() {
                assert_eq!(request.headers.get("x-team").expect("the header"), "a=b");
                if request.payload.as_ref().is_some_and(|payload| payload.items() > 0) {
                    assert_eq!(request.compression.as_deref(), expected);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_certificate_authority_is_trusted() {
    for protocol in PROTOCOLS {
        let (collector, extension) = trusted(protocol).await;
        let extension = extension.env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox =
            Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
        for _ in 0..3 {
            sandbox.invoke(Value::Null).await.expect("an invocation");
        }
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_data_is_sent_after_recovery() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol)
            .env("ROTEL_FLUSH_TIMEOUT", "60s")
            .env("ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME", "1ms");
        let sandbox = Sandbox::builder()
            .extension(extension)
            .collector(&collector)
            .function(working())
            .start()
            .await
            .expect("a sandbox");
        collector.behave(Behaviour::Refuse(Refusal::status(503)));
        for _ in 0..3 {
            let invocation = invoke(&sandbox, Value::Null).await;
            let at_next = invocation.collector_at_next.expect("a collector is attached").counts();
            assert_eq!((at_next.logs, at_next.spans), (0, 0));
        }
        collector.behave(Behaviour::Accept);
        // Whether the pause is over by the next invocation or not: SHUTDOWN is the last occasion.
        sandbox.invoke(Value::Null).await.expect("an invocation");
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
        let output = sandbox.extension_output();
        assert_eq!(output.len(), 2, "one line when it began and one when it ended: {output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_endpoint_costs_flush_timeout_only() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol).env("ROTEL_FLUSH_TIMEOUT", "200ms");
        let sandbox = Sandbox::builder()
            .extension(extension)
            .collector(&collector)
            .function(working())
            .start()
            .await
            .expect("a sandbox");
        collector.behave(Behaviour::Hang);
        let invocation = invoke(&sandbox, Value::Null).await;
        // Far from the 5 s of a request's timeout, on however busy a machine.
        assert!(invocation.added < Duration::from_secs(4), "{invocation:?}");
        collector.behave(Behaviour::Accept);
        // The flush timeout of this test may be too short for a busy machine; SHUTDOWN's budget is not.
        sandbox.invoke(Value::Null).await.expect("an invocation");
        end(&sandbox).await;
        let comparison = sandbox.ledger().compare(&collector.received());
        assert!(comparison.missing.is_empty(), "{comparison:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_is_logged_once_and_hidden() {
    for protocol in PROTOCOLS {
        let collector = Collector::builder().authorization("right").start().await.expect("a collector");
        let extension = extension(&collector, protocol)
            .env("ROTEL_FLUSH_TIMEOUT", "60s")
            .env("RUST_LOG", "trace")
            .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "Authorization=hunter2");
        let sandbox =
            Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
        for _ in 0..3 {
            invoke(&sandbox, Value::Null).await;
        }
        end(&sandbox).await;
        let output = sandbox.extension_output();
        let logged = output
            .iter()
            .filter(|line| line.contains("does not accept the key in the authorization header"))
            .count();
        assert_eq!(logged, 1, "{output:#?}");
        assert!(!output.iter().any(|line| line.contains("hunter2")), "the key was shown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_signal_starts_no_log_loop() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        context.log_lines(2);
        context.send_points(Transport::Grpc, 2).await.expect("the receiver takes metrics");
        Ok(Value::Null)
    });
    let sandbox = sandbox(&collector, Protocol::Http).function(function).start().await.expect("a sandbox");
    collector.behave_for(Signal::Metrics, Behaviour::Refuse(Refusal::status(404)));
    for _ in 0..10 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
    }
    end(&sandbox).await;
    let output = sandbox.extension_output();
    assert_eq!(output.len(), 1, "{output:#?}");
    assert!(output[0].contains("export of metrics: the endpoint answered HTTP 404"), "{output:#?}");
    // The line itself came back as a record, and went out as one.
    assert_eq!(collector.counts().logs, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_lost_in_freeze_lose_nothing() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, protocol).function(working()).start().await.expect("a sandbox");
        for _ in 0..5 {
            invoke(&sandbox, Value::Null).await;
            assert_exact(&sandbox, &collector.received());
            assert!(sandbox.is_frozen().await);
            collector.close_connections();
        }
        end(&sandbox).await;
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_data_is_sent_during_invocation() {
    let collector = Collector::start().await.expect("a collector");
    let watched = std::sync::Arc::new(collector);
    let seen = std::sync::Arc::clone(&watched);
    let function = Function::builtin(move |context| {
        let collector = std::sync::Arc::clone(&seen);
        async move {
            context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
            // The function ends only when its spans are there: were they held until its end, it would never end.
            collector
                .wait_until(|received| received.counts().spans == 5, PATIENCE)
                .await
                .expect("the spans leave during the function");
            Ok(Value::Null)
        }
    });
    let sandbox = sandbox(&watched, Protocol::Grpc).function(function).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
}
