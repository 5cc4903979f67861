//! The spans of an invocation that no SDK tells of, of the init and of the restore from a snapshot.
//!
//! All of one invocation are in one trace under one SERVER span, the init before it, too: it began earlier than its
//! parent, and yet it is what the caller waited for. Ids follow from what they stand for, so that a span made twice is
//! the same span.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};

use super::outcome::{InvocationOutcome, error_type};
use crate::lambda::telemetry_api;
use crate::logs::REQUEST_ID;
use crate::otlp::attribute::{boolean, string};
use crate::trace_context::TraceContext;

/// What an environment goes through before its first invocation, by the names of the spans.
pub(super) const STAGES: [&str; 2] = [INIT, RESTORE];
pub(super) const INIT: &str = "init";
pub(super) const RESTORE: &str = "restore";
/// W3C's flag of a span that is recorded.
const SAMPLED: u32 = 1;

/// What an invocation's span is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvocationSpan<'a> {
    pub(super) request_id: &'a str,
    /// Name of the function.
    pub(super) name: &'a str,
    pub(super) arn: Option<&'a str>,
    pub(super) cold: bool,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) outcome: InvocationOutcome,
    pub(super) error_type: Option<&'a str>,
    /// Nanoseconds since the epoch, both.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Where spans go: in which trace, under which span, and what their ids follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanPlacement<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) seed: &'a str,
}

impl<'a> SpanPlacement<'a> {
    /// Under the span of an invocation.
    pub(super) fn under(context: TraceContext, seed: &'a str) -> Self {
        Self { trace_id: context.trace_id, parent: Some(context.span_id), seed }
    }
}

/// The span of an invocation.
pub(super) fn invocation(context: TraceContext, invoked: &InvocationSpan<'_>) -> Span {
    let InvocationSpan { request_id, outcome, .. } = *invoked;
    let mut attributes = vec![string(REQUEST_ID, request_id), boolean("faas.coldstart", invoked.cold)];
    attributes.extend(invoked.arn.map(|arn| string("aws.lambda.invoked_arn", arn)));
    let mut span = span(context, invoked.name, (invoked.from, invoked.to), attributes);
    span.kind = SpanKind::Server.into();
    span.parent_span_id = invoked.parent.map_or(Vec::new(), Vec::from);
    fail(&mut span, outcome, invoked.error_type);
    span
}

/// A span of the platform's, below an invocation's or a trace of its own.
pub(super) fn part(place: SpanPlacement<'_>, name: &str, (from, to): (u64, u64)) -> Span {
    // Two phases of one name begin at different times.
    let id = TraceContext::of_text(&format!("{} {name} {from}", place.seed));
    let context = TraceContext { trace_id: place.trace_id, ..id };
    let mut span = span(context, name, (from, to), Vec::new());
    span.kind = SpanKind::Internal.into();
    span.parent_span_id = place.parent.map_or(Vec::new(), Vec::from);
    span
}

/// The phases that the platform's event names.
pub(super) fn phases(
    place: SpanPlacement<'_>,
    phases: &[telemetry_api::PhaseSpan],
) -> impl Iterator<Item = Span> {
    phases
        .iter()
        .map(move |phase| part(place, &phase.name, (phase.start, after(phase.start, phase.duration))))
}

/// Marks a span by how what it stands for ended.
pub(super) fn fail(span: &mut Span, outcome: InvocationOutcome, kind: Option<&str>) {
    if outcome == InvocationOutcome::Success {
        return;
    }
    span.attributes.extend(error_type(outcome, kind));
    let message = outcome.description().unwrap_or_default().to_owned();
    span.status = Some(Status { message, code: StatusCode::Error.into() });
}

/// So many milliseconds after a time.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a duration is not negative"
)]
pub(super) fn after(from: u64, milliseconds: f64) -> u64 {
    from.saturating_add((milliseconds * 1e6).round() as u64)
}

fn span(context: TraceContext, name: &str, (from, to): (u64, u64), attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        flags: SAMPLED,
        name: name.to_owned(),
        start_time_unix_nano: from,
        end_time_unix_nano: to.max(from),
        attributes,
        ..Span::default()
    }
}
