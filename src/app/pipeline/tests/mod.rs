//! The pipeline against an exporter whose verdicts the test gives.

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
use crate::core::config;
use crate::core::config::resource::Registration;
use crate::core::delivery::breaker::RetryPolicy;
use crate::core::delivery::event::Route;
use crate::core::delivery::verdict::{Failure, Verdict};
use crate::core::lambda::correlation::{FallbackSpans, InvokeTimes};
use crate::core::lambda::xray::Header;
use crate::edge::clock::tests::freeze;

mod backends;
mod coalescing;
mod correlation;
mod instance;

const ACCEPTED: Verdict = Verdict::ACCEPTED;
/// Of every invocation.
const DEADLINE_MS: u64 = 1_795_263_410_000;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// As the sender has it.
const FIRST_SETUP_WAIT: Duration = Duration::from_millis(500);

fn unavailable() -> Verdict {
    Verdict::retry(Failure::Http(503))
}

/// An attempt that waits for the test's verdict; dropped when it is called off.
struct Attempt {
    signal: Signal,
    items: Vec<usize>,
    chunks: Vec<Bytes>,
    verdict: oneshot::Sender<Verdict>,
    /// How often the exporter had been made afresh by then.
    generation: usize,
}

impl Attempt {
    /// The first byte of the span id of each of its log records; none where it has no span.
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
    /// In place of the usual.
    retry: Option<RetryPolicy>,
    /// To which there is none.
    no_way: Option<Signal>,
}

impl BackendExporter for Fake {
    async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        let (verdict, answer) = oneshot::channel();
        let items = chunks.iter().map(|chunk| otlp::validate(signal, chunk).expect("a request")).collect();
        let attempt = Attempt { signal, items, chunks, verdict, generation: self.generation };
        self.attempts.send(attempt).await.expect("the test listens");
        answer.await.expect("a verdict; a test that drops it wants a panic")
    }

    fn route(&self, signal: Signal) -> Option<Route> {
        if self.no_way == Some(signal) {
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
    /// A pipeline that is set up and runs.
    async fn start() -> Self {
        Self::with(&[], None).await
    }

    async fn with(variables: &[(&str, &str)], retry: Option<RetryPolicy>) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::configured(&config::read(&variables.collect()).config, retry).await
    }

    async fn configured(config: &Config, retry: Option<RetryPolicy>) -> Self {
        Self::leading_to(config, |attempts| Fake { attempts, generation: 0, retry, no_way: None }).await
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

    /// A pipeline for which these stand in.
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

    /// So many lines of an invocation.
    fn log(&self, request_id: &str, lines: usize) {
        let invocation = Some(Arc::from(request_id));
        let lines = request(Signal::Logs, Origin::Platform, lines);
        self.handle.offer(Chunk { invocation, ..lines }, None).expect("room");
    }

    /// A span with this byte in its ids that tells the request id.
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

    /// Flushes at the end of an invocation; says which spans the log records that leave by it name, and how many requests
    /// with spans left.
    async fn end(&mut self) -> (Vec<Option<u8>>, usize) {
        self.flushed(FlushReason::EndOfInvocation).await
    }

    /// The same for any flush.
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

    /// Calls a flush off, as the driver does when its time is over.
    async fn call_off(&self, flushed: oneshot::Receiver<()>) {
        self.handle.control(Control::CancelFlush);
        self.handle.control(Control::CloseWindow);
        flushed.await.expect_err("nobody waits for it any more");
    }

    /// A flush whose attempts are answered so, one after the other.
    async fn flush_answered(&mut self, reason: FlushReason, verdicts: impl IntoIterator<Item = Verdict>) {
        let flushed = self.flush(reason);
        for verdict in verdicts {
            self.attempt().await.answer(verdict);
        }
        flushed.await.expect("flushed");
    }

    /// A flush whose attempts are all answered so, however many they are; the answer is the signal and the items of each.
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

    /// An invocation's flush that fails, so that the breaker opens.
    async fn open_the_breaker(&mut self) {
        self.offer(Signal::Logs, Origin::Platform, 1);
        self.flush_answered(FlushReason::EndOfInvocation, [unavailable()]).await;
        self.handle.control(Control::CloseWindow);
    }

    async fn attempt(&mut self) -> Attempt {
        let attempt = tokio::time::timeout(Duration::from_mins(1), self.attempts.recv()).await;
        attempt.expect("no attempt in a minute of paused time").expect("the pipeline lives")
    }

    /// Lets the pipeline do all it can, and sees that no attempt comes of it.
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

/// A request of items that are `size` bytes each.
fn large(signal: Signal, items: usize, size: usize) -> Chunk {
    sized(signal, Origin::Sdk, items, size)
}

fn request(signal: Signal, origin: Origin, items: usize) -> Chunk {
    sized(signal, origin, items, 0)
}

/// A request for logs or for traces, which are the same bytes: what is a log record's `severity_text` is a span's
/// `trace_state`, both of them strings.
fn sized(signal: Signal, origin: Origin, items: usize, size: usize) -> Chunk {
    let record = LogRecord { severity_text: "x".repeat(size), ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record; items], ..ScopeLogs::default() };
    let resource_logs = vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }];
    let bytes = Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
    Chunk { signal, bytes, items, origin, invocation: None }
}

