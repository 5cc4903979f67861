//! The hot paths of core. `paths NAME TIMES` runs one of them that many times. `make gates` runs it twice under
//! valgrind and takes the difference: the cost of one iteration without startup, input and warm-up.
//!
//! The input is fixed here and not taken from `tests/logs`: a new case there must not change a figure.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a measurement")]

use std::hint::black_box;
use std::process::ExitCode;

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rotel_core::chunk::{Chunk, Origin};
use rotel_core::config;
use rotel_core::config::resource::{Registration, ResourceRules};
use rotel_core::delivery::budget::ByteBudget;
use rotel_core::delivery::buffer::Buffer;
use rotel_core::lambda::telemetry_api::{self, EventKind};
use rotel_core::logs::{self, RecordSource};
use rotel_core::otlp::request::{self, RequestEnvelope};
use rotel_core::otlp::{self, LastEdit, Limits, RequestPart};
use rotel_core::signal::Signal;
use serde_json::{Value, json};

/// 2026-11-21T12:16:50Z: the time at which the platform received every line.
const PLATFORM: u64 = 1_795_263_410_000_000_000;
const REQUEST_ID: &str = "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa";
const MANY: usize = 1_000;
const FEW: usize = 10;
/// A limit that `ROTEL_BATCH_MAX_SIZE` may set.
const CUT: Limits = Limits { items: 128, bytes: 4 * 1024 * 1024 };
const UNCUT: Limits = Limits { items: 8192, bytes: 4 * 1024 * 1024 };

/// A path with its input: each call is one iteration; the returned value keeps the work from being optimized away.
type Path = Box<dyn FnMut() -> usize>;

/// Builds a path with its input.
type Prepare = fn() -> Path;

/// Each path by its name.
const PATHS: [(&str, Prepare); 7] = [
    ("parse", parse),
    ("splice", splice),
    ("find", find),
    ("find-none", find_none),
    ("cut", cut),
    ("encode", encode),
    ("invocation", invocation),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = match arguments.as_slice() {
        [name, times] => PATHS.iter().find(|(path, _)| path == name).zip(times.parse().ok()),
        _ => None,
    };
    let Some(((_, prepare), times)) = asked else {
        println!("usage: paths NAME TIMES; NAME is one of {}", PATHS.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    };
    let mut path = prepare();
    for _ in 0..times {
        black_box(path());
    }
    ExitCode::SUCCESS
}

/// Turns a delivery of the Telemetry API into log records.
fn parse() -> Path {
    let body = delivery(MANY);
    Box::new(move || records(&body).len())
}

/// Validates an SDK's spans and replaces their resource.
fn splice() -> Path {
    let (body, mut last, rules) = (spans(MANY), LastEdit::default(), rules());
    Box::new(move || spliced(&body, &mut last, &rules).len())
}

/// Finds the span that stands for an invocation among an SDK's spans.
fn find() -> Path {
    let root =
        Span { trace_id: vec![7; 16], span_id: vec![9; 8], kind: SpanKind::Server.into(), ..Span::default() };
    let root = envelope(&rules()).wrap(&[root]);
    let body = [root, spans(MANY)].concat();
    Box::new(move || otlp::invocation_spans(&body).count())
}

/// Searches an SDK's spans, none of which stands for an invocation.
fn find_none() -> Path {
    let body = spans(MANY);
    Box::new(move || otlp::invocation_spans(&body).count())
}

/// Splits a request that is too large.
fn cut() -> Path {
    let body = spans(MANY);
    Box::new(move || {
        otlp::split(Signal::Traces, RequestPart { bytes: body.clone(), items: MANY }, CUT).count()
    })
}

/// Encodes log records as the bytes of a request.
fn encode() -> Path {
    let (records, envelope) = (records(&delivery(MANY)), envelope(&rules()));
    Box::new(move || envelope.wrap(&records).len())
}

/// Everything that an invocation with a few lines and spans goes through, up to the chunks of the requests.
fn invocation() -> Path {
    let (lines, spans, rules) = (delivery(FEW), spans(FEW), rules());
    let (mut last, envelope) = (LastEdit::default(), envelope(&rules));
    let mut buffer = Buffer::new(ByteBudget::new(8 * 1024 * 1024, 1));
    Box::new(move || {
        buffer.invocation_begins();
        let spliced = spliced(&spans, &mut last, &rules);
        for part in otlp::split(Signal::Traces, RequestPart { bytes: spliced, items: FEW }, UNCUT) {
            let origin = Origin::Sdk;
            buffer.push(Chunk {
                signal: Signal::Traces,
                bytes: part.bytes,
                items: part.items,
                origin,
                invocation: None,
            });
        }
        let records = records(&lines);
        let items = records.len();
        let bytes = envelope.wrap(&records);
        let invocation = Some(REQUEST_ID.into());
        buffer.push(Chunk { signal: Signal::Logs, bytes, items, origin: Origin::Platform, invocation });
        let mut sent = 0;
        for signal in [Signal::Traces, Signal::Logs] {
            while let Some(batch) = buffer.take(signal, UNCUT) {
                sent += batch.chunks().map(|chunk| chunk.bytes.len()).sum::<usize>();
                buffer.release(&batch);
            }
        }
        sent
    })
}

fn records(body: &[u8]) -> Vec<LogRecord> {
    let delivery = telemetry_api::read(body);
    let record = |event: &telemetry_api::TelemetryEvent<'_>| match &event.kind {
        EventKind::Function(raw) => {
            Some(logs::to_log(RecordSource::Function, raw, event.time, PLATFORM, &|_| false).record)
        }
        _ => None,
    };
    delivery.events.iter().filter_map(record).collect()
}

