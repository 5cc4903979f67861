//! The lifecycle of the extension: when it calls `/next`, flushes and exits. A state machine without IO.
//!
//! A *held* invocation flushes at its end: `/next` is called after that flush. An *unheld* one costs nothing: `/next` is
//! called as soon as INVOKE has arrived, and Lambda waits for the function alone.
//!
//! It promises, for any order of events:
//! - at most one `/next` is outstanding. None is *called* while a flush is in flight, or after SHUTDOWN;
//! - a held invocation is held until its own `runtimeDone` and the flush after it, and never past its deadline less
//!   [`LifecycleSettings::margin`]. A foreign, late, duplicate or missing `runtimeDone` neither holds it nor ends it;
//! - if no `runtimeDone` arrives for a held invocation, no invocation is held until a `runtimeDone` arrives. This is logged once;
//! - the only flush while `/next` is outstanding is the one before the deadline of an unheld invocation. It ends with the
//!   `runtimeDone` of that invocation, and is cancelled before the next event is handled;
//! - the process exits before the deadline of SHUTDOWN, which may be the first event. A clock that is ahead of the platform's
//!   makes deadlines look too near. See `MIN_SHUTDOWN_TIME` and `MIN_FUNCTION_TIMEOUT` for the minimums;
//! - a timeout that is not due does nothing.
//!
//! Calls to `/next`, flushes and timers are left to `app::driver`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The number of failed `/next` calls in a row after which the environment counts as broken.
const MAX_NEXT_FAILURES: u32 = 10;
/// The number of early `runtimeDone` ids kept, in case one belongs to the next INVOKE.
const EARLY_DONE_LIMIT: usize = 8;
/// A timer that is later than this was delayed by a freeze, so its function has ended.
const MAX_TIMER_LATENESS: Duration = Duration::from_millis(100);
/// The number of unheld invocations remembered until their `runtimeDone` arrives.
const PENDING_LIMIT: usize = 8;
/// Platform: SIGKILL comes two seconds after SHUTDOWN. A nearer deadline than this means that a clock is wrong.
const MIN_SHUTDOWN_TIME: Duration = Duration::from_millis(500);
/// Platform: no function can have a shorter timeout. A nearer deadline than this means that a clock is wrong.
const MIN_FUNCTION_TIMEOUT: Duration = Duration::from_secs(1);
const INITIAL_NEXT_BACKOFF: Duration = Duration::from_millis(10);
const MAX_NEXT_BACKOFF: Duration = Duration::from_secs(1);
/// A flush is cancelled at least this long before its timeout, because ending its requests and calling `/next` take time too.
const MIN_FLUSH_WIND_DOWN: Duration = Duration::from_millis(5);
/// The share of the flush timeout by which a flush is cancelled early. On a virtual machine that was idle meanwhile, a timer
/// of a second was 3 ms late, and the code that ran after it took 15 ms.
const FLUSH_WIND_DOWN_SHARE: u32 = 20;

/// The settings from the user and the platform.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleSettings {
    /// The maximum time from the end of the handler to `/next`, flush included.
    pub flush_timeout: Duration,
    /// `/next` is called at least this long before the function's timeout.
    pub margin: Duration,
    /// The process exits at least this long before SIGKILL.
    pub exit_margin: Duration,
    /// The time after SHUTDOWN in which the last telemetry may arrive.
    pub linger: Duration,
    /// True if the Telemetry API will send `runtimeDone`. If not (emulators answer the subscription with 202), `/next` is called
    /// at once, and telemetry is sent as it arrives.
    pub runtime_done_expected: bool,
}

impl LifecycleSettings {
    /// The maximum duration of a flush.
    fn flush_budget(&self) -> Duration {
        let wind_down = MIN_FLUSH_WIND_DOWN.max(self.flush_timeout / FLUSH_WIND_DOWN_SHARE);
        self.flush_timeout.saturating_sub(wind_down.min(self.flush_timeout / 2))
    }
}