#[tokio::test(start_paused = true)]
async fn a_flush_covers_what_came_before_it_and_waits_for_the_answers() {
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
    // What came behind the barrier stays, for a freeze may follow.
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn the_sdks_data_leaves_while_a_function_runs_one_request_at_a_time() {
    let mut test = Test::start().await;
    test.offer(Signal::Traces, Origin::Sdk, 1);
    test.nothing_starts().await;
    test.open();
    let first = test.attempt().await;
    assert_eq!(first.generation, 0, "the connection outcome at the start was thrown away");
    test.offer(Signal::Traces, Origin::Sdk, 2);
    test.offer(Signal::Traces, Origin::Sdk, 3);
    test.offer(Signal::Logs, Origin::Platform, 4);
    test.nothing_starts().await;
    first.answer(ACCEPTED);
    assert_eq!(test.attempt().await.items, [2, 3]);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_called_off_keeps_all_and_the_next_function_takes_it_along_on_new_connections() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 3);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let hanging = test.attempt().await;
    test.call_off(flushed).await;
    test.nothing_starts().await;
    assert!(hanging.verdict.is_closed(), "the attempt goes on over the freeze");
    test.open();
    // The backend may have what was cut off: it is asked for an answer first.
    let empty = test.attempt().await;
    assert_eq!((empty.items.as_slice(), empty.generation), (&[][..], hanging.generation + 1));
    empty.answer(ACCEPTED);
    assert_eq!(test.attempt().await.items, [3]);
}

