//! The pipeline with a fake exporter. Each test sets its verdicts.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::sync::oneshot;

use super::handle::{CONTROL_RESERVE, QUEUE_LIMIT};
use super::*;
use crate::edge::clock::tests::freeze;
use rotel_core::config;
use rotel_core::config::resource::Registration;
use rotel_core::delivery::breaker::RetryPolicy;
use rotel_core::delivery::event::Route;
use rotel_core::delivery::verdict::{Failure, Verdict};
use rotel_core::lambda::correlation::{FallbackSpans, InvokeTimes};
use rotel_core::lambda::xray::Header;

mod backends;
mod coalescing;
mod correlation;
mod instance;

const ACCEPTED: Verdict = Verdict::ACCEPTED;
/// The deadline of every invocation.
const DEADLINE_MS: u64 = 1_795_263_410_000;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Equal to the sender's.
const FIRST_SETUP_WAIT: Duration = Duration::from_millis(500);

fn unavailable() -> Verdict {
    Verdict::retry(Failure::Http(503))
}

/// An attempt that waits for the test's verdict. Dropped when it is cancelled.
struct Attempt {
    signal: Signal,
    items: Vec<usize>,
    chunks: Vec<Bytes>,
    verdict: oneshot::Sender<Verdict>,
    /// The number of times the exporter's connections had been renewed.
    generation: usize,
}

impl Attempt {
    /// The first byte of the span id of each log record; `None` for records without a span.
    fn spans_named(&self) -> Vec<Option<u8>> {
        let requests = self.chunks.iter().map(|chunk| ExportLogsServiceRequest::decode(&chunk[..]));
        let groups = requests.flat_map(|request| request.expect("logs").resource_logs);
        let records = groups.flat_map(|group| group.scope_logs).flat_map(|scope| scope.log_records);
        records.map(|record| record.span_id.first().copied()).collect()
    }

    fn answer(self, verdict: Verdict) {
        self.verdict.send(verdict).expect("the attempt waits");
    }
}

#[derive(Clone)]
struct Fake {
    attempts: mpsc::Sender<Attempt>,
    generation: usize,
    /// Replaces the default policy.
    retry: Option<RetryPolicy>,
    /// The signal without a route.
    no_route: Option<Signal>,
}

impl BackendExporter for Fake {
    async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        let (verdict, answer) = oneshot::channel();
        let items = chunks.iter().map(|chunk| otlp::validate(signal, chunk).expect("a request")).collect();
        let attempt = Attempt { signal, items, chunks, verdict, generation: self.generation };
        self.attempts.send(attempt).await.expect("the test listens");
        answer.await.expect("a verdict, unless the test wants a panic")
    }

    fn route(&self, signal: Signal) -> Option<Route> {
        if self.no_route == Some(signal) {
            return None;
        }
        let retry = RetryPolicy {
            initial_backoff: Duration::from_secs(5),
            max_backoff: Duration::from_secs(30),
            max_elapsed_time: Duration::from_mins(5),
        };
        Some(Route { endpoint: 0, retry: self.retry.unwrap_or(retry) })
    }

    async fn warm(&self) -> Verdict {
        ACCEPTED
    }

    fn with_new_connections(&self) -> Self {
        Self { generation: self.generation + 1, ..self.clone() }
    }
}

fn backend(name: Option<&str>, fake: Fake) -> Backend<Fake> {
    let setup: SetupFn<Fake> = Box::new(move |_| {
        let outcome = SetupOutcome { exporter: Some(fake.clone()), has_secret: false, is_pending: false };
        Box::pin(async { outcome })
    });
    Backend { name: name.map(Arc::from), takes: PerSignal::from_fn(|_| true), setup: Some(setup) }
}

struct Test {
    handle: Handle,
    attempts: mpsc::Receiver<Attempt>,
}

impl Test {
    /// Returns a running pipeline that is set up.
    async fn start() -> Self {
        Self::with(&[], None).await
    }

