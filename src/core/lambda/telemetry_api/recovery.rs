//! Recovers events from a malformed body.
//!
//! A well-formed event never yields another event from its text. After a syntax error, reading continues at the next place
//! where the platform can have written an event. The work is linear in the length of the body: no byte is scanned again for an
//! earlier error.

use serde::de::IgnoredAny;

use super::envelope::{BreakLocation, Envelope, find_event, request_id};
use super::repair::repair;
use super::scanner::{Scanned, Scanner};
use super::{
    Delivery, Element, EventKind, PlatformRecord, TelemetryEvent, event, invocation_event_of, read_time,
};

/// Reads one body, front to back.
#[derive(Debug)]
pub(super) struct BodyRecovery<'a> {
    body: &'a [u8],
    /// The position of the `}]` with which the platform closed the last event and the array, if it did.
    close: Option<usize>,
    delivery: Delivery<'a>,
    broken: Option<BrokenRecord<'a>>,
    /// The body may begin with the rest of a record whose beginning is unknown.
    may_be_rest: bool,
    /// The position of the next possible event within a record, as last found; the body's length if there is none.
    next_inside: usize,
    /// An element that is not an event had no end.
    found_endless: bool,
    /// The last event, if it is cut.
    cut: Option<CutEvent<'a>>,
}

/// An event that is cut at the end of the body, although the platform closed the array.
#[derive(Debug)]
pub(super) struct CutEvent<'a> {
    /// The event up to the cut.
    pub(super) bytes: &'a [u8],
    /// The state of its scan at the cut.
    pub(super) scanner: Scanner,
}

/// A record with a syntax error. Its end is known once the following elements prove not to be parts of it.
#[derive(Debug)]
struct BrokenRecord<'a> {
    envelope: Envelope<'a>,
    /// The position of the record.
    from: usize,
    /// The position of the next event, as far as known.
    to: usize,
    /// The counts of the delivery before the record.
    events: usize,
    kept_as_text: usize,
    lost: usize,
}

