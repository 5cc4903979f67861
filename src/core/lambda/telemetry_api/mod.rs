//! Deliveries of the Telemetry API: arrays of events.
//!
//! A delivery that is JSON is read in one pass, and its events borrow from its body. In any other one each event costs only
//! itself: the bytes that are no UTF-8 and the control characters of one record are read, a record that the platform cut is
//! joined with its rest ([`Deliveries`]), and behind a break reading goes on at the next event. A record that cannot be read
//! is kept as text; what has no record is counted. What strangers wrote into a record never becomes an event.
//!
//! The platform's events have changed their fields more than once, so everything is optional here. Shapes: AWS's "Lambda
//! Telemetry API Event schema reference".

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
use crate::time;

/// One delivery, read.
#[derive(Debug, Default)]
pub struct Delivery<'a> {
    /// The events that could be read, in the order of the array.
    pub events: Vec<TelemetryEvent<'a>>,
    /// Records, and parts of one, that could not be read and are among the events as text.
    pub kept_as_text: usize,
    /// Elements that are no events and places that no event was found at, which are not among the events.
    pub lost: usize,
}

impl<'a> Delivery<'a> {
    /// Adds an element; `None` is one that is no event.
    fn push(&mut self, event: Option<TelemetryEvent<'a>>) {
        match event {
            Some(event) => self.events.push(event),
            None => self.lost += 1,
        }
    }

    /// Adds what came after it.
    fn append(&mut self, mut other: Self) {
        self.events.append(&mut other.events);
        self.kept_as_text += other.kept_as_text;
        self.lost += other.lost;
    }

    /// The same delivery, borrowing nothing.
    fn into_owned(self) -> Delivery<'static> {
        let Self { events, kept_as_text, lost } = self;
        Delivery { events: events.into_iter().map(TelemetryEvent::into_owned).collect(), kept_as_text, lost }
    }
}

/// One event.
#[derive(Debug)]
pub struct TelemetryEvent<'a> {
    /// When the platform made it, in nanoseconds since the epoch; `None` where `time` is missing or not RFC 3339.
    pub time: Option<u64>,
    /// What it tells.
    pub kind: EventKind<'a>,
}

impl TelemetryEvent<'_> {
    /// The same event, borrowing nothing.
    fn into_owned(self) -> TelemetryEvent<'static> {
        let owned = |record: Cow<'_, RawValue>| Cow::Owned(record.into_owned());
        let kind = match self.kind {
            EventKind::Function(record) => EventKind::Function(owned(record)),
            EventKind::Extension(record) => EventKind::Extension(owned(record)),
            EventKind::Unknown { name, record } => EventKind::Unknown { name, record: owned(record) },
            EventKind::Text { name, text } => EventKind::Text { name, text: Cow::Owned(text.into_owned()) },
            EventKind::Invocation { moment, request_id, record } => {
                EventKind::Invocation { moment, request_id, record }
            }
            EventKind::Environment { change, record } => EventKind::Environment { change, record },
        };
        TelemetryEvent { time: self.time, kind }
    }
}

/// What an event tells.
#[derive(Debug)]
pub enum EventKind<'a> {
    /// A line or a JSON record that the function wrote.
    Function(Cow<'a, RawValue>),
    /// The same of an extension.
    Extension(Cow<'a, RawValue>),
    /// Something happened to an invocation.
    Invocation {
        /// What.
        moment: InvocationEvent,
        /// To which.
        request_id: String,
        /// What the platform says of it.
        record: Box<PlatformRecord>,
    },
    /// Something happened to the environment, or to an extension in it.
    Environment {
        /// What.
        change: EnvironmentEvent,
        /// What the platform says of it.
        record: Box<PlatformRecord>,
    },
    /// A type that this version does not know, kept as it came.
    Unknown {
        /// The type's name.
        name: String,
        /// Its record.
        record: Cow<'a, RawValue>,
    },
    /// A record that cannot be read, or a part of one, as it came.
    Text {
        /// The type's name.
        name: String,
        /// The record, with U+FFFD for what is no UTF-8.
        text: Cow<'a, str>,
    },
}

/// What happened to an invocation, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InvocationEvent {
    /// `platform.start`: it starts.
    Start,
    /// `platform.runtimeDone`: the runtime is done with it, well or badly.
    RuntimeDone,
    /// `platform.report`: every extension is done with it, too.
    Report,
}