    async fn with(variables: &[(&str, &str)], retry: Option<RetryPolicy>) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::configured(&config::read(&variables.collect()).config, retry).await
    }

    async fn configured(config: &Config, retry: Option<RetryPolicy>) -> Self {
        Self::leading_to(config, |attempts| Fake { attempts, generation: 0, retry, no_route: None }).await
    }

    async fn leading_to(config: &Config, fake: impl FnOnce(mpsc::Sender<Attempt>) -> Fake) -> Self {
        let (sender, attempts) = mpsc::channel(16);
        let rules = ResourceRules::new(config, &Registration::default());
        let backend = backend(None, fake(sender));
        let (pipeline, handle) = Pipeline::new(config, rules, vec![backend]);
        tokio::spawn(pipeline.run());
        handle.control(Control::SetUp);
        let mut test = Self { handle, attempts };
        test.nothing_starts().await;
        test
    }

    fn offer(&self, signal: Signal, origin: Origin, items: usize) {
        self.handle.offer(request(signal, origin, items), None).expect("room");
    }

    /// Returns a pipeline with these fallback spans.
    async fn with_fallback_spans(fallback_spans: FallbackSpans) -> Self {
        let variables = BTreeMap::default();
        Self::configured(&Config { fallback_spans, ..config::read(&variables).config }, None).await
    }

    fn invoke(&self, request_id: &str) {
        let invoked = Some(InvokeTimes { at: clock::epoch_nanos(), deadline_ms: Some(DEADLINE_MS) });
        let xray = Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=1");
        let request_id = request_id.to_owned();
        self.handle.control(Control::InvocationStarted(InvocationStart { request_id, xray, invoked }));
        self.open();
    }

    /// Enqueues log lines of an invocation.
    fn log(&self, request_id: &str, lines: usize) {
        let invocation = Some(Arc::from(request_id));
        let lines = request(Signal::Logs, Origin::Platform, lines);
        self.handle.offer(Chunk { invocation, ..lines }, None).expect("room");
    }

    /// Enqueues a span with this byte in its ids and the request id as attribute.
    fn send_span(&self, origin: Origin, id: u8, request_id: &str) {
        let value = Some(AnyValue { value: Some(Value::StringValue(request_id.to_owned())) });
        let attributes = vec![KeyValue { key: "faas.invocation_id".to_owned(), value, key_strindex: 0 }];
        let span = Span { trace_id: vec![id; 16], span_id: vec![id; 8], attributes, ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let bytes = Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let invocation = (origin == Origin::Platform).then(|| Arc::from(request_id));
        let chunk = Chunk { signal: Signal::Traces, bytes, items: 1, origin, invocation };
        self.handle.offer(chunk, None).expect("room");
    }

    /// Flushes at the end of an invocation. Returns the spans in the log records that are sent, and the number of trace
    /// requests.
    async fn end(&mut self) -> (Vec<Option<u8>>, usize) {
        self.flushed(FlushReason::EndOfInvocation).await
    }

    /// Flushes with this reason, like [`Self::end`].
    async fn flushed(&mut self, reason: FlushReason) -> (Vec<Option<u8>>, usize) {
        let mut flushed = self.flush(reason);
        let (mut named, mut traces) = (Vec::new(), 0);
        while let Either::Attempt(attempt) = tokio::select! {
            biased;
            attempt = self.attempts.recv() => Either::Attempt(attempt.expect("the pipeline lives")),
            _ = &mut flushed => Either::Flushed,
        } {
            match attempt.signal {
                Signal::Logs => named.extend(attempt.spans_named()),
                _ => traces += 1,
            }
            attempt.answer(ACCEPTED);
        }
        self.handle.control(Control::CloseWindow);
        (named, traces)
    }

    fn flush(&self, reason: FlushReason) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        let deadline = clock::now() + FLUSH_TIMEOUT;
        self.handle.control(Control::Flush { reason, deadline, done });
        flushed
    }

    /// Cancels a flush, as the driver does at its deadline.
    async fn call_off(&self, flushed: oneshot::Receiver<()>) {
        self.handle.control(Control::CancelFlush);
        self.handle.control(Control::CloseWindow);
        flushed.await.expect_err("the cancelled flush must not be answered");
    }

    /// Flushes and answers the attempts with these verdicts.
    async fn flush_answered(&mut self, reason: FlushReason, verdicts: impl IntoIterator<Item = Verdict>) {
        let flushed = self.flush(reason);
        for verdict in verdicts {
            self.attempt().await.answer(verdict);
        }
        flushed.await.expect("flushed");
    }

    /// Flushes and answers every attempt with one verdict. Returns the signal and the items of each attempt.
    async fn flush_all(&mut self, reason: FlushReason, verdict: Verdict) -> Vec<(Signal, usize)> {
        let flushed = self.flush(reason);
        let mut seen = Vec::new();
        let answer_all = async {
            loop {
                let attempt = self.attempt().await;
                seen.push((attempt.signal, attempt.items.iter().sum()));
                attempt.answer(verdict.clone());
            }
        };
        tokio::select! {
            biased;
            flushed = flushed => flushed.expect("flushed"),
            () = answer_all => {}
        }
        seen
    }

    fn open(&self) {
        self.handle.control(Control::OpenWindow { during: DuringInvocation::AtOnce, held: true });
    }

    /// Lets a flush fail, so that the breaker opens.
    async fn open_the_breaker(&mut self) {
        self.offer(Signal::Logs, Origin::Platform, 1);
        self.flush_answered(FlushReason::EndOfInvocation, [unavailable()]).await;
        self.handle.control(Control::CloseWindow);
    }

    async fn attempt(&mut self) -> Attempt {
        let attempt = tokio::time::timeout(Duration::from_mins(1), self.attempts.recv()).await;
        attempt.expect("no attempt within a minute of paused time").expect("the pipeline lives")
    }

    /// Lets the pipeline run and asserts that it starts no attempt.
    async fn nothing_starts(&mut self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(self.attempts.try_recv().is_err(), "an attempt was started");
    }
}

