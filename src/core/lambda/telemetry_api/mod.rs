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
pub use self::record::{Metrics, Record, Span};
use crate::time;

/// One delivery, read.
#[derive(Debug, Default)]
pub struct Delivery<'a> {
    /// The events that could be read, in the order of the array.
    pub events: Vec<Event<'a>>,
    /// Records, and parts of one, that could not be read and are among the events as text.
    pub kept_as_text: usize,
    /// Elements that are no events and places that no event was found at, which are not among the events.
    pub lost: usize,
}

impl<'a> Delivery<'a> {
    /// Adds an element; `None` is one that is no event.
    fn push(&mut self, event: Option<Event<'a>>) {
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
        Delivery { events: events.into_iter().map(Event::into_owned).collect(), kept_as_text, lost }
    }
}

/// One event.
#[derive(Debug)]
pub struct Event<'a> {
    /// When the platform made it, in nanoseconds since the epoch; `None` where `time` is missing or not RFC 3339.
    pub time: Option<u64>,
    /// What it tells.
    pub kind: Kind<'a>,
}

impl Event<'_> {
    /// The same event, borrowing nothing.
    fn into_owned(self) -> Event<'static> {
        let owned = |record: Cow<'_, RawValue>| Cow::Owned(record.into_owned());
        let kind = match self.kind {
            Kind::Function(record) => Kind::Function(owned(record)),
            Kind::Extension(record) => Kind::Extension(owned(record)),
            Kind::Unknown { name, record } => Kind::Unknown { name, record: owned(record) },
            Kind::Text { name, text } => Kind::Text { name, text: Cow::Owned(text.into_owned()) },
            Kind::Invocation { moment, request_id, record } => {
                Kind::Invocation { moment, request_id, record }
            }
            Kind::Environment { change, record } => Kind::Environment { change, record },
        };
        Event { time: self.time, kind }
    }
}

/// What an event tells.
#[derive(Debug)]
pub enum Kind<'a> {
    /// A line or a JSON record that the function wrote.
    Function(Cow<'a, RawValue>),
    /// The same of an extension.
    Extension(Cow<'a, RawValue>),
    /// Something happened to an invocation.
    Invocation {
        /// What.
        moment: Moment,
        /// To which.
        request_id: String,
        /// What the platform says of it.
        record: Box<Record>,
    },
    /// Something happened to the environment, or to an extension in it.
    Environment {
        /// What.
        change: Change,
        /// What the platform says of it.
        record: Box<Record>,
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
pub enum Moment {
    /// `platform.start`: it starts.
    Start,
    /// `platform.runtimeDone`: the runtime is done with it, well or badly.
    RuntimeDone,
    /// `platform.report`: every extension is done with it, too.
    Report,
}

/// What happened to the environment, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
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
fn straight(body: &[u8]) -> Option<Delivery<'_>> {
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
            if element.is_doubled {
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
    is_doubled: bool,
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
                element.is_doubled = true;
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

fn moment_of(name: &str) -> Option<Moment> {
    match name {
        "platform.start" => Some(Moment::Start),
        "platform.runtimeDone" => Some(Moment::RuntimeDone),
        "platform.report" => Some(Moment::Report),
        _ => None,
    }
}

fn change_of(name: &str) -> Option<Change> {
    match name {
        "platform.initStart" => Some(Change::InitStart),
        "platform.initRuntimeDone" => Some(Change::InitRuntimeDone),
        "platform.initReport" => Some(Change::InitReport),
        "platform.restoreStart" => Some(Change::RestoreStart),
        "platform.restoreRuntimeDone" => Some(Change::RestoreRuntimeDone),
        "platform.restoreReport" => Some(Change::RestoreReport),
        "platform.extension" => Some(Change::Extension),
        "platform.telemetrySubscription" => Some(Change::Subscription),
        "platform.logsDropped" => Some(Change::LogsDropped),
        "platform.end" => Some(Change::End),
        "platform.fault" => Some(Change::Fault),
        _ => None,
    }
}

fn event<'a>(element: &Element<'a>) -> Option<Event<'a>> {
    let name = text(element.name)?;
    let time = text(element.time).as_deref().and_then(read_time);
    // A record that is JSON's null reads as none.
    let raw = Cow::Borrowed(element.record.unwrap_or(RawValue::NULL));
    let kind = match name.as_ref() {
        "function" => Kind::Function(raw),
        "extension" => Kind::Extension(raw),
        name => {
            if let Some(moment) = moment_of(name) {
                let mut record = Box::new(Record::read(element.record));
                Kind::Invocation { moment, request_id: record.request_id.take()?, record }
            } else if let Some(change) = change_of(name) {
                Kind::Environment { change, record: Box::new(Record::read(element.record)) }
            } else {
                Kind::Unknown { name: name.to_owned(), record: raw }
            }
        }
    };
    Some(Event { time, kind })
}
