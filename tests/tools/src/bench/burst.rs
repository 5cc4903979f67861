//! 20,000 spans in 200 POSTs, sent at once or kept waiting.

use std::time::Duration;

use bytes::Bytes;
use lambda_sandbox::otlp::Payload;
use lambda_sandbox::{Context, Failure, Function, Sandbox, ShutdownReason, Status};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::{Value, json};

use super::BenchError;
use super::figure::{Unit, millions, milliseconds};
use super::subject::{Setting, Subject, World};
use super::table::{Cell, Row};
use crate::account::complain;
use crate::rest;

const POSTS: usize = 200;
const SPANS_OF_POST: usize = 100;
const SPANS: usize = POSTS * SPANS_OF_POST;
/// Enough memory for the default buffer to hold all spans.
const MEMORY_MB: u32 = 1_024;
const PATIENCE: Duration = Duration::from_mins(1);
/// The maximum number of invocations until everything that waited has been sent.
const ATTEMPTS: usize = 200;
const FLOOR: &str = "–";

/// The memory used while spans wait, in megabytes.
struct Waited {
    before: f64,
    resident: f64,
    peak_above: f64,
    after: f64,
}

/// Measures the rows of this benchmark.
pub(crate) async fn rows(subjects: &[Subject], runs: usize) -> Result<Vec<Row>, BenchError> {
    let posts = posts();
    let bytes = millions(posts.iter().map(|post| post.len() as u64).sum());
    let mut rows = Vec::new();
    for (compression, most) in [("gzip", 25.0), ("none", 10.0)] {
        complain(&format!("measuring 20,000 spans, compression {compression} …"));
        let mut cells = Vec::new();
        for subject in subjects {
            let mut cpu = Vec::new();
            for _ in 0..runs_of(subject, runs) {
                cpu.push(milliseconds(passed_on(subject, compression, &posts).await?));
            }
            cells.push(Cell::of(cpu, FLOOR));
        }
        let what = format!(
            "CPU to take 20,000 spans ({bytes:.1} MB) in 200 POSTs and pass them on, compression {compression}"
        );
        rows.push(Row::new(what, Unit::Milliseconds, cells).at_most(most));
    }
    complain("measuring 20,000 spans that wait …");
    let mut waited: Vec<Vec<Waited>> = Vec::new();
    for subject in subjects {
        let mut of_subject = Vec::new();
        for _ in 0..runs_of(subject, runs) {
            of_subject.push(made_to_wait(subject, &posts).await?);
        }
        waited.push(of_subject);
    }
    let row = |what: &str, of: fn(&Waited) -> f64| {
        let cells = waited.iter().map(|waited| Cell::of(waited.iter().map(of).collect(), FLOOR));
        Row::new(what, Unit::Megabytes, cells.collect())
    };
    rows.push(row("RSS before 20,000 spans", |waited| waited.before));
    rows.push(row("RSS while 20,000 spans wait", |waited| waited.resident));
    let peak = row("peak while 20,000 spans wait, above the RSS before", |waited| waited.peak_above);
    rows.push(peak.at_most_because(1.3 * bytes, " (1.3 × the bytes)"));
    rows.push(row("RSS after they have left", |waited| waited.after));
    Ok(rows)
}

/// Returns 0 for the floor, which receives nothing.
fn runs_of(subject: &Subject, runs: usize) -> usize {
    if subject.is_floor { 0 } else { runs }
}

async fn passed_on(subject: &Subject, compression: &str, posts: &[Bytes]) -> Result<Duration, BenchError> {
    let world = World::new(Setting::Http).await?;
    let extension = world.extension(subject).env("ROTEL_OTLP_EXPORTER_COMPRESSION", compression);
    let builder = Sandbox::builder().extension(extension).function(function(posts)).memory_mb(MEMORY_MB);
    let sandbox = builder.start().await?;
    invoke(&sandbox, subject, false).await?;
    let before = sandbox.cpu_time();
    invoke(&sandbox, subject, true).await?;
    let mut arrived = world.collector.counts().spans;
    for _ in 0..ATTEMPTS {
        if arrived >= SPANS {
            break;
        }
        invoke(&sandbox, subject, false).await?;
        arrived = world.collector.counts().spans;
    }
    let cpu = sandbox.cpu_time().saturating_sub(before);
    sandbox.shutdown(ShutdownReason::Spindown).await?;
    if arrived < SPANS {
        return Err(BenchError::Lost { path: subject.path.clone(), arrived, spans: SPANS });
    }
    Ok(cpu)
}

