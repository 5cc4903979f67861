//! Reads deliveries in order and joins records that the platform cut.
//!
//! Platform: a record larger than the subscription's `maxBytes` is cut anywhere in its JSON. The POST still ends with `}]`,
//! and the next POST repeats the envelope before the rest. The parts are not numbered. So the scan of the record continues in
//! the next POST, and only a POST in which it can continue is a continuation.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::envelope::Envelope;
use super::recovery::{BodyRecovery, CutEvent};
use super::scanner::{Scanned, Scanner};
use super::{Delivery, read_well_formed};

/// The maximum size of a joined record, in bytes. A larger one is kept as text, part by part.
pub(super) const JOIN_LIMIT: usize = 8 << 20;

/// Reads deliveries one after the other. Holds a cut record until its rest arrives.
#[derive(Debug, Default)]
pub struct Deliveries {
    cut: Option<CutRecord>,
}

/// A record whose rest has not arrived.
#[derive(Debug)]
struct CutRecord {
    /// The event up to the cut, with its envelope; only the envelope once the record is kept as text.
    event: Vec<u8>,
    /// The length of the envelope.
    envelope: usize,
    is_kept_as_text: bool,
    scanner: Scanner,
    /// The fingerprint of the POST in which it began, to detect a duplicate of that POST.
    first: Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    length: usize,
    hash: u64,
}

impl Fingerprint {
    fn of(body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self { length: body.len(), hash: hasher.finish() }
    }
}

impl Deliveries {
    /// Reads the next delivery. Never fails: malformed records are kept as text or counted.
    pub fn read<'a>(&mut self, body: &'a [u8]) -> Delivery<'a> {
        let Some(cut) = self.cut.take() else { return self.read_alone(body) };
        let recovery = BodyRecovery::new(body);
        let Some(resumed) = cut.resume(&recovery) else { return self.read_after_cut(cut, body) };
        let mut delivery = Delivery::default();
        match resumed {
            Resumed::Partial { part, scanner } => {
                let mut cut = CutRecord { scanner, ..cut };
                cut.add(part, &mut delivery);
                self.cut = Some(cut);
            }
            Resumed::Complete { part, end } => {
                cut.complete(part, &mut delivery);
                let (behind, part) = recovery.read_behind(end);
                delivery.append(behind);
                self.keep_cut(part, body, &mut delivery);
            }
        }
        delivery
    }

    /// Stops waiting for the rest of a cut record and keeps the record as text. If the rest still arrives, its end is found.
    pub fn give_up(&mut self) -> Delivery<'static> {
        let mut delivery = Delivery::default();
        if let Some(cut) = &mut self.cut {
            cut.give_up(&mut delivery);
        }
        delivery
    }

    /// Reads a body that is no continuation.
    fn read_alone<'a>(&mut self, body: &'a [u8]) -> Delivery<'a> {
        if let Some(delivery) = read_well_formed(body) {
            return delivery;
        }
        let (mut delivery, part) = BodyRecovery::new(body).read();
        self.keep_cut(part, body, &mut delivery);
        delivery
    }

    /// Reads a body that arrived in place of the rest of a cut record.
    fn read_after_cut<'a>(&mut self, mut cut: CutRecord, body: &'a [u8]) -> Delivery<'a> {
        if cut.first == Fingerprint::of(body) {
            // Platform: a delivery may be repeated.
            self.cut = Some(cut);
            return Delivery::default();
        }
        let mut delivery = Delivery::default();
        cut.give_up(&mut delivery);
        delivery.append(self.read_alone(body));
        delivery
    }

    fn keep_cut<'a>(&mut self, part: Option<CutEvent<'a>>, body: &[u8], delivery: &mut Delivery<'a>) {
        let Some(CutEvent { bytes, scanner }) = part else { return };
        let Some(envelope) = Envelope::read(bytes) else { return };
        let spaces = bytes.iter().skip(envelope.length).take_while(|byte| byte.is_ascii_whitespace()).count();
        let length = envelope.length + spaces;
        let (envelope, record) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        let mut cut = CutRecord {
            event: envelope.to_vec(),
            envelope: length,
            is_kept_as_text: false,
            scanner,
            first: Fingerprint::of(body),
        };
        cut.add(record, delivery);
        self.cut = Some(cut);
    }
}

/// A POST that continues a cut record.
enum Resumed<'a> {
    /// The body holds only the next part of the record.
    Partial { part: &'a [u8], scanner: Scanner },
    /// The body holds the rest of the record, up to the end of the event.
    Complete { part: &'a [u8], end: usize },
}

impl CutRecord {
    /// Continues the record in the next body; `None` if that is no continuation.
    fn resume<'a>(&self, recovery: &BodyRecovery<'a>) -> Option<Resumed<'a>> {
        let at = recovery.behind_envelope(self.event.get(..self.envelope)?)?;
        let mut scanner = self.scanner.clone();
        match recovery.scan(&mut scanner, at) {
            Scanned::Complete(end) if recovery.is_end_of_event(end) => {
                Some(Resumed::Complete { part: recovery.bytes(at, end), end })
            }
            Scanned::Incomplete => {
                let part = recovery.bytes(at, recovery.close().filter(|close| *close >= at)?);
                Some(Resumed::Partial { part, scanner })
            }
            _ => None,
        }
    }

    /// Adds a part that is not the last.
    fn add<'a>(&mut self, part: &'a [u8], delivery: &mut Delivery<'a>) {
        if self.event.len() + part.len() > JOIN_LIMIT {
            self.give_up(delivery);
        }
        if self.is_kept_as_text {
            self.keep_as_text(part, delivery);
        } else {
            self.event.extend_from_slice(part);
        }
    }

    /// Adds the last part: the rest of the record, and the brace after it.
    fn complete<'a>(mut self, part: &'a [u8], delivery: &mut Delivery<'a>) {
        if self.event.len() + part.len() > JOIN_LIMIT {
            self.give_up(delivery);
        }
        if self.is_kept_as_text {
            let part = part.strip_suffix(b"}").unwrap_or(part);
            return self.keep_as_text(part, delivery);
        }
        self.event.extend_from_slice(part);
        let mut joined = Delivery::default();
        joined.take(&self.event);
        delivery.append(joined.into_owned());
    }

    fn keep_as_text<'a>(&self, part: &'a [u8], delivery: &mut Delivery<'a>) {
        if let Some(envelope) = Envelope::read(&self.event).filter(|_| !part.is_empty()) {
            delivery.keep_as_text(&envelope, part, delivery.events.len());
        }
    }

    /// Keeps the record so far, and all its later parts, as text.
    fn give_up(&mut self, delivery: &mut Delivery<'_>) {
        let record = self.event.split_off(self.envelope.min(self.event.len()));
        let mut kept = Delivery::default();
        self.keep_as_text(&record, &mut kept);
        delivery.append(kept.into_owned());
        self.is_kept_as_text = true;
    }
}
