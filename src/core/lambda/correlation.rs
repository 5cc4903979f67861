//! Finds the span of each invocation, so that its log records can reference it.
//!
//! It is a span of the function's SDK: the one with the request id, or else the server root span that started during the
//! invocation. Spans are found as they pass through. If the SDK sends no spans, or the function was cut off before it could,
//! the platform's span is used. If X-Ray is enabled, its span is the last resort. Nothing is guessed: an invocation without
//! any of these has no span. Memory is bounded by forgetting the oldest invocations.

use std::collections::VecDeque;

use crate::lambda::invocation_span;
use crate::lambda::xray::Header;
use crate::logs::MAX_INVOKE_DELAY;
use crate::otlp;
use crate::trace_context::TraceContext;

/// The number of invocations remembered. Spans arrive within seconds.
const REMEMBERED_INVOCATIONS: usize = 64;
/// The maximum length of a remembered request id, in bytes.
const REQUEST_ID_LIMIT: usize = 256;
/// Platform: the time of an end is in whole milliseconds.
const RESOLUTION: u64 = 1_000_000;
/// The number of root server spans kept until their invocation is known.
const MAX_ROOTS: usize = 16;

/// The recent invocations of an environment and their spans.
#[derive(Debug)]
pub struct Correlation {
    /// Invocations in the order in which they became known.
    invocations: VecDeque<CorrelatedInvocation>,
    fallback_spans: FallbackSpans,
    /// True if an SDK creates spans in this environment, sampled or not.
    sdk_traces: bool,
    /// The latest known end of an invocation, in nanoseconds since the epoch.
    ended_at: u64,
    /// Server root spans that started after that, with their start. They belong to the running invocation or the next.
    roots: VecDeque<(u64, TraceContext)>,
    /// Forgotten invocations that [`Self::take_forgotten`] has not returned yet, with their spans.
    forgotten: Vec<(String, TraceContext)>,
}

/// The fallbacks for an invocation without a known SDK span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackSpans {
    /// The span derived from platform events.
    pub platform: bool,
    /// The span in X-Ray's header.
    pub xray: bool,
}

/// The times of an INVOKE.
#[derive(Clone, Copy, Debug)]
pub struct InvokeTimes {
    /// The arrival, in nanoseconds since the epoch.
    pub at: u64,
    /// The function's deadline, in milliseconds since the epoch. It differs for each attempt.
    pub deadline_ms: Option<u64>,
}

#[derive(Debug)]
struct CorrelatedInvocation {
    request_id: String,
    xray: Option<Header>,
    deadline_ms: Option<u64>,
    ran: Option<RunInterval>,
    span: Option<AssignedSpan>,
    /// True if the platform announced it, so that it may have log records.
    was_announced: bool,
    /// True if the function was killed while it ran, and its SDK with it.
    cut_off: bool,
}

/// The time in which an invocation ran, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct RunInterval {
    invoked_at: u64,
    /// The earliest possible start.
    from: u64,
    /// The end; if unknown, the next INVOKE.
    to: Option<u64>,
}

/// The span assigned to an invocation.
#[derive(Clone, Copy, Debug)]
struct AssignedSpan {
    rank: Rank,
    context: TraceContext,
    /// The start, if the span was found by it.
    start: Option<u64>,
}

/// The confidence that a span belongs to an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The span was derived from platform events.
    Fallback,
    /// A server root span that started shortly before INVOKE arrived.
    BeforeInvoke,
    /// A server root span that started during the invocation.
    DuringInvocation,
    /// A span with the request id. Some SDKs set it on every span.
    RequestId,
    /// A server root span with the request id.
    RootWithRequestId,
}

impl Correlation {
    /// Returns a correlation without invocations.
    pub fn new(fallback_spans: FallbackSpans) -> Self {
        Self {
            invocations: VecDeque::new(),
            fallback_spans,
            sdk_traces: false,
            ended_at: 0,
            roots: VecDeque::new(),
            forgotten: Vec::new(),
        }
    }