enum Either {
    Attempt(Attempt),
    Flushed,
}

/// Returns a request with items of `size` bytes.
fn large(signal: Signal, items: usize, size: usize) -> Chunk {
    sized(signal, Origin::Sdk, items, size)
}

fn request(signal: Signal, origin: Origin, items: usize) -> Chunk {
    sized(signal, origin, items, 0)
}

/// Returns a request for logs or traces. Both have the same bytes: a log record's `severity_text` has the same field number
/// as a span's `trace_state`, and both are strings.
fn sized(signal: Signal, origin: Origin, items: usize, size: usize) -> Chunk {
    let record = LogRecord { severity_text: "x".repeat(size), ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record; items], ..ScopeLogs::default() };
    let resource_logs = vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }];
    let bytes = Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
    Chunk { signal, bytes, items, origin, invocation: None }
}

#[tokio::test(start_paused = true)]
async fn flush_covers_earlier_chunks_and_waits_for_answers() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 3);
    test.offer(Signal::Traces, Origin::Sdk, 2);
    let mut flushed = test.flush(FlushReason::EndOfInvocation);
    test.offer(Signal::Logs, Origin::Sdk, 7);
    let (logs, traces) = (test.attempt().await, test.attempt().await);
    assert_eq!((logs.signal, &logs.items), (Signal::Logs, &vec![3]));
    assert_eq!((traces.signal, &traces.items), (Signal::Traces, &vec![2]));
    logs.answer(ACCEPTED);
    test.nothing_starts().await;
    assert!(flushed.try_recv().is_err(), "traces are not answered yet");
    traces.answer(ACCEPTED);
    flushed.await.expect("flushed");
    // Chunks after the barrier stay, because a freeze may follow.
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn sdk_telemetry_is_sent_one_request_at_a_time() {
    let mut test = Test::start().await;
    test.offer(Signal::Traces, Origin::Sdk, 1);
    test.nothing_starts().await;
    test.open();
    let first = test.attempt().await;
    assert_eq!(first.generation, 0, "the connection of the setup was not used");
    test.offer(Signal::Traces, Origin::Sdk, 2);
    test.offer(Signal::Traces, Origin::Sdk, 3);
    test.offer(Signal::Logs, Origin::Platform, 4);
    test.nothing_starts().await;
    first.answer(ACCEPTED);
    assert_eq!(test.attempt().await.items, [2, 3]);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_flush_resumes_over_a_new_connection() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 3);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let hanging = test.attempt().await;
    test.call_off(flushed).await;
    test.nothing_starts().await;
    assert!(hanging.verdict.is_closed(), "the attempt continues over the freeze");
    test.open();
    // The backend may have the batch that was cut off, so an empty probe goes first.
    let empty = test.attempt().await;
    assert_eq!((empty.items.as_slice(), empty.generation), (&[][..], hanging.generation + 1));
    empty.answer(ACCEPTED);
    assert_eq!(test.attempt().await.items, [3]);
}

