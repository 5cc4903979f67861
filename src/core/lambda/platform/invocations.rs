//! The invocations that the platform has told of, as far as they are remembered.
//!
//! Events come twice, out of order and not at all, and a failed asynchronous invocation comes again under its request id.
//! Which invocation an event belongs to is decided here, and whether it is news.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outcome::InvocationOutcome;
use super::spans::after;
use crate::lambda::invocation_span;
use crate::lambda::telemetry_api::PlatformRecord;
use crate::lambda::xray;
use crate::trace_context::TraceContext;

/// How many are remembered. On managed instances as many may run side by side; elsewhere one runs, and the report of the
/// one before is awaited.
const REMEMBERED_INVOCATIONS: usize = 64;

/// Invocations, oldest first.
#[derive(Debug, Default)]
pub(super) struct Invocations {
    known: VecDeque<KnownInvocation>,
    /// The first has begun.
    begun: bool,
}

/// One of them. Times are nanoseconds since the epoch.
#[derive(Debug)]
pub(super) struct KnownInvocation {
    pub(super) request_id: Arc<str>,
    pub(super) arn: Option<String>,
    pub(super) xray: Option<xray::Header>,
    /// The first of its environment.
    pub(super) first: bool,
    /// When INVOKE reached us.
    pub(super) invoked: Option<u64>,
    /// The function's deadline, in milliseconds, as INVOKE tells it.
    pub(super) deadline_ms: Option<u64>,
    /// `platform.start`.
    pub(super) started: Option<u64>,
    /// `platform.runtimeDone`.
    pub(super) done: Option<u64>,
    /// `platform.report`.
    pub(super) reported: Option<u64>,
    /// How it ended, once that is known.
    pub(super) end: Option<InvocationEnd>,
}

/// How an invocation ended.
#[derive(Clone, Debug)]
pub(super) struct InvocationEnd {
    pub(super) outcome: InvocationOutcome,
    pub(super) error_type: Option<String>,
    pub(super) time: u64,
    /// Milliseconds that the function took.
    pub(super) duration: Option<f64>,
    /// Its log record is yet to be made.
    pub(super) is_unreported: bool,
}

impl KnownInvocation {
    fn new(request_id: &str, first: bool) -> Self {
        Self {
            request_id: request_id.into(),
            arn: None,
            xray: None,
            first,
            invoked: None,
            deadline_ms: None,
            started: None,
            done: None,
            reported: None,
            end: None,
        }
    }

    /// When it began, as far as anybody told.
    pub(super) fn began(&self) -> Option<u64> {
        self.started.or(self.invoked)
    }

    /// Takes the trace that an event names over, if none was named before.
    pub(super) fn take_tracing(&mut self, record: &PlatformRecord) {
        self.xray = self.xray.or_else(|| xray::Header::read(record.tracing.as_deref()?));
    }

    /// Ends it as an event says, if it has not ended yet; says whether it did.
    pub(super) fn end_by(&mut self, record: &PlatformRecord, duration: Option<f64>, time: u64) -> bool {
        if self.end.is_some() {
            return false;
        }
        let error_type = record.error_type.clone();
        let outcome = InvocationOutcome::of(record.status.as_deref(), error_type.as_deref());
        self.end = Some(InvocationEnd { outcome, error_type, time, duration, is_unreported: true });
        true
    }
}

/// An invocation that has ended, apart from the others.
#[derive(Debug)]
pub(super) struct EndedInvocation {
    pub(super) request_id: Arc<str>,
    pub(super) arn: Option<String>,
    pub(super) xray: Option<xray::Header>,
    pub(super) deadline_ms: Option<u64>,
    pub(super) cold: bool,
    pub(super) reported: bool,
    pub(super) from: u64,
    pub(super) end: InvocationEnd,
}

impl EndedInvocation {
    /// `None` while it has not ended. The first one is `cold` if somebody waited for what came before it.
    pub(super) fn of(invocation: &KnownInvocation, init_is_awaited: bool) -> Option<Self> {
        let end = invocation.end.as_ref()?;
        let long = end.duration.map_or(0, |duration| after(0, duration));
        let from = invocation.began().unwrap_or_else(|| end.time.saturating_sub(long));
        Some(Self {
            request_id: Arc::clone(&invocation.request_id),
            arn: invocation.arn.clone(),
            xray: invocation.xray,
            deadline_ms: invocation.deadline_ms,
            cold: invocation.first && init_is_awaited,
            reported: invocation.reported.is_some(),
            from: from.min(end.time),
            end: end.clone(),
        })
    }

