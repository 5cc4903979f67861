//! Reads deliveries of the Telemetry API: arrays of events.
//!
//! A well-formed delivery is read in one pass, and its events borrow from its body. In a malformed one, an error costs only
//! its own event: invalid UTF-8 and control characters are repaired, a record that the platform cut is joined with its rest
//! ([`Deliveries`]), and after a syntax error reading continues at the next event. A malformed record is kept as text, and an
//! element that is not an event is counted. Untrusted text in a record never becomes an event.
//!
//! The fields of platform events have changed more than once, so all are optional here. Schema: AWS's "Lambda Telemetry API
//! Event schema reference".

mod deliveries;
mod envelope;
mod record;
mod recovery;
mod repair;
mod scanner;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use self::deliveries::Deliveries;
pub use self::record::{Metrics, PhaseSpan, PlatformRecord};
use crate::time::{self, LoggedTime};

/// The events of a delivery.
#[derive(Debug, Default)]
pub struct Delivery<'a> {
    /// The events in the order of the array.
    pub events: Vec<TelemetryEvent<'a>>,
    /// The number of malformed records, and parts of records, that are among the events as text.
    pub kept_as_text: usize,
    /// The number of elements that are not events, and of places without a readable event. They are not among the events.
    pub lost: usize,
}

impl<'a> Delivery<'a> {
    /// Adds an element; `None` if it is not an event.
    fn push(&mut self, event: Option<TelemetryEvent<'a>>) {
        match event {
            Some(event) => self.events.push(event),
            None => self.lost += 1,
        }
    }

    /// Appends a later part of the same delivery.
    fn append(&mut self, mut other: Self) {
        self.events.append(&mut other.events);
        self.kept_as_text += other.kept_as_text;
        self.lost += other.lost;
    }

    /// Copies borrowed data.
    fn into_owned(self) -> Delivery<'static> {
        let Self { events, kept_as_text, lost } = self;
        Delivery { events: events.into_iter().map(TelemetryEvent::into_owned).collect(), kept_as_text, lost }
    }
}

/// An event of the Telemetry API.
#[derive(Debug)]
pub struct TelemetryEvent<'a> {
    /// The platform's time, in nanoseconds since the epoch; `None` if `time` is missing or not RFC 3339.
    pub time: Option<u64>,
    pub kind: EventKind<'a>,
}

impl TelemetryEvent<'_> {
    /// Copies borrowed data.
    fn into_owned(self) -> TelemetryEvent<'static> {
        let owned = |record: Cow<'_, RawValue>| Cow::Owned(record.into_owned());
        let kind = match self.kind {
            EventKind::Function(record) => EventKind::Function(owned(record)),
            EventKind::Extension(record) => EventKind::Extension(owned(record)),
            EventKind::Unknown { name, record } => EventKind::Unknown { name, record: owned(record) },
            EventKind::Text { name, text } => EventKind::Text { name, text: Cow::Owned(text.into_owned()) },
            EventKind::Invocation { event, request_id, record } => {
                EventKind::Invocation { event, request_id, record }
            }
            EventKind::Environment { event, record } => EventKind::Environment { event, record },
        };
        TelemetryEvent { time: self.time, kind }
    }
}

/// The kind of an event, with its data.
#[derive(Debug)]
pub enum EventKind<'a> {
    /// A line or a JSON record that the function logged.
    Function(Cow<'a, RawValue>),
    /// A line or a JSON record that an extension logged.
    Extension(Cow<'a, RawValue>),
    /// A platform event of an invocation.
    Invocation { event: InvocationEvent, request_id: String, record: Box<PlatformRecord> },
    /// A platform event of the environment, or of an extension in it.
    Environment { event: EnvironmentEvent, record: Box<PlatformRecord> },
    /// An event of unknown type, kept as it is.
    Unknown {
        /// The event's `type`.
        name: String,
        record: Cow<'a, RawValue>,
    },
    /// A malformed record, or a part of one, as it is.
    Text {
        /// The event's `type`.
        name: String,
        /// The record, with U+FFFD for invalid UTF-8.
        text: Cow<'a, str>,
    },
}

/// The events of an invocation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InvocationEvent {
    /// `platform.start`: the invocation starts.
    Start,
    /// `platform.runtimeDone`: the runtime is done, successful or not.
    RuntimeDone,
    /// `platform.report`: all extensions are done too.
    Report,
}