#[tokio::test(start_paused = true)]
async fn answer_at_the_moment_of_cancelling_counts() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Sdk, 3);
    test.flush(FlushReason::EndOfInvocation);
    let attempt = test.attempt().await;
    // The verdict and the message arrive before the pipeline runs again.
    attempt.answer(ACCEPTED);
    tokio::task::yield_now().await;
    test.handle.control(Control::CancelFlush);
    test.open();
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn failed_backend_is_only_probed_during_invocations() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    for _ in 0..3 {
        test.open();
        test.offer(Signal::Logs, Origin::Platform, 2);
        test.flush(FlushReason::EndOfInvocation).await.expect("flushed at once");
        test.handle.control(Control::CloseWindow);
        test.nothing_starts().await;
    }
    // The pause includes freezes, in which the monotonic clock may stand still.
    freeze(Duration::from_secs(6));
    test.open();
    let probe = test.attempt().await;
    assert_eq!(probe.items, [1, 2, 2, 2]);
    probe.answer(ACCEPTED);
    test.offer(Signal::Logs, Origin::Platform, 3);
    test.flush_answered(FlushReason::EndOfInvocation, [ACCEPTED]).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_probe_delays_the_end_by_its_budget() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    for budget in [100, 200, 400, 400] {
        freeze(Duration::from_secs(31));
        test.open();
        let probe = test.attempt().await;
        let began = clock::now();
        test.flush(FlushReason::EndOfInvocation).await.expect("flushed");
        assert!(clock::now() - began <= Duration::from_millis(budget + 1), "longer than {budget} ms");
        assert!(probe.verdict.is_closed(), "the probe continues over the freeze");
        test.handle.control(Control::CloseWindow);
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_backend_adds_little_to_rare_invocations() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    let mut added = Vec::new();
    for _ in 0..20 {
        freeze(Duration::from_mins(1));
        test.open();
        test.offer(Signal::Logs, Origin::Platform, 1);
        let _probe = test.attempt().await;
        // The duration of the function.
        tokio::time::advance(Duration::from_millis(10)).await;
        let began = clock::now();
        test.flush(FlushReason::EndOfInvocation).await.expect("flushed");
        added.push(clock::now() - began);
        test.handle.control(Control::CloseWindow);
    }
    let mean = added.iter().sum::<Duration>() / 20;
    assert!(mean <= Duration::from_millis(45), "{mean:?}: {added:?}");
    assert!(
        added.iter().any(|added| *added > Duration::from_millis(300)),
        "no probe had its time: {added:?}"
    );
    // One answer during an invocation is enough. The backend may have the batches of earlier probes, so an empty one goes
    // first.
    freeze(Duration::from_mins(1));
    test.open();
    let empty = test.attempt().await;
    assert!(empty.items.is_empty());
    empty.answer(ACCEPTED);
    test.attempt().await.answer(ACCEPTED);
    test.offer(Signal::Logs, Origin::Platform, 7);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let rest = test.attempt().await;
    assert_eq!(rest.items, [7]);
    rest.answer(ACCEPTED);
    flushed.await.expect("flushed");
}

