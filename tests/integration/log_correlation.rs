//! Log records name the span of their invocation: the SDK's, however late it is sent, else the platform's.

use std::sync::Arc;

use lambda_sandbox::collector::{Collector, Item, Protocol, Received};
use lambda_sandbox::otlp::hex;
use lambda_sandbox::{
    Context, Exporter, Failure, Function, Journal, Operation, Payload, Sandbox, Status, Transport,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use rotel_lambda_extension::edge::clock;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};

use support::not_held::{self, NextCalls};
use support::{PATIENCE, PROTOCOLS, end, extension, sandbox};

const SDKS: [Transport; 3] = [Transport::Grpc, Transport::HttpProtobuf, Transport::HttpJson];
/// Neither a trace nor a span.
const UNTRACED: (String, String) = (String::new(), String::new());

/// A span of an invocation, named after it, that starts now.
fn span(context: &Context, kind: SpanKind) -> Span {
    let now = clock::epoch_nanos();
    Span {
        trace_id: fastrand::u128(1..).to_be_bytes().to_vec(),
        span_id: fastrand::u64(1..).to_be_bytes().to_vec(),
        name: context.request_id.clone(),
        kind: kind.into(),
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1_000_000,
        ..Span::default()
    }
}

/// The same, as instrumentations of Lambda make it.
fn identified(context: &Context, kind: SpanKind) -> Span {
    let value = any_value::Value::StringValue(context.request_id.clone());
    let attribute = KeyValue {
        key: "faas.invocation_id".to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    Span { attributes: vec![attribute], ..span(context, kind) }
}

async fn send(context: &Context, transport: Transport, spans: Vec<Span>) {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let payload = Payload::Traces(ExportTraceServiceRequest { resource_spans });
    context.exporter().send(transport, &payload).await.expect("the receiver takes spans");
}

async fn invoke(sandbox: &Sandbox) -> String {
    sandbox.invoke(Value::Null).await.expect("an invocation").request_id
}

/// The body, the trace and the span of each log record of the function in an invocation.
fn records(received: &Received, request_id: &str) -> Vec<(String, (String, String))> {
    let of_it = received.logs().filter(|log| {
        log.attribute("faas.invocation_id").as_deref() == Some(request_id)
            && log.attribute("aws.lambda.telemetry.type").as_deref() == Some("function")
    });
    of_it.map(|log| (log.body(), (hex(&log.item.trace_id), hex(&log.item.span_id)))).collect()
}

/// Asserts that an invocation has `lines` log records of the function, and that they name the span named after it.
fn assert_joined(received: &Received, request_id: &str, lines: usize) {
    let spans: Vec<_> = received.spans().filter(|span| span.item.name == request_id).collect();
    let [own] = &spans[..] else { panic!("{} spans of {request_id}", spans.len()) };
    let span = (hex(&own.item.trace_id), hex(&own.item.span_id));
    let records = records(received, request_id);
    assert_eq!(records.len(), lines, "{records:?}");
    assert!(records.iter().all(|(_, named)| *named == span), "{span:?}: {records:?}");
    let mut joined = received.logs().filter(|log| log.item.trace_id == own.item.trace_id);
    assert!(joined.all(|log| log.item.flags == 1));
}

/// Asserts that an invocation has `lines` log records of the function, and that they name no span.
fn assert_bare(received: &Received, request_id: &str, lines: usize) {
    let records = records(received, request_id);
    assert_eq!(records.len(), lines, "{records:?}");
    assert!(records.iter().all(|(_, named)| *named == UNTRACED), "{records:?}");
}

/// Lines before, between and after the spans that `spans` makes, over each transport in turn; the transports' number of
/// invocations.
async fn are_joined_over(protocol: Protocol, spans: fn(&Context) -> Vec<Span>) {
    let collector = Collector::start().await.expect("a collector");
    let sdks = Arc::new(Mutex::new(SDKS.to_vec()));
    let function = Function::builtin(move |context| {
        let sdks = Arc::clone(&sdks);
        async move {
            let transport = sdks.lock().await.pop().expect("as many invocations as transports");
            context.log_lines(3);
            context.log("plain, without anything");
            send(&context, transport, spans(&context)).await;
            context.log_lines(2);
            Ok(Value::Null)
        }
    });
    let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
    let mut request_ids = Vec::new();
    for _ in SDKS {
        request_ids.push(invoke(&sandbox).await);
    }
    end(&sandbox).await;
    let received = collector.received();
    let servers = received.spans().filter(|span| span.item.kind() == SpanKind::Server);
    assert_eq!(servers.count(), request_ids.len(), "none is made here beside the SDK's");
    for request_id in request_ids {
        assert_joined(&received, &request_id, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_name_span_with_their_request_id() {
    for protocol in PROTOCOLS {
        are_joined_over(protocol, |context| {
            let own = identified(context, SpanKind::Server);
            // Children end first and are sent first.
            let child = Span {
                name: "child".to_owned(),
                trace_id: own.trace_id.clone(),
                parent_span_id: own.span_id.clone(),
                ..span(context, SpanKind::Client)
            };
            vec![child, own]
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_name_server_root_without_request_id() {
    for protocol in PROTOCOLS {
        are_joined_over(protocol, |context| vec![span(context, SpanKind::Server)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unheld_records_name_their_own_span() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol).env("ROTEL_FLUSH_STRATEGY", "periodic,10m");
        let sandbox = Sandbox::builder().extension(extension).collector(&collector).timeout(PATIENCE);
        let (sandbox, calls) = NextCalls::of(sandbox);
        let function = Function::builtin(move |context| {
            let called = calls.of_this();
            async move {
                context.log_lines(3);
                let kind = context.payload.as_u64();
                if kind.is_none() {
                    return Ok(Value::Null);
                }
                // Of an invocation that INVOKE has announced, so that it is the time of the span that counts here.
                called.await;
                // A third of the spans without the request id, a third of the invocations without a span.
                match kind {
                    Some(0) => send(&context, Transport::Grpc, vec![span(&context, SpanKind::Server)]).await,
                    Some(1) => {
                        send(&context, Transport::Grpc, vec![identified(&context, SpanKind::Server)]).await;
                    }
                    _ => {}
                }
                context.log_lines(2);
                Ok(Value::Null)
            }
        });
        let sandbox = sandbox.function(function).start().await.expect("a sandbox");
        invoke(&sandbox).await;
        let mut request_ids = Vec::new();
        for number in 0..90_u64 {
            request_ids.push(not_held::invoke(&sandbox, json!(number % 3)).await.request_id);
        }
        end(&sandbox).await;
        let received = collector.received();
        for (number, request_id) in request_ids.iter().enumerate() {
            if number % 3 == 2 {
                assert_bare(&received, request_id, 5);
            } else {
                assert_joined(&received, request_id, 5);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_span_is_named_by_all_records() {
    let collector = Collector::start().await.expect("a collector");
    let go = Arc::new(Notify::new());
    let went = Arc::clone(&go);
    let function = Function::builtin(move |context| {
        let go = Arc::clone(&went);
        async move {
            context.log_lines(4);
            go.notified().await;
            send(&context, Transport::Grpc, vec![identified(&context, SpanKind::Server)]).await;
            Ok(Value::Null)
        }
    });
    let sandbox = sandbox(&collector, Protocol::Grpc).function(function).start().await.expect("a sandbox");
    let delivered = |journal: &lambda_sandbox::Journal| -> usize {
        let accepted = journal.deliveries.iter().filter(|delivery| delivery.is_accepted());
        accepted.map(|delivery| delivery.records).sum()
    };
    let before = delivered(&sandbox.journal());
    // Besides the lines: the start of the invocation, and the end of init where that was not reported yet.
    let lines = async {
        sandbox.wait_until(|journal| delivered(journal) >= before + 5, PATIENCE).await.expect("deliveries");
        go.notify_one();
    };
    let (request_id, ()) = tokio::join!(invoke(&sandbox), lines);
    end(&sandbox).await;
    assert_joined(&collector.received(), &request_id, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn record_keeps_its_own_trace() {
    const OWN: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        context.log("first");
        context.log_json(json!({"level": "info", "message": "second", "trace_id": OWN.0, "span_id": OWN.1}));
        context.log("third");
        context.log_json(json!({"level": "info", "message": "fourth", "requestId": "of API Gateway"}));
        send(&context, Transport::HttpProtobuf, vec![identified(&context, SpanKind::Server)]).await;
        Ok(Value::Null)
    });
    let sandbox = sandbox(&collector, Protocol::Http).function(function).start().await.expect("a sandbox");
    let request_id = invoke(&sandbox).await;
    end(&sandbox).await;
    let received = collector.received();
    let own = received.spans().find(|span| span.item.name == request_id).expect("the span");
    let own = (hex(&own.item.trace_id), hex(&own.item.span_id));
    let other = received.logs().find(|log| log.body() == "fourth").expect("the record");
    assert_eq!(other.attribute("requestId").as_deref(), Some("of API Gateway"));
    let mut named = records(&received, &request_id);
    named.sort();
    let logged = (OWN.0.to_owned(), OWN.1.to_owned());
    let expected = [("first", own.clone()), ("fourth", own.clone()), ("second", logged), ("third", own)];
    assert_eq!(named, expected.map(|(body, span)| (body.to_owned(), span)));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_spans_are_not_named() {
    let collector = Collector::start().await.expect("a collector");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let function = Function::builtin(move |context| {
        let kept = Arc::clone(&kept);
        async move {
            context.log_lines(3);
            let mut late = kept.lock().await;
            // What the SDK had not sent by the end of the invocation before.
            let mut spans = std::mem::take(&mut *late);
            spans.push(Span { name: "internal".to_owned(), ..span(&context, SpanKind::Internal) });
            send(&context, Transport::Grpc, spans).await;
            *late = vec![span(&context, SpanKind::Server), identified(&context, SpanKind::Server)];
            Ok(Value::Null)
        }
    });
    let sandbox = sandbox(&collector, Protocol::Grpc).function(function).start().await.expect("a sandbox");
    let mut request_ids = Vec::new();
    for _ in 0..3 {
        request_ids.push(invoke(&sandbox).await);
    }
    end(&sandbox).await;
    let received = collector.received();
    assert_eq!(received.spans().filter(|span| request_ids.contains(&span.item.name)).count(), 4);
    for request_id in request_ids {
        assert_bare(&received, &request_id, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sdk_platform_span_is_named() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.log_lines(4);
            Ok(Value::Null)
        });
        let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
        let request_ids = [invoke(&sandbox).await, invoke(&sandbox).await];
        end(&sandbox).await;
        let received = collector.received();
        for request_id in request_ids {
            let of_it = |span: &Item<'_, Span>| {
                span.attribute("faas.invocation_id").as_deref() == Some(&request_id)
                    && span.item.kind() == SpanKind::Server
            };
            let spans: Vec<_> = received.spans().filter(of_it).collect();
            let [made] = &spans[..] else { panic!("{} spans of {request_id}", spans.len()) };
            let span = (hex(&made.item.trace_id), hex(&made.item.span_id));
            let records = records(&received, &request_id);
            assert_eq!(records.len(), 4);
            assert!(records.iter().all(|(_, named)| *named == span), "{span:?}: {records:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_invocation_gets_platform_span() {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(|context| async move {
        context.log("a line");
        if context.payload == json!("exit") {
            return Err(Failure::exit());
        }
        send(&context, Transport::Grpc, vec![identified(&context, SpanKind::Server)]).await;
        Ok(Value::Null)
    });
    let extension = extension(&collector, Protocol::Grpc);
    let builder = Sandbox::builder().extension(extension).collector(&collector);
    let sandbox = builder.function(function).timeout(PATIENCE).start().await.expect("a sandbox");
    invoke(&sandbox).await;
    let cut_off = sandbox.invoke(json!("exit")).await.expect("an invocation").request_id;
    let received = collector.received();
    let made = |span: &Item<'_, Span>| span.is_of_platform() && span.item.kind() == SpanKind::Server;
    let made: Vec<_> = received.spans().filter(made).collect();
    let [span] = &made[..] else { panic!("{made:?}") };
    assert_eq!(span.attribute("faas.invocation_id").as_ref(), Some(&cut_off));
    let named = (hex(&span.item.trace_id), hex(&span.item.span_id));
    assert_eq!(records(&received, &cut_off), [("a line".to_owned(), named)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sdk_xray_span_can_be_named() {
    for asked in [true, false] {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, Protocol::Grpc)
            .env("ROTEL_FLUSH_TIMEOUT", "60s")
            .env("ROTEL_LAMBDA_PLATFORM_EVENTS", "metrics")
            .env("ROTEL_LAMBDA_XRAY_TRACE_CONTEXT", asked.to_string());
        let function = Function::builtin(|context| async move {
            context.log(context.trace.clone());
            if context.payload == json!("traced") {
                send(&context, Transport::Grpc, vec![identified(&context, SpanKind::Server)]).await;
            }
            Ok(Value::Null)
        });
        let sandbox = Sandbox::builder()
            .extension(extension)
            .collector(&collector)
            .function(function)
            .timeout(PATIENCE)
            .start()
            .await
            .expect("a sandbox");
        let untraced = invoke(&sandbox).await;
        let traced = sandbox.invoke(json!("traced")).await.expect("an invocation").request_id;
        end(&sandbox).await;
        let received = collector.received();
        assert_joined(&received, &traced, 1);
        if asked {
            let records = records(&received, &untraced);
            let [(header, (trace_id, span_id))] = &records[..] else { panic!("{records:?}") };
            let (time, rest) = trace_id.split_at(8);
            let root = format!("{time}-{rest}");
            assert_eq!(header, &format!("Root=1-{root};Parent={span_id};Sampled=1"));
        } else {
            assert_bare(&received, &untraced, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_records_belong_to_no_invocation() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = Sandbox::builder().extension(extension(&collector, Protocol::Grpc)).collector(&collector);
    // The test is the runtime, so that the init is not over before the line is written.
    let sandbox = sandbox.function(Function::external()).open().await.expect("a sandbox");
    let runtime = Exporter::new("", sandbox.api().to_string());
    let init = async {
        let subscribed = |journal: &Journal| journal.count(Operation::Subscribe) == 1;
        sandbox.wait_until(subscribed, PATIENCE).await.expect("a subscription");
        sandbox.emit("function", json!("first words"));
        let error = json!({"errorType": "ImportError", "errorMessage": "no such module"}).to_string();
        let path = "/2018-06-01/runtime/init/error";
        runtime.send_http(path, "application/json", error.into()).await.expect("it is taken");
    };
    let (ended, ()) = tokio::join!(sandbox.init(), init);
    assert_eq!(ended.expect("an init").status, Status::Error);
    let received = collector.received();
    let words = received.logs().find(|log| log.body() == "first words").expect("the line");
    assert_eq!(words.attribute("aws.lambda.phase").as_deref(), Some("init"));
    assert_eq!(words.attribute("faas.invocation_id"), None);
    assert!(words.item.trace_id.is_empty());
}
