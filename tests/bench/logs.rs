//! The cost of parsing and encoding the log lines of `tests/logs`, compared with plain parsing of the same bytes in the
//! same run: `make bench-logs`, in the release profile that users get.

#![expect(clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use rotel_core::lambda::telemetry_api::{self, EventKind};
use rotel_core::logs::{self, RecordSource};
use rotel_core::otlp::request::{self, RequestEnvelope};
use serde_json::{Value, json};

const LINES: usize = 1000;
const RUNS: usize = 200;
/// The maximum ratio of our time to that of plain parsing.
const TARGET: f64 = 2.2;
/// 2026-11-21T12:16:50Z: the time at which the platform received every line.
const PLATFORM: u64 = 1_795_263_410_000_000_000;

fn main() -> ExitCode {
    let event =
        |record: &Value| json!({"time": "2026-11-21T12:16:50.000Z", "type": "function", "record": record});
    let records = records();
    // Of the many records, so many at equal distances that all loggers are among them.
    let events: Vec<Value> =
        records.iter().step_by((records.len() / LINES).max(1)).cycle().take(LINES).map(event).collect();
    let body = serde_json::to_vec(&events).expect("JSON");
    let envelope = RequestEnvelope::new(&Resource::default(), &request::scope(request::SCOPE));
    let ours = || {
        let delivery = telemetry_api::read(&body);
        let record = |event: &telemetry_api::TelemetryEvent<'_>| match &event.kind {
            EventKind::Function(raw) => {
                logs::to_log(RecordSource::Function, raw, event.time, PLATFORM, &|_| false).record
            }
            other => unreachable!("{other:?}"),
        };
        let records: Vec<LogRecord> = delivery.events.iter().map(record).collect();
        envelope.wrap(&records).len()
    };
    let plain = || serde_json::from_slice::<Value>(&body).expect("JSON").as_array().map_or(0, Vec::len);
    let (ours, plain) = (fastest(ours), fastest(plain));
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    println!(
        "{LINES} mixed lines, {} bytes: {ours:?} to parse and encode, {plain:?} for serde_json alone; {ratio:.2} times that, \
         target at most {TARGET}",
        body.len()
    );
    if ratio <= TARGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The records of all cases.
fn records() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/logs");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let cases = paths.iter().flat_map(|path| {
        let file: Value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
        file.get("cases").and_then(Value::as_array).cloned().expect("cases")
    });
    // What is not JSON cannot be compared.
    cases.filter_map(|case| case.get("line").or(case.get("record")).cloned()).collect()
}

/// Returns the fastest of many runs: other load on the machine can only make a run slower.
fn fastest(run: impl Fn() -> usize) -> Duration {
    let timed = || {
        let start = Instant::now();
        black_box(run());
        start.elapsed()
    };
    (0..RUNS).map(|_| timed()).min().unwrap_or_default()
}
