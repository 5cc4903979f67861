//! A log record in the making: the candidates for each of its parts, of which the first one that is set wins.
//!
//! The message is read before its envelope, so its level, time, ids and fields win.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

use super::attributes::Attributes;
use super::budget::RecordBudget;
use super::exception::Exception;
use super::json::{self, Object, OverBudget};
use super::large;
use super::severity::Severity;
use super::{ConvertedLog, REQUEST_ID};
use crate::time::LoggedTime;

/// Returns true for the request id of an invocation that the environment has had.
pub(super) type IsInvocation<'a> = &'a dyn Fn(&str) -> bool;

/// A log record in the making.
pub(super) struct Draft<'a> {
    pub(super) severity: Option<Severity>,
    /// The severity of a record that states none.
    pub(super) implied: Option<Severity>,
    pub(super) request_id: Option<String>,
    pub(super) exception: Exception,
    /// The level of the envelope whose message is being read.
    pub(super) envelope: Option<Severity>,
    /// The exception is from fields, which are more accurate than a text.
    has_exception_fields: bool,
    pub(super) body: Option<AnyValue>,
    /// The remaining budget.
    pub(super) budget: RecordBudget,
    pub(super) is_invocation: IsInvocation<'a>,
    time: Option<u64>,
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
    trace_flags: Option<u32>,
    attributes: Attributes,
    log: ConvertedLog,
}

impl<'a> Draft<'a> {
    /// Begins with a record without a body. Its original has `text` bytes.
    pub(super) fn new(mut log: ConvertedLog, text: usize, is_invocation: IsInvocation<'a>) -> Self {
        let attributes = Attributes::of(std::mem::take(&mut log.record.attributes));
        Self {
            severity: None,
            implied: None,
            request_id: None,
            exception: Exception::default(),
            envelope: None,
            has_exception_fields: false,
            body: None,
            budget: RecordBudget::of(text),
            is_invocation,
            time: None,
            trace_id: None,
            span_id: None,
            trace_flags: None,
            attributes,
            log,
        }
    }

    /// Reads the object at the start of a text, within the budget. Returns `None` if there is none.
    pub(super) fn read_object<'t>(&mut self, text: &'t str) -> Option<Object<'t>> {
        match json::object(text, &mut self.budget) {
            Ok(object) => object,
            Err(OverBudget) => large::object(text, &mut self.budget),
        }
    }

    /// The platform's timestamp, in nanoseconds since the epoch.
    pub(super) fn platform(&self) -> u64 {
        self.log.record.time_unix_nano
    }

    pub(super) fn set_severity(&mut self, severity: Option<Severity>) {
        self.severity = self.severity.or(severity);
    }

    pub(super) fn imply(&mut self, severity: Severity) {
        self.implied.get_or_insert(severity);
    }

    /// Sets the time that the record states. Returns false for a time that is not the record's: one that is far from the
    /// platform's is a part of the data.
    pub(super) fn set_time(&mut self, time: LoggedTime) -> bool {
        let time = time.resolve(self.platform());
        let is_near = time.is_some();
        self.time = self.time.or(time);
        is_near
    }

    /// Sets the trace context. A span id or flags mean nothing without a trace id.
    pub(super) fn set_trace(
        &mut self,
        trace_id: [u8; 16],
        span_id: Option<[u8; 8]>,
        flags: Option<u32>,
    ) -> bool {
        let is_first = self.trace_id.is_none();
        if is_first {
            (self.trace_id, self.span_id, self.trace_flags) = (Some(trace_id), span_id, flags);
        }
        is_first
    }

    /// Sets the exception, or completes it if the same is set.
    pub(super) fn set_exception(&mut self, exception: Exception) {
        if self.exception.is_empty() {
            self.exception = exception;
        } else {
            self.exception.complete(exception);
        }
    }

    /// Returns true if the fields of an exception can be used. Those of a message win over its envelope's.
    pub(super) fn takes_exception(&self, exception: &Exception) -> bool {
        !self.has_exception_fields || self.exception.is_like(exception)
    }

    /// Sets the exception in place of one that was found in a text, which completes it.
    pub(super) fn prefer_exception(&mut self, exception: Exception) {
        if !exception.is_empty() {
            if self.has_exception_fields {
                self.exception.complete(exception);
                return;
            }
            let found = std::mem::replace(&mut self.exception, exception);
            self.exception.complete(found);
            self.has_exception_fields = true;
        }
    }

    pub(super) fn set_body(&mut self, text: Cow<'_, str>) {
        self.body.get_or_insert_with(|| AnyValue { value: Some(Value::StringValue(text.into_owned())) });
    }

    pub(super) fn reserve(&mut self, attributes: usize) {
        self.attributes.reserve(attributes);
    }

    pub(super) fn add(&mut self, attribute: KeyValue) {
        self.attributes.add(attribute);
    }

    pub(super) fn finish(self) -> ConvertedLog {
        let Self { mut log, mut attributes, .. } = self;
        if let Some(request_id) = self.request_id {
            attributes.add_known(REQUEST_ID, request_id);
            log.has_own_request_id = true;
        }
        for (key, value) in self.exception.attributes() {
            attributes.add_known(key, value);
        }
        log.record.attributes = attributes.into_list();
        if let Some(severity) = self.severity.or(self.implied) {
            log.set_severity(severity);
        }
        if let Some(time) = self.time {
            log.record.time_unix_nano = time;
        }
        if let Some(trace_id) = self.trace_id {
            log.record.trace_id = trace_id.to_vec();
            log.record.span_id = self.span_id.map(|id| id.to_vec()).unwrap_or_default();
            log.record.flags = self.trace_flags.unwrap_or_default();
        }
        log.record.body = self.body;
        log
    }
}