impl<'a> BodyRecovery<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let end = body.trim_ascii_end();
        let close =
            end.strip_suffix(b"]").and_then(|rest| rest.trim_ascii_end().strip_suffix(b"}")).map(<[u8]>::len);
        Self {
            body,
            close,
            delivery: Delivery::default(),
            broken: None,
            may_be_rest: true,
            next_inside: 0,
            found_endless: false,
            cut: None,
        }
    }

    /// Reads the whole body. Also returns the last event if it is cut.
    pub(super) fn read(mut self) -> (Delivery<'a>, Option<CutEvent<'a>>) {
        let next = match self.first_element() {
            Some(first) if self.is_end_of_body(first) => None,
            Some(first) => Some(first),
            None => {
                self.delivery.lost += 1;
                self.find_next(0, BreakLocation::Outside)
            }
        };
        self.read_from(next)
    }

    /// Continues after an event that ended at `end`.
    pub(super) fn read_behind(mut self, end: usize) -> (Delivery<'a>, Option<CutEvent<'a>>) {
        self.may_be_rest = false;
        let next = self.read_separator(end, end);
        self.read_from(next)
    }

    /// The envelope of the first event and the position of its record.
    fn first_envelope(&self) -> Option<(Envelope<'a>, usize)> {
        let at = self.first_element()?;
        let envelope = Envelope::read(self.body.get(at..)?)?;
        Some((envelope, at + envelope.length))
    }

    /// The position of the first event's record, if the event has this envelope.
    pub(super) fn behind_envelope(&self, repeated: &[u8]) -> Option<usize> {
        let at = self.first_element()?;
        if self.body.get(at..)?.starts_with(repeated) {
            return Some(at + repeated.len());
        }
        let (envelope, at) = self.first_envelope()?;
        Envelope::read(repeated)?.is_repeated_by(&envelope).then_some(at)
    }

    /// Scans from `at`. The `}` that closes the body belongs to the value only if it completes it. Otherwise the scanner stays at
    /// the position before it.
    pub(super) fn scan(&self, scanner: &mut Scanner, at: usize) -> Scanned {
        let close = self.close.filter(|close| *close >= at);
        let value = self.body.get(at..close.unwrap_or(self.body.len())).unwrap_or_default();
        match scanner.scan(value) {
            Scanned::Complete(length) => Scanned::Complete(at + length),
            Scanned::Broken(length) => Scanned::Broken(at + length),
            Scanned::Incomplete => match close {
                Some(close) if scanner.clone().scan(b"}") == Scanned::Complete(1) => {
                    Scanned::Complete(close + 1)
                }
                _ => Scanned::Incomplete,
            },
        }
    }

    /// The position of the `}]` that closes the body: the end of a cut part.
    pub(super) fn close(&self) -> Option<usize> {
        self.close
    }

    /// Returns true if an event can end here: another event or the end of the array follows.
    pub(super) fn is_end_of_event(&self, end: usize) -> bool {
        let at = self.skip_spaces(end);
        self.at(at) == Some(b',') || self.is_end_of_body(at)
    }

    /// Returns true if an element can end here.
    fn is_separated(&self, end: usize) -> bool {
        matches!(self.at(self.skip_spaces(end)), Some(b',' | b']' | b'}'))
    }

    fn is_end_of_body(&self, at: usize) -> bool {
        self.at(at) == Some(b']') && self.skip_spaces(at + 1) == self.body.len()
    }

    fn read_from(mut self, mut next: Option<usize>) -> (Delivery<'a>, Option<CutEvent<'a>>) {
        while let Some(at) = next {
            next = self.read_element(self.skip_spaces(at));
        }
        self.keep_broken();
        (self.delivery, self.cut)
    }

    /// Reads the element at this position. Returns the position of the next one.
    fn read_element(&mut self, at: usize) -> Option<usize> {
        if self.found_endless && Envelope::read(self.body.get(at..).unwrap_or_default()).is_none() {
            // Every element like it would be scanned to the end of the body.
            self.keep_broken();
            self.delivery.lost += 1;
            return self.find_next(at + 1, BreakLocation::Outside);
        }
        let mut scanner = Scanner::default();
        let broken = match self.scan(&mut scanner, at) {
            // A stray quote turns the text after it into a string.
            Scanned::Complete(end) if self.at(at) == Some(b'"') && !self.is_separated(end) => at + 1,
            Scanned::Complete(end) => {
                self.delivery.take(self.bytes(at, end));
                return self.read_separator(at, end);
            }
            Scanned::Broken(from) => from,
            Scanned::Incomplete => self.body.len(),
        };
        self.keep_broken();
        let Some(envelope) = Envelope::read(self.body.get(at..).unwrap_or_default()) else {
            self.delivery.lost += 1;
            let is_endless = broken == self.body.len();
            self.found_endless |= is_endless;
            return self.find_next(if is_endless { at + 1 } else { broken }, BreakLocation::Outside);
        };
        let record = at + envelope.length;
        let is_cut = broken == self.body.len() && !envelope.is_platform();
        if let Some(close) = self.close.filter(|close| is_cut && *close >= record) {
            let bytes = self.bytes(at, close);
            self.cut = Some(CutEvent { bytes, scanner });
            return None;
        }
        self.broken = Some(BrokenRecord {
            envelope,
            from: record,
            to: record,
            events: self.delivery.events.len(),
            kept_as_text: self.delivery.kept_as_text,
            lost: self.delivery.lost,
        });
        self.find_next(broken, BreakLocation::Inside)
    }

    /// Reads the separator after the element from `start` to `end`. Returns the position of the next element.
    fn read_separator(&mut self, start: usize, end: usize) -> Option<usize> {
        let at = self.skip_spaces(end);
        if self.is_end_of_event(end) {
            return (self.at(at) == Some(b',')).then_some(at + 1);
        }
        if self.is_within_record(start, end) {
            if let Some(broken) = &self.broken {
                self.delivery.events.truncate(broken.events);
                self.delivery.kept_as_text = broken.kept_as_text;
                self.delivery.lost = broken.lost;
            }
            return self.find_next(at, BreakLocation::Inside);
        }
        self.keep_broken();
        self.delivery.lost += 1;
        self.find_next(end, BreakLocation::Outside)
    }

    /// Returns true if the elements up to `end` are parts of a record, even if they look like events: the bracket that follows
    /// closes an array or an object that none of them opened.
    fn is_within_record(&mut self, start: usize, end: usize) -> bool {
        let at = self.skip_spaces(end);
        // At least the brackets that close the record and the event follow the last element.
        let closing = match self.at(at) {
            Some(b']') if self.broken.is_some() => return true,
            Some(b']') => at + 1,
            // Only the first element can be the end of an object. All others follow a comma in an array.
            Some(b'}') if self.first_element() == Some(start) => end - 1,
            _ => return false,
        };
        let Some((envelope, from)) = self.first_envelope() else { return false };
        if !self.may_be_rest
            || self.broken.is_some()
            || envelope.is_platform()
            || !is_json(self.bytes(start, end))
        {
            return false;
        }
        if self.next_inside < end {
            self.next_inside = find_event(self.body, end, BreakLocation::Inside).unwrap_or(self.body.len());
        }
        let closes_record = |bytes: &[u8]| {
            let event = bytes.trim_ascii_end().strip_suffix(b"}");
            event.is_some_and(|record| record.trim_ascii_end().ends_with(b"}"))
        };
        let before_next = self.bytes(closing, self.next_inside).trim_ascii_end().strip_suffix(b",");
        let before_close = self.close.map(|close| self.bytes(closing, close + 1));
        if !before_next.or(before_close).is_some_and(closes_record) {
            return false;
        }
        self.may_be_rest = false;
        self.broken = Some(BrokenRecord { envelope, from, to: from, events: 0, kept_as_text: 0, lost: 0 });
        true
    }

    /// Finds the next event after a syntax error.
    fn find_next(&mut self, from: usize, location: BreakLocation) -> Option<usize> {
        let next = find_event(self.body, from, location);
        if let Some(broken) = &mut self.broken {
            broken.to = next.or(self.close).unwrap_or(self.body.len()).max(broken.from);
        }
        next
    }

    /// Keeps the text of the broken record, now that its end is known.
    fn keep_broken(&mut self) {
        let Some(broken) = self.broken.take() else { return };
        let mut text = self.bytes(broken.from, broken.to);
        if broken.to < self.body.len() && self.close != Some(broken.to) {
            text = without_separator(text);
        }
        self.delivery.keep_as_text(&broken.envelope, text, broken.events);
    }

    /// The position of the first element, if the body is an array.
    fn first_element(&self) -> Option<usize> {
        let at = self.skip_spaces(0);
        (self.at(at) == Some(b'[')).then(|| self.skip_spaces(at + 1))
    }

    /// A range of the body; empty if it is invalid.
    pub(super) fn bytes(&self, from: usize, to: usize) -> &'a [u8] {
        self.body.get(from..to).unwrap_or_default()
    }

    fn at(&self, at: usize) -> Option<u8> {
        self.body.get(at).copied()
    }

    fn skip_spaces(&self, at: usize) -> usize {
        let rest = self.body.get(at..).unwrap_or_default();
        at + rest.len() - rest.trim_ascii_start().len()
    }
}

