//! Memory that an outage took, and that the function has back once it is over.

use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Collector, Protocol};
use lambda_sandbox::{Context, Function, Payload, Sandbox, Transport};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::{Value, json};

use support::bounds::{assert_count, assert_memory, is_release};
use support::{end, extension, impatient, invoke};

use super::MIB;

/// The telemetry that is kept during the outage.
const KEPT: usize = 28 * MIB;
/// The limit of invocations until all of it has arrived. One would do on a machine at rest.
const INVOCATIONS: usize = 10;

/// A request with one span of `length` bytes.
fn span(number: usize, length: usize) -> Payload {
    let id = (number as u64 + 1).to_be_bytes();
    let span = Span {
        trace_id: [id, id].concat(),
        span_id: id.to_vec(),
        name: "x".repeat(length),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    Payload::Traces(ExportTraceServiceRequest { resource_spans })
}

/// The function's work during the outage: spans of a number of bytes, each in a request, or log lines.
#[derive(Clone, Copy)]
enum Work {
    Spans(usize),
    Lines(usize),
}

impl Work {
    fn items(self) -> usize {
        match self {
            Self::Spans(length) => KEPT / length,
            Self::Lines(count) => count,
        }
    }

    async fn run(self, context: Context) {
        match self {
            Self::Spans(length) => {
                for number in 0..self.items() {
                    let posted =
                        context.exporter().send(Transport::HttpProtobuf, &span(number, length)).await;
                    posted.expect("the buffer has room");
                }
            }
            Self::Lines(count) => context.log_lines(count),
        }
    }
}

async fn is_released(case: &str, work: Work) {
    let function = Function::builtin(move |context| async move {
        if context.payload == json!("work") {
            work.run(context).await;
        }
        Ok(Value::Null)
    });
    let collector = Collector::start().await.expect("a collector");
    let extension = impatient(extension(&collector, Protocol::Http))
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_BUFFER_MAX_BYTES", (64 * MIB).to_string());
    let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(function);
    let sandbox = sandbox.memory_mb(1024).timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
    for _ in 0..3 {
        invoke(&sandbox, Value::Null).await;
    }
    let before = sandbox.resident_bytes();
    let grown = || sandbox.resident_bytes().saturating_sub(before);
    collector.refuse_connections().await;
    invoke(&sandbox, json!("work")).await;
    assert!(grown() > KEPT as u64 / 2, "little was kept, so the case shows nothing: {}", grown());
    collector.behave(Behaviour::Accept);
    collector.come_back().await.expect("its ports are free");
    let mut invocations = 0;
    while collector.counts().logs.max(collector.counts().spans) < work.items() && invocations < INVOCATIONS {
        invoke(&sandbox, Value::Null).await;
        invocations += 1;
    }
    assert_count(format!("{case}: invocations until all is sent"), invocations, INVOCATIONS - 1);
    invoke(&sandbox, Value::Null).await;
    assert_memory(format!("{case}: left after an outage"), grown(), 6 * MIB as u64);
    end(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_kept_spans_is_released() {
    // A request, small, of ordinary size and large. `make abuse` runs all of them.
    let lengths: &[usize] = if is_release() { &[5_000, 36_000, 180_000] } else { &[36_000] };
    for &length in lengths {
        is_released(&format!("28 MiB of spans, {length} bytes a request"), Work::Spans(length)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_kept_lines_is_released() {
    is_released("150,000 log lines", Work::Lines(150_000)).await;
}