#[tokio::test(start_paused = true)]
async fn probe_near_the_deadline_needs_no_savings() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    // The first probe spends the savings.
    freeze(Duration::from_secs(31));
    test.open();
    let _probe = test.attempt().await;
    test.flush(FlushReason::EndOfInvocation).await.expect("flushed");
    test.handle.control(Control::CloseWindow);
    freeze(Duration::from_secs(31));
    test.open();
    let probe = test.attempt().await;
    let flushed = test.flush(FlushReason::NearDeadline);
    tokio::time::advance(Duration::from_millis(150)).await;
    probe.answer(ACCEPTED);
    flushed.await.expect("flushed");
}

#[tokio::test(start_paused = true)]
async fn long_function_gets_one_probe_after_another() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    test.open();
    // Paused time advances by itself to the end of each pause.
    for _ in 0..3 {
        test.attempt().await.answer(unavailable());
    }
    test.attempt().await.answer(ACCEPTED);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn recovery_of_one_signal_covers_the_others() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    test.offer(Signal::Traces, Origin::Sdk, 1);
    test.flush_answered(FlushReason::EndOfInvocation, [unavailable(), unavailable()]).await;
    freeze(Duration::from_secs(6));
    test.open();
    test.attempt().await.answer(ACCEPTED);
    test.flush_answered(FlushReason::EndOfInvocation, [ACCEPTED]).await;
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_a_short_backoff() {
    let retry = RetryPolicy {
        initial_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(400),
        max_elapsed_time: Duration::from_mins(5),
    };
    let mut test = Test::with(&[], Some(retry)).await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    test.flush_answered(FlushReason::EndOfInvocation, [unavailable(), unavailable(), ACCEPTED]).await;
}