impl<'a> Delivery<'a> {
    /// Adds an element whose end is known.
    pub(super) fn take(&mut self, bytes: &'a [u8]) {
        let text = std::str::from_utf8(bytes).ok();
        let envelope = Envelope::read(bytes);
        // The platform writes no duplicate keys: after an envelope, a second key belongs to an object within the record.
        let is_event = |element: &Element<'_>| !element.has_duplicate_key || envelope.is_none();
        if let Some(element) = text.and_then(|text| serde_json::from_str(text).ok()).filter(is_event) {
            return self.push(event(&element));
        }
        if let Some(repaired) = repair(bytes)
            && let Some(element) = serde_json::from_str(&repaired).ok().filter(is_event)
        {
            return self.push(event(&element).map(TelemetryEvent::into_owned));
        }
        match envelope {
            Some(envelope) => {
                let record = bytes.get(envelope.length..).unwrap_or_default();
                let record = record.strip_suffix(b"}").unwrap_or(record).trim_ascii();
                self.keep_as_text(&envelope, record, self.events.len());
            }
            None => self.lost += 1,
        }
    }

    /// Inserts a malformed record, or a part of one, as text at event index `at`.
    pub(super) fn keep_as_text(&mut self, envelope: &Envelope<'_>, text: &'a [u8], at: usize) {
        if text.is_empty() {
            self.lost += 1;
            return;
        }
        self.kept_as_text += 1;
        let time = read_time(&String::from_utf8_lossy(envelope.time));
        let name = String::from_utf8_lossy(envelope.name).into_owned();
        // A platform event counts even if its record is malformed.
        if let Some(event) = invocation_event_of(&name)
            && let Some(request_id) = request_id(text)
        {
            let record = Box::new(PlatformRecord::default());
            self.events
                .push(TelemetryEvent { time, kind: EventKind::Invocation { event, request_id, record } });
        }
        let kind = EventKind::Text { name, text: String::from_utf8_lossy(text) };
        self.events.insert(at.min(self.events.len()), TelemetryEvent { time, kind });
    }
}

fn is_json(bytes: &[u8]) -> bool {
    let repaired = repair(bytes);
    let bytes = repaired.as_ref().map_or(bytes, String::as_bytes);
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Removes the separator that follows a record in the array: `},`.
fn without_separator(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b",").unwrap_or(text).trim_ascii_end();
    text.strip_suffix(b"}").unwrap_or(text).trim_ascii_end()
}
