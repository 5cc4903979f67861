//! What the pipeline knows of one signal's way to the backend.

use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::core::delivery::breaker::{Breaker, Retry};
use crate::core::delivery::buffer::Batch;
use crate::core::otlp::Limits;

/// A request that was too large is not cut any further than to so many bytes: no backend takes less, so that its size is
/// not what is wrong with it.
const CUT_LEAST: usize = 16 * 1024;
/// What a probe carries at most, so that it is soon through.
const PROBE_BYTES: usize = 64 * 1024;
/// By so much the wall clock has to get ahead of the monotonic one for a freeze. The network time protocol sets it
/// right by less.
const FREEZE_LEAST: Duration = Duration::from_secs(1);

/// One signal's way to the backend.
#[derive(Debug)]
pub(super) struct Line {
    /// What people have set.
    configured: Limits,
    /// What the backend takes, as far as it is known.
    limits: Limits,
    /// Cutting has not helped so far: the backend says "too large" to anything.
    cutting_is_idle: bool,
    pub(super) breaker: Breaker,
    pub(super) in_flight: Option<InFlight>,
    /// What comes beside the function waits for more of its like until then.
    pub(super) gathers_until: Option<Instant>,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) task: AbortHandle,
    pub(super) batch: Batch,
    pub(super) started_at: Instant,
    /// The same in wall time.
    pub(super) started_wall: Duration,
    /// Started by the flush that is going on, so that its failure is the flush's.
    pub(super) of_flush: bool,
    pub(super) retry: Retry,
    /// A probe is called off then, once the function is done.
    pub(super) call_off_at: Option<Instant>,
}

impl InFlight {
    /// Whether the environment was frozen since: then nobody answers it any more, and its timeout, which is one of the
    /// monotonic clock, is as far away as before.
    pub(super) fn was_frozen(&self, wall: Duration, now: Instant) -> bool {
        let ran = now.saturating_duration_since(self.started_at);
        wall.saturating_sub(self.started_wall).saturating_sub(ran) > FREEZE_LEAST
    }
}

impl Line {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            configured: limits,
            limits,
            cutting_is_idle: false,
            breaker: Breaker::default(),
            in_flight: None,
            gathers_until: None,
        }
    }

    /// How large a request may be.
    pub(super) fn limits(&self) -> Limits {
        let Limits { items, bytes } = self.limits;
        Limits { items, bytes: if self.breaker.is_open() { bytes.min(PROBE_BYTES) } else { bytes } }
    }

    /// Until when what comes beside the function still waits for more of its like.
    pub(super) fn gathers_past(&self, now: Instant) -> Option<Instant> {
        self.gathers_until.filter(|until| now < *until)
    }

    /// When a probe that is under way has had its time.
    pub(super) fn probe_ends_at(&self) -> Option<Instant> {
        Some(self.in_flight.as_ref()?.started_at + self.breaker.probe_budget()?)
    }

    /// Takes that the backend found a batch too large; says whether smaller ones are worth trying.
    pub(super) fn too_large(&mut self, batch: &Batch) -> bool {
        if self.cutting_is_idle || batch.items < 2 {
            return false;
        }
        if batch.bytes <= CUT_LEAST {
            self.cutting_is_idle = true;
            self.limits = self.configured;
            return false;
        }
        self.limits.bytes = batch.bytes / 2;
        true
    }

    /// Takes an answer. Says whether it ends an outage.
    pub(super) fn answered(&mut self, accepted: bool) -> bool {
        if accepted {
            self.cutting_is_idle = false;
        }
        self.breaker.answered()
    }

    /// Takes a failure; says when to try again.
    pub(super) fn failed(
        &mut self,
        retry: Retry,
        wish: Option<Duration>,
        wall: Duration,
        now: Instant,
    ) -> Instant {
        self.breaker.failed(retry, wish, wall, fastrand::f64());
        self.resume_at(wall, now).unwrap_or(now)
    }

    /// When to try again after a failure.
    pub(super) fn resume_at(&self, wall: Duration, now: Instant) -> Option<Instant> {
        let resume_at = self.breaker.resume_at()?;
        now.checked_add(resume_at.saturating_sub(wall))
    }
}