    /// Handles INVOKE. Earlier invocations have ended, even if their ends are not known yet.
    pub fn invoked(&mut self, request_id: &str, xray: Option<Header>, invoked: InvokeTimes) {
        let mut before = None;
        for ran in self.invocations.iter_mut().filter_map(|invocation| invocation.ran.as_mut()) {
            ran.to.get_or_insert(invoked.at);
            before = before.max(Some(ran.from));
        }
        let from = invoked.at.saturating_sub(MAX_INVOKE_DELAY).max(self.ended_at);
        let ran = RunInterval { invoked_at: invoked.at, from, to: None };
        let roots: Vec<_> = self.roots.iter().copied().filter(|root| !self.is_assigned(*root)).collect();
        // A span that started before the previous invocation belongs to an older one.
        self.roots.retain(|(start, _)| before.is_none_or(|before| *start >= before));
        self.update(request_id, |invocation| {
            if invocation.ran.is_some() {
                // Platform: a failed asynchronous invocation is repeated under the same id. It gets its own span.
                invocation.span = None;
                invocation.cut_off = false;
            }
            invocation.was_announced = true;
            invocation.ran = Some(ran);
            invocation.xray = xray;
            invocation.deadline_ms = invoked.deadline_ms;
            for (start, context) in roots {
                invocation.offer_root(start, context);
            }
        });
    }

    /// Handles `platform.start`.
    pub fn started(&mut self, request_id: &str, xray: Option<Header>) {
        self.update(request_id, |invocation| {
            invocation.was_announced = true;
            invocation.xray = invocation.xray.or(xray);
        });
    }

    /// Records that the function was killed during an invocation. If its SDK has not sent the span by now, it never will.
    pub fn cut_off(&mut self, request_id: &str) {
        self.update(request_id, |invocation| invocation.cut_off = true);
    }

    /// Records the end of an invocation and of all earlier ones. May come late, when the next one is running already.
    pub fn ended(&mut self, request_id: &str, time: u64) {
        let Some(ended) = self.known(request_id).and_then(|invocation| invocation.ran) else { return };
        // The end of an earlier attempt, or the platform's clock is behind ours.
        if time < ended.from {
            return;
        }
        let end = ended.to.map_or(time, |to| to.min(time));
        self.ended_at = self.ended_at.max(end);
        for invocation in &mut self.invocations {
            let Some(ran) = &mut invocation.ran else { continue };
            if ran.invoked_at <= ended.invoked_at {
                ran.to = Some(ran.to.map_or(end, |to| to.min(end)));
            } else {
                ran.from = ran.from.max(end);
            }
            let RunInterval { from, to, .. } = *ran;
            // A span that was found before the end was known stays if it started in the millisecond of the end.
            let outside = |start| start < from || to.is_some_and(|to| start >= to.saturating_add(RESOLUTION));
            invocation.span.take_if(|found| found.start.is_some_and(outside));
        }
        for root in self.roots.clone() {
            if !self.is_assigned(root) {
                self.assign_root(root);
            }
        }
        self.roots.retain(|(start, _)| *start >= end);
    }

    /// Reads the spans of a validated trace request from an SDK.
    pub fn observe_traces(&mut self, body: &[u8]) {
        self.sdk_traces = true;
        for span in otlp::invocation_spans(body) {
            let rank = if span.is_server_root { Rank::RootWithRequestId } else { Rank::RequestId };
            match &span.request_id {
                Some(request_id) if request_id.len() > REQUEST_ID_LIMIT => {}
                Some(request_id) => {
                    self.update(request_id, |invocation| invocation.offer_span(rank, span.context, None));
                }
                None => self.offer_root(span.start, span.context),
            }
        }
    }

    /// Reads a validated logs request from an SDK. Records with a trace id mean that the SDK creates spans, even if it sends
    /// them later or drops this trace.
    pub fn observe_logs(&mut self, body: &[u8]) {
        self.sdk_traces = self.sdk_traces || otlp::has_trace_ids(body);
    }

    /// Returns true if the platform's trace request for an invocation must be sent, because no SDK sends its span. Assigns the
    /// span if so.
    pub fn accept_fallback(&mut self, request_id: &str, body: &[u8]) -> bool {
        if self.sdk_traces && !self.known(request_id).is_some_and(CorrelatedInvocation::will_get_no_sdk_span)
        {
            return false;
        }
        for span in otlp::invocation_spans(body) {
            if span.request_id.as_deref() == Some(request_id) {
                self.update(request_id, |invocation| {
                    invocation.offer_span(Rank::Fallback, span.context, None);
                });
            }
        }
        true
    }

    /// The span that log records of the invocation must reference.
    pub fn span_for(&self, request_id: &str) -> Option<TraceContext> {
        self.span_of(self.known(request_id)?)
    }

    /// Takes the forgotten invocations with their spans. It is the last chance to write the spans into their log records.
    pub fn take_forgotten(&mut self) -> Vec<(String, TraceContext)> {
        std::mem::take(&mut self.forgotten)
    }

