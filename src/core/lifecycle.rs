//! When the extension asks for the next event, when it flushes, and when it ends: a state machine without IO.
//!
//! It decides from events what is to be done and promises, whatever comes in whatever order:
//! - one `/next` outstanding at most; none while a flush is in flight; none after SHUTDOWN;
//! - an invocation is held until its own `runtimeDone` and the flush behind it, if it has one, and never past its deadline less
//!   [`Settings::margin`]: a foreign, late, duplicate or missing `runtimeDone` neither holds it nor ends it;
//! - exit comes before the deadline of SHUTDOWN, which may be the first event of all;
//! - a timeout that is not due does nothing.
//!
//! Calling `/next`, flushing and keeping time are left to `app::driver`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often `/next` may fail in a row before the environment is taken for broken.
const NEXT_FAILURES_LIMIT: u32 = 10;
/// How many ids of foreign invocations are kept, should one of them prove to be the next.
const EARLY_DONE_LIMIT: usize = 8;
const NEXT_BACKOFF_FIRST: Duration = Duration::from_millis(10);
const NEXT_BACKOFF_MOST: Duration = Duration::from_secs(1);
/// A flush is called off so long before its timeout: ending its requests and calling `/next` take a while as well, and
/// timers are up to a millisecond late.
const WIND_UP: Duration = Duration::from_millis(5);

/// What the user and the platform have fixed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The most that a flush may add after the function, all that follows it up to `/next` included.
    pub flush_timeout: Duration,
    /// How long before the function's timeout `/next` is called at the latest.
    pub margin: Duration,
    /// How long before SIGKILL the process is gone.
    pub exit_margin: Duration,
    /// How long after SHUTDOWN the last telemetry may still come in.
    pub linger: Duration,
    /// Whether the Telemetry API will tell of `runtimeDone`. Where it does not (emulators answer the subscription with
    /// 202), `/next` is called at once, and what comes is sent as it comes.
    pub runtime_done_expected: bool,
}

impl Settings {
    /// How long a flush goes on.
    fn flush_budget(&self) -> Duration {
        self.flush_timeout.saturating_sub(WIND_UP.min(self.flush_timeout / 2))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Registered and subscribed; the first `/next` may be called.
    InitDone,
    /// `/next` answered INVOKE.
    Invoke {
        /// Of the invocation.
        request_id: String,
        /// When the function times out.
        deadline: Instant,
        /// Whether `/next` waits for a flush once the function is done; see [`crate::cadence`].
        flush_at_end: bool,
    },
    /// The Telemetry API told of `platform.runtimeDone`.
    RuntimeDone {
        /// Of the invocation that is done.
        request_id: String,
    },
    /// The flush that was started is over, whatever came of it.
    FlushDone,
    /// `/next` answered SHUTDOWN.
    Shutdown {
        /// When SIGKILL comes.
        deadline: Instant,
    },
    /// `/next` failed.
    NextFailed,
    /// A task of ours ended or panicked.
    TaskExited(Task),
}

/// A task whose end changes what can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Without it no `runtimeDone` will come.
    Telemetry,
    /// Without it no flush will end.
    Pipeline,
    /// Without it life goes on as before.
    Receiver,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call `/next`.
    CallNext,
    /// Send what is held, and answer with [`Event::FlushDone`].
    StartFlush {
        /// Why.
        reason: FlushReason,
        /// When it is called off at the latest.
        deadline: Instant,
    },
    /// Call the flush off: requests in flight end, their batches are kept. No [`Event::FlushDone`] is awaited.
    CancelFlush,
    /// Take nothing more from the function and the platform.
    StopIntake,
    /// Tell Lambda that the extension cannot go on.
    ReportError,
    /// End the process.
    Exit,
}

/// Why a flush was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// The function is done.
    EndOfInvocation,
    /// The function is about to time out; its logs go before it does.
    NearDeadline,
    /// The environment is about to end.
    Shutdown,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    phase: Phase,
    next_outstanding: bool,
    flush: Option<Flush>,
    /// Each `runtimeDone` since the last invocation: one may have overtaken its INVOKE, which comes over another
    /// connection.
    early_done: VecDeque<String>,
    last_request_id: Option<String>,
    next_failures: u32,
    /// When to call `/next` again after it failed.
    next_again_at: Option<Instant>,
    pipeline_alive: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Init,
    Ready,
    Invoking(Invocation),
    /// SHUTDOWN has come.
    Draining {
        /// When the flush starts.
        flush_at: Instant,
        deadline: Instant,
    },
    Stopped,
}

