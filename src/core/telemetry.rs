//! What the Telemetry API delivers: an array of events, read one by one.
//!
//! The platform's events have changed their fields more than once, so everything is optional here. An event that cannot
//! be read costs only itself and is counted; a body that breaks off in the middle still gives what stands before the
//! break. Shapes: AWS's "Lambda Telemetry API Event schema reference".

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

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
    /// An environment starts to initialise.
    InitStart {
        /// Names the execution environment.
        instance_id: Option<String>,
    },
    /// An invocation starts.
    Start {
        /// Of the invocation.
        request_id: String,
    },
    /// The runtime is done with an invocation, well or badly.
    RuntimeDone {
        /// Of the invocation.
        request_id: String,
    },
    /// An event of the platform that changes nothing here.
    Platform,
    /// A type that this version does not know, kept as it came.
    Unknown {
        /// The type's name.
        name: String,
        /// Its record.
        record: &'a RawValue,
    },
}

/// Reads a delivery. Never fails: what cannot be read is counted.
pub fn read(body: &[u8]) -> Delivery<'_> {
    let mut delivery = Delivery::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    if deserializer.deserialize_seq(Collect(&mut delivery)).is_err() || deserializer.end().is_err() {
        delivery.unreadable += 1;
    }
    delivery
}

/// Collects into a delivery of the caller's, so that an error in the middle leaves what came before it.
struct Collect<'d, 'a>(&'d mut Delivery<'a>);

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of telemetry events")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&'a RawValue>()? {
            match event(element) {
                Some(event) => self.0.events.push(event),
                None => self.0.unreadable += 1,
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, deserialize_with = "text")]
    time: Option<String>,
    #[serde(rename = "type")]
    name: String,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields {
    #[serde(deserialize_with = "text")]
    request_id: Option<String>,
    #[serde(deserialize_with = "text")]
    instance_id: Option<String>,
}

/// A text, or nothing where a value of another type stands.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Text(text) => Some(text),
        Lenient::Other(_) => None,
    })
}

fn event(element: &RawValue) -> Option<Event<'_>> {
    let envelope: Envelope<'_> = serde_json::from_str(element.get()).ok()?;
    let time = envelope.time.as_deref().and_then(epoch_nanos);
    let record = envelope.record;
    let fields =
        || record.and_then(|record| serde_json::from_str::<Fields>(record.get()).ok()).unwrap_or_default();
    let kind = match envelope.name.as_str() {
        // A record that is JSON's null reads as none.
        "function" => Kind::Function(record.unwrap_or(RawValue::NULL)),
        "extension" => Kind::Extension(record.unwrap_or(RawValue::NULL)),
        "platform.initStart" => Kind::InitStart { instance_id: fields().instance_id },
        "platform.start" => Kind::Start { request_id: fields().request_id? },
        "platform.runtimeDone" => Kind::RuntimeDone { request_id: fields().request_id? },
        "platform.initRuntimeDone"
        | "platform.initReport"
        | "platform.report"
        | "platform.restoreStart"
        | "platform.restoreRuntimeDone"
        | "platform.restoreReport"
        | "platform.extension"
        | "platform.telemetrySubscription"
        | "platform.logsDropped"
        | "platform.end"
        | "platform.fault" => Kind::Platform,
        _ => Kind::Unknown { record: record.unwrap_or(RawValue::NULL), name: envelope.name },
    };
    Some(Event { time, kind })
}

/// An RFC 3339 time in nanoseconds since the epoch.
pub(crate) fn epoch_nanos(text: &str) -> Option<u64> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(timestamp.as_nanosecond()).ok()
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
                Event { time: Some(1_665_532_815_064_000_000), kind: Kind::Start { .. } },
                Event { time: None, kind: Kind::Function(_) },
                Event { time: None, kind: Kind::RuntimeDone { .. } },
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
