//! Which span stands for which invocation, so that the log records of an invocation can name it.
//!
//! A span of the function's SDK does: the one that tells the request id, or else the root of what the function served
//! while that invocation ran. It is found as it passes by. Where no SDK sends spans, one that was made here does, and
//! so it does where the function was cut off before its SDK could send the span; where people ask for it, X-Ray's.
//! Nothing else is guessed: an invocation that nobody told of has no span. Bounded by forgetting the oldest.

use std::collections::VecDeque;

use crate::lambda::invocation_span;
use crate::lambda::xray::Header;
use crate::logs::MAX_INVOKE_DELAY;
use crate::otlp;
use crate::trace_context::TraceContext;

/// How many invocations are remembered: spans come within seconds.
const REMEMBERED_INVOCATIONS: usize = 64;
/// The longest request id that is remembered, in bytes.
const REQUEST_ID_LIMIT: usize = 256;
/// Platform: the time of an end is in whole milliseconds.
const RESOLUTION: u64 = 1_000_000;
/// The number of root server spans kept until their invocation is known.
const MAX_ROOTS: usize = 16;

/// What is known of the invocations of an environment.
#[derive(Debug)]
pub struct Correlation {
    /// In the order in which they became known.
    invocations: VecDeque<CorrelatedInvocation>,
    fallback_spans: FallbackSpans,
    /// An SDK makes spans in this environment, be they sampled or not.
    sdk_traces: bool,
    /// The latest end of an invocation that is known, in nanoseconds since the epoch.
    ended_at: u64,
    /// Servers' roots that started since, and when: of the running invocation, or of the next.
    roots: VecDeque<(u64, TraceContext)>,
    /// Invocations that were forgotten since this was last asked for, with what was known of them.
    forgotten: Vec<(String, TraceContext)>,
}

/// What stands for an invocation of which no span of an SDK is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackSpans {
    /// The span that is made here of the platform's events.
    pub platform: bool,
    /// The span that X-Ray's header names.
    pub xray: bool,
}

/// What INVOKE told of an invocation.
#[derive(Clone, Copy, Debug)]
pub struct InvokeTimes {
    /// When it came, in nanoseconds since the epoch.
    pub at: u64,
    /// The function's deadline, in milliseconds since the epoch: another one for each attempt.
    pub deadline_ms: Option<u64>,
}

#[derive(Debug)]
struct CorrelatedInvocation {
    request_id: String,
    xray: Option<Header>,
    deadline_ms: Option<u64>,
    ran: Option<RunInterval>,
    span: Option<AssignedSpan>,
    /// The platform told of it, so that there may be log records of it.
    was_announced: bool,
    /// The function was ended in the midst of it, and its SDK with it.
    cut_off: bool,
}

/// Nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct RunInterval {
    invoked_at: u64,
    /// It may have started as early as this.
    from: u64,
    /// Its end; where that is not known, the next INVOKE.
    to: Option<u64>,
}

/// The span that stands for an invocation.
#[derive(Clone, Copy, Debug)]
struct AssignedSpan {
    rank: Rank,
    context: TraceContext,
    /// When it started, where it was found by that.
    start: Option<u64>,
}

/// How surely a span stands for an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It was made here.
    Fallback,
    /// A server's root that started shortly before INVOKE came.
    BeforeInvoke,
    /// A server's root that started meanwhile.
    DuringInvocation,
    /// It tells the request id, as some have every span do.
    RequestId,
    /// It tells the request id and is a server's root.
    RootWithRequestId,
}

impl Correlation {
    /// Knows nothing yet.
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