/// An input of the lifecycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleEvent {
    /// Registered and subscribed; the first `/next` may be called.
    InitDone,
    /// `/next` answered INVOKE.
    Invoke {
        request_id: String,
        /// The time at which the function times out.
        deadline: Instant,
        /// True if `/next` must wait for the end of the function and a flush. See [`crate::delivery::cadence`].
        held: bool,
    },
    /// The Telemetry API sent `platform.runtimeDone`.
    RuntimeDone {
        /// The request id of the invocation that is done.
        request_id: String,
    },
    /// The flush is over, successful or not.
    FlushDone,
    /// `/next` answered SHUTDOWN.
    Shutdown {
        /// The time of SIGKILL.
        deadline: Instant,
    },
    /// `/next` failed.
    NextFailed,
    /// A task ended or panicked.
    TaskExited(Task),
}

/// The tasks of the extension, by what their end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Without it, no `runtimeDone` will arrive.
    Telemetry,
    /// Without it, no flush will end.
    Pipeline,
    /// Without it, the lifecycle is the same.
    Receiver,
}

/// An output of the lifecycle. The caller carries actions out in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleAction {
    /// An invocation begins: telemetry may be sent.
    OpenWindow {
        /// True if [`LifecycleAction::CallNext`] follows at the end of the invocation, not at once.
        held: bool,
    },
    /// The invocation has ended: a freeze may cut off requests in flight.
    CloseWindow,
    /// Call `/next`.
    CallNext,
    /// Send everything, and answer with [`LifecycleEvent::FlushDone`].
    StartFlush {
        /// The reason for the flush.
        reason: FlushReason,
        /// The time at which it is cancelled.
        deadline: Instant,
    },
    /// Cancel the flush: abort requests in flight and keep their batches. No [`LifecycleEvent::FlushDone`] is expected.
    CancelFlush,
    /// Log a warning.
    Warn(Warning),
    /// Stop receiving telemetry from the function and the platform.
    StopIntake,
    /// Report to Lambda that the extension cannot continue.
    ReportError,
    /// Exit the process.
    Exit,
}

/// The reason for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// The function is done.
    EndOfInvocation,
    /// The function is about to time out. Its logs are sent before.
    NearDeadline,
    /// The environment shuts down.
    Shutdown,
}

/// A warning for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No `runtimeDone` arrived for a held invocation.
    NoRuntimeDone,
}

/// The state machine of the lifecycle.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: LifecycleSettings,
    phase: Phase,
    next_outstanding: bool,
    flush: Option<ActiveFlush>,
    /// The ids of each `runtimeDone` since the last invocation. One may arrive before its INVOKE, which comes over another
    /// connection.
    early_done: VecDeque<String>,
    last_request_id: Option<String>,
    /// The running invocation, if it is unheld and has not ended as far as known.
    unheld: Option<UnheldInvocation>,
    /// Earlier unheld invocations whose `runtimeDone` has not arrived.
    pending: VecDeque<String>,
    /// True if a held invocation reached its deadline, and no `runtimeDone` has arrived since.
    end_missed: bool,
    /// The warning that has not been logged yet.
    pending_warning: Option<Warning>,
    next_failures: u32,
    /// The time to call `/next` again after it failed.
    retry_next_at: Option<Instant>,
    pipeline_alive: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Init,
    Ready,
    Invoking(HeldInvocation),
    /// SHUTDOWN has arrived.
    Draining {
        /// The start of the last flush.
        flush_at: Instant,
        deadline: Instant,
    },
    Stopped,
}

#[derive(Clone, Debug)]
struct HeldInvocation {
    request_id: String,
    /// The function is done, and no flush since then covers it.
    done: bool,
    /// The `runtimeDone` has arrived.
    announced: bool,
    /// The time to flush while the function still runs; `None` once done.
    flush_at: Option<Instant>,
    /// The time at which `/next` is called in any case.
    give_up_at: Instant,
}