    fn known(&self, request_id: &str) -> Option<&CorrelatedInvocation> {
        self.invocations.iter().find(|invocation| invocation.request_id == request_id)
    }

    fn span_of(&self, invocation: &CorrelatedInvocation) -> Option<TraceContext> {
        let CorrelatedInvocation { request_id, span, xray, deadline_ms, .. } = invocation;
        if let Some(AssignedSpan { context, .. }) = span {
            return Some(*context);
        }
        if self.fallback_spans.platform && (!self.sdk_traces || invocation.will_get_no_sdk_span()) {
            return Some(invocation_span(request_id, xray.as_ref(), *deadline_ms));
        }
        xray.as_ref().filter(|_| self.fallback_spans.xray).and_then(Header::context)
    }

    fn update(&mut self, request_id: &str, change: impl FnOnce(&mut CorrelatedInvocation)) {
        if let Some(known) = self.invocations.iter_mut().find(|known| known.request_id == request_id) {
            return change(known);
        }
        if self.invocations.len() >= REMEMBERED_INVOCATIONS {
            // A request full of foreign request ids must not evict the running invocation.
            let runs = |invocation: &CorrelatedInvocation| invocation.ran.is_some_and(|ran| ran.to.is_none());
            let oldest = self.invocations.iter().position(|invocation| !runs(invocation));
            let oldest = self.invocations.remove(oldest.unwrap_or(0)).filter(|oldest| oldest.was_announced);
            if let Some(oldest) = oldest
                && let Some(span) = self.span_of(&oldest)
            {
                self.forgotten.push((oldest.request_id, span));
            }
        }
        let mut invocation = CorrelatedInvocation {
            request_id: request_id.to_owned(),
            xray: None,
            deadline_ms: None,
            ran: None,
            span: None,
            was_announced: false,
            cut_off: false,
        };
        change(&mut invocation);
        self.invocations.push_back(invocation);
    }

    /// Handles a server root span.
    fn offer_root(&mut self, start: u64, context: TraceContext) {
        if start >= self.ended_at && self.roots.len() < MAX_ROOTS {
            self.roots.push_back((start, context));
        }
        self.assign_root((start, context));
    }

    fn assign_root(&mut self, (start, context): (u64, TraceContext)) {
        let covers_start = |ran: RunInterval| ran.from <= start && ran.to.is_none_or(|to| start < to);
        let mut latest_first = self.invocations.iter_mut().rev();
        let running_then = latest_first.find(|invocation| invocation.ran.is_some_and(covers_start));
        if let Some(invocation) = running_then {
            invocation.offer_root(start, context);
        }
    }

    /// Returns true if a root span is already assigned to an invocation.
    fn is_assigned(&self, (start, context): (u64, TraceContext)) -> bool {
        let mut found = self.invocations.iter().filter_map(|invocation| invocation.span);
        found.any(|found| found.start == Some(start) && found.context == context)
    }
}

impl CorrelatedInvocation {
    fn offer_root(&mut self, start: u64, context: TraceContext) {
        match self.ran {
            Some(RunInterval { invoked_at, .. }) if start >= invoked_at => {
                self.offer_span(Rank::DuringInvocation, context, Some(start));
            }
            Some(RunInterval { from, .. }) if start >= from => {
                self.offer_span(Rank::BeforeInvoke, context, Some(start));
            }
            _ => {}
        }
    }

    /// Returns true if the invocation was cut off before its SDK sent a span.
    fn will_get_no_sdk_span(&self) -> bool {
        self.cut_off && self.span.is_none_or(|found| found.rank == Rank::Fallback)
    }

