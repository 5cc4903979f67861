//! The report of a session, for a reader who sees it for the first time.

use std::io::Write as _;
use std::time::Duration;

use lambda_sandbox::collector::{Item, Received};
use lambda_sandbox::otlp::{Text, hex, time};
use lambda_sandbox::{Answer, Comparison, Init, Invocation, Journal, Sandbox, Shutdown, Signal, Status};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;

/// The limit of differences that are listed.
const NAMED: usize = 20;

/// An invocation, and how much had reached the collector at its end.
pub(crate) struct Invoked {
    number: usize,
    pub(crate) invocation: Invocation,
    emitted: usize,
    arrived_at_next: usize,
}

impl Invoked {
    pub(crate) fn new(number: usize, invocation: Invocation, sandbox: &Sandbox) -> Self {
        let id = &invocation.request_id;
        let at_next = invocation.collector_at_next.as_ref();
        let arrived_at_next =
            at_next.map_or(0, |received| sandbox.ledger().compare_invocation(id, received).once);
        Self { number, emitted: sandbox.ledger().of(id).len(), arrived_at_next, invocation }
    }
}

/// Prints a line of the report.
pub(crate) fn say(line: &str) {
    // A reader that has closed the pipe, such as `head`, is not an error.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line of an error.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn heading(text: &str) {
    say(&format!("\n{text}\n{}", "-".repeat(text.len())));
}

pub(crate) fn init(init: &Init) {
    match &init.error {
        None => say(&format!("  took {}", milliseconds(init.took))),
        Some(error) => say(&format!("  failed after {}: {error}", milliseconds(init.took))),
    }
    for (name, first_next) in &init.extensions {
        match first_next {
            Some(took) => {
                say(&format!("  {name}: first /next {} after its start", milliseconds(*took)));
            }
            None => say(&format!("  {name}: never called /next")),
        }
    }
}

pub(crate) fn invocation(invoked: Option<&Invoked>) {
    let Some(Invoked { number, invocation, emitted, arrived_at_next }) = invoked else { return };
    let cold = if invocation.cold_start { " (cold start)" } else { "" };
    say(&format!("  {number}. {}{cold}: {}", invocation.request_id, result(invocation)));
    let own = invocation
        .added_after_delivery
        .map_or(String::new(), |own| format!(" ({} after it received runtimeDone)", milliseconds(own)));
    say(&format!(
        "     function {}; extension {} longer{own}",
        milliseconds(invocation.function),
        milliseconds(invocation.added)
    ));
    if *emitted > 0 {
        say(&format!("     {arrived_at_next} of {emitted} items had reached the collector by then"));
    }
    if let Some(reset) = &invocation.reset {
        say(&format!("     the environment was reset ({:?})", reset.reason));
        shutdown(Some(reset));
    }
}

fn result(invocation: &Invocation) -> String {
    match (invocation.status, &invocation.answer) {
        (Status::Success, Answer::Response(body)) => {
            format!("returned {}", short(&String::from_utf8_lossy(body)))
        }
        (Status::Timeout, _) => "timed out".to_owned(),
        (_, answer) => {
            let raised = raised(answer).or_else(|| invocation.error_type.clone());
            format!("failed with {}", raised.as_deref().unwrap_or("an error"))
        }
    }
}

/// The type of the error that the handler raised; the platform knows only that there was one.
fn raised(answer: &Answer) -> Option<String> {
    let Answer::Error { body, .. } = answer else { return None };
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(body.get("errorType")?.as_str()?.to_owned())
}

pub(crate) fn freeze(length: Duration) {
    say(&format!("  -- frozen for {}", milliseconds(length)));
}

pub(crate) fn shutdown(shutdown: Option<&Shutdown>) {
    let Some(shutdown) = shutdown else {
        say("  nothing left to shut down");
        return;
    };
    for end in &shutdown.extensions {
        let how = end.exit.map_or("did not exit".to_owned(), |exit| exit.text());
        let killed = if end.killed { ", killed" } else { "" };
        say(&format!("  {}: {how}{killed}, {} after SHUTDOWN", end.name, milliseconds(end.took)));
    }
    if shutdown.extensions.is_empty() {
        say(&format!("  took {}", milliseconds(shutdown.took)));
    }
}

