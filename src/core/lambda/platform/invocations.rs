//! The recent invocations, as described by platform events.
//!
//! Events may be duplicated, out of order or missing, and a failed asynchronous invocation is repeated under its request id.
//! This module decides which invocation an event belongs to, and if it is new.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outcome::InvocationOutcome;
use super::spans::add_milliseconds;
use crate::lambda::invocation_span;
use crate::lambda::telemetry_api::PlatformRecord;
use crate::lambda::xray;
use crate::trace_context::TraceContext;

/// The number of invocations remembered. On managed instances, that many may run in parallel. Elsewhere one runs, and the
/// report of the previous one is pending.
const REMEMBERED_INVOCATIONS: usize = 64;

/// Invocations, oldest first.
#[derive(Debug, Default)]
pub(super) struct Invocations {
    known: VecDeque<KnownInvocation>,
    /// True once the first invocation is known.
    begun: bool,
}

/// An invocation. Times are nanoseconds since the epoch.
#[derive(Debug)]
pub(super) struct KnownInvocation {
    pub(super) request_id: Arc<str>,
    pub(super) arn: Option<String>,
    pub(super) xray: Option<xray::Header>,
    /// True for the first invocation of the environment.
    pub(super) first: bool,
    /// The arrival of INVOKE.
    pub(super) invoked: Option<u64>,
    /// The deadline from INVOKE, in milliseconds since the epoch.
    pub(super) deadline_ms: Option<u64>,
    /// The time of `platform.start`.
    pub(super) started: Option<u64>,
    /// The time of `platform.runtimeDone`.
    pub(super) done: Option<u64>,
    /// The time of `platform.report`.
    pub(super) reported: Option<u64>,
    /// The end, once known.
    pub(super) end: Option<InvocationEnd>,
}

/// The end of an invocation.
#[derive(Clone, Debug)]
pub(super) struct InvocationEnd {
    pub(super) outcome: InvocationOutcome,
    pub(super) error_type: Option<String>,
    pub(super) time: u64,
    /// The function's duration in milliseconds.
    pub(super) duration: Option<f64>,
    /// The end has not been reported yet.
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

    /// The start, if known.
    pub(super) fn began(&self) -> Option<u64> {
        self.started.or(self.invoked)
    }

    /// Sets the trace from an event, unless it is known.
    pub(super) fn take_tracing(&mut self, record: &PlatformRecord) {
        self.xray = self.xray.or_else(|| xray::Header::read(record.tracing.as_deref()?));
    }

    /// Ends the invocation with the data of an event. Returns false if it has ended before.
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

/// A copy of an invocation that has ended.
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
    /// Returns `None` if the invocation has not ended. The first invocation is `cold` if it had to wait for the init.
    pub(super) fn of(invocation: &KnownInvocation, init_is_awaited: bool) -> Option<Self> {
        let end = invocation.end.as_ref()?;
        let long = end.duration.map_or(0, |duration| add_milliseconds(0, duration));
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

    /// The span of the invocation.
    pub(super) fn context(&self) -> TraceContext {
        invocation_span(&self.request_id, self.xray.as_ref(), self.deadline_ms)
    }
}

impl Invocations {
    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut KnownInvocation> {
        self.known.iter_mut()
    }

    /// Returns the invocation of an INVOKE.
    pub(super) fn invoked(&mut self, request_id: &str) -> Option<&mut KnownInvocation> {
        // Platform: INVOKE and platform events come over two connections, in any order.
        let known = self.last(request_id).filter(|(_, last)| last.invoked.is_none()).map(|(index, _)| index);
        self.get_or_insert(known, request_id)
    }

    /// Returns the invocation of a `platform.start`, unless the event is a duplicate.
    pub(super) fn started(&mut self, request_id: &str, time: u64) -> Option<&mut KnownInvocation> {
        if self.has_any(request_id, |invocation| invocation.started == Some(time)) {
            return None;
        }
        // The event may come when the next attempt is running already.
        let is_candidate = |invocation: &KnownInvocation| {
            &*invocation.request_id == request_id && invocation.started.is_none() && invocation.end.is_none()
        };
        let index = match self.last(request_id) {
            _ if self.known.iter().any(is_candidate) => self.known.iter().position(is_candidate),
            // Platform: a failed asynchronous invocation is repeated under its request id.
            Some((_, KnownInvocation { end: Some(end), started: Some(_), .. })) if end.time < time => None,
            Some((_, KnownInvocation { started: Some(_), .. })) => return None,
            last => last.map(|(index, _)| index),
        };
        let invocation = self.get_or_insert(index, request_id)?;
        invocation.started = Some(time);
        Some(invocation)
    }

    /// Returns the invocation of a `platform.runtimeDone`, unless the event is a duplicate.
    pub(super) fn runtime_done(&mut self, request_id: &str, time: u64) -> Option<&mut KnownInvocation> {
        // The older of two attempts ends first.
        let is_candidate = |invocation: &KnownInvocation| {
            &*invocation.request_id == request_id && invocation.done.is_none() && invocation.end.is_none()
        };
        let last = self.last(request_id);
        if last.is_some_and(|(_, last)| last.done.is_some())
            || self.has_any(request_id, |invocation| invocation.done == Some(time))
        {
            return None;
        }
        let first = self.known.iter().position(is_candidate);
        let index = first.or(last.map(|(index, _)| index));
        let invocation = self.get_or_insert(index, request_id)?;
        invocation.done = Some(time);
        Some(invocation)
    }

    /// Returns the invocation of a `platform.report`, unless the event is a duplicate.
    pub(super) fn reported(&mut self, request_id: &str, time: u64) -> Option<&mut KnownInvocation> {
        // The older of two attempts is reported first.
        let is_candidate = |invocation: &KnownInvocation| {
            &*invocation.request_id == request_id && invocation.reported.is_none()
        };
        let index = self.known.iter().position(is_candidate);
        let known = index.is_none() && self.last(request_id).is_some();
        if known || self.has_any(request_id, |invocation| invocation.reported == Some(time)) {
            return None;
        }
        let invocation = self.get_or_insert(index, request_id)?;
        invocation.reported = Some(time);
        Some(invocation)
    }

    fn has_any(&self, request_id: &str, matches: impl Fn(&KnownInvocation) -> bool) -> bool {
        self.known.iter().any(|invocation| &*invocation.request_id == request_id && matches(invocation))
    }

    fn last(&self, request_id: &str) -> Option<(usize, &KnownInvocation)> {
        self.known.iter().enumerate().rfind(|(_, invocation)| &*invocation.request_id == request_id)
    }

    /// Returns the running invocations: if they run in parallel, all that have not ended, else at most the last. So an
    /// invocation whose end was lost does not count as running.
    pub(super) fn iter_open(&mut self, concurrent: bool) -> impl Iterator<Item = &mut KnownInvocation> {
        let last = if concurrent { REMEMBERED_INVOCATIONS } else { 1 };
        self.known.iter_mut().rev().take(last).filter(|invocation| invocation.end.is_none())
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