#[tokio::test(start_paused = true)]
async fn what_got_through_in_the_moment_of_calling_off_is_not_sent_again() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Sdk, 3);
    test.flush(FlushReason::EndOfInvocation);
    let attempt = test.attempt().await;
    // The verdict and the message are there before the pipeline has its turn again.
    attempt.answer(ACCEPTED);
    tokio::task::yield_now().await;
    test.handle.control(Control::CancelFlush);
    test.open();
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_failed_a_flush_is_left_alone_after_functions_and_probed_beside_one() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    for _ in 0..3 {
        test.open();
        test.offer(Signal::Logs, Origin::Platform, 2);
        test.flush(FlushReason::EndOfInvocation).await.expect("flushed at once");
        test.handle.control(Control::CloseWindow);
        test.nothing_starts().await;
    }
    // The pause is of wall time: the monotonic clock may stand still meanwhile.
    freeze(Duration::from_secs(6));
    test.open();
    let probe = test.attempt().await;
    assert_eq!(probe.items, [1, 2, 2, 2]);
    probe.answer(ACCEPTED);
    test.offer(Signal::Logs, Origin::Platform, 3);
    test.flush_answered(FlushReason::EndOfInvocation, [ACCEPTED]).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_delays_the_end_of_the_invocation_by_little() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    for budget in [100, 200, 400, 400] {
        freeze(Duration::from_secs(31));
        test.open();
        let probe = test.attempt().await;
        let began = clock::now();
        test.flush(FlushReason::EndOfInvocation).await.expect("flushed");
        assert!(clock::now() - began <= Duration::from_millis(budget + 1), "longer than {budget} ms");
        assert!(probe.verdict.is_closed(), "the probe goes on over the freeze");
        test.handle.control(Control::CloseWindow);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_costs_a_function_that_is_called_once_a_minute_little() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    let mut added = Vec::new();
    for _ in 0..20 {
        freeze(Duration::from_mins(1));
        test.open();
        test.offer(Signal::Logs, Origin::Platform, 1);
        let _probe = test.attempt().await;
        // As long as the function takes.
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
    // The first that is answered in the time of the function is enough. What two probes carried may be with the backend
    // already, so that it is asked for an answer without it first.
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
async fn near_the_functions_deadline_a_probe_has_its_time_however_little_was_saved() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    // What was saved goes to the first probe.
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
async fn a_function_that_runs_for_long_is_used_for_one_probe_after_another() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    test.open();
    // Paused time moves on by itself to the end of each pause.
    for _ in 0..3 {
        test.attempt().await.answer(unavailable());
    }
    test.attempt().await.answer(ACCEPTED);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn what_one_signal_recovers_from_the_others_have_too() {
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
async fn a_backoff_shorter_than_the_flush_is_waited_for() {
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
async fn the_backends_own_wish_to_wait_is_honoured() {
    let wish =
        |seconds| Verdict::Retry { failure: Failure::Http(429), after: Some(Duration::from_secs(seconds)) };
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    test.flush_answered(FlushReason::EndOfInvocation, [wish(60)]).await;
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
async fn a_flush_that_gets_on_but_runs_out_of_time_does_not_open_the_breaker() {
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
async fn an_endpoint_that_hangs_through_a_flush_opens_the_breaker() {
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
async fn a_request_that_is_too_large_goes_in_smaller_ones() {
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
async fn a_backend_that_finds_everything_too_large_is_not_asked_item_by_item() {
    let mut test = Test::start().await;
    test.handle.offer(large(Signal::Logs, 100, 1000), None).expect("room");
    let too_large = Verdict::TooLarge(Failure::Grpc(8));
    let requests = test.flush_all(FlushReason::EndOfInvocation, too_large).await.len();
    assert!((4..20).contains(&requests), "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_told_to_the_backend_once_the_way_is_free() {
    let mut test = Test::with(&[("ROTEL_BUFFER_MAX_BYTES", "30000")], None).await;
    test.open_the_breaker().await;
    for _ in 0..2 {
        test.handle.offer(large(Signal::Traces, 2, 10_000), None).expect("room");
    }
    freeze(Duration::from_secs(6));
    test.open();
    let mut told = test.flush_all(FlushReason::EndOfInvocation, ACCEPTED).await;
    assert!(!told.is_empty());
    told.extend(test.flush_all(FlushReason::Shutdown, ACCEPTED).await);
    // The first log record and two spans were dropped for the budget.
    told.sort_by_key(|(signal, _)| *signal as usize);
    assert_eq!(told, [(Signal::Logs, 1), (Signal::Metrics, 2), (Signal::Traces, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_at_intervals_where_that_was_chosen() {
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
async fn after_a_restore_the_exporter_is_made_anew() {
    let mut test = Test::start().await;
    test.open_the_breaker().await;
    test.handle.control(Control::Restored);
    test.open();
    let attempt = test.attempt().await;
    assert_eq!((attempt.items.clone(), attempt.generation), (vec![1], 1));
    attempt.answer(ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_of_freeze_connections_are_made_anew() {
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
async fn what_ten_minutes_of_freeze_find_in_mid_export_goes_again_at_once_over_a_new_connection() {
    let mut test = Test::start().await;
    // Where nobody tells of ends, nothing says that a freeze is to come.
    test.handle.control(Control::KeepOpen(DuringInvocation::AtOnce));
    test.offer(Signal::Logs, Origin::Platform, 3);
    let before = test.attempt().await;
    test.open();
    test.nothing_starts().await;
    assert!(!before.verdict.is_closed(), "without a freeze an attempt goes on over an INVOKE");
    freeze(Duration::from_mins(10));
    let thawed = clock::now();
    test.open();
    let again = test.attempt().await;
    assert_eq!(again.items, [3]);
    assert!(again.generation > before.generation, "over the connection that the freeze has killed");
    assert!(before.verdict.is_closed());
    assert_eq!(clock::now(), thawed, "it had to wait");
    again.answer(ACCEPTED);
    test.nothing_starts().await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_ten_minutes_of_freeze_find_in_mid_export_keeps_what_it_had() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 3);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let before = test.attempt().await;
    // Called off before `/next`, it is not in flight when the freeze comes.
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
async fn the_extension_tells_of_itself_where_that_was_asked_for() {
    let mut test = Test::with(&[("ROTEL_ENABLE_INTERNAL_TELEMETRY", "true")], None).await;
    test.open();
    test.nothing_starts().await;
    freeze(Duration::from_secs(61));
    test.open();
    let attempt = test.attempt().await;
    assert_eq!(attempt.signal, Signal::Metrics);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_from_before_the_flush_that_fails_leaves_the_flush_one_of_its_own() {
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
async fn what_is_refused_or_makes_the_exporter_panic_is_not_sent_again() {
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
async fn at_shutdown_what_fails_is_tried_again_until_the_flush_is_called_off() {
    let mut test = Test::start().await;
    test.offer(Signal::Logs, Origin::Platform, 1);
    let verdicts = [unavailable(), unavailable(), unavailable(), ACCEPTED];
    test.flush_answered(FlushReason::Shutdown, verdicts).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_the_exporter_but_not_for_ever() {
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
    for patience in [FIRST_SETUP_WAIT, Duration::ZERO] {
        let (done, flushed) = oneshot::channel();
        let deadline = clock::now() + FLUSH_TIMEOUT;
        handle.control(Control::Flush { reason: FlushReason::EndOfInvocation, deadline, done });
        // Paused time moves on by itself to the next timer.
        let flushed = tokio::time::timeout(patience + Duration::from_millis(100), flushed).await;
        flushed.expect("in time").expect("flushed");
    }
}

#[tokio::test(start_paused = true)]
async fn telemetry_never_takes_the_room_of_the_drivers_messages() {
    let config = config::read(&config::Variables::new()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    // It does not run, so that nothing is taken from the queue.
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
async fn what_waits_for_room_never_takes_that_of_the_drivers_messages() {
    let config = config::read(&config::Variables::new()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    let (pipeline, handle) = Pipeline::<Fake>::new(
        &config,
        rules,
        vec![Backend { name: None, takes: PerSignal::from_fn(|_| true), setup: None }],
    );
    let intake = handle.clone();
    let told = tokio::spawn(async move {
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
    told.await.expect("all was told");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_room_in_a_pipeline_that_is_gone() {
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
async fn what_is_told_of_itself_takes_no_room_where_metrics_have_no_way() {
    let settings = [("ROTEL_ENABLE_INTERNAL_TELEMETRY", "true"), ("ROTEL_BUFFER_MAX_BYTES", "20000")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = config::read(&settings.into_iter().collect()).config;
    let no_way = Some(Signal::Metrics);
    let fake = |attempts| Fake { attempts, generation: 0, retry: None, no_way };
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
