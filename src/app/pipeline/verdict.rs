//! What becomes of attempts: how they end, what that says of the way to the backend, and when they are called off.
//!
//! A batch whose attempt has ended is released, given back, or given back cut; nothing else lets go of one.

use std::time::Duration;

use tokio::task::{Id, JoinError};

use super::export::Export;
use super::flush::Again;
use super::line::InFlight;
use super::outlet::{Ended, Outlet, Sink};
use crate::core::delivery::breaker::Retry;
use crate::core::delivery::tally::DropReason;
use crate::core::delivery::verdict::{Failure, Verdict};
use crate::core::signal::Signal;
use crate::edge::clock;

/// An attempt that had less time than this before it was called off says nothing of the endpoint.
const FAIR_TIME: Duration = Duration::from_millis(100);

/// An attempt that failed, after which the same may go through.
struct Failed {
    failure: Failure,
    /// How long the backend asked to wait.
    after: Option<Duration>,
    retry: Retry,
    of_flush: bool,
}

impl<E: Export> Outlet<E> {
    /// Takes the end of a task. That of an attempt called off belongs to nothing any more.
    pub(super) fn settle(&mut self, ended: Result<(Id, Ended<E>), JoinError>) {
        let (id, verdict) = match ended {
            Ok((_, Ended::Setup(exporter))) => return self.set_up(exporter),
            Ok((id, Ended::Attempt(verdict))) => (id, verdict),
            // A set-up that panicked leaves nothing to send with.
            Err(error) if error.is_panic() && matches!(self.sink, Sink::Preparing { .. }) => {
                return self.set_up(None);
            }
            // A batch on which the exporter panics would make it panic again.
            Err(error) => (error.id(), Verdict::Refused(Failure::Panicked)),
        };
        if self.warming.take_if(|task| task.id() == id).is_some() {
            // What is wrong with the way shows when something is to go it; here nothing was lost.
            self.note_answer(&verdict);
            return;
        }
        let is_it = |in_flight: &mut InFlight| in_flight.task.id() == id;
        let found = Signal::ALL
            .into_iter()
            .find_map(|signal| Some((signal, self.lines.of_mut(signal).in_flight.take_if(is_it)?)));
        if let Some((signal, in_flight)) = found {
            self.note_answer(&verdict);
            self.judge(signal, in_flight, verdict);
        }
    }

    /// Takes the verdict of an attempt.
    fn judge(&mut self, signal: Signal, in_flight: InFlight, verdict: Verdict) {
        let InFlight { batch, of_flush, retry, .. } = in_flight;
        let line = self.lines.of_mut(signal);
        if !matches!(verdict, Verdict::Accepted { .. }) {
            // What comes back has waited long enough.
            line.gathers_until = None;
        }
        if matches!(verdict, Verdict::TooLarge(_)) && line.too_large(&batch) {
            let limits = line.limits();
            self.buffer.give_back_cut(batch, limits);
            self.count_dropped();
            return;
        }
        let report = self.health.on_verdict(signal, batch.items, &verdict, clock::since_epoch());
        let reason = match verdict {
            Verdict::Accepted { rejected } => {
                *self.tally.sent.of_mut(signal) += batch.items.saturating_sub(rejected);
                self.tally.dropped.add(signal, DropReason::Rejected, rejected);
                None
            }
            Verdict::TooLarge(_) => Some(DropReason::TooLarge),
            Verdict::Refused(_) => Some(DropReason::Refused),
            Verdict::Retry { failure, after } => {
                self.buffer.give_back(batch);
                self.failed(signal, Failed { failure, after, retry, of_flush });
                self.tell(report);
                return;
            }
        };
        let items = batch.items;
        self.buffer.release(&batch);
        // What it shares with others counts until then, and what is told of a recovery needs the room.
        drop(batch);
        if let Some(reason) = reason {
            self.tally.dropped.add(signal, reason, items);
        } else if let Some(flush) = &mut self.flush {
            flush.progressed(signal);
        }
        if self.lines.of_mut(signal).answered(reason.is_none()) {
            self.recovered(signal);
        }
        self.tell(report);
    }

    /// Takes that an attempt failed, after which the same may go through.
    fn failed(&mut self, signal: Signal, failed: Failed) {
        let Failed { failure, after, retry, of_flush } = failed;
        let now = clock::now();
        let line = self.lines.of_mut(signal);
        let at = line.failed(retry, after, clock::since_epoch(), now);
        // An attempt from before the flush leaves it one of its own, but not after one that took all of its time.
        let trips = match self.flush.as_mut().filter(|_| of_flush) {
            Some(flush) => !flush.retries(signal, Again { at, after, within: retry.max_elapsed_time }, now),
            None => failure == Failure::Timeout,
        };
        if trips {
            line.breaker.trip();
        }
    }