#[derive(Clone, Debug)]
struct UnheldInvocation {
    request_id: String,
    /// The time to flush; `None` once done.
    flush_at: Option<Instant>,
    /// The time at which that flush is cancelled.
    give_up_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct ActiveFlush {
    reason: FlushReason,
    deadline: Instant,
}

impl Lifecycle {
    /// Returns the state before [`LifecycleEvent::InitDone`].
    pub fn new(settings: LifecycleSettings) -> Self {
        Self {
            settings,
            phase: Phase::Init,
            next_outstanding: false,
            flush: None,
            early_done: VecDeque::new(),
            last_request_id: None,
            unheld: None,
            pending: VecDeque::new(),
            end_missed: false,
            pending_warning: Some(Warning::NoRuntimeDone),
            next_failures: 0,
            retry_next_at: None,
            pipeline_alive: true,
        }
    }

    /// Handles an event. Returns the actions to carry out.
    pub fn on(&mut self, event: LifecycleEvent, now: Instant) -> Vec<LifecycleAction> {
        match event {
            LifecycleEvent::InitDone => self.init_done(),
            LifecycleEvent::Invoke { request_id, deadline, held } => {
                self.invoke(request_id, deadline, held, now)
            }
            LifecycleEvent::RuntimeDone { request_id } => self.runtime_done(request_id, now),
            LifecycleEvent::FlushDone => self.flush_done(now),
            LifecycleEvent::Shutdown { deadline } => self.shutdown(deadline, now),
            LifecycleEvent::NextFailed => self.next_failed(now),
            LifecycleEvent::TaskExited(task) => self.task_exited(task, now),
        }
    }

    /// Returns true if events announce the ends of invocations, after which the environment may freeze. If not, nothing shows
    /// when sending should pause.
    pub fn announces_ends(&self) -> bool {
        self.settings.runtime_done_expected
    }

    /// The time at which [`Lifecycle::on_timeout`] is due.
    pub fn timeout(&self) -> Option<Instant> {
        let due = match (self.flush, &self.phase) {
            (Some(flush), _) => Some(flush.deadline),
            (None, Phase::Ready) => self.unheld.as_ref().and_then(|unheld| unheld.flush_at),
            (None, Phase::Invoking(invocation)) => {
                Some(invocation.flush_at.map_or(invocation.give_up_at, |at| at.min(invocation.give_up_at)))
            }
            (None, Phase::Draining { flush_at, .. }) => Some(*flush_at),
            (None, Phase::Init | Phase::Stopped) => None,
        };
        due.into_iter().chain(self.retry_next_at).min()
    }

    /// Handles the timeout. Does nothing if it is not due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<LifecycleAction> {
        if self.timeout().is_none_or(|due| now < due) {
            return Vec::new();
        }
        if self.retry_next_at.is_some_and(|at| at <= now) {
            let mut actions = self.cancel_flush();
            actions.extend(self.call_next());
            return actions;
        }
        if self.flush.is_some() {
            let mut actions = vec![LifecycleAction::CancelFlush];
            actions.extend(self.flush_done(now));
            return actions;
        }
        match &mut self.phase {
            Phase::Ready => self.flush_unheld(now),
            Phase::Invoking(invocation) if now >= invocation.give_up_at => self.end_invocation(),
            Phase::Invoking(invocation) => {
                invocation.flush_at = None;
                let deadline = invocation.give_up_at;
                self.start_flush(FlushReason::NearDeadline, deadline, now)
            }
            Phase::Draining { deadline, .. } => {
                let deadline = *deadline;
                let mut actions = self.warn_of_missed_end();
                actions.extend(self.start_flush(FlushReason::Shutdown, deadline, now));
                actions
            }
            Phase::Init | Phase::Stopped => Vec::new(),
        }
    }