/// The events of an environment, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnvironmentEvent {
    /// `platform.initStart`: the init starts.
    InitStart,
    /// `platform.initRuntimeDone`: the runtime has initialised, successfully or not.
    InitRuntimeDone,
    /// `platform.initReport`: all extensions have initialised too.
    InitReport,
    /// `platform.restoreStart`: the restore from a snapshot starts.
    RestoreStart,
    /// `platform.restoreRuntimeDone`: the runtime is restored.
    RestoreRuntimeDone,
    /// `platform.restoreReport`: everything is restored.
    RestoreReport,
    /// `platform.extension`: an extension has registered.
    Extension,
    /// `platform.telemetrySubscription`: an extension has subscribed.
    Subscription,
    /// `platform.logsDropped`: the listener was too slow.
    LogsDropped,
    /// `platform.end`, sent by emulators.
    End,
    /// `platform.fault`, sent by emulators.
    Fault,
}

/// Reads a single delivery that no other one continues. Never fails: malformed records are kept as text or counted.
pub fn read(body: &[u8]) -> Delivery<'_> {
    let mut deliveries = Deliveries::default();
    let mut delivery = deliveries.read(body);
    delivery.append(deliveries.give_up());
    delivery
}

/// Reads a well-formed body in one pass. `None` if an element is malformed.
fn read_well_formed(body: &[u8]) -> Option<Delivery<'_>> {
    let mut delivery = Delivery::default();
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(body).ok()?);
    deserializer.deserialize_seq(Collect(&mut delivery)).ok()?;
    deserializer.end().ok().map(|()| delivery)
}

/// Collects events into the caller's delivery.
struct Collect<'d, 'a>(&'d mut Delivery<'a>);

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of telemetry events")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Element<'a>>()? {
            if element.has_duplicate_key {
                return Err(A::Error::custom("duplicate key"));
            }
            self.0.push(event(&element));
        }
        Ok(())
    }
}

/// The raw fields of an event.
#[derive(Default)]
struct Element<'a> {
    time: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    record: Option<&'a RawValue>,
    /// A key is present twice. The first one counts.
    has_duplicate_key: bool,
}

/// Implemented by hand, because a derived implementation refuses duplicate keys.
impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ElementVisitor)
    }
}

struct ElementVisitor;

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Time,
    Type,
    Record,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a telemetry event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut element = Element::default();
        while let Some(key) = entries.next_key()? {
            let field = match key {
                Key::Time => &mut element.time,
                Key::Type => &mut element.name,
                Key::Record => &mut element.record,
                Key::Other => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = entries.next_value()?;
            if field.is_none() {
                *field = value;
            } else {
                element.has_duplicate_key = true;
            }
        }
        Ok(element)
    }
}

/// Returns a string value; `None` for other types.
fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let json = value?.get();
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

/// Parses a time to nanoseconds since the epoch.
fn read_time(text: &str) -> Option<u64> {
    time::parse(text).map(LoggedTime::nanos)
}

fn invocation_event_of(name: &str) -> Option<InvocationEvent> {
    match name {
        "platform.start" => Some(InvocationEvent::Start),
        "platform.runtimeDone" => Some(InvocationEvent::RuntimeDone),
        "platform.report" => Some(InvocationEvent::Report),
        _ => None,
    }
}

fn environment_event_of(name: &str) -> Option<EnvironmentEvent> {
    match name {
        "platform.initStart" => Some(EnvironmentEvent::InitStart),
        "platform.initRuntimeDone" => Some(EnvironmentEvent::InitRuntimeDone),
        "platform.initReport" => Some(EnvironmentEvent::InitReport),
        "platform.restoreStart" => Some(EnvironmentEvent::RestoreStart),
        "platform.restoreRuntimeDone" => Some(EnvironmentEvent::RestoreRuntimeDone),
        "platform.restoreReport" => Some(EnvironmentEvent::RestoreReport),
        "platform.extension" => Some(EnvironmentEvent::Extension),
        "platform.telemetrySubscription" => Some(EnvironmentEvent::Subscription),
        "platform.logsDropped" => Some(EnvironmentEvent::LogsDropped),
        "platform.end" => Some(EnvironmentEvent::End),
        "platform.fault" => Some(EnvironmentEvent::Fault),
        _ => None,
    }
}

fn event<'a>(element: &Element<'a>) -> Option<TelemetryEvent<'a>> {
    let name = text(element.name)?;
    let time = text(element.time).as_deref().and_then(read_time);
    // A record that is missing or null is null.
    let raw = Cow::Borrowed(element.record.unwrap_or(RawValue::NULL));
    let kind = match name.as_ref() {
        "function" => EventKind::Function(raw),
        "extension" => EventKind::Extension(raw),
        name => {
            if let Some(event) = invocation_event_of(name) {
                let mut record = Box::new(PlatformRecord::read(element.record));
                EventKind::Invocation { event, request_id: record.request_id.take()?, record }
            } else if let Some(event) = environment_event_of(name) {
                EventKind::Environment { event, record: Box::new(PlatformRecord::read(element.record)) }
            } else {
                EventKind::Unknown { name: name.to_owned(), record: raw }
            }
        }
    };
    Some(TelemetryEvent { time, kind })
}