async fn made_to_wait(subject: &Subject, posts: &[Bytes]) -> Result<Waited, BenchError> {
    let world = World::new(Setting::Http).await?;
    let extension = world
        .extension(subject)
        .env("ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "10ms");
    let builder = Sandbox::builder().extension(extension).function(function(posts)).memory_mb(MEMORY_MB);
    let sandbox = builder.without_freeze().start().await?;
    invoke(&sandbox, subject, false).await?;
    let before = millions(sandbox.resident_bytes());
    world.collector.refuse_connections().await;
    invoke(&sandbox, subject, true).await?;
    let (resident, peak) = (millions(sandbox.resident_bytes()), millions(sandbox.peak_resident_bytes()));
    world.collector.come_back().await?;
    let mut arrived = 0;
    for _ in 0..ATTEMPTS {
        invoke(&sandbox, subject, false).await?;
        arrived = world.collector.counts().spans;
        if arrived >= SPANS {
            break;
        }
    }
    // It has given back then what it will.
    rest::until_at_rest(&sandbox).await;
    let after = millions(sandbox.resident_bytes());
    sandbox.shutdown(ShutdownReason::Spindown).await?;
    if arrived < SPANS {
        return Err(BenchError::Lost { path: subject.path.clone(), arrived, spans: SPANS });
    }
    Ok(Waited { before, resident, peak_above: peak - before, after })
}

/// A function that posts everything if it is called with `true`, and otherwise writes a line.
fn function(posts: &[Bytes]) -> Function {
    let posts = posts.to_vec();
    Function::builtin(move |context: Context| {
        let posts = posts.clone();
        async move {
            if context.payload != json!(true) {
                context.log_lines(1);
                return Ok(Value::Null);
            }
            for post in posts {
                let sent = context.exporter().send_http("/v1/traces", "application/x-protobuf", post).await;
                sent.map_err(|error| Failure::new("ExportError", error.to_string()))?;
            }
            Ok(Value::Null)
        }
    })
}

async fn invoke(sandbox: &Sandbox, subject: &Subject, burst: bool) -> Result<(), BenchError> {
    let invoked = tokio::time::timeout(PATIENCE, sandbox.invoke(json!(burst))).await;
    let invocation = invoked.map_err(|_| BenchError::Stuck { path: subject.path.clone() })??;
    if invocation.status == Status::Success {
        return Ok(());
    }
    let answer = format!("{:?}", invocation.answer);
    Err(BenchError::Invocation { path: subject.path.clone(), answer })
}

/// The bodies, with spans as an instrumented HTTP client makes them, no two alike.
fn posts() -> Vec<Bytes> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..POSTS).map(|_| post((0..SPANS_OF_POST).map(|_| span(&mut rng)).collect())).collect()
}

fn post(spans: Vec<Span>) -> Bytes {
    let resource = Resource { attributes: vec![text("service.name", "orders")], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let of_resource = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    Payload::Traces(ExportTraceServiceRequest { resource_spans: vec![of_resource] }).encode().into()
}

fn span(rng: &mut fastrand::Rng) -> Span {
    let start = 1_795_263_410_000_000_000 + rng.u64(0..1_000_000_000);
    let order = rng.u32(..);
    Span {
        trace_id: rng.u128(..).to_be_bytes().to_vec(),
        span_id: rng.u64(..).to_be_bytes().to_vec(),
        parent_span_id: rng.u64(..).to_be_bytes().to_vec(),
        name: "GET /orders/{id}".to_owned(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + rng.u64(100_000..50_000_000),
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.response.status_code", "200"),
            text("server.address", "stock.example.com"),
            text("url.full", &format!("https://stock.example.com/orders/{order}?limit=10")),
            text("user_agent.original", "node-fetch/3.3 (+https://example.com/bots)"),
            text("network.peer.address", &format!("10.0.{}.{}", rng.u8(..), rng.u8(..))),
        ],
        ..Span::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_has_the_size_of_its_targets() {
        let bytes: usize = posts().iter().map(Bytes::len).sum();
        assert!((6_900_000..=7_300_000).contains(&bytes), "{bytes}");
    }
}