#[tokio::test(start_paused = true)]
async fn requested_wait_is_honoured() {
    let wait =
        |seconds| Verdict::Retry { failure: Failure::Http(429), after: Some(Duration::from_secs(seconds)) };
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    test.flush_answered(FlushReason::EndOfInvocation, [wait(60)]).await;
    test.handle.control(Control::CloseWindow);
    freeze(Duration::from_secs(59));
    test.open();
    test.nothing_starts().await;
    test.handle.control(Control::CloseWindow);
    freeze(Duration::from_secs(2));
    test.open();
    test.attempt().await.answer(ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn slow_flush_with_progress_keeps_the_breaker_closed() {
    let mut test = Test::with(&[("ROTEL_LOGS_BATCH_MAX_SIZE", "1")], None).await;
    test.offer(Signal::Logs, Origin::Platform, 2);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    test.attempt().await.answer(ACCEPTED);
    let slow = test.attempt().await;
    tokio::time::advance(FLUSH_TIMEOUT).await;
    test.call_off(flushed).await;
    assert!(slow.verdict.is_closed());
    test.open();
    test.attempt().await.answer(ACCEPTED);
    test.flush(FlushReason::EndOfInvocation);
    assert_eq!(test.attempt().await.items, [1]);
}

#[tokio::test(start_paused = true)]
async fn hanging_flush_opens_the_breaker() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    test.flush(FlushReason::EndOfInvocation);
    let hanging = test.attempt().await;
    tokio::time::advance(FLUSH_TIMEOUT).await;
    test.handle.control(Control::CancelFlush);
    test.handle.control(Control::CloseWindow);
    test.flush(FlushReason::EndOfInvocation).await.expect("flushed at once");
    assert!(hanging.verdict.is_closed());
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn too_large_request_is_split() {
    let mut test = Test::start().await;
    for _ in 0..4 {
        test.handle.offer(large(Signal::Traces, 10, 10_000), None).expect("room");
    }
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let whole = test.attempt().await;
    assert_eq!(whole.items.iter().sum::<usize>(), 40);
    whole.answer(Verdict::TooLarge(Failure::Http(413)));
    let mut arrived = 0;
    while arrived < 40 {
        let part = test.attempt().await;
        let items = part.items.iter().sum::<usize>();
        assert!(items <= 20, "{items} of 40 items in one request");
        arrived += items;
        part.answer(ACCEPTED);
    }
    assert_eq!(arrived, 40);
    flushed.await.expect("flushed");
}

#[tokio::test(start_paused = true)]
async fn splitting_stops_before_single_items() {
    let mut test = Test::start().await;
    test.handle.offer(large(Signal::Logs, 100, 1000), None).expect("room");
    let too_large = Verdict::TooLarge(Failure::Grpc(8));
    let requests = test.flush_all(FlushReason::EndOfInvocation, too_large).await.len();
    assert!((4..20).contains(&requests), "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn losses_are_reported_after_a_recovery() {
    let mut test = Test::with(&[("ROTEL_BUFFER_MAX_BYTES", "30000")], None).await;
    test.open_the_breaker().await;
    for _ in 0..2 {
        test.handle.offer(large(Signal::Traces, 2, 10_000), None).expect("room");
    }
    freeze(Duration::from_secs(6));
    test.open();
    let mut sent = test.flush_all(FlushReason::EndOfInvocation, ACCEPTED).await;
    assert!(!sent.is_empty());
    sent.extend(test.flush_all(FlushReason::Shutdown, ACCEPTED).await);
    // The first log record and two spans were dropped because the buffer was full.
    sent.sort_by_key(|(signal, _)| *signal as usize);
    assert_eq!(sent, [(Signal::Logs, 1), (Signal::Metrics, 2), (Signal::Traces, 2)]);
}

#[tokio::test(start_paused = true)]
async fn pending_telemetry_is_released_at_intervals() {
    let mut test = Test::start().await;
    let every = |first| DuringInvocation::Every {
        first: Duration::from_secs(first),
        interval: Duration::from_secs(20),
    };
    test.offer(Signal::Logs, Origin::Platform, 1);
    test.handle.control(Control::OpenWindow { during: every(5), held: true });
    test.offer(Signal::Traces, Origin::Sdk, 2);
    test.nothing_starts().await;
    let began = clock::now();
    let (first, second) = (test.attempt().await, test.attempt().await);
    assert_eq!((first.signal, second.signal), (Signal::Logs, Signal::Traces));
    assert!(clock::now() - began >= Duration::from_secs(5));
    first.answer(ACCEPTED);
    second.answer(ACCEPTED);
    test.offer(Signal::Traces, Origin::Sdk, 3);
    test.nothing_starts().await;
    test.attempt().await.answer(ACCEPTED);
    assert!(clock::now() - began >= Duration::from_secs(25));
    test.handle.control(Control::CloseWindow);
    test.offer(Signal::Traces, Origin::Sdk, 4);
    test.handle.control(Control::OpenWindow { during: every(0), held: true });
    test.attempt().await.answer(ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn restore_creates_a_new_exporter() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    test.handle.control(Control::Restored);
    test.open();
    let attempt = test.attempt().await;
    assert_eq!((attempt.items.clone(), attempt.generation), (vec![1], 1));
    attempt.answer(ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn long_freeze_renews_connections() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let before = test.attempt().await;
    let generation = before.generation;
    before.answer(ACCEPTED);
    flushed.await.expect("flushed");
    freeze(Duration::from_mins(10));
    test.open();
    test.offer(Signal::Traces, Origin::Sdk, 1);
    assert_eq!(test.attempt().await.generation, generation + 1);
}

#[tokio::test(start_paused = true)]
async fn request_in_flight_over_a_freeze_is_sent_again() {
    let mut test = Test::start().await;
    // Without events for ends, nothing announces a freeze.
    test.handle.control(Control::KeepOpen(DuringInvocation::AtOnce));
    test.offer(Signal::Logs, Origin::Platform, 3);
    let before = test.attempt().await;
    test.open();
    test.nothing_starts().await;
    assert!(!before.verdict.is_closed(), "without a freeze, an attempt continues over an INVOKE");
    freeze(Duration::from_mins(10));
    let thawed = clock::now();
    test.open();
    let again = test.attempt().await;
    assert_eq!(again.items, [3]);
    assert!(again.generation > before.generation, "sent over the connection that the freeze killed");
    assert!(before.verdict.is_closed());
    assert_eq!(clock::now(), thawed, "it had to wait");
    again.answer(ACCEPTED);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn batch_of_a_cancelled_flush_survives_a_freeze() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 3);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let before = test.attempt().await;
    // It is cancelled before `/next`, so it is not in flight when the freeze comes.
    test.call_off(flushed).await;
    freeze(Duration::from_mins(10));
    test.open();
    let empty = test.attempt().await;
    assert!(before.verdict.is_closed());
    assert_eq!((empty.items.as_slice(), empty.generation), (&[][..], before.generation + 1));
    empty.answer(ACCEPTED);
    let again = test.attempt().await;
    assert_eq!(again.items, [3]);
    again.answer(ACCEPTED);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn own_metrics_are_sent_if_enabled() {
    let mut test = Test::with(&[("ROTEL_ENABLE_INTERNAL_TELEMETRY", "true")], None).await;
    test.open();
    test.nothing_starts().await;
    freeze(Duration::from_secs(61));
    test.open();
    let attempt = test.attempt().await;
    assert_eq!(attempt.signal, Signal::Metrics);
}

#[tokio::test(start_paused = true)]
async fn failure_from_before_the_flush_leaves_it_an_attempt() {
    let mut test = Test::start().await;
    test.open();
    test.offer(Signal::Traces, Origin::Sdk, 1);
    let before = test.attempt().await;
    let flushed = test.flush(FlushReason::EndOfInvocation);
    before.answer(unavailable());
    test.attempt().await.answer(ACCEPTED);
    flushed.await.expect("flushed");
}

#[tokio::test(start_paused = true)]
async fn refused_and_panicking_batches_are_not_sent_again() {
    let mut test = Test::start().await;
    for refuse in [true, false] {
        test.offer(Signal::Traces, Origin::Sdk, 1);
        let flushed = test.flush(FlushReason::EndOfInvocation);
        let attempt = test.attempt().await;
        if refuse {
            attempt.answer(Verdict::Refused(Failure::Http(400)));
        } else {
            drop(attempt);
        }
        flushed.await.expect("flushed");
        test.open();
        test.nothing_starts().await;
    }
}

#[tokio::test(start_paused = true)]
async fn failures_at_shutdown_are_retried() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    let verdicts = [unavailable(), unavailable(), unavailable(), ACCEPTED];
    test.flush_answered(FlushReason::Shutdown, verdicts).await;
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_the_setup_within_a_limit() {
    let config = config::read(&config::Variables::new()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    let setup: SetupFn<Fake> = Box::new(|_| Box::pin(std::future::pending()));
    let (pipeline, handle) = Pipeline::new(
        &config,
        rules,
        vec![Backend { name: None, takes: PerSignal::from_fn(|_| true), setup: Some(setup) }],
    );
    tokio::spawn(pipeline.run());
    handle.control(Control::SetUp);
    handle.offer(request(Signal::Logs, Origin::Platform, 1), None).expect("room");
    for wait in [FIRST_SETUP_WAIT, Duration::ZERO] {
        let (done, flushed) = oneshot::channel();
        let deadline = clock::now() + FLUSH_TIMEOUT;
        handle.control(Control::Flush { reason: FlushReason::EndOfInvocation, deadline, done });
        // Paused time advances by itself to the next timer.
        let flushed = tokio::time::timeout(wait + Duration::from_millis(100), flushed).await;
        flushed.expect("in time").expect("flushed");
    }
}

#[tokio::test(start_paused = true)]
async fn telemetry_leaves_the_drivers_slots_free() {
    let config = config::read(&config::Variables::new()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    // It does not run, so nothing leaves the queue.
    let (_pipeline, handle) = Pipeline::<Fake>::new(
        &config,
        rules,
        vec![Backend { name: None, takes: PerSignal::from_fn(|_| true), setup: None }],
    );
    let offered = (0..=QUEUE_LIMIT)
        .take_while(|_| handle.offer(request(Signal::Logs, Origin::Sdk, 1), None).is_ok())
        .count();
    assert_eq!(offered, QUEUE_LIMIT - CONTROL_RESERVE);
    let (done, mut flushed) = oneshot::channel();
    let deadline = clock::now() + FLUSH_TIMEOUT;
    handle.control(Control::Flush { reason: FlushReason::EndOfInvocation, deadline, done });
    assert_eq!(flushed.try_recv(), Err(oneshot::error::TryRecvError::Empty), "the message was dropped");
}

#[tokio::test(start_paused = true)]
async fn waiting_telemetry_leaves_the_drivers_slots_free() {
    let config = config::read(&config::Variables::new()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    let (pipeline, handle) = Pipeline::<Fake>::new(
        &config,
        rules,
        vec![Backend { name: None, takes: PerSignal::from_fn(|_| true), setup: None }],
    );
    let intake = handle.clone();
    let enqueued = tokio::spawn(async move {
        for number in 0..QUEUE_LIMIT {
            intake.ingest(request(Signal::Logs, Origin::Platform, 1)).await.expect("a pipeline");
            intake.send_from_intake(Control::CutOff(number.to_string())).await;
        }
    });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let (done, flushed) = oneshot::channel();
    let deadline = clock::now() + FLUSH_TIMEOUT;
    handle.control(Control::Flush { reason: FlushReason::EndOfInvocation, deadline, done });
    tokio::spawn(pipeline.run());
    flushed.await.expect("the message was not dropped");
    enqueued.await.expect("all was enqueued");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_room_in_a_dead_pipeline() {
    let config = config::read(&config::Variables::new()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    let (pipeline, handle) = Pipeline::<Fake>::new(
        &config,
        rules,
        vec![Backend { name: None, takes: PerSignal::from_fn(|_| true), setup: None }],
    );
    while handle.offer(request(Signal::Logs, Origin::Sdk, 1), None).is_ok() {}
    let intake = handle.clone();
    let refused =
        tokio::spawn(async move { intake.ingest(request(Signal::Logs, Origin::Platform, 1)).await });
    tokio::task::yield_now().await;
    drop(pipeline);
    assert_eq!(refused.await.expect("an answer"), Err(EnqueueError::Gone));
    assert_eq!(handle.offer(request(Signal::Logs, Origin::Sdk, 1), None), Err(EnqueueError::Gone));
}

#[tokio::test(start_paused = true)]
async fn own_metrics_without_a_route_use_no_room() {
    let settings = [("ROTEL_ENABLE_INTERNAL_TELEMETRY", "true"), ("ROTEL_BUFFER_MAX_BYTES", "20000")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = config::read(&settings.into_iter().collect()).config;
    let no_route = Some(Signal::Metrics);
    let fake = |attempts| Fake { attempts, generation: 0, retry: None, no_route };
    let mut test = Test::leading_to(&config, fake).await;
    for round in 0..100 {
        freeze(Duration::from_mins(2));
        test.open();
        test.offer(Signal::Logs, Origin::Platform, 1);
        let flushed = test.flush_all(FlushReason::EndOfInvocation, ACCEPTED).await;
        assert_eq!(flushed, [(Signal::Logs, 1)], "round {round}");
        test.handle.control(Control::CloseWindow);
    }
}
