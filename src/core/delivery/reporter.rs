//! The counts of one backend's telemetry, and the reports on them: to the log when the backend's state changes, and to the
//! backend as telemetry.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::Metric;

use super::event::{OwnTelemetry, SenderSettings};
use super::health::{Health, Report};
use super::tally::{DropReason, Tally};
use super::verdict::Verdict;
use crate::delivery::own_telemetry::{self, CurrentState, TimeRange};
use crate::signal::{PerSignal, Signal};

/// The interval of the extension's own metrics, if they are enabled.
const OWN_METRICS_INTERVAL: Duration = Duration::from_mins(1);

/// The counts since the last report, and the state that was last logged.
#[derive(Debug)]
pub(super) struct Reporter {
    exporter: Option<Arc<str>>,
    reports_itself: bool,
    health: Health,
    tally: Tally,
    /// The start of the tally, since the epoch and in elapsed time.
    since: Duration,
    since_at: Duration,
}

impl Reporter {
    /// Returns a reporter that starts to count at `wall`, which is `at` in elapsed time.
    pub(super) fn new(settings: &SenderSettings, wall: Duration, at: Duration) -> Self {
        Self {
            exporter: settings.name.clone(),
            reports_itself: settings.reports_itself,
            health: Health::default(),
            tally: Tally::default(),
            since: wall,
            since_at: at,
        }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn count_received(&mut self, signal: Signal, items: usize) {
        *self.tally.received.of_mut(signal) += items;
    }

    pub(super) fn count_sent(&mut self, signal: Signal, items: usize) {
        *self.tally.sent.of_mut(signal) += items;
    }

    pub(super) fn count_dropped(&mut self, signal: Signal, reason: DropReason, items: usize) {
        self.tally.dropped.add(signal, reason, items);
    }

    pub(super) fn count_flush(&mut self, took: Duration) {
        self.tally.flushes.add(took);
    }

    /// Counts the items that a full buffer dropped. Returns the report to log, if any.
    pub(super) fn on_buffer_full(&mut self, dropped: PerSignal<usize>, at: Duration) -> Option<Report> {
        for signal in Signal::ALL {
            self.tally.dropped.add(signal, DropReason::BufferFull, *dropped.of(signal));
        }
        self.health.on_dropped(dropped, at)
    }

    /// Records the verdict on a batch. The caller counts its items. Returns the report to log, if any.
    pub(super) fn on_verdict(
        &mut self,
        signal: Signal,
        items: usize,
        verdict: &Verdict,
        at: Duration,
    ) -> Option<Report> {
        self.health.on_verdict(signal, items, verdict, at)
    }

    /// Returns true if the extension's own metrics are due.
    pub(super) fn is_due(&self, at: Duration) -> bool {
        at.saturating_sub(self.since_at) >= OWN_METRICS_INTERVAL
    }

    /// Returns the report on dropped telemetry, now that the backend answers; empty if nothing was dropped.
    pub(super) fn report_losses(
        &mut self,
        state: &CurrentState,
        wall: Duration,
        at: Duration,
    ) -> Vec<OwnTelemetry> {
        let dropped = self.tally.dropped;
        if dropped.is_empty() {
            return Vec::new();
        }
        let record = own_telemetry::losses(&dropped, self.exporter.as_deref(), wall);
        let metrics = if self.reports_itself {
            // The counts are among these metrics.
            own_telemetry::metrics(&self.tally, state, self.range(wall))
        } else {
            own_telemetry::drop_metrics(&dropped, self.range(wall))
        };
        vec![OwnTelemetry::Log(Box::new(record)), self.begin_tally(metrics, wall, at)]
    }

    /// Returns the extension's own metrics; `None` if they are disabled.
    pub(super) fn report_itself(
        &mut self,
        state: &CurrentState,
        wall: Duration,
        at: Duration,
    ) -> Option<OwnTelemetry> {
        if !self.reports_itself {
            return None;
        }
        let metrics = own_telemetry::metrics(&self.tally, state, self.range(wall));
        Some(self.begin_tally(metrics, wall, at))
    }

    fn range(&self, wall: Duration) -> TimeRange {
        TimeRange { from: self.since, to: wall }
    }

    /// Resets the counts, now that `metrics` holds them.
    fn begin_tally(&mut self, mut metrics: Vec<Metric>, wall: Duration, at: Duration) -> OwnTelemetry {
        if let Some(name) = &self.exporter {
            own_telemetry::set_exporter_name(&mut metrics, name);
        }
        self.tally = Tally::default();
        self.since = wall;
        self.since_at = at;
        OwnTelemetry::Metrics(metrics)
    }
}
