//! Which span stands for which invocation, so that the log records of an invocation can name it.
//!
//! A span of the function's SDK does: the one that tells the request id, or else the root of what the function served
//! while that invocation ran. It is found as it passes by. Where no SDK sends spans, one that was made here does, and
//! so it does where the function was cut off before its SDK could send the span; where people ask for it, X-Ray's.
//! Nothing else is guessed: an invocation that nobody told of has no span. Bounded by forgetting the oldest.

use std::collections::VecDeque;

use crate::logs::INVOKE_LATENESS;
use crate::otlp;
use crate::trace_context::TraceContext;
use crate::xray::Header;

/// How many invocations are remembered: spans come within seconds.
const REMEMBERED: usize = 64;
/// How many servers' roots are kept until INVOKE tells of the invocation that they may be of.
const EARLY: usize = 16;

/// What is known of the invocations of an environment.
#[derive(Debug)]
pub struct Correlation {
    /// In the order in which they became known.
    invocations: VecDeque<Invocation>,
    stand_ins: StandIns,
    /// An SDK has sent spans in this environment.
    sdk_sends_spans: bool,
    /// When the last invocation ended, in nanoseconds since the epoch.
    ended_at: u64,
    /// Servers' roots that started since, and when.
    early: VecDeque<(u64, TraceContext)>,
    /// Invocations that were forgotten since this was last asked for, with what was known of them.
    forgotten: Vec<(String, TraceContext)>,
}

/// What stands for an invocation of which no span of an SDK is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandIns {
    /// The span that is made here of the platform's events.
    pub made_here: bool,
    /// The span that X-Ray's header names.
    pub xray: bool,
}

#[derive(Debug)]
struct Invocation {
    request_id: String,
    xray: Option<Header>,
    ran: Option<Ran>,
    span: Option<(Rank, TraceContext)>,
    /// The platform told of it, so that there may be log records of it.
    told: bool,
    /// The function was ended in the midst of it, and its SDK with it.
    cut_off: bool,
}

/// Nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct Ran {
    invoked_at: u64,
    /// It may have started as early as this.
    from: u64,
    to: Option<u64>,
}

/// How surely a span stands for an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It was made here.
    MadeHere,
    /// A server's root that started shortly before INVOKE came.
    Around,
    /// A server's root that started meanwhile.
    Meanwhile,
    /// It tells the request id, as some have every span do.
    Tells,
    /// It tells the request id and is a server's root.
    TellsAsRoot,
}

impl Correlation {
    /// Knows nothing yet.
    pub fn new(stand_ins: StandIns) -> Self {
        Self {
            invocations: VecDeque::new(),
            stand_ins,
            sdk_sends_spans: false,
            ended_at: 0,
            early: VecDeque::new(),
            forgotten: Vec::new(),
        }
    }

    /// INVOKE told of an invocation, at `time` in nanoseconds since the epoch.
    pub fn invoked(&mut self, request_id: &str, xray: Option<Header>, time: u64) {
        let from = time.saturating_sub(INVOKE_LATENESS).max(self.ended_at);
        let ran = Ran { invoked_at: time, from, to: None };
        let early = std::mem::take(&mut self.early);
        self.update(request_id, |invocation| {
            if invocation.ran.is_some() {
                // Lambda repeats a failed asynchronous invocation under the same id, with a span of its own.
                invocation.span = None;
                invocation.cut_off = false;
            }
            invocation.told = true;
            invocation.ran = Some(ran);
            invocation.xray = xray;
            for (start, context) in early {
                invocation.find_root(start, context);
            }
        });
    }

    /// `platform.start` told of an invocation.
    pub fn started(&mut self, request_id: &str, xray: Option<Header>) {
        self.update(request_id, |invocation| {
            invocation.told = true;
            invocation.xray = invocation.xray.or(xray);
        });
    }

    /// The function was ended in the midst of an invocation: a span that its SDK has not sent by now will not come.
    pub fn cut_off(&mut self, request_id: &str) {
        self.update(request_id, |invocation| invocation.cut_off = true);
    }

    /// No function runs any more.
    pub fn ended(&mut self, time: u64) {
        self.ended_at = time;
        self.early.clear();
        for ran in self.invocations.iter_mut().filter_map(|invocation| invocation.ran.as_mut()) {
            ran.to.get_or_insert(time);
        }
    }

