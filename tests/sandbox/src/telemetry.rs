//! The platform's event streams. Events become records, which are buffered per subscription and posted from there
//! ([`crate::delivery`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::clock;
use crate::subscription::{Buffering, Subscription};

/// One record, with the data needed for buffering.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// `platform`, `function` or `extension`.
    pub(crate) stream: &'static str,
    pub(crate) bytes: usize,
    pub(crate) value: Arc<Value>,
}

impl Record {
    /// `kind` is the record's type, such as `platform.start`.
    pub(crate) fn new(kind: &str, record: Value) -> Self {
        let stream = match kind {
            "function" => "function",
            "extension" => "extension",
            _ => "platform",
        };
        let mut value = json!({"time": clock::rfc3339(clock::wall()), "type": kind});
        // Not in the macro: it would clone the record, and records can be large.
        set(&mut value, "record", record);
        Self { stream, bytes: value.to_string().len(), value: Arc::new(value) }
    }
}

/// Adds a field to a record.
pub(crate) fn set(record: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(object) = record.as_object_mut() {
        object.insert(key.to_owned(), value.into());
    }
}

/// All streams of an environment. All clones share the same streams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry(Arc<Mutex<Streams>>);

#[derive(Debug, Default)]
struct Streams {
    /// The records of this init: a later subscription gets them, too.
    backlog: Vec<Record>,
    /// True while subscriptions can still be made.
    open: bool,
    queues: Vec<Arc<Queue>>,
    function_records: usize,
}

impl Telemetry {
    /// Starts a new init, without subscriptions.
    pub(crate) fn begin(&self) {
        self.end();
        self.lock().open = true;
    }

    /// Ends the environment and all its subscriptions.
    pub(crate) fn end(&self) {
        let mut streams = self.lock();
        streams.open = false;
        streams.backlog = Vec::new();
        for queue in std::mem::take(&mut streams.queues) {
            queue.close();
        }
    }

    /// Ends the init: refuses further subscriptions and drops the backlog.
    pub(crate) fn close_subscriptions(&self) {
        let mut streams = self.lock();
        streams.open = false;
        streams.backlog = Vec::new();
    }

    /// Records a platform event.
    pub(crate) fn emit(&self, kind: &str, record: Value) {
        let record = Record::new(kind, record);
        let mut streams = self.lock();
        streams.function_records += usize::from(record.stream == "function");
        for queue in &streams.queues {
            queue.push(record.clone());
        }
        if streams.open {
            streams.backlog.push(record);
        }
    }

    /// The number of records that functions have produced so far.
    pub(crate) fn function_records(&self) -> usize {
        self.lock().function_records
    }

    /// Records a line that a function or an extension wrote.
    pub(crate) fn emit_line(&self, kind: &str, line: String, json_format: bool) {
        // Platform: with the log format JSON, a line that is a JSON object becomes an object.
        let object = json_format.then(|| serde_json::from_str::<Value>(&line).ok()).flatten();
        let record = object.filter(Value::is_object).unwrap_or(Value::String(line));
        self.emit(kind, record);
    }

    pub(crate) fn subscribe(&self, subscription: &Subscription) -> Arc<Queue> {
        let queue = Arc::new(Queue::new(subscription));
        let mut streams = self.lock();
        for record in &streams.backlog {
            queue.push(record.clone());
        }
        streams.queues.push(Arc::clone(&queue));
        queue
    }