pub(crate) fn telemetry(sandbox: &Sandbox, received: &Received, comparison: &Comparison) {
    heading("Telemetry received");
    let entries = sandbox.ledger().entries();
    say("                 emitted by function   received of these   received in all   plus platform events");
    for signal in Signal::ALL {
        let emitted = entries.iter().filter(|entry| entry.signal == signal).count();
        let missing = comparison.missing.iter().filter(|entry| entry.signal == signal).count();
        say(&format!(
            "  {:13} {emitted:>21} {:>19} {:>17} {:>22}",
            signal.items(),
            emitted - missing,
            received.counts().of(signal),
            received.platform_counts().of(signal)
        ));
    }
    let requests = received.kept().count();
    let bytes: usize = received.kept().map(|request| request.wire_bytes).sum();
    let refused = received.requests().count() - requests;
    say(&format!("  {requests} requests, {bytes} bytes; {refused} requests refused"));
    if entries.is_empty() {
        say(&format!("  the function wrote {} log lines", sandbox.function_records()));
    }
}

pub(crate) fn examples(received: &Received) {
    let is_error = |log: &Item<'_, LogRecord>| log.item.severity_number >= 17;
    if let Some(log) = received.logs().find(is_error).or_else(|| received.logs().next()) {
        heading("Sample log record");
        log_record(&log);
    }
    let is_invocation = |span: &Item<'_, Span>| span.attribute("faas.invocation_id").is_some();
    if let Some(span) = received.spans().find(is_invocation).or_else(|| received.spans().next()) {
        heading("Sample span");
        sample_span(&span);
    }
}

fn log_record(log: &Item<'_, LogRecord>) {
    let record = log.item;
    say(&format!("  time      {}", time(record.time_unix_nano)));
    say(&format!("  observed  {}", time(record.observed_time_unix_nano)));
    say(&format!("  severity  {} ({})", record.severity_text, record.severity_number));
    say(&format!("  body      {}", log.body()));
    say(&format!("  trace     {}", id(&record.trace_id)));
    say(&format!("  span      {}", id(&record.span_id)));
    say(&format!("  scope     {}", log.scope.map_or("-", |scope| scope.name.as_str())));
    attributes("attributes", &record.attributes);
    attributes("resource", log.resource);
}

fn sample_span(span: &Item<'_, Span>) {
    let item = span.item;
    let nanos = item.end_time_unix_nano.saturating_sub(item.start_time_unix_nano);
    say(&format!("  name      {}", item.name));
    say(&format!("  kind      {:?}", item.kind()));
    say(&format!(
        "  start     {}, for {}",
        time(item.start_time_unix_nano),
        milliseconds(Duration::from_nanos(nanos))
    ));
    say(&format!("  trace     {}", id(&item.trace_id)));
    say(&format!("  span      {}", id(&item.span_id)));
    say(&format!("  parent    {}", id(&item.parent_span_id)));
    say(&format!("  scope     {}", span.scope.map_or("-", |scope| scope.name.as_str())));
    attributes("attributes", &item.attributes);
    attributes("resource", span.resource);
}

fn attributes(title: &str, attributes: &[KeyValue]) {
    say(&format!("  {title}"));
    let widest = attributes.iter().map(|attribute| attribute.key.len()).max().unwrap_or_default();
    for attribute in attributes {
        let value = attribute.value.as_ref().map_or_else(String::new, |value| Text(value).to_string());
        say(&format!("    {:widest$}  {value}", attribute.key));
    }
}

pub(crate) fn output(journal: &Journal) {
    heading("Extension log");
    for line in &journal.output {
        say(&format!("  {}", line.text));
    }
    if journal.output.is_empty() {
        say("  (empty)");
    }
}

/// The items that are missing or arrived more than once.
pub(crate) fn differences(comparison: &Comparison) -> Vec<String> {
    let missing = comparison.missing.iter().map(|entry| format!("missing: {entry}"));
    let repeated = comparison.repeated.iter().map(|(entry, times)| format!("arrived {times} times: {entry}"));
    missing.chain(repeated).collect()
}

pub(crate) fn verdict(failures: &[String], once: usize) {
    heading("Result");
    if failures.is_empty() {
        match once {
            0 => say(
                "  PASSED  no errors; items of your own function carry no marks, so their arrival is not checked",
            ),
            _ => say(&format!("  PASSED  all {once} items of the function arrived exactly once")),
        }
        return;
    }
    for failure in failures.iter().take(NAMED) {
        say(&format!("  FAILED  {failure}"));
    }
    if failures.len() > NAMED {
        say(&format!("  FAILED  and {} more", failures.len() - NAMED));
    }
}

pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

fn id(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { hex(bytes) }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
    }
}