fn envelope(rules: &ResourceRules) -> RequestEnvelope {
    RequestEnvelope::new(&rules.own(), &request::scope(request::SCOPE))
}

fn spliced(body: &Bytes, last: &mut LastEdit, rules: &ResourceRules) -> Bytes {
    otlp::validate(Signal::Traces, body).expect("a request");
    otlp::edit_resources(Signal::Traces, body, last, |resource| rules.apply(resource))
}

fn rules() -> ResourceRules {
    let variables = [
        ("AWS_LAMBDA_FUNCTION_NAME", "orders"),
        ("AWS_REGION", "eu-central-1"),
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://127.0.0.1:4317"),
        ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=orders,deployment.environment=production"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let registration = Registration {
        function_name: "orders".to_owned(),
        function_version: "$LATEST".to_owned(),
        account_id: Some("123456789012".to_owned()),
    };
    ResourceRules::new(&config::read(&variables).config, &registration)
}

/// The body of a POST with `lines` lines, as four runtimes write them.
fn delivery(lines: usize) -> Vec<u8> {
    let record = |line: usize| match line % 4 {
        0 => Value::String(format!("2026-11-21T12:16:49.987Z\t{REQUEST_ID}\tINFO\torder {line} taken in\n")),
        1 => Value::String(format!(
            "[WARNING]\t2026-11-21T12:16:49.987Z\t{REQUEST_ID}\tstock of {line} is low\n"
        )),
        2 => json!({
            "timestamp": "2026-11-21T12:16:49.987Z",
            "level": "INFO",
            "requestId": REQUEST_ID,
            "message": format!("order {line} priced"),
            "order": {"id": line, "total": 12.5, "currency": "EUR", "items": ["a", "b"]},
        }),
        _ => Value::String(format!(
            r#"{{"level":30,"time":1795263409987,"msg":"order {line} sent","took":12}}"#
        )),
    };
    let event =
        |line| json!({"time": "2026-11-21T12:16:50.000Z", "type": "function", "record": record(line)});
    serde_json::to_vec(&(0..lines).map(event).collect::<Vec<_>>()).expect("JSON")
}

/// An SDK's request with `count` spans.
fn spans(count: usize) -> Bytes {
    let spans = (0..count).map(|nth| Span {
        trace_id: vec![7; 16],
        span_id: (nth as u64 + 1).to_be_bytes().to_vec(),
        parent_span_id: vec![9; 8],
        name: format!("GET /orders/{nth}"),
        kind: 3,
        start_time_unix_nano: PLATFORM,
        end_time_unix_nano: PLATFORM + 1_000_000,
        attributes: vec![
            attribute("http.request.method", "GET"),
            attribute("url.full", "https://stock.example.com/orders?limit=10&after=2026-11-21"),
            attribute("server.address", "stock.example.com"),
            attribute("user_agent.original", "node-fetch/3.3 (+https://example.com)"),
        ],
        ..Span::default()
    });
    let attributes = vec![
        attribute("telemetry.sdk.name", "opentelemetry"),
        attribute("service.name", "unknown_service:node"),
    ];
    let resource = Resource { attributes, ..Resource::default() };
    RequestEnvelope::new(&resource, &request::scope("sdk")).wrap(&spans.collect::<Vec<_>>())
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
