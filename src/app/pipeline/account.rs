//! What the pipeline tells of itself: on its own lines and, as telemetry, to the backend.

use std::fmt;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::Metric;
use prost::Message;

use super::export::Export;
use super::outlet::Outlet;
use crate::core::chunk::{Chunk, Origin};
use crate::core::delivery::health::Report;
use crate::core::delivery::tally::{DropReason, Tally};
use crate::core::own_telemetry::{self, Span, Standing};
use crate::core::request::{self, Envelope};
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;

impl<E: Export> Outlet<E> {
    /// Counts what the buffer had to drop.
    pub(super) fn count_dropped(&mut self) {
        let dropped = self.buffer.take_dropped();
        for signal in Signal::ALL {
            self.tally.dropped.add(signal, DropReason::BufferFull, *dropped.of(signal));
        }
        let report = self.health.on_dropped(dropped, clock::since_epoch());
        self.tell(report);
    }

    /// What a line begins with that is about this one of several.
    pub(super) fn by_name(&self) -> impl fmt::Display + use<E> {
        self.name.as_ref().map_or_else(String::new, |name| format!("exporter {name}: "))
    }

    pub(super) fn tell(&mut self, report: Option<Report>) {
        match report {
            None => {}
            Some(report @ Report::Recovered { .. }) => {
                tracing::info!("{}{report}", self.by_name());
                self.tell_of_losses();
            }
            Some(report) => tracing::warn!("{}{report}", self.by_name()),
        }
    }

    /// Tells the backend what it did not get, now that the way is free.
    fn tell_of_losses(&mut self) {
        let dropped = self.tally.dropped;
        if dropped.is_empty() {
            return;
        }
        let to = clock::since_epoch();
        let record = own_telemetry::losses(&dropped, self.name.as_deref(), to);
        self.keep_own(Signal::Logs, &[record], 1);
        if self.tells_of_itself {
            // The count goes with the rest.
            return self.tell_of_itself();
        }
        let span = Span { from: self.tally_since, to };
        self.keep_own_metrics(own_telemetry::drop_counter(&dropped, span));
        self.begin_a_tally(to);
    }

    /// Tells the backend what passed, where that was asked for.
    pub(super) fn tell_of_itself(&mut self) {
        if !self.tells_of_itself {
            return;
        }
        let waiting = self.buffer.waiting();
        let kept = |signal| {
            let in_flight = self.lines.of(signal).in_flight.as_ref();
            waiting.of(signal) + in_flight.map_or(0, |in_flight| in_flight.batch.items)
        };
        let standing = Standing {
            kept: PerSignal::from_fn(kept),
            breaker_open: PerSignal::from_fn(|signal| self.lines.of(signal).breaker.is_open()),
        };
        let span = Span { from: self.tally_since, to: clock::since_epoch() };
        let metrics = own_telemetry::metrics(&self.tally, &standing, span);
        self.begin_a_tally(span.to);
        self.keep_own_metrics(metrics);
    }

    fn keep_own_metrics(&mut self, mut metrics: Vec<Metric>) {
        if let Some(name) = &self.name {
            own_telemetry::name_the_exporter(&mut metrics, name);
        }
        let points = metrics.iter().map(own_telemetry::points).sum();
        self.keep_own(Signal::Metrics, &metrics, points);
    }

    fn begin_a_tally(&mut self, since: Duration) {
        self.tally = Tally::default();
        self.tally_since = since;
    }

    fn keep_own<T: Message>(&mut self, signal: Signal, telemetry: &[T], items: usize) {
        if items > 0 && self.takes(signal) {
            let envelope = Envelope::new(&self.rules.own(), &request::scope(request::SCOPE));
            let bytes = envelope.around(telemetry);
            self.keep(Chunk { signal, bytes, items, origin: Origin::Platform, invocation: None }, None);
        }
    }
}