    /// What a signal has recovered from, signals that go to the same endpoint have as well.
    fn recovered(&mut self, signal: Signal) {
        let endpoint = |sink: &Sink<E>, signal| match sink {
            Sink::Ready(exporter) => exporter.way(signal).map(|way| way.endpoint),
            _ => None,
        };
        for other in Signal::ALL {
            if endpoint(&self.sink, other) == endpoint(&self.sink, signal) {
                self.lines.of_mut(other).breaker.answered();
            }
        }
    }

    fn note_answer(&mut self, verdict: &Verdict) {
        match verdict {
            // Silence says nothing of new connections.
            Verdict::Retry { failure: Failure::Timeout, .. } => self.suspect = true,
            Verdict::Retry { .. } => {}
            Verdict::Accepted { .. } | Verdict::TooLarge(_) | Verdict::Refused(_) => {
                self.last_answer = clock::since_epoch();
            }
        }
    }

    /// Probes that are under way have their time, where the function waits for them, or are called off.
    pub(super) fn limit_probes(&mut self, waits: bool) {
        let now = clock::now();
        for signal in Signal::ALL {
            let line = self.lines.of_mut(signal);
            let ends_at = line.probe_ends_at();
            if let (Some(ends_at), Some(probe)) = (ends_at, &mut line.in_flight) {
                probe.call_off_at = Some(if waits { ends_at } else { now });
            }
        }
    }

    /// Ends an attempt that has no answer, and with it trusts none of the connections.
    fn abort(&mut self, attempt: InFlight) -> InFlight {
        attempt.task.abort();
        self.suspect = true;
        attempt
    }

    pub(super) fn call_off_probe(&mut self, signal: Signal, probe: InFlight) {
        let probe = self.abort(probe);
        let breaker = &mut self.lines.of_mut(signal).breaker;
        let had = clock::now().saturating_duration_since(probe.started_at);
        if breaker.probe_budget().is_some_and(|budget| had >= budget) {
            breaker.probe_hung();
        }
        self.judge(signal, probe, Verdict::retry(Failure::FlushTimeout));
    }

    /// Takes what has no answer when a flush is called off for an answer: the endpoint hangs.
    pub(super) fn judge_the_unanswered(&mut self) {
        // One whose own flush has ended is not the one that is called off.
        if self.flush.is_none() {
            return;
        }
        let now = clock::now();
        for signal in Signal::ALL {
            let flush = self.flush.as_ref();
            let progressed = flush.is_some_and(|flush| flush.has_progressed(signal));
            let is_unanswered = |in_flight: &mut InFlight| {
                let had = now.saturating_duration_since(in_flight.started_at);
                had >= FAIR_TIME && !progressed
            };
            if let Some(in_flight) = self.lines.of_mut(signal).in_flight.take_if(is_unanswered) {
                let in_flight = self.abort(in_flight);
                self.judge(signal, in_flight, Verdict::retry(Failure::FlushTimeout));
                self.lines.of_mut(signal).breaker.trip();
            }
        }
    }

    /// Ends what was in flight over a freeze, so that it goes at once over a new connection.
    pub(super) fn take_back_the_frozen(&mut self) {
        let (now, wall) = (clock::now(), clock::since_epoch());
        for signal in Signal::ALL {
            let was_frozen = |in_flight: &mut InFlight| in_flight.was_frozen(wall, now);
            if let Some(in_flight) = self.lines.of_mut(signal).in_flight.take_if(was_frozen) {
                self.take_back(in_flight);
            }
        }
    }

    fn take_back(&mut self, in_flight: InFlight) {
        let InFlight { batch, .. } = self.abort(in_flight);
        self.buffer.give_back(batch);
    }

    /// Ends what is in flight and keeps it.
    pub(super) fn call_off(&mut self) {
        // What has got through in this very moment must not be sent again.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.settle(ended);
        }
        if let Some(task) = self.warming.take() {
            task.abort();
        }
        for signal in Signal::ALL {
            if let Some(in_flight) = self.lines.of_mut(signal).in_flight.take() {
                self.take_back(in_flight);
            }
        }
        if let Some(flush) = self.flush.take() {
            self.tally.flushes.add(flush.took());
        }
    }
}