/// What happened to the environment, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnvironmentEvent {
    /// `platform.initStart`: it starts to initialise.
    InitStart,
    /// `platform.initRuntimeDone`: the runtime has initialised, well or badly.
    InitRuntimeDone,
    /// `platform.initReport`: every extension has, too.
    InitReport,
    /// `platform.restoreStart`: it comes back from a snapshot.
    RestoreStart,
    /// `platform.restoreRuntimeDone`: the runtime is back.
    RestoreRuntimeDone,
    /// `platform.restoreReport`: all is back.
    RestoreReport,
    /// `platform.extension`: an extension has registered.
    Extension,
    /// `platform.telemetrySubscription`: an extension has subscribed.
    Subscription,
    /// `platform.logsDropped`: the listener was too slow.
    LogsDropped,
    /// `platform.end`, which emulators send.
    End,
    /// `platform.fault`, which emulators send.
    Fault,
}

/// Reads a delivery that no other one continues. Never fails: what cannot be read is kept as text or counted.
pub fn read(body: &[u8]) -> Delivery<'_> {
    let mut deliveries = Deliveries::default();
    let mut delivery = deliveries.read(body);
    delivery.append(deliveries.give_up());
    delivery
}

/// Reads a body of which every element is an event, in one pass. `None` where an element is none.
fn read_well_formed(body: &[u8]) -> Option<Delivery<'_>> {
    let mut delivery = Delivery::default();
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(body).ok()?);
    deserializer.deserialize_seq(Collect(&mut delivery)).ok()?;
    deserializer.end().ok().map(|()| delivery)
}

/// Collects events into a delivery of the caller's.
struct Collect<'d, 'a>(&'d mut Delivery<'a>);

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of telemetry events")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Element<'a>>()? {
            if element.has_duplicate_key {
                return Err(A::Error::custom("a key stands twice"));
            }
            self.0.push(event(&element));
        }
        Ok(())
    }
}

/// An event's fields, of whatever types, not looked into.
#[derive(Default)]
struct Element<'a> {
    time: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    record: Option<&'a RawValue>,
    /// A key stands twice; the first one holds.
    has_duplicate_key: bool,
}

/// By hand, because a derived one refuses an object with a key twice.
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

/// A text, or nothing where a value of another type stands.
fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let json = value?.get();
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

/// Nanoseconds since the epoch.
fn read_time(text: &str) -> Option<u64> {
    // There is no other time of the platform's to compare it with.
    time::parse(text).map(|read| read.resolve(0))
}

fn moment_of(name: &str) -> Option<InvocationEvent> {
    match name {
        "platform.start" => Some(InvocationEvent::Start),
        "platform.runtimeDone" => Some(InvocationEvent::RuntimeDone),
        "platform.report" => Some(InvocationEvent::Report),
        _ => None,
    }
}

fn change_of(name: &str) -> Option<EnvironmentEvent> {
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
    // A record that is JSON's null reads as none.
    let raw = Cow::Borrowed(element.record.unwrap_or(RawValue::NULL));
    let kind = match name.as_ref() {
        "function" => EventKind::Function(raw),
        "extension" => EventKind::Extension(raw),
        name => {
            if let Some(moment) = moment_of(name) {
                let mut record = Box::new(PlatformRecord::read(element.record));
                EventKind::Invocation { moment, request_id: record.request_id.take()?, record }
            } else if let Some(change) = change_of(name) {
                EventKind::Environment { change, record: Box::new(PlatformRecord::read(element.record)) }
            } else {
                EventKind::Unknown { name: name.to_owned(), record: raw }
            }
        }
    };
    Some(TelemetryEvent { time, kind })
}
