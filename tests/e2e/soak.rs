//! Hours of a function's life in minutes: real Python with real instrumentation, a freeze after each invocation, and a
//! real collector that is restarted. `make soak` runs it and prints the measurements.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::time::Duration;

use lambda_sandbox::collector::{Protocol, Received};
use lambda_sandbox::{Extension, Sandbox, Status};
use serde_json::json;
use support::end;
use tokio::time::Instant;

use crate::otelcol::Otelcol;
use crate::samples::{PATIENCE, Sdk, python};

const KEY: &str = "5b6f1c7e-ingestion-key";
const RESTARTS: u32 = 3;
/// The invocations while the collector is down.
const DOWN_INVOCATIONS: usize = 5;
const FREEZE: Duration = Duration::from_millis(500);
/// The lines that the function writes in each invocation; below them, the names of the spans that its SDK sends.
const LINES: [&str; 5] = [
    "a plain line",
    "a line through logging",
    "a line within a span of its own",
    "line one of two",
    "line two of two",
];
const SPANS: [&str; 2] = ["sandbox-function", "price the order"];
/// The maximum growth of the extension's memory after it has settled.
const GROWTH: u64 = 2 * MIB;
const MIB: u64 = 1024 * 1024;

/// Successive invocations of one environment.
#[derive(Default)]
struct Life {
    request_ids: Vec<String>,
    /// After each invocation, in bytes.
    memory: Vec<u64>,
    /// The time the extension added to each invocation.
    added: Vec<Duration>,
}

impl Life {
    async fn invoke(&mut self, sandbox: &Sandbox) {
        let invocation = sandbox.invoke(json!({})).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Success, "{invocation:?}");
        self.request_ids.push(invocation.request_id);
        self.added.push(invocation.added);
        self.memory.push(sandbox.resident_bytes());
        sandbox.rest(FREEZE).await.expect("it is at rest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_loses_nothing_and_keeps_memory() {
    let (extension, minutes) = settings();
    let length = Duration::from_mins(minutes);
    let mut collector = Otelcol::start(KEY).await;
    let extension = extension
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(Protocol::Grpc))
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization={KEY}"));
    let sandbox = Sandbox::builder().extension(extension).function(python(Sdk::Protobuf));
    let sandbox = sandbox.timeout(PATIENCE).init_timeout(PATIENCE).start().await.expect("a sandbox");

    let mut life = Life::default();
    let begin = now();
    for restart in 1..=RESTARTS {
        while begin.elapsed() < length * restart / (RESTARTS + 1) {
            life.invoke(&sandbox).await;
        }
        collector.stop();
        for _ in 0..DOWN_INVOCATIONS {
            life.invoke(&sandbox).await;
        }
        collector.run();
    }
    while begin.elapsed() < length {
        life.invoke(&sandbox).await;
    }
    let (lived, peak) = (begin.elapsed(), sandbox.peak_resident_bytes());
    end(&sandbox).await;

    let (lost, twice) = account(&life.request_ids, &collector.received().await);
    let tenth = life.memory.len() / 10;
    let settled = median(&life.memory[tenth..2 * tenth]);
    let in_the_end = median(&life.memory[life.memory.len() - tenth..]);
    let items = life.request_ids.len() * (LINES.len() + SPANS.len());
    print(&format!(
        "{} invocations in {} s, each with a freeze of {FREEZE:?}; the collector restarted {RESTARTS} times, away for {DOWN_INVOCATIONS} \
         invocations each time\n\
         log lines and spans: {items}, lost {lost}, twice {twice}\n\
         memory: {:.1} MiB in the second tenth, {:.1} MiB in the last, {:.1} MiB at the most\n\
         added after the function: {:?} in the median, {:?} at the most\n\
         lines of the extension: {:#?}",
        life.request_ids.len(),
        lived.as_secs(),
        mebibytes(settled),
        mebibytes(in_the_end),
        mebibytes(peak),
        median(&life.added),
        life.added.iter().max().expect("some"),
        sandbox.extension_output(),
    ));
    assert_eq!((lost, twice), (0, 0));
    assert!(in_the_end <= settled + GROWTH, "{settled} bytes became {in_the_end}");
}

/// Counts the lines and spans of these invocations that are missing, and those that arrived more than once.
fn account(request_ids: &[String], received: &Received) -> (usize, usize) {
    let mut times: HashMap<(String, &str), usize> = HashMap::new();
    for log in received.logs() {
        let Some(request_id) = log.attribute("faas.invocation_id") else { continue };
        let body = log.body();
        for line in LINES.into_iter().filter(|line| body.contains(line)) {
            *times.entry((request_id.clone(), line)).or_default() += 1;
        }
    }
    // Of the spans, only the invocation's names it; the other is in its trace.
    let traces: HashMap<_, _> = received
        .spans()
        .filter_map(|span| Some((&span.item.trace_id, span.attribute("faas.invocation_id")?)))
        .collect();
    for span in received.spans() {
        let name = SPANS.into_iter().find(|name| span.item.name == *name);
        if let (Some(name), Some(request_id)) = (name, traces.get(&span.item.trace_id)) {
            *times.entry((request_id.clone(), name)).or_default() += 1;
        }
    }
    let wanted = request_ids.iter().flat_map(|id| LINES.into_iter().chain(SPANS).map(move |item| (id, item)));
    let arrived = wanted.map(|(id, item)| times.get(&(id.clone(), item)).copied().unwrap_or(0));
    arrived.fold((0, 0), |(lost, twice), times| match times {
        0 => (lost + 1, twice),
        1 => (lost, twice),
        _ => (lost, twice + 1),
    })
}

fn median<T: Copy + Ord>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "it is for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// The path of the extension and the length of the run in minutes.
#[expect(clippy::disallowed_methods, reason = "a switch of this test, not a variable of the extension")]
fn settings() -> (Extension, u64) {
    let minutes = std::env::var("MINUTES").map_or(30, |text| text.parse().expect("MINUTES is a number"));
    let extension = std::env::var("EXTENSION").unwrap_or_else(|_| support::binary());
    (Extension::binary(extension), minutes)
}

#[expect(clippy::disallowed_methods, reason = "its length is measured here, and nothing else knows of it")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "it is what people run it for")]
fn print(figures: &str) {
    println!("{figures}");
}