    /// INVOKE announced an invocation. Those before it are over, though it may not be known yet since when.
    pub fn invoked(&mut self, request_id: &str, xray: Option<Header>, invoked: InvokeTimes) {
        let mut before = None;
        for ran in self.invocations.iter_mut().filter_map(|invocation| invocation.ran.as_mut()) {
            ran.to.get_or_insert(invoked.at);
            before = before.max(Some(ran.from));
        }
        let from = invoked.at.saturating_sub(MAX_INVOKE_DELAY).max(self.ended_at);
        let ran = RunInterval { invoked_at: invoked.at, from, to: None };
        let roots: Vec<_> = self.roots.iter().copied().filter(|root| !self.is_assigned(*root)).collect();
        // A span that started before that one belongs to another invocation.
        self.roots.retain(|(start, _)| before.is_none_or(|before| *start >= before));
        self.update(request_id, |invocation| {
            if invocation.ran.is_some() {
                // Lambda repeats a failed asynchronous invocation under the same id, with a span of its own.
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

    /// `platform.start` told of an invocation.
    pub fn started(&mut self, request_id: &str, xray: Option<Header>) {
        self.update(request_id, |invocation| {
            invocation.was_announced = true;
            invocation.xray = invocation.xray.or(xray);
        });
    }

    /// The function was ended in the midst of an invocation: a span that its SDK has not sent by now will not come.
    pub fn cut_off(&mut self, request_id: &str) {
        self.update(request_id, |invocation| invocation.cut_off = true);
    }

    /// An invocation ended, and with it those that began before it. May be known late, when the next one runs already.
    pub fn ended(&mut self, request_id: &str, time: u64) {
        let Some(ended) = self.known(request_id).and_then(|invocation| invocation.ran) else { return };
        // It is the end of an earlier attempt, or the platform's clock is behind ours.
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
            // A span found before the end was known stays if it started in the millisecond of the end.
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

    /// An SDK sent this trace request, which has been validated.
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

    /// An SDK sent this logs request, which has been validated: records that name a trace are of an SDK that makes spans,
    /// though it may send them later, or none of this trace.
    pub fn observe_logs(&mut self, body: &[u8]) {
        self.sdk_traces = self.sdk_traces || otlp::has_trace_ids(body);
    }

    /// This trace request was made here to stand for an invocation; says whether it is to, since no SDK sends a span of
    /// it.
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

    /// The span that log records of the invocation are to name.
    pub fn of(&self, request_id: &str) -> Option<TraceContext> {
        self.span_of(self.known(request_id)?)
    }

    /// Invocations that are remembered no longer, with the spans that log records of them are to name: the last time to
    /// do so.
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
            // A request full of other people's request ids must not cost the running invocation its own.
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

    /// A server's root started then.
    fn offer_root(&mut self, start: u64, context: TraceContext) {
        if start >= self.ended_at && self.roots.len() < MAX_ROOTS {
            self.roots.push_back((start, context));
        }
        self.assign_root((start, context));
    }

    fn assign_root(&mut self, (start, context): (u64, TraceContext)) {
        let ran_then = |ran: RunInterval| ran.from <= start && ran.to.is_none_or(|to| start < to);
        let mut latest_first = self.invocations.iter_mut().rev();
        let of_then = latest_first.find(|invocation| invocation.ran.is_some_and(ran_then));
        if let Some(invocation) = of_then {
            invocation.offer_root(start, context);
        }
    }

    /// A root that stands for an invocation already.
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

    /// It was cut off, and no SDK has told of it.
    fn will_get_no_sdk_span(&self) -> bool {
        self.cut_off && self.span.is_none_or(|found| found.rank == Rank::Fallback)
    }

    /// The first of a rank counts: records may have left with it.
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

    /// A server's root that started then.
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

    /// The span of an invocation, by its first byte.
    fn of(correlation: &Correlation, request_id: &str) -> Option<u8> {
        correlation.of(request_id).map(|context| context.span_id[0])
    }

    fn xray() -> Option<Header> {
        Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=0")
    }

    #[test]
    fn a_span_that_tells_the_request_id_stands_for_it_whenever_it_comes() {
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
    fn a_servers_root_stands_for_the_invocation_in_which_it_started() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.observe_traces(&request(vec![root(1, 40 * MS)]));
        correlation.invoked("a", None, at(100 * MS));
        assert_eq!(of(&correlation, "a"), None, "what is served during init is no invocation");
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
    fn a_servers_root_may_be_sent_before_invoke_reaches_us() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("before", None, at(45 * MS));
        correlation.ended("before", 50 * MS);
        correlation.observe_traces(&request((1..=100).map(|id| root(id, 60 * MS)).collect()));
        assert_eq!(correlation.roots.len(), MAX_ROOTS);
        correlation.invoked("a", None, at(100 * MS));
        assert_eq!(of(&correlation, "a"), Some(1));
        // Such as a readiness check at the end of init.
        correlation.observe_traces(&request(vec![root(101, 70 * MS), root(102, 100 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(102), "it started after INVOKE had come");
        correlation.ended("a", 200 * MS);
        correlation.invoked("b", None, at(210 * MS));
        assert_eq!(of(&correlation, "b"), None);
    }

    #[test]
    fn what_tells_the_request_id_beats_what_only_started_meanwhile_and_a_root_beats_its_children() {
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
    fn a_span_made_here_stands_until_an_sdk_traces() {
        let mut correlation = Correlation::new(BOTH);
        correlation.invoked("a", xray(), at(100 * MS));
        correlation.invoked("b", xray(), at(200 * MS));
        let derived = invocation_span("a", xray().as_ref(), Some(3_100));
        assert_eq!(correlation.of("a"), Some(derived), "before it is made");
        assert!(correlation.accept_fallback("a", &request(vec![with_request_id("a", root(1, 0)), span(2)])));
        assert_eq!(of(&correlation, "a"), Some(1));
        correlation.observe_traces(&request(vec![span(3)]));
        assert!(!correlation.accept_fallback("b", &request(vec![with_request_id("b", root(4, 0))])));
        assert_eq!(correlation.of("b"), xray().and_then(|xray| xray.context()));
        correlation.observe_traces(&request(vec![with_request_id("a", span(5))]));
        assert_eq!(of(&correlation, "a"), Some(5));
    }

    #[test]
    fn an_sdk_that_samples_is_known_by_its_log_records() {
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
    fn a_repeated_invocation_has_a_span_made_here_for_each_attempt() {
        let mut correlation = Correlation::new(BOTH);
        correlation.invoked("a", None, at(100 * MS));
        let first = correlation.of("a");
        correlation.ended("a", 200 * MS);
        correlation.invoked("a", None, at(300 * MS));
        let second = correlation.of("a");
        assert!(first.is_some() && second.is_some() && first != second, "{first:?} {second:?}");
    }

    #[test]
    fn a_span_made_here_stands_for_an_invocation_that_was_cut_off_before_its_sdk_sent_one() {
        let mut correlation = Correlation::new(BOTH);
        correlation.observe_traces(&request(vec![span(1)]));
        for request_id in ["was_announced", "cut off", "repeated"] {
            correlation.invoked(request_id, xray(), at(100 * MS));
            assert_eq!(of(&correlation, request_id), Some(0x2b));
            if request_id == "was_announced" {
                correlation.observe_traces(&request(vec![with_request_id("was_announced", span(2))]));
            }
            correlation.cut_off(request_id);
            correlation.ended(request_id, 200 * MS);
        }
        assert!(
            !correlation.accept_fallback(
                "was_announced",
                &request(vec![with_request_id("was_announced", root(3, 0))])
            )
        );
        assert_eq!(of(&correlation, "was_announced"), Some(2));
        let derived = invocation_span("cut off", xray().as_ref(), Some(3_100));
        assert_eq!(correlation.of("cut off"), Some(derived), "before it is made");
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
    fn xray_stands_in_only_where_it_was_asked_for_and_the_platform_told_of_it() {
        let mut asked = Correlation::new(FallbackSpans { xray: true, ..NO_FALLBACK });
        let mut not_asked = Correlation::new(NO_FALLBACK);
        for correlation in [&mut asked, &mut not_asked] {
            correlation.invoked("a", xray(), at(100 * MS));
            correlation.started("a", None);
            correlation.started("b", xray());
            correlation.invoked("c", None, at(200 * MS));
        }
        assert_eq!(of(&asked, "a"), Some(0x2b));
        assert_eq!(of(&asked, "b"), Some(0x2b));
        assert_eq!((of(&asked, "c"), of(&asked, "d")), (None, None));
        assert_eq!(["a", "b", "c", "d"].map(|id| of(&not_asked, id)), [None; 4]);
    }

    #[test]
    fn a_repeated_invocation_has_a_span_of_its_own() {
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
    fn too_long_request_id_is_not_remembered() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation
            .observe_traces(&request(vec![with_request_id(&"a".repeat(REQUEST_ID_LIMIT + 1), span(1))]));
        assert!(correlation.invocations.is_empty());
    }

    #[test]
    fn old_invocations_are_forgotten_but_not_the_running_one() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("mine", None, at(100 * MS));
        for number in 0..1000 {
            correlation.observe_traces(&request(vec![with_request_id(&number.to_string(), span(1))]));
        }
        assert_eq!(correlation.invocations.len(), REMEMBERED_INVOCATIONS);
        correlation.observe_traces(&request(vec![with_request_id("mine", span(2))]));
        assert_eq!(of(&correlation, "mine"), Some(2));
        assert_eq!((of(&correlation, "0"), of(&correlation, "999")), (None, Some(1)));
        assert_eq!(correlation.take_forgotten(), [], "nobody has log records of them");
        correlation.ended("mine", 200 * MS);
        for number in 1000..1000 + REMEMBERED_INVOCATIONS {
            correlation.started(&number.to_string(), None);
        }
        let forgotten: Vec<_> = correlation.take_forgotten().into_iter().map(|(id, _)| id).collect();
        assert_eq!(forgotten, ["mine"]);
    }

    /// Two invocations back to back; the end of the first, at 115 ms, comes while the second runs.
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
    fn a_late_end_leaves_each_root_to_its_invocation() {
        let of_a = || root(1, 103 * MS);
        let of_b = || root(2, 118 * MS);
        let none = || span(9);
        assert_eq!(back_to_back([of_a(), of_b(), none()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([of_a(), none(), of_b()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([none(), of_a(), of_b()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([none(), of_b(), of_a()]), [Some(1), Some(2)]);
        assert_eq!(back_to_back([of_b(), none(), of_a()]), [Some(1), Some(2)], "sent before INVOKE came");
        assert_eq!(back_to_back([none(), of_a(), none()]), [Some(1), None]);
        assert_eq!(back_to_back([of_b(), none(), none()]), [None, Some(2)]);
    }

    #[test]
    fn a_root_in_the_millisecond_of_the_end_stays() {
        let of_a = root(1, 115 * MS + 1);
        assert_eq!(back_to_back([of_a, span(9), span(9)]), [Some(1), None]);
    }

    #[test]
    fn a_root_of_the_next_is_given_back() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        // Functions are faster than INVOKE: the second is of the next invocation, and outranks that before INVOKE.
        correlation.observe_traces(&request(vec![root(1, 99 * MS), root(2, 117 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(2));
        correlation.ended("a", 115 * MS);
        correlation.invoked("b", None, at(120 * MS));
        assert_eq!(["a", "b"].map(|id| of(&correlation, id)), [Some(1), Some(2)]);
    }

    #[test]
    fn after_a_certain_end_no_root_is_found() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        correlation.observe_traces(&request(vec![root(1, 99 * MS)]));
        correlation.ended("a", 115 * MS);
        correlation.observe_traces(&request(vec![root(2, 115 * MS + 1)]));
        correlation.invoked("b", None, at(116 * MS));
        assert_eq!(["a", "b"].map(|id| of(&correlation, id)), [Some(1), Some(2)]);
    }

    #[test]
    fn an_end_that_never_comes_is_the_next_invoke() {
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
    fn the_end_of_an_earlier_attempt_ends_no_later_one() {
        let mut correlation = Correlation::new(NO_FALLBACK);
        correlation.invoked("a", None, at(100 * MS));
        correlation.invoked("a", None, at(500 * MS));
        correlation.ended("a", 150 * MS);
        correlation.ended("foreign", 510 * MS);
        correlation.observe_traces(&request(vec![root(1, 520 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(1));
    }
}