#[derive(Clone, Debug)]
struct Invocation {
    request_id: String,
    /// The function is done, and no flush since covers it.
    done: bool,
    flush_at_end: bool,
    /// When to flush although the function still runs; `None` once that was done.
    flush_at: Option<Instant>,
    /// When `/next` is called, come what may.
    give_up_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Flush {
    reason: FlushReason,
    deadline: Instant,
}

impl Lifecycle {
    /// The machine before [`Event::InitDone`].
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Init,
            next_outstanding: false,
            flush: None,
            early_done: VecDeque::new(),
            last_request_id: None,
            next_failures: 0,
            next_again_at: None,
            pipeline_alive: true,
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::InitDone => self.init_done(),
            Event::Invoke { request_id, deadline, flush_at_end } => {
                self.invoke(request_id, deadline, flush_at_end, now)
            }
            Event::RuntimeDone { request_id } => self.runtime_done(request_id, now),
            Event::FlushDone => self.flush_done(now),
            Event::Shutdown { deadline } => self.shutdown(deadline, now),
            Event::NextFailed => self.next_failed(now),
            Event::TaskExited(task) => self.task_exited(task, now),
        }
    }

    /// Whether an invocation's end is told and the environment may be frozen after it. Where it is not, nothing says when
    /// sending would have to pause.
    pub fn ends_are_announced(&self) -> bool {
        self.settings.runtime_done_expected
    }

    /// When [`Lifecycle::on_timeout`] is due.
    pub fn timeout(&self) -> Option<Instant> {
        if let Some(flush) = self.flush {
            return Some(flush.deadline);
        }
        match &self.phase {
            Phase::Ready => self.next_again_at,
            Phase::Invoking(invocation) => {
                Some(invocation.flush_at.map_or(invocation.give_up_at, |at| at.min(invocation.give_up_at)))
            }
            Phase::Draining { flush_at, .. } => Some(*flush_at),
            Phase::Init | Phase::Stopped => None,
        }
    }

    /// Takes the passing of time.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Action> {
        if self.timeout().is_none_or(|due| now < due) {
            return Vec::new();
        }
        if self.flush.is_some() {
            let mut actions = vec![Action::CancelFlush];
            actions.extend(self.flush_done(now));
            return actions;
        }
        match &mut self.phase {
            Phase::Ready => self.call_next(),
            Phase::Invoking(invocation) if now >= invocation.give_up_at => self.end_invocation(),
            Phase::Invoking(invocation) => {
                invocation.flush_at = None;
                let deadline = invocation.give_up_at;
                self.start_flush(FlushReason::NearDeadline, deadline, now)
            }
            Phase::Draining { deadline, .. } => {
                let deadline = *deadline;
                self.start_flush(FlushReason::Shutdown, deadline, now)
            }
            Phase::Init | Phase::Stopped => Vec::new(),
        }
    }

    fn init_done(&mut self) -> Vec<Action> {
        if !matches!(self.phase, Phase::Init) {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        self.call_next()
    }

    fn call_next(&mut self) -> Vec<Action> {
        self.next_again_at = None;
        self.next_outstanding = true;
        vec![Action::CallNext]
    }

    fn invoke(
        &mut self,
        request_id: String,
        deadline: Instant,
        flush_at_end: bool,
        now: Instant,
    ) -> Vec<Action> {
        if !self.next_outstanding {
            return Vec::new();
        }
        self.next_answered();
        let done = self.early_done.drain(..).any(|early| early == request_id);
        self.last_request_id = Some(request_id.clone());
        if !self.settings.runtime_done_expected {
            return self.call_next();
        }
        let give_up_at = before(deadline, self.settings.margin, now);
        let left = give_up_at.saturating_duration_since(now);
        // A function with a short timeout is given at least half of it before we use its CPU.
        let lead = self.settings.flush_budget().min(left / 2);
        let flush_at = Some(before(give_up_at, lead, now));
        self.phase = Phase::Invoking(Invocation { request_id, done, flush_at_end, flush_at, give_up_at });
        if done { self.flush_invocation(now) } else { Vec::new() }
    }

    fn runtime_done(&mut self, request_id: String, now: Instant) -> Vec<Action> {
        match &mut self.phase {
            Phase::Invoking(invocation) if invocation.request_id == request_id => {
                invocation.done = true;
                if self.flush.is_none() { self.flush_invocation(now) } else { Vec::new() }
            }
            // A second or late one of the invocation before says nothing of the one to come, even when Lambda repeats
            // that invocation under the same request id.
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

    /// Starts the flush that covers all of an invocation whose function is done; where it has none, ends it.
    fn flush_invocation(&mut self, now: Instant) -> Vec<Action> {
        let Phase::Invoking(invocation) = &mut self.phase else { return Vec::new() };
        let deadline = (now + self.settings.flush_budget()).min(invocation.give_up_at);
        if deadline <= now || !invocation.flush_at_end {
            return self.end_invocation();
        }
        invocation.done = false;
        invocation.flush_at = None;
        self.start_flush(FlushReason::EndOfInvocation, deadline, now)
    }

    fn start_flush(&mut self, reason: FlushReason, deadline: Instant, now: Instant) -> Vec<Action> {
        self.flush = Some(Flush { reason, deadline });
        if self.pipeline_alive {
            vec![Action::StartFlush { reason, deadline }]
        } else {
            // Nobody would answer; what follows a flush follows at once.
            self.flush_done(now)
        }
    }

    fn flush_done(&mut self, now: Instant) -> Vec<Action> {
        let Some(flush) = self.flush.take() else { return Vec::new() };
        match (flush.reason, &self.phase) {
            (FlushReason::Shutdown, _) => {
                self.phase = Phase::Stopped;
                vec![Action::StopIntake, Action::Exit]
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

    fn end_invocation(&mut self) -> Vec<Action> {
        self.phase = Phase::Ready;
        self.call_next()
    }

    fn shutdown(&mut self, deadline: Instant, now: Instant) -> Vec<Action> {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Stopped) {
            return Vec::new();
        }
        self.next_answered();
        let mut actions = Vec::new();
        if self.flush.take().is_some() {
            actions.push(Action::CancelFlush);
        }
        let deadline = before(deadline, self.settings.exit_margin, now);
        // Platform: what the function wrote last may be on its way still, above all after a crash or a timeout.
        let flush_at = (now + self.settings.linger).min(deadline);
        self.phase = Phase::Draining { flush_at, deadline };
        actions
    }

    fn next_answered(&mut self) {
        self.next_outstanding = false;
        self.next_failures = 0;
        self.next_again_at = None;
    }

    fn next_failed(&mut self, now: Instant) -> Vec<Action> {
        if !self.next_outstanding {
            return Vec::new();
        }
        self.next_outstanding = false;
        self.next_failures += 1;
        if self.next_failures >= NEXT_FAILURES_LIMIT {
            self.phase = Phase::Stopped;
            return vec![Action::StopIntake, Action::ReportError, Action::Exit];
        }
        let backoff = NEXT_BACKOFF_FIRST.saturating_mul(1 << (self.next_failures - 1));
        self.next_again_at = Some(now + backoff.min(NEXT_BACKOFF_MOST));
        Vec::new()
    }

    fn task_exited(&mut self, task: Task, now: Instant) -> Vec<Action> {
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

/// `lead` before `instant`, but not before `now`.
fn before(instant: Instant, lead: Duration, now: Instant) -> Instant {
    now + instant.saturating_duration_since(now).saturating_sub(lead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_ends_early_enough_for_next_to_be_called_within_its_timeout() {
        #[expect(clippy::disallowed_methods, reason = "an origin; the clock is not read again")]
        let origin = Instant::now();
        for (flush_timeout, expected) in [(1_000, 995), (100, 95), (8, 4), (1, 0)] {
            let settings = Settings {
                flush_timeout: Duration::from_millis(flush_timeout),
                margin: Duration::from_millis(100),
                exit_margin: Duration::from_millis(200),
                linger: Duration::ZERO,
                runtime_done_expected: true,
            };
            let mut lifecycle = Lifecycle::new(settings);
            lifecycle.on(Event::InitDone, origin);
            let (request_id, deadline) = ("id".to_owned(), origin + Duration::from_mins(1));
            let invoke = Event::Invoke { request_id: request_id.clone(), deadline, flush_at_end: true };
            lifecycle.on(invoke, origin);
            let actions = lifecycle.on(Event::RuntimeDone { request_id }, origin);
            let budget = origin + Duration::from_millis(expected);
            let Some(Action::StartFlush { reason, deadline }) = actions.first().copied() else {
                panic!("no flush with {flush_timeout} ms: {actions:?}")
            };
            assert_eq!(reason, FlushReason::EndOfInvocation);
            assert!(deadline.duration_since(budget) < Duration::from_millis(1), "{flush_timeout} ms");
            assert_eq!(lifecycle.timeout(), Some(deadline));
            assert_eq!(lifecycle.on_timeout(deadline), [Action::CancelFlush, Action::CallNext]);
        }
    }
}
