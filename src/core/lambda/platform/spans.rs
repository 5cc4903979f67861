//! The spans of an invocation without SDK spans, of the init and of the restore from a snapshot.
//!
//! All spans of an invocation are in one trace under one SERVER span. That includes the init before it: it began earlier than
//! its parent, but the caller waited for it. Ids are deterministic, so a span that is made twice is the same span.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};

use super::outcome::{InvocationOutcome, error_type};
use crate::lambda::telemetry_api;
use crate::logs::REQUEST_ID;
use crate::otlp::attribute::{boolean, string};
use crate::trace_context::TraceContext;

/// The span names of the stages before the first invocation.
pub(super) const STAGES: [&str; 2] = [INIT, RESTORE];
pub(super) const INIT: &str = "init";
pub(super) const RESTORE: &str = "restore";
/// The W3C flag of a sampled span.
const SAMPLED: u32 = 1;

/// The contents of an invocation's span.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvocationSpan<'a> {
    pub(super) request_id: &'a str,
    /// The function's name.
    pub(super) name: &'a str,
    pub(super) arn: Option<&'a str>,
    pub(super) cold: bool,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) outcome: InvocationOutcome,
    pub(super) error_type: Option<&'a str>,
    /// Nanoseconds since the epoch, like `to`.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The trace and parent of new spans, and the seed of their ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanPlacement<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) seed: &'a str,
}

impl<'a> SpanPlacement<'a> {
    /// Places spans under the span of an invocation.
    pub(super) fn under(context: TraceContext, seed: &'a str) -> Self {
        Self { trace_id: context.trace_id, parent: Some(context.span_id), seed }
    }
}

/// Returns the span of an invocation.
pub(super) fn invocation(context: TraceContext, invoked: &InvocationSpan<'_>) -> Span {
    let InvocationSpan { request_id, outcome, .. } = *invoked;
    let mut attributes = vec![string(REQUEST_ID, request_id), boolean("faas.coldstart", invoked.cold)];
    attributes.extend(invoked.arn.map(|arn| string("aws.lambda.invoked_arn", arn)));
    let mut span = span(context, invoked.name, (invoked.from, invoked.to), attributes);
    span.kind = SpanKind::Server.into();
    span.parent_span_id = invoked.parent.map_or(Vec::new(), Vec::from);
    set_error(&mut span, outcome, invoked.error_type);
    span
}

/// Returns a platform span, either below an invocation or in a trace of its own.
pub(super) fn internal_span(place: SpanPlacement<'_>, name: &str, (from, to): (u64, u64)) -> Span {
    // Two phases with one name begin at different times.
    let id = TraceContext::of_text(&format!("{} {name} {from}", place.seed));
    let context = TraceContext { trace_id: place.trace_id, ..id };
    let mut span = span(context, name, (from, to), Vec::new());
    span.kind = SpanKind::Internal.into();
    span.parent_span_id = place.parent.map_or(Vec::new(), Vec::from);
    span
}

/// Returns the spans of the phases in a platform event.
pub(super) fn phases(
    place: SpanPlacement<'_>,
    phases: &[telemetry_api::PhaseSpan],
) -> impl Iterator<Item = Span> {
    phases.iter().map(move |phase| {
        internal_span(place, &phase.name, (phase.start, add_milliseconds(phase.start, phase.duration)))
    })
}

/// Sets the error status of a span, unless the outcome is a success.
pub(super) fn set_error(span: &mut Span, outcome: InvocationOutcome, kind: Option<&str>) {
    if outcome == InvocationOutcome::Success {
        return;
    }
    span.attributes.extend(error_type(outcome, kind));
    let message = outcome.description().unwrap_or_default().to_owned();
    span.status = Some(Status { message, code: StatusCode::Error.into() });
}

/// Returns the time `milliseconds` after `from`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a duration is not negative"
)]
pub(super) fn add_milliseconds(from: u64, milliseconds: f64) -> u64 {
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