    /// Assigns a span if it ranks higher than the current one. The first of a rank stays, because records may have been sent
    /// with it.
    fn offer_span(&mut self, rank: Rank, context: TraceContext, start: Option<u64>) {
        if self.span.is_none_or(|found| found.rank < rank) {
            self.span = Some(AssignedSpan { rank, context, start });
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message as _;

    use super::*;

    const MS: u64 = 1_000_000;
    const NO_FALLBACK: FallbackSpans = FallbackSpans { platform: false, xray: false };
    const BOTH: FallbackSpans = FallbackSpans { platform: true, xray: true };

    fn span(id: u8) -> Span {
        Span { trace_id: vec![id; 16], span_id: vec![id; 8], parent_span_id: vec![9; 8], ..Span::default() }
    }

    fn with_request_id(request_id: &str, span: Span) -> Span {
        let value = Some(AnyValue { value: Some(Value::StringValue(request_id.to_owned())) });
        let attribute = KeyValue { key: "faas.invocation_id".to_owned(), value, key_strindex: 0 };
        Span { attributes: vec![attribute], ..span }
    }

    /// Returns a server root span.
    fn root(id: u8, start: u64) -> Span {
        Span {
            kind: SpanKind::Server.into(),
            start_time_unix_nano: start,
            parent_span_id: Vec::new(),
            ..span(id)
        }
    }

    fn request(spans: Vec<Span>) -> Vec<u8> {
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn at(at: u64) -> InvokeTimes {
        InvokeTimes { at, deadline_ms: Some(at / MS + 3_000) }
    }

    /// The first byte of an invocation's span id.
    fn of(correlation: &Correlation, request_id: &str) -> Option<u8> {
        correlation.span_for(request_id).map(|context| context.span_id[0])
    }

    fn xray() -> Option<Header> {
        Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=0")
    }

    #[test]
    fn span_with_the_request_id_is_found_early_or_late() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.observe_traces(&request(vec![with_request_id("early", span(1))]));
        correlation.invoked("early", None, at(100 * MS));
        correlation.ended("early", 200 * MS);
        correlation.invoked("late", None, at(300 * MS));
        correlation.ended("late", 400 * MS);
        correlation.observe_traces(&request(vec![
            span(2),
            with_request_id("late", span(3)),
            with_request_id("late", span(4)),
        ]));
        assert_eq!((of(&correlation, "early"), of(&correlation, "late")), (Some(1), Some(3)));
        assert_eq!(of(&correlation, "other"), None);
    }

    #[test]
    fn server_root_belongs_to_the_invocation_it_started_in() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.observe_traces(&request(vec![root(1, 40 * MS)]));
        correlation.invoked("a", None, at(100 * MS));
        assert_eq!(of(&correlation, "a"), None, "a request during init is no invocation");
        correlation.ended("a", 110 * MS);
        correlation.invoked("b", None, at(120 * MS));
        correlation.observe_traces(&request(vec![root(2, 101 * MS), root(3, 111 * MS)]));
        assert_eq!((of(&correlation, "a"), of(&correlation, "b")), (Some(2), Some(3)));
        correlation.ended("b", 130 * MS);
        correlation.invoked("c", None, at(200 * MS));
        correlation.observe_traces(&request(vec![root(4, 140 * MS), span(5)]));
        assert_eq!(of(&correlation, "c"), None);
    }

    #[test]
    fn server_root_may_arrive_before_invoke() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("before", None, at(45 * MS));
        correlation.ended("before", 50 * MS);
        correlation.observe_traces(&request((1..=100).map(|id| root(id, 60 * MS)).collect()));
        assert_eq!(correlation.roots.len(), MAX_ROOTS);
        correlation.invoked("a", None, at(100 * MS));
        assert_eq!(of(&correlation, "a"), Some(1));
        // The first is like a readiness check at the end of init.
        correlation.observe_traces(&request(vec![root(101, 70 * MS), root(102, 100 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(102), "it started after INVOKE");
        correlation.ended("a", 200 * MS);
        correlation.invoked("b", None, at(210 * MS));
        assert_eq!(of(&correlation, "b"), None);
    }

    #[test]
    fn request_id_beats_start_time_and_root_beats_child() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        let mut found = |span| {
            correlation.observe_traces(&request(vec![span]));
            of(&correlation, "a")
        };
        assert_eq!(found(root(1, 100 * MS)), Some(1));
        assert_eq!(found(root(2, 100 * MS)), Some(1));
        assert_eq!(found(with_request_id("a", span(3))), Some(3));
        assert_eq!(found(with_request_id("a", root(4, 0))), Some(4));
        assert_eq!(found(with_request_id("a", span(5))), Some(4));
    }

    #[test]
    fn platform_span_is_used_until_an_sdk_sends_spans() {
        let mut correlation = Correlation::new(BOTH);
        correlation.invoked("a", xray(), at(100 * MS));
        correlation.invoked("b", xray(), at(200 * MS));
        let derived = invocation_span("a", xray().as_ref(), Some(3_100));
        assert_eq!(correlation.span_for("a"), Some(derived), "before the span exists");
        assert!(correlation.accept_fallback("a", &request(vec![with_request_id("a", root(1, 0)), span(2)])));
        assert_eq!(of(&correlation, "a"), Some(1));
        correlation.observe_traces(&request(vec![span(3)]));
        assert!(!correlation.accept_fallback("b", &request(vec![with_request_id("b", root(4, 0))])));
        assert_eq!(correlation.span_for("b"), xray().and_then(|xray| xray.context()));
        correlation.observe_traces(&request(vec![with_request_id("a", span(5))]));
        assert_eq!(of(&correlation, "a"), Some(5));
    }

    #[test]
    fn sampling_sdk_is_detected_by_its_log_records() {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
        let logs = |trace_id: &[u8]| {
            let log_records =
                vec![LogRecord::default(), LogRecord { trace_id: trace_id.to_vec(), ..LogRecord::default() }];
            let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
            let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        };
        let mut correlation = Correlation::new(BOTH);
        correlation.observe_logs(&logs(&[]));
        assert!(correlation.accept_fallback("a", &request(vec![with_request_id("a", root(1, 0))])));
        correlation.observe_logs(&logs(&[7; 16]));
        assert!(!correlation.accept_fallback("b", &request(vec![with_request_id("b", root(2, 0))])));
    }

    #[test]
    fn each_attempt_has_its_own_platform_span() {
        let mut correlation = Correlation::new(BOTH);
        correlation.invoked("a", None, at(100 * MS));
        let first = correlation.span_for("a");
        correlation.ended("a", 200 * MS);
        correlation.invoked("a", None, at(300 * MS));
        let second = correlation.span_for("a");
        assert!(first.is_some() && second.is_some() && first != second, "{first:?} {second:?}");
    }

    #[test]
    fn platform_span_is_used_if_the_sdk_was_cut_off() {
        let mut correlation = Correlation::new(BOTH);
        correlation.observe_traces(&request(vec![span(1)]));
        for request_id in ["traced", "cut off", "repeated"] {
            correlation.invoked(request_id, xray(), at(100 * MS));
            assert_eq!(of(&correlation, request_id), Some(0x2b));
            if request_id == "traced" {
                correlation.observe_traces(&request(vec![with_request_id("traced", span(2))]));
            }
            correlation.cut_off(request_id);
            correlation.ended(request_id, 200 * MS);
        }
        assert!(
            !correlation.accept_fallback("traced", &request(vec![with_request_id("traced", root(3, 0))]))
        );
        assert_eq!(of(&correlation, "traced"), Some(2));
        let derived = invocation_span("cut off", xray().as_ref(), Some(3_100));
        assert_eq!(correlation.span_for("cut off"), Some(derived), "before the span exists");
        for _ in ["the span", "its phases"] {
            assert!(
                correlation
                    .accept_fallback("cut off", &request(vec![with_request_id("cut off", root(4, 0))]))
            );
        }
        assert_eq!(of(&correlation, "cut off"), Some(4));
        correlation.invoked("repeated", xray(), at(300 * MS));
        assert!(
            !correlation.accept_fallback("repeated", &request(vec![with_request_id("repeated", root(5, 0))]))
        );
    }

    #[test]
    fn xray_span_is_used_only_if_enabled_and_announced() {
        let mut enabled = Correlation::new(FallbackSpans { xray: true, ..NO_FALLBACK });
        let mut disabled = Correlation::new(NO_FALLBACK);
        for correlation in [&mut enabled, &mut disabled] {
            correlation.invoked("a", xray(), at(100 * MS));
            correlation.started("a", None);
            correlation.started("b", xray());
            correlation.invoked("c", None, at(200 * MS));
        }
        assert_eq!(of(&enabled, "a"), Some(0x2b));
        assert_eq!(of(&enabled, "b"), Some(0x2b));
        assert_eq!((of(&enabled, "c"), of(&enabled, "d")), (None, None));
        assert_eq!(["a", "b", "c", "d"].map(|id| of(&disabled, id)), [None; 4]);
    }

    #[test]
    fn repeated_invocation_has_its_own_span() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        correlation.observe_traces(&request(vec![with_request_id("a", span(1))]));
        correlation.ended("a", 200 * MS);
        correlation.invoked("a", None, at(300 * MS));
        assert_eq!(of(&correlation, "a"), None);
        correlation.observe_traces(&request(vec![with_request_id("a", span(2))]));
        assert_eq!(of(&correlation, "a"), Some(2));
    }

    #[test]
    fn too_long_request_id_is_ignored() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation
            .observe_traces(&request(vec![with_request_id(&"a".repeat(REQUEST_ID_LIMIT + 1), span(1))]));
        assert!(correlation.invocations.is_empty());
    }