    fn init_done(&mut self) -> Vec<LifecycleAction> {
        if !matches!(self.phase, Phase::Init) {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        self.call_next()
    }

    fn call_next(&mut self) -> Vec<LifecycleAction> {
        self.retry_next_at = None;
        self.next_outstanding = true;
        vec![LifecycleAction::CallNext]
    }

    fn invoke(
        &mut self,
        request_id: String,
        deadline: Instant,
        held: bool,
        now: Instant,
    ) -> Vec<LifecycleAction> {
        if !self.next_outstanding {
            return Vec::new();
        }
        self.next_answered();
        let mut actions = self.cancel_flush();
        self.remember_unheld();
        actions.extend(self.warn_of_missed_end());
        let done = self.early_done.drain(..).any(|early| early == request_id);
        self.last_request_id = Some(request_id.clone());
        let held = held && self.settings.runtime_done_expected && !self.end_missed;
        actions.push(LifecycleAction::OpenWindow { held });
        let deadline = deadline.max(now + MIN_FUNCTION_TIMEOUT);
        let give_up_at = instant_before(deadline, self.settings.margin, now);
        let left = give_up_at.saturating_duration_since(now);
        // A function with a short timeout gets at least half of it before the flush uses its CPU.
        let lead = self.settings.flush_budget().min(left / 2);
        let flush_at = Some(instant_before(give_up_at, lead, now));
        if held {
            let invocation = HeldInvocation { request_id, done, announced: done, flush_at, give_up_at };
            self.phase = Phase::Invoking(invocation);
            if done {
                actions.extend(self.flush_invocation(now));
            }
            return actions;
        }
        if done {
            actions.push(LifecycleAction::CloseWindow);
        } else if self.settings.runtime_done_expected {
            self.unheld = Some(UnheldInvocation { request_id, flush_at, give_up_at });
        }
        actions.extend(self.call_next());
        actions
    }

    fn runtime_done(&mut self, request_id: String, now: Instant) -> Vec<LifecycleAction> {
        self.end_missed = false;
        // Platform: a failed asynchronous invocation is repeated under its request id. The first end belongs to the first attempt.
        if let Some(late) = self.pending.iter().position(|pending| *pending == request_id) {
            self.pending.remove(late);
            return Vec::new();
        }
        if self.unheld.take_if(|unheld| unheld.request_id == request_id).is_some() {
            let mut actions = self.cancel_flush();
            actions.push(LifecycleAction::CloseWindow);
            return actions;
        }
        match &mut self.phase {
            Phase::Invoking(invocation) if invocation.request_id == request_id => {
                invocation.done = true;
                invocation.announced = true;
                if self.flush.is_none() { self.flush_invocation(now) } else { Vec::new() }
            }
            // A duplicate or late one of the last invocation says nothing about the next, even if Lambda repeats the invocation
            // under the same request id.
            Phase::Init | Phase::Ready if self.last_request_id.as_ref() != Some(&request_id) => {
                if self.early_done.len() == EARLY_DONE_LIMIT {
                    self.early_done.pop_front();
                }
                self.early_done.push_back(request_id);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Flushes near the deadline of an unheld invocation, so that the function's logs are sent before it times out.
    fn flush_unheld(&mut self, now: Instant) -> Vec<LifecycleAction> {
        let Some(unheld) = &mut self.unheld else { return Vec::new() };
        let late = unheld.flush_at.take().is_some_and(|at| now > at + MAX_TIMER_LATENESS);
        let deadline = unheld.give_up_at;
        if late || deadline <= now {
            return Vec::new();
        }
        self.start_flush(FlushReason::NearDeadline, deadline, now)
    }

    /// Remembers the unheld invocation, because the next event arrived before its `runtimeDone`.
    fn remember_unheld(&mut self) {
        let Some(unheld) = self.unheld.take() else { return };
        if self.pending.len() == PENDING_LIMIT {
            self.pending.pop_front();
        }
        self.pending.push_back(unheld.request_id);
    }

    fn cancel_flush(&mut self) -> Vec<LifecycleAction> {
        self.flush.take().map(|_| LifecycleAction::CancelFlush).into_iter().collect()
    }

    /// Warns once of a missing `runtimeDone`. Only with the next event, because a function that times out sends none before its
    /// deadline either.
    fn warn_of_missed_end(&mut self) -> Vec<LifecycleAction> {
        let warning = if self.end_missed { self.pending_warning.take() } else { None };
        warning.map(LifecycleAction::Warn).into_iter().collect()
    }

    /// Starts the flush of a held invocation whose function is done. Ends the invocation if there is no time for a flush.
    fn flush_invocation(&mut self, now: Instant) -> Vec<LifecycleAction> {
        let Phase::Invoking(invocation) = &mut self.phase else { return Vec::new() };
        let deadline = (now + self.settings.flush_budget()).min(invocation.give_up_at);
        if deadline <= now {
            return self.end_invocation();
        }
        invocation.done = false;
        invocation.flush_at = None;
        self.start_flush(FlushReason::EndOfInvocation, deadline, now)
    }

    fn start_flush(&mut self, reason: FlushReason, deadline: Instant, now: Instant) -> Vec<LifecycleAction> {
        self.flush = Some(ActiveFlush { reason, deadline });
        if self.pipeline_alive {
            vec![LifecycleAction::StartFlush { reason, deadline }]
        } else {
            // The pipeline would not answer, so the flush counts as done.
            self.flush_done(now)
        }
    }

    fn flush_done(&mut self, now: Instant) -> Vec<LifecycleAction> {
        let Some(flush) = self.flush.take() else { return Vec::new() };
        match (flush.reason, &self.phase) {
            (FlushReason::Shutdown, _) => {
                self.phase = Phase::Stopped;
                vec![LifecycleAction::StopIntake, LifecycleAction::Exit]
            }
            (FlushReason::NearDeadline, Phase::Invoking(invocation)) if now < invocation.give_up_at => {
                if invocation.done {
                    self.flush_invocation(now)
                } else {
                    Vec::new()
                }
            }
            (_, Phase::Invoking(_)) => self.end_invocation(),
            _ => Vec::new(),
        }
    }

    fn end_invocation(&mut self) -> Vec<LifecycleAction> {
        let mut actions = Vec::new();
        let ended = std::mem::replace(&mut self.phase, Phase::Ready);
        if self.settings.runtime_done_expected {
            self.end_missed = matches!(ended, Phase::Invoking(HeldInvocation { announced: false, .. }));
            actions.push(LifecycleAction::CloseWindow);
        }
        actions.extend(self.call_next());
        actions
    }

    fn shutdown(&mut self, deadline: Instant, now: Instant) -> Vec<LifecycleAction> {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Stopped) {
            return Vec::new();
        }
        self.next_answered();
        let actions = self.cancel_flush();
        self.remember_unheld();
        let deadline = instant_before(deadline.max(now + MIN_SHUTDOWN_TIME), self.settings.exit_margin, now);
        // Platform: the function's last logs may not have arrived yet, above all after a crash or a timeout.
        let flush_at = (now + self.settings.linger).min(deadline);
        self.phase = Phase::Draining { flush_at, deadline };
        actions
    }

    fn next_answered(&mut self) {
        self.next_outstanding = false;
        self.next_failures = 0;
        self.retry_next_at = None;
    }

    fn next_failed(&mut self, now: Instant) -> Vec<LifecycleAction> {
        if !self.next_outstanding {
            return Vec::new();
        }
        self.next_outstanding = false;
        self.next_failures += 1;
        if self.next_failures >= MAX_NEXT_FAILURES {
            self.phase = Phase::Stopped;
            let mut actions = self.cancel_flush();
            actions.extend([
                LifecycleAction::StopIntake,
                LifecycleAction::ReportError,
                LifecycleAction::Exit,
            ]);
            return actions;
        }
        let backoff = INITIAL_NEXT_BACKOFF.saturating_mul(1 << (self.next_failures - 1));
        self.retry_next_at = Some(now + backoff.min(MAX_NEXT_BACKOFF));
        Vec::new()
    }

    fn task_exited(&mut self, task: Task, now: Instant) -> Vec<LifecycleAction> {
        match task {
            Task::Receiver => Vec::new(),
            Task::Pipeline => {
                self.pipeline_alive = false;
                if self.flush.is_some() { self.flush_done(now) } else { Vec::new() }
            }
            Task::Telemetry => {
                self.settings.runtime_done_expected = false;
                let Phase::Invoking(invocation) = &mut self.phase else { return Vec::new() };
                invocation.done = true;
                if self.flush.is_none() { self.flush_invocation(now) } else { Vec::new() }
            }
        }
    }
}

/// The time `lead` before `instant`, but not before `now`.
fn instant_before(instant: Instant, lead: Duration, now: Instant) -> Instant {
    now + instant.saturating_duration_since(now).saturating_sub(lead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an origin; the clock is not read again")]
        Instant::now()
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Returns a lifecycle that waits for the first event.
    fn waiting(now: Instant) -> Lifecycle {
        let settings = LifecycleSettings {
            flush_timeout: millis(1_000),
            margin: millis(100),
            exit_margin: millis(200),
            linger: millis(100),
            runtime_done_expected: true,
        };
        let mut lifecycle = Lifecycle::new(settings);
        assert_eq!(lifecycle.on(LifecycleEvent::InitDone, now), [LifecycleAction::CallNext]);
        lifecycle
    }

    fn invoke(id: &str, deadline: Instant, held: bool) -> LifecycleEvent {
        LifecycleEvent::Invoke { request_id: id.to_owned(), deadline, held }
    }

    fn done(id: &str) -> LifecycleEvent {
        LifecycleEvent::RuntimeDone { request_id: id.to_owned() }
    }

    #[test]
    fn unheld_invocation_calls_next_at_once() {
        let now = origin();
        let mut lifecycle = waiting(now);
        let at_once = [LifecycleAction::OpenWindow { held: false }, LifecycleAction::CallNext];
        assert_eq!(lifecycle.on(invoke("a", now + millis(3_000), false), now), at_once);
        // Near its deadline it is flushed too, unless the environment was frozen at that time.
        let due = now + millis(3_000 - 100 - 950);
        let flush = lifecycle.clone().on_timeout(due);
        let deadline = now + millis(2_900);
        assert_eq!(flush, [LifecycleAction::StartFlush { reason: FlushReason::NearDeadline, deadline }]);
        assert_eq!(lifecycle.clone().on_timeout(due + millis(101)), []);
        assert_eq!(lifecycle.clone().on(done("a"), now), [LifecycleAction::CloseWindow]);
        assert_eq!(lifecycle.clone().on(done("b"), now), []);
        assert_eq!(lifecycle.on(invoke("b", now + millis(3_000), false), now), at_once);
        assert_eq!(lifecycle.on(done("a"), now), [], "late");
        assert_eq!(lifecycle.on(done("b"), now), [LifecycleAction::CloseWindow]);
        assert_eq!(lifecycle.on(done("b"), now), [], "duplicate");
    }

    #[test]
    fn next_event_cancels_a_flush_first() {
        let now = origin();
        let mut lifecycle = waiting(now);
        lifecycle.on(invoke("a", now + millis(1_000), false), now);
        assert_eq!(lifecycle.on_timeout(now + millis(450)).len(), 1);
        let now = now + millis(500);
        let mut shut_down = lifecycle.clone();
        assert_eq!(
            shut_down.on(LifecycleEvent::Shutdown { deadline: now }, now),
            [LifecycleAction::CancelFlush]
        );
        let held = [LifecycleAction::CancelFlush, LifecycleAction::OpenWindow { held: true }];
        assert_eq!(lifecycle.on(invoke("b", now + millis(1_000), true), now), held);
    }

    #[test]
    fn late_runtime_done_does_not_end_the_next_attempt() {
        let now = origin();
        let mut lifecycle = waiting(now);
        lifecycle.on(invoke("a", now + millis(1_000), false), now);
        lifecycle.on(invoke("a", now + millis(1_000), true), now);
        assert_eq!(lifecycle.on(done("a"), now), []);
        assert_eq!(lifecycle.on(done("a"), now).len(), 1);
    }

    #[test]
    fn none_is_held_until_a_runtime_done_arrives_again() {
        let now = origin();
        let mut lifecycle = waiting(now);
        for turn in 0..2 {
            assert_eq!(
                lifecycle.on(invoke("a", now, true), now),
                [LifecycleAction::OpenWindow { held: true }]
            );
            lifecycle.on_timeout(now + millis(450));
            lifecycle.on(LifecycleEvent::FlushDone, now + millis(500));
            assert_eq!(
                lifecycle.on_timeout(now + millis(900)),
                [LifecycleAction::CloseWindow, LifecycleAction::CallNext]
            );
            let at_once = [LifecycleAction::OpenWindow { held: false }, LifecycleAction::CallNext];
            let first = lifecycle.on(invoke("b", now, true), now);
            assert_eq!(
                first.starts_with(&[LifecycleAction::Warn(Warning::NoRuntimeDone)]),
                turn == 0,
                "logged once"
            );
            assert!(first.ends_with(&at_once));
            assert_eq!(lifecycle.on(invoke("c", now, true), now), at_once);
            lifecycle.on(done("any"), now);
        }
    }

    #[test]
    fn too_near_deadlines_are_ignored() {
        let now = origin();
        let mut lifecycle = waiting(now);
        lifecycle.on(invoke("a", now, true), now);
        let deadline = now + millis(900);
        let flush = LifecycleAction::StartFlush { reason: FlushReason::EndOfInvocation, deadline };
        assert_eq!(lifecycle.on(done("a"), now), [flush]);
        assert_eq!(
            lifecycle.on(LifecycleEvent::FlushDone, now),
            [LifecycleAction::CloseWindow, LifecycleAction::CallNext]
        );
        assert_eq!(lifecycle.on(LifecycleEvent::Shutdown { deadline: now }, now), []);
        let flush =
            LifecycleAction::StartFlush { reason: FlushReason::Shutdown, deadline: now + millis(300) };
        assert_eq!(lifecycle.on_timeout(now + millis(100)), [flush]);
    }

    #[test]
    fn next_is_called_within_the_flush_timeout() {
        let origin = origin();
        for (flush_timeout, expected) in [(1_000, 950), (100, 95), (8, 4), (1, 0)] {
            let settings = LifecycleSettings {
                flush_timeout: Duration::from_millis(flush_timeout),
                margin: Duration::from_millis(100),
                exit_margin: Duration::from_millis(200),
                linger: Duration::ZERO,
                runtime_done_expected: true,
            };
            let mut lifecycle = Lifecycle::new(settings);
            lifecycle.on(LifecycleEvent::InitDone, origin);
            let (request_id, deadline) = ("id".to_owned(), origin + Duration::from_mins(1));
            let invoke = LifecycleEvent::Invoke { request_id: request_id.clone(), deadline, held: true };
            lifecycle.on(invoke, origin);
            let actions = lifecycle.on(LifecycleEvent::RuntimeDone { request_id }, origin);
            let budget = origin + Duration::from_millis(expected);
            let Some(LifecycleAction::StartFlush { reason, deadline }) = actions.first().copied() else {
                panic!("no flush with {flush_timeout} ms: {actions:?}")
            };
            assert_eq!(reason, FlushReason::EndOfInvocation);
            assert!(deadline.duration_since(budget) < Duration::from_millis(1), "{flush_timeout} ms");
            assert_eq!(lifecycle.timeout(), Some(deadline));
            let ended =
                [LifecycleAction::CancelFlush, LifecycleAction::CloseWindow, LifecycleAction::CallNext];
            assert_eq!(lifecycle.on_timeout(deadline), ended);
        }
    }
}
