//! What the Telemetry API delivers: an array of events, read one by one.
//!
//! The platform's events have changed their fields more than once, so everything is optional here. An event that cannot
//! be read costs only itself and is counted; a body that breaks off in the middle still gives what stands before the
//! break. Shapes: AWS's "Lambda Telemetry API Event schema reference".

mod record;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use self::record::{Metrics, Record, Span};
use crate::time;

/// One delivery, read.
#[derive(Debug, Default)]
pub struct Delivery<'a> {
    /// The events that could be read, in the order of the array.
    pub events: Vec<Event<'a>>,
    /// How many elements could not be read, the break of a broken array counting as one.
    pub unreadable: usize,
}

/// One event.
#[derive(Debug)]
pub struct Event<'a> {
    /// When the platform made it, in nanoseconds since the epoch; `None` where `time` is missing or not RFC 3339.
    pub time: Option<u64>,
    /// What it tells.
    pub kind: Kind<'a>,
}

/// What an event tells.
#[derive(Debug)]
pub enum Kind<'a> {
    /// A line or a JSON record that the function wrote.
    Function(&'a RawValue),
    /// The same of an extension.
    Extension(&'a RawValue),
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
        record: &'a RawValue,
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

/// Reads a delivery. Never fails: what cannot be read is counted.
pub fn read(body: &[u8]) -> Delivery<'_> {
    straight(body).unwrap_or_else(|| one_by_one(body))
}

/// Reads a body of which every element is an event, in one pass. `None` where an element is none.
fn straight(body: &[u8]) -> Option<Delivery<'_>> {
    let mut delivery = Delivery::default();
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(body).ok()?);
    deserializer.deserialize_seq(Collect::<Element<'_>>::into(&mut delivery)).ok()?;
    deserializer.end().ok().map(|()| delivery)
}

/// Reads a body whatever it holds: finds the end of each element before reading it.
fn one_by_one(body: &[u8]) -> Delivery<'_> {
    let mut delivery = Delivery::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let collected = deserializer.deserialize_seq(Collect::<&RawValue>::into(&mut delivery));
    if collected.is_err() || deserializer.end().is_err() {
        delivery.unreadable += 1;
    }
    delivery
}

/// Collects elements into a delivery of the caller's, so that an error in the middle leaves what came before it.
struct Collect<'d, 'a, E>(&'d mut Delivery<'a>, PhantomData<E>);

impl<'d, 'a, E> Collect<'d, 'a, E> {
    fn into(delivery: &'d mut Delivery<'a>) -> Self {
        Self(delivery, PhantomData)
    }
}

impl<'a, E: Deserialize<'a> + Into<Element<'a>>> Visitor<'a> for Collect<'_, 'a, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of telemetry events")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<E>()? {
            match event(&element.into()) {
                Some(event) => self.0.events.push(event),
                None => self.0.unreadable += 1,
            }
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
}

impl<'a> From<&'a RawValue> for Element<'a> {
    fn from(element: &'a RawValue) -> Self {
        serde_json::from_str(element.get()).unwrap_or_default()
    }
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
            match key {
                Key::Time => element.time = entries.next_value()?,
                Key::Type => element.name = entries.next_value()?,
                Key::Record => element.record = entries.next_value()?,
                Key::Other => drop(entries.next_value::<IgnoredAny>()?),
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

fn event<'a>(element: &Element<'a>) -> Option<Event<'a>> {
    let name = text(element.name)?;
    // There is no other time of the platform's to compare it with.
    let time = text(element.time).as_deref().and_then(time::read).map(|told| told.moment(0));
    let record = element.record;
    let environment = |change| Some(Kind::Environment { change, record: Box::new(Record::read(record)) });
    let invocation = |moment| {
        let mut record = Box::new(Record::read(record));
        Some(Kind::Invocation { moment, request_id: record.request_id.take()?, record })
    };
    let kind = match name.as_ref() {
        // A record that is JSON's null reads as none.
        "function" => Some(Kind::Function(record.unwrap_or(RawValue::NULL))),
        "extension" => Some(Kind::Extension(record.unwrap_or(RawValue::NULL))),
        "platform.start" => invocation(Moment::Start),
        "platform.runtimeDone" => invocation(Moment::RuntimeDone),
        "platform.report" => invocation(Moment::Report),
        "platform.initStart" => environment(Change::InitStart),
        "platform.initRuntimeDone" => environment(Change::InitRuntimeDone),
        "platform.initReport" => environment(Change::InitReport),
        "platform.restoreStart" => environment(Change::RestoreStart),
        "platform.restoreRuntimeDone" => environment(Change::RestoreRuntimeDone),
        "platform.restoreReport" => environment(Change::RestoreReport),
        "platform.extension" => environment(Change::Extension),
        "platform.telemetrySubscription" => environment(Change::Subscription),
        "platform.logsDropped" => environment(Change::LogsDropped),
        "platform.end" => environment(Change::End),
        "platform.fault" => environment(Change::Fault),
        _ => Some(Kind::Unknown { record: record.unwrap_or(RawValue::NULL), name: name.into_owned() }),
    };
    Some(Event { time, kind: kind? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_element_costs_only_itself() {
        let delivery = read(
            br#"[
            {"time":"2022-10-12T00:00:15.064Z","type":"platform.start","record":{"requestId":"a","extra":[1]}},
            42, null, "text", [], {}, {"type":7}, {"type":"platform.start","record":{"requestId":null}},
            {"time":17,"type":"function","record":"kept"},
            {"type":"platform.runtimeDone","record":{"requestId":"a","status":"new","metrics":{"durationMs":"soon"}}}
        ]"#,
        );
        assert_eq!(delivery.unreadable, 7);
        assert!(matches!(
            delivery.events.as_slice(),
            [
                Event {
                    time: Some(1_665_532_815_064_000_000),
                    kind: Kind::Invocation { moment: Moment::Start, .. }
                },
                Event { time: None, kind: Kind::Function(_) },
                Event { time: None, kind: Kind::Invocation { moment: Moment::RuntimeDone, .. } },
            ]
        ));
    }

    #[test]
    fn a_body_that_breaks_off_gives_what_stands_before_the_break() {
        let delivery = read(br#"[{"type":"function","record":"a"},{"type":"function","rec"#);
        assert_eq!((delivery.events.len(), delivery.unreadable), (1, 1));
        for broken in [&b""[..], b"{}", b"\xff", b"[] []", b"null"] {
            assert_eq!(read(broken).unreadable, 1, "{broken:?}");
        }
    }

    #[test]
    fn an_unknown_type_is_kept_with_its_record() {
        let delivery = read(br#"[{"type":"platform.brandNew","record":{"a":1}}]"#);
        assert!(matches!(
            delivery.events.as_slice(),
            [Event { kind: Kind::Unknown { name, record }, .. }] if name == "platform.brandNew" && record.get() == r#"{"a":1}"#
        ));
    }

    #[test]
    fn a_record_of_null_is_a_record() {
        for body in [&br#"[{"type":"function","record":null}]"#[..], br#"[{"type":"function"}]"#] {
            let delivery = read(body);
            assert!(
                matches!(delivery.events.as_slice(), [Event { kind: Kind::Function(record), .. }] if record.get() == "null")
            );
        }
    }
}