    #[test]
    fn oldest_invocations_are_forgotten_except_the_running_one() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("mine", None, at(100 * MS));
        for number in 0..1000 {
            correlation.observe_traces(&request(vec![with_request_id(&number.to_string(), span(1))]));
        }
        assert_eq!(correlation.invocations.len(), REMEMBERED_INVOCATIONS);
        correlation.observe_traces(&request(vec![with_request_id("mine", span(2))]));
        assert_eq!(of(&correlation, "mine"), Some(2));
        assert_eq!((of(&correlation, "0"), of(&correlation, "999")), (None, Some(1)));
        assert_eq!(correlation.take_forgotten(), [], "they have no log records");
        correlation.ended("mine", 200 * MS);
        for number in 1000..1000 + REMEMBERED_INVOCATIONS {
            correlation.started(&number.to_string(), None);
        }
        let forgotten: Vec<_> = correlation.take_forgotten().into_iter().map(|(id, _)| id).collect();
        assert_eq!(forgotten, ["mine"]);
    }

    /// Two invocations back to back. The end of the first, at 115 ms, arrives while the second runs.
    fn back_to_back(roots: [Span; 3]) -> [Option<u8>; 2] {
        let mut correlation = Correlation::new(NO_FALLBACK);
        let [before, between, after] = roots;
        correlation.invoked("a", None, at(100 * MS));
        correlation.observe_traces(&request(vec![before]));
        correlation.invoked("b", None, at(120 * MS));
        correlation.observe_traces(&request(vec![between]));
        correlation.ended("a", 115 * MS);
        correlation.observe_traces(&request(vec![after]));
        correlation.ended("b", 160 * MS);
        ["a", "b"].map(|request_id| of(&correlation, request_id))
    }

    #[test]
    fn late_end_leaves_each_root_to_its_invocation() {
        let of_a = || root(1, 103 * MS);
        let of_b = || root(2, 118 * MS);
        let none = || span(9);
        assert_eq!(back_to_back([of_a(), of_b(), none()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([of_a(), none(), of_b()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([none(), of_a(), of_b()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([none(), of_b(), of_a()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([of_b(), none(), of_a()]), [Some(1), Some(2)], "sent before INVOKE");
        assert_eq!(back_to_back([none(), of_a(), none()]), [Some(1), None]);
        assert_eq!(back_to_back([of_b(), none(), none()]), [None, Some(2)]);
    }

    #[test]
    fn root_in_the_millisecond_of_the_end_stays() {
        let of_a = root(1, 115 * MS + 1);
        assert_eq!(back_to_back([of_a, span(9), span(9)]), [Some(1), None]);
    }

    #[test]
    fn root_of_the_next_invocation_is_reassigned() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        // A function may start before INVOKE arrives: the second root belongs to the next invocation, and outranks the first.
        correlation.observe_traces(&request(vec![root(1, 99 * MS), root(2, 117 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(2));
        correlation.ended("a", 115 * MS);
        correlation.invoked("b", None, at(120 * MS));
        assert_eq!(["a", "b"].map(|id| of(&correlation, id)), [Some(1), Some(2)]);
    }

    #[test]
    fn no_root_is_found_after_a_known_end() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        correlation.observe_traces(&request(vec![root(1, 99 * MS)]));
        correlation.ended("a", 115 * MS);
        correlation.observe_traces(&request(vec![root(2, 115 * MS + 1)]));
        correlation.invoked("b", None, at(116 * MS));
        assert_eq!(["a", "b"].map(|id| of(&correlation, id)), [Some(1), Some(2)]);
    }

    #[test]
    fn next_invoke_replaces_a_missing_end() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        for (number, request_id) in (1..).zip(["a", "b", "c"]) {
            correlation.invoked(request_id, None, at(100 * number * MS));
        }
        correlation.observe_traces(&request(vec![root(1, 180 * MS), root(2, 220 * MS), root(3, 290 * MS)]));
        assert_eq!(["a", "b", "c"].map(|id| of(&correlation, id)), [None, Some(2), Some(3)]);
        // Two invocations late.
        correlation.ended("a", 190 * MS);
        correlation.ended("b", 299 * MS);
        assert_eq!(["a", "b", "c"].map(|id| of(&correlation, id)), [Some(1), Some(2), None]);
    }

    #[test]
    fn end_of_an_earlier_attempt_does_not_end_a_later_one() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        correlation.invoked("a", None, at(500 * MS));
        correlation.ended("a", 150 * MS);
        correlation.ended("foreign", 510 * MS);
        correlation.observe_traces(&request(vec![root(1, 520 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(1));
    }
}