    /// Its span.
    pub(super) fn context(&self) -> TraceContext {
        invocation_span(&self.request_id, self.xray.as_ref(), self.deadline_ms)
    }
}

impl Invocations {
    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut KnownInvocation> {
        self.known.iter_mut()
    }

    /// That which INVOKE tells of.
    pub(super) fn invoked(&mut self, request_id: &str) -> Option<&mut KnownInvocation> {
        // Platform: INVOKE and the events come over two connections, in no order.
        let known = self.last(request_id).filter(|(_, last)| last.invoked.is_none()).map(|(index, _)| index);
        self.get_or_insert(known, request_id)
    }

    /// That which `platform.start` tells of, if it is news.
    pub(super) fn started(&mut self, request_id: &str, time: u64) -> Option<&mut KnownInvocation> {
        if self.has_any(request_id, |one| one.started == Some(time)) {
            return None;
        }
        // The event may come when the next attempt runs already.
        let waits = |one: &KnownInvocation| {
            &*one.request_id == request_id && one.started.is_none() && one.end.is_none()
        };
        let index = match self.last(request_id) {
            _ if self.known.iter().any(waits) => self.known.iter().position(waits),
            // Platform: a failed asynchronous invocation is repeated under its request id.
            Some((_, KnownInvocation { end: Some(end), started: Some(_), .. })) if end.time < time => None,
            Some((_, KnownInvocation { started: Some(_), .. })) => return None,
            last => last.map(|(index, _)| index),
        };
        let invocation = self.get_or_insert(index, request_id)?;
        invocation.started = Some(time);
        Some(invocation)
    }

    /// That which `platform.runtimeDone` tells of, if it is news.
    pub(super) fn done(&mut self, request_id: &str, time: u64) -> Option<&mut KnownInvocation> {
        // Of two attempts it is the older whose end comes first.
        let waits =
            |one: &KnownInvocation| &*one.request_id == request_id && one.done.is_none() && one.end.is_none();
        let last = self.last(request_id);
        if last.is_some_and(|(_, last)| last.done.is_some())
            || self.has_any(request_id, |one| one.done == Some(time))
        {
            return None;
        }
        let first = self.known.iter().position(waits);
        let index = first.or(last.map(|(index, _)| index));
        let invocation = self.get_or_insert(index, request_id)?;
        invocation.done = Some(time);
        Some(invocation)
    }

    /// That which `platform.report` tells of, if it is news.
    pub(super) fn reported(&mut self, request_id: &str, time: u64) -> Option<&mut KnownInvocation> {
        // Of two with one request id it is the older that waits for its report.
        let waits = |one: &KnownInvocation| &*one.request_id == request_id && one.reported.is_none();
        let index = self.known.iter().position(waits);
        let known = index.is_none() && self.last(request_id).is_some();
        if known || self.has_any(request_id, |one| one.reported == Some(time)) {
            return None;
        }
        let invocation = self.get_or_insert(index, request_id)?;
        invocation.reported = Some(time);
        Some(invocation)
    }

    fn has_any(&self, request_id: &str, is_so: impl Fn(&KnownInvocation) -> bool) -> bool {
        self.known.iter().any(|one| &*one.request_id == request_id && is_so(one))
    }

    fn last(&self, request_id: &str) -> Option<(usize, &KnownInvocation)> {
        self.known.iter().enumerate().rfind(|(_, one)| &*one.request_id == request_id)
    }

    /// Those that have not ended: all of them, or the last where one follows another, so that one whose end was never
    /// told is not taken for running.
    pub(super) fn iter_open(&mut self, concurrent: bool) -> impl Iterator<Item = &mut KnownInvocation> {
        let last = if concurrent { REMEMBERED_INVOCATIONS } else { 1 };
        self.known.iter_mut().rev().take(last).filter(|one| one.end.is_none())
    }

    fn get_or_insert(&mut self, index: Option<usize>, request_id: &str) -> Option<&mut KnownInvocation> {
        if let Some(index) = index {
            return self.known.get_mut(index);
        }
        if self.known.len() == REMEMBERED_INVOCATIONS {
            self.known.pop_front();
        }
        let first = !std::mem::replace(&mut self.begun, true);
        self.known.push_back(KnownInvocation::new(request_id, first));
        self.known.back_mut()
    }
}