    /// An SDK sent this trace request, which has been validated.
    pub fn learn(&mut self, body: &[u8]) {
        self.sdk_sends_spans = true;
        for span in otlp::invocation_spans(body) {
            let rank = if span.is_server_root { Rank::TellsAsRoot } else { Rank::Tells };
            match &span.request_id {
                Some(request_id) => self.update(request_id, |invocation| invocation.find(rank, span.context)),
                None => self.find_root(span.start, span.context),
            }
        }
    }

    /// This trace request was made here to stand for an invocation; says whether it is to, since no SDK sends a span of
    /// it.
    pub fn may_stand(&mut self, request_id: &str, body: &[u8]) -> bool {
        if self.sdk_sends_spans && !self.known(request_id).is_some_and(Invocation::lacks_a_span_for_good) {
            return false;
        }
        for span in otlp::invocation_spans(body) {
            if span.request_id.as_deref() == Some(request_id) {
                self.update(request_id, |invocation| invocation.find(Rank::MadeHere, span.context));
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

    fn known(&self, request_id: &str) -> Option<&Invocation> {
        self.invocations.iter().find(|invocation| invocation.request_id == request_id)
    }

    fn span_of(&self, invocation: &Invocation) -> Option<TraceContext> {
        let Invocation { request_id, span, xray, .. } = invocation;
        if let Some((_, context)) = span {
            return Some(*context);
        }
        if self.stand_ins.made_here && (!self.sdk_sends_spans || invocation.lacks_a_span_for_good()) {
            return Some(TraceContext::of_invocation(request_id, xray.as_ref()));
        }
        xray.as_ref().filter(|_| self.stand_ins.xray).and_then(Header::context)
    }

    fn update(&mut self, request_id: &str, change: impl FnOnce(&mut Invocation)) {
        if let Some(known) = self.invocations.iter_mut().find(|known| known.request_id == request_id) {
            return change(known);
        }
        if self.invocations.len() >= REMEMBERED {
            // A request full of other people's request ids must not cost the running invocation its own.
            let runs = |invocation: &Invocation| invocation.ran.is_some_and(|ran| ran.to.is_none());
            let oldest = self.invocations.iter().position(|invocation| !runs(invocation));
            let oldest = self.invocations.remove(oldest.unwrap_or(0)).filter(|oldest| oldest.told);
            if let Some(oldest) = oldest
                && let Some(span) = self.span_of(&oldest)
            {
                self.forgotten.push((oldest.request_id, span));
            }
        }
        let mut invocation = Invocation {
            request_id: request_id.to_owned(),
            xray: None,
            ran: None,
            span: None,
            told: false,
            cut_off: false,
        };
        change(&mut invocation);
        self.invocations.push_back(invocation);
    }

    /// A server's root started then.
    fn find_root(&mut self, start: u64, context: TraceContext) {
        let ran_then = |ran: Ran| ran.from <= start && ran.to.is_none_or(|to| start < to);
        let mut latest_first = self.invocations.iter_mut().rev();
        let of_then = latest_first.find(|invocation| invocation.ran.is_some_and(ran_then));
        if let Some(invocation) = of_then {
            invocation.find_root(start, context);
        } else if start >= self.ended_at && self.early.len() < EARLY {
            self.early.push_back((start, context));
        }
    }
}

impl Invocation {
    fn find_root(&mut self, start: u64, context: TraceContext) {
        match self.ran {
            Some(Ran { invoked_at, .. }) if start >= invoked_at => self.find(Rank::Meanwhile, context),
            Some(Ran { from, .. }) if start >= from => self.find(Rank::Around, context),
            _ => {}
        }
    }

    /// It was cut off, and no SDK has told of it.
    fn lacks_a_span_for_good(&self) -> bool {
        self.cut_off && self.span.is_none_or(|(rank, _)| rank == Rank::MadeHere)
    }

    /// The first of a rank counts: records may have left with it.
    fn find(&mut self, rank: Rank, context: TraceContext) {
        if self.span.is_none_or(|(found, _)| found < rank) {
            self.span = Some((rank, context));
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
    const NOTHING: StandIns = StandIns { made_here: false, xray: false };
    const BOTH: StandIns = StandIns { made_here: true, xray: true };

    fn span(id: u8) -> Span {
        Span { trace_id: vec![id; 16], span_id: vec![id; 8], parent_span_id: vec![9; 8], ..Span::default() }
    }

    fn telling(request_id: &str, span: Span) -> Span {
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

    /// The span of an invocation, by its first byte.
    fn of(correlation: &Correlation, request_id: &str) -> Option<u8> {
        correlation.of(request_id).map(|context| context.span_id[0])
    }

    fn xray() -> Option<Header> {
        Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=0")
    }

    #[test]
    fn a_span_that_tells_the_request_id_stands_for_it_whenever_it_comes() {
        let mut correlation = Correlation::new(NOTHING);
        correlation.learn(&request(vec![telling("early", span(1))]));
        correlation.invoked("early", None, 100 * MS);
        correlation.ended(200 * MS);
        correlation.invoked("late", None, 300 * MS);
        correlation.ended(400 * MS);
        correlation.learn(&request(vec![span(2), telling("late", span(3)), telling("late", span(4))]));
        assert_eq!((of(&correlation, "early"), of(&correlation, "late")), (Some(1), Some(3)));
        assert_eq!(of(&correlation, "other"), None);
    }

    #[test]
    fn a_servers_root_stands_for_the_invocation_in_which_it_started() {
        let mut correlation = Correlation::new(NOTHING);
        correlation.learn(&request(vec![root(1, 40 * MS)]));
        correlation.invoked("a", None, 100 * MS);
        assert_eq!(of(&correlation, "a"), None, "what is served during init is no invocation");
        correlation.ended(110 * MS);
        correlation.invoked("b", None, 120 * MS);
        correlation.learn(&request(vec![root(2, 101 * MS), root(3, 111 * MS)]));
        assert_eq!((of(&correlation, "a"), of(&correlation, "b")), (Some(2), Some(3)));
        correlation.ended(130 * MS);
        correlation.invoked("c", None, 200 * MS);
        correlation.learn(&request(vec![root(4, 140 * MS), span(5)]));
        assert_eq!(of(&correlation, "c"), None);
    }

    #[test]
    fn a_servers_root_may_be_sent_before_invoke_reaches_us() {
        let mut correlation = Correlation::new(NOTHING);
        correlation.ended(50 * MS);
        correlation.learn(&request((1..=100).map(|id| root(id, 60 * MS)).collect()));
        assert_eq!(correlation.early.len(), EARLY);
        correlation.invoked("a", None, 100 * MS);
        assert_eq!(of(&correlation, "a"), Some(1));
        // Such as a readiness check at the end of init.
        correlation.learn(&request(vec![root(101, 70 * MS), root(102, 100 * MS)]));
        assert_eq!(of(&correlation, "a"), Some(102), "it started after INVOKE had come");
        correlation.ended(200 * MS);
        correlation.invoked("b", None, 210 * MS);
        assert_eq!(of(&correlation, "b"), None);
    }

    #[test]
    fn what_tells_the_request_id_beats_what_only_started_meanwhile_and_a_root_beats_its_children() {
        let mut correlation = Correlation::new(NOTHING);
        correlation.invoked("a", None, 100 * MS);
        let mut found = |span| {
            correlation.learn(&request(vec![span]));
            of(&correlation, "a")
        };
        assert_eq!(found(root(1, 100 * MS)), Some(1));
        assert_eq!(found(root(2, 100 * MS)), Some(1));
        assert_eq!(found(telling("a", span(3))), Some(3));
        assert_eq!(found(telling("a", root(4, 0))), Some(4));
        assert_eq!(found(telling("a", span(5))), Some(4));
    }

    #[test]
    fn a_span_made_here_stands_until_an_sdk_sends_spans() {
        let mut correlation = Correlation::new(BOTH);
        correlation.invoked("a", xray(), 100 * MS);
        correlation.invoked("b", xray(), 200 * MS);
        let derived = TraceContext::of_invocation("a", xray().as_ref());
        assert_eq!(correlation.of("a"), Some(derived), "before it is made");
        assert!(correlation.may_stand("a", &request(vec![telling("a", root(1, 0)), span(2)])));
        assert_eq!(of(&correlation, "a"), Some(1));
        correlation.learn(&request(vec![span(3)]));
        assert!(!correlation.may_stand("b", &request(vec![telling("b", root(4, 0))])));
        assert_eq!(correlation.of("b"), xray().and_then(|xray| xray.context()));
        correlation.learn(&request(vec![telling("a", span(5))]));
        assert_eq!(of(&correlation, "a"), Some(5));
    }

    #[test]
    fn a_span_made_here_stands_for_an_invocation_that_was_cut_off_before_its_sdk_sent_one() {
        let mut correlation = Correlation::new(BOTH);
        correlation.learn(&request(vec![span(1)]));
        for request_id in ["told", "cut off", "repeated"] {
            correlation.invoked(request_id, xray(), 100 * MS);
            assert_eq!(of(&correlation, request_id), Some(0x2b));
            if request_id == "told" {
                correlation.learn(&request(vec![telling("told", span(2))]));
            }
            correlation.cut_off(request_id);
            correlation.ended(200 * MS);
        }
        assert!(!correlation.may_stand("told", &request(vec![telling("told", root(3, 0))])));
        assert_eq!(of(&correlation, "told"), Some(2));
        let derived = TraceContext::of_invocation("cut off", xray().as_ref());
        assert_eq!(correlation.of("cut off"), Some(derived), "before it is made");
        for _ in ["the span", "its phases"] {
            assert!(correlation.may_stand("cut off", &request(vec![telling("cut off", root(4, 0))])));
        }
        assert_eq!(of(&correlation, "cut off"), Some(4));
        correlation.invoked("repeated", xray(), 300 * MS);
        assert!(!correlation.may_stand("repeated", &request(vec![telling("repeated", root(5, 0))])));
    }

    #[test]
    fn xray_stands_in_only_where_it_was_asked_for_and_the_platform_told_of_it() {
        let mut asked = Correlation::new(StandIns { xray: true, ..NOTHING });
        let mut not_asked = Correlation::new(NOTHING);
        for correlation in [&mut asked, &mut not_asked] {
            correlation.invoked("a", xray(), 100 * MS);
            correlation.started("a", None);
            correlation.started("b", xray());
            correlation.invoked("c", None, 200 * MS);
        }
        assert_eq!(of(&asked, "a"), Some(0x2b));
        assert_eq!(of(&asked, "b"), Some(0x2b));
        assert_eq!((of(&asked, "c"), of(&asked, "d")), (None, None));
        assert_eq!(["a", "b", "c", "d"].map(|id| of(&not_asked, id)), [None; 4]);
    }

    #[test]
    fn a_repeated_invocation_has_a_span_of_its_own() {
        let mut correlation = Correlation::new(NOTHING);
        correlation.invoked("a", None, 100 * MS);
        correlation.learn(&request(vec![telling("a", span(1))]));
        correlation.ended(200 * MS);
        correlation.invoked("a", None, 300 * MS);
        assert_eq!(of(&correlation, "a"), None);
        correlation.learn(&request(vec![telling("a", span(2))]));
        assert_eq!(of(&correlation, "a"), Some(2));
    }

    #[test]
    fn old_invocations_are_forgotten_but_not_the_running_one() {
        let mut correlation = Correlation::new(NOTHING);
        correlation.invoked("mine", None, 100 * MS);
        for number in 0..1000 {
            correlation.learn(&request(vec![telling(&number.to_string(), span(1))]));
        }
        assert_eq!(correlation.invocations.len(), REMEMBERED);
        correlation.learn(&request(vec![telling("mine", span(2))]));
        assert_eq!(of(&correlation, "mine"), Some(2));
        assert_eq!((of(&correlation, "0"), of(&correlation, "999")), (None, Some(1)));
        assert_eq!(correlation.take_forgotten(), [], "nobody has log records of them");
        correlation.ended(200 * MS);
        for number in 1000..1000 + REMEMBERED {
            correlation.started(&number.to_string(), None);
        }
        let forgotten: Vec<_> = correlation.take_forgotten().into_iter().map(|(id, _)| id).collect();
        assert_eq!(forgotten, ["mine"]);
    }
}