    /// Pauses deliveries while the environment is frozen, or resumes them.
    pub(crate) fn pause(&self, paused: bool) {
        for queue in &self.lock().queues {
            queue.pause(paused);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buffer of one subscription.
#[derive(Debug)]
pub(crate) struct Queue {
    types: Vec<String>,
    buffering: Buffering,
    buffer: Mutex<Buffer>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    records: VecDeque<Record>,
    bytes: usize,
    oldest: Option<Instant>,
    paused: bool,
    closed: bool,
}

/// The time at which a buffer is to be sent.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Now,
    At(Instant),
    /// Not before the buffer changes.
    Unknown,
}

impl Queue {
    fn new(subscription: &Subscription) -> Self {
        Self {
            types: subscription.types.clone(),
            buffering: subscription.buffering,
            buffer: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn push(&self, record: Record) {
        if self.types.iter().any(|kind| kind == record.stream) {
            self.lock().push(record, clock::now());
            self.changed.notify_one();
        }
    }

    /// The most bytes of a record in one POST.
    pub(crate) fn max_bytes(&self) -> usize {
        self.buffering.max_bytes
    }

    fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits until a batch is due, and takes it. Returns none when the subscription has ended.
    pub(crate) async fn next_batch(&self) -> Option<Vec<Record>> {
        loop {
            let due = {
                let mut buffer = self.lock();
                if buffer.closed {
                    return None;
                }
                let now = clock::now();
                match buffer.due(&self.buffering, now) {
                    Due::Now => return Some(buffer.take(&self.buffering, now)),
                    due => due,
                }
            };
            match due {
                Due::At(at) => {
                    let _ = tokio::time::timeout_at(at.into(), self.changed.notified()).await;
                }
                _ => self.changed.notified().await,
            }
        }
    }

    /// Waits while deliveries are paused. Returns false when the subscription has ended.
    pub(crate) async fn awake(&self) -> bool {
        loop {
            {
                let buffer = self.lock();
                if buffer.closed || !buffer.paused {
                    return !buffer.closed;
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn push(&mut self, record: Record, now: Instant) {
        self.oldest.get_or_insert(now);
        self.bytes += record.bytes;
        self.records.push_back(record);
    }

    fn due(&self, buffering: &Buffering, now: Instant) -> Due {
        let Some(oldest) = self.oldest.filter(|_| !self.paused) else { return Due::Unknown };
        let full = self.records.len() >= buffering.max_items || self.bytes >= buffering.max_bytes;
        let at = oldest + buffering.timeout;
        if full || at <= now { Due::Now } else { Due::At(at) }
    }

    /// Takes the records for one POST; the others wait as if they had arrived now.
    fn take(&mut self, buffering: &Buffering, now: Instant) -> Vec<Record> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < buffering.max_items && bytes < buffering.max_bytes {
            let Some(record) = self.records.pop_front() else { break };
            bytes += record.bytes;
            batch.push(record);
        }
        self.bytes -= bytes;
        self.oldest = (!self.records.is_empty()).then_some(now);
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BUFFERING: Buffering =
        Buffering { max_items: 1_000, max_bytes: 262_144, timeout: Duration::from_millis(25) };

    fn filled(records: usize, bytes: usize, at: Instant) -> Buffer {
        let mut buffer = Buffer::default();
        for _ in 0..records {
            buffer.push(Record { stream: "function", bytes, value: Arc::default() }, at);
        }
        buffer
    }

    #[test]
    fn a_buffer_is_due_a_timeout_after_its_oldest_record() {
        let start = clock::now();
        let buffer = filled(2, 100, start);
        assert_eq!(buffer.due(&BUFFERING, start), Due::At(start + BUFFERING.timeout));
        assert_eq!(buffer.due(&BUFFERING, start + BUFFERING.timeout), Due::Now);
        assert_eq!(Buffer::default().due(&BUFFERING, start), Due::Unknown);
    }

    #[test]
    fn a_buffer_is_due_at_once_when_it_has_enough_items_or_bytes() {
        let start = clock::now();
        assert_eq!(filled(1_000, 1, start).due(&BUFFERING, start), Due::Now);
        assert_eq!(filled(2, 131_072, start).due(&BUFFERING, start), Due::Now);
    }

    #[test]
    fn batch_ends_at_max_items_or_max_bytes() {
        let start = clock::now();
        let mut many = filled(2_500, 1, start);
        assert_eq!(many.take(&BUFFERING, start).len(), 1_000);
        assert_eq!(many.bytes, 1_500);
        assert_eq!(filled(5, 200_000, start).take(&BUFFERING, start).len(), 2);
    }

    #[test]
    fn a_paused_buffer_is_not_due() {
        let start = clock::now();
        let mut buffer = filled(5_000, 1, start);
        buffer.paused = true;
        assert_eq!(buffer.due(&BUFFERING, start), Due::Unknown);
    }
}
