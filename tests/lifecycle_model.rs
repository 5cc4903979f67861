//! The lifecycle under random schedules in virtual time: a platform that invokes, shuts down and fails, a Telemetry API
//! that delivers `runtimeDone` late, early, twice, for others or never, flushes that end or hang, tasks that die, a clock
//! that is ahead of the platform's.
//!
//! The same model runs against machines that are broken from outside (an event dropped or changed, a timeout hidden, an
//! action added), to show that it catches each defect.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use rotel_core::lambda::lifecycle::{
    FlushReason, Lifecycle, LifecycleAction, LifecycleEvent, LifecycleSettings, Task, Warning,
};

/// `make test-long` runs a million.
const SCHEDULES: u64 = if cfg!(feature = "long") { 1_000_000 } else { 100_000 };
const MARGIN: u64 = 100;
const EXIT_MARGIN: u64 = 200;
/// The minimum time left by a deadline; one that leaves less is not trusted.
const SHUTDOWN_LEAST: u64 = 500;
const FUNCTION_TIMEOUT_LEAST: u64 = 1_000;
/// The time between the end of a flush and its timeout, if the timeout is at least twice as long.
const WIND_UP: u64 = 5;

#[test]
fn random_schedules_keep_every_promise() {
    let mut seen = Seen::default();
    for seed in 0..SCHEDULES {
        if let Err(violation) = World::new(seed, Broken::Nowhere).run(&mut seen) {
            panic!("seed {seed}: {violation}");
        }
    }
    // A model that never gets anywhere keeps every promise too.
    for (what, times) in [
        ("invocations", seen.invocations),
        ("invocations given up at their deadline", seen.given_up),
        ("flushes called off", seen.cancelled),
        ("flushes near the deadline", seen.near_deadline),
        ("flushes near the deadline of an invocation that is not held", seen.near_unheld),
        ("invocations that are not held", seen.unheld),
        ("invocations that are not held for want of an end", seen.after_missed_end),
        ("runtimeDone of an invocation that is over", seen.late),
        ("flushes called off by the next event", seen.cancelled_by_event),
        ("deadlines of SHUTDOWN in the past", seen.shutdown_past),
        ("runtimeDone before INVOKE", seen.early),
        ("SHUTDOWN as the first event", seen.shutdown_first),
        ("exits after SHUTDOWN", seen.exits),
        ("reported errors", seen.errors),
    ] {
        assert!(times > SCHEDULES / 1000, "only {times} {what}");
    }
}

#[test]
fn missing_deadline_watchdog_is_caught() {
    assert_caught(Broken::NoWatchdog, "held past its deadline");
}

#[test]
fn ignored_first_shutdown_is_caught() {
    assert_caught(Broken::FirstShutdownIgnored, "did not exit");
}

#[test]
fn unchecked_request_id_is_caught() {
    assert_caught(Broken::RequestIdNotCompared, "before its runtimeDone");
}

#[test]
fn next_during_flush_is_caught() {
    assert_caught(Broken::NextDuringFlush, "/next while a flush is in flight");
}

#[test]
fn missing_flush_timeout_is_caught() {
    assert_caught(Broken::NoFlushTimeout, "held");
}

#[test]
fn late_flush_end_is_caught() {
    assert_caught(Broken::FlushTimeoutUsedUp, "than leaves time for /next");
}

#[test]
fn holding_every_invocation_is_caught() {
    assert_caught(Broken::AlwaysHeld, "held though it is not to be");
}

#[test]
fn second_next_is_caught() {
    assert_caught(Broken::NextAtEachEnd, "a second /next");
}

#[test]
fn holding_without_runtime_done_is_caught() {
    assert_caught(Broken::MissedEndForgotten, "held though it is not to be");
}

#[test]
fn trusted_shutdown_deadline_is_caught() {
    assert_caught(Broken::ShutdownBelieved, "cut short");
}

#[test]
fn flush_across_events_is_caught() {
    assert_caught(Broken::FlushOutlivesEvent, "beyond the next event");
}

#[test]
fn ignored_runtime_done_is_caught() {
    assert_caught(Broken::UnheldEndIgnored, "not closed at its end");
}

#[test]
fn mixed_up_runtime_done_is_caught() {
    assert_caught(Broken::LateEndTaken, "a late runtimeDone led to");
}

#[test]
fn unwatched_unheld_invocation_is_caught() {
    assert_caught(Broken::UnheldUnwatched, "not flushed before its deadline");
}

#[test]
fn repeated_warning_is_caught() {
    assert_caught(Broken::WarnsAlways, "a second warning");
}

fn assert_caught(broken: Broken, expected: &str) {
    let mut violations =
        (0..10_000).filter_map(|seed| World::new(seed, broken).run(&mut Seen::default()).err());
    assert!(
        violations.any(|violation| violation.contains(expected)),
        "ten thousand schedules did not catch it"
    );
}

/// The defect of a machine under test.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nowhere,
    NoWatchdog,
    FirstShutdownIgnored,
    RequestIdNotCompared,
    NextDuringFlush,
    NoFlushTimeout,
    FlushTimeoutUsedUp,
    AlwaysHeld,
    NextAtEachEnd,
    MissedEndForgotten,
    ShutdownBelieved,
    FlushOutlivesEvent,
    UnheldEndIgnored,
    LateEndTaken,
    UnheldUnwatched,
    WarnsAlways,
}

/// A machine, broken or not.
struct Machine {
    inner: Lifecycle,
    broken: Broken,
    flushing: bool,
    events: u32,
    request_id: String,
    /// True if the running invocation is not held.
    unheld: bool,
}

impl Machine {
    fn on(&mut self, mut event: LifecycleEvent, now: Instant) -> Vec<LifecycleAction> {
        if self.broken == Broken::FirstShutdownIgnored
            && self.events == 1
            && matches!(event, LifecycleEvent::Shutdown { .. })
        {
            return Vec::new();
        }
        self.events += 1;
        match &mut event {
            LifecycleEvent::Invoke { request_id, held, .. } => {
                self.request_id.clone_from(request_id);
                *held = *held || self.broken == Broken::AlwaysHeld;
                if self.broken == Broken::MissedEndForgotten {
                    let _ =
                        self.inner.on(LifecycleEvent::RuntimeDone { request_id: "nobody".to_owned() }, now);
                }
            }
            LifecycleEvent::RuntimeDone { request_id }
                if self.broken == Broken::RequestIdNotCompared
                    || (self.broken == Broken::LateEndTaken && *request_id != "foreign") =>
            {
                request_id.clone_from(&self.request_id);
            }
            LifecycleEvent::RuntimeDone { request_id }
                if self.broken == Broken::UnheldEndIgnored
                    && self.unheld
                    && *request_id == self.request_id =>
            {
                return Vec::new();
            }
            LifecycleEvent::FlushDone => self.flushing = false,
            _ => {}
        }
        let is_next_event = matches!(event, LifecycleEvent::Invoke { .. } | LifecycleEvent::Shutdown { .. });
        let mut actions = self.inner.on(event, now);
        if self.broken == Broken::FlushOutlivesEvent && is_next_event {
            actions.retain(|action| *action != LifecycleAction::CancelFlush);
        }
        if self.broken == Broken::NextAtEachEnd && actions.last() == Some(&LifecycleAction::CloseWindow) {
            actions.push(LifecycleAction::CallNext);
        }
        self.seen(actions, now)
    }

    fn timeout(&self) -> Option<Instant> {
        match self.broken {
            Broken::NoWatchdog if !self.flushing => None,
            Broken::UnheldUnwatched if self.unheld && !self.flushing => None,
            Broken::NoFlushTimeout if self.flushing => None,
            Broken::FlushTimeoutUsedUp if self.flushing => {
                self.inner.timeout().map(|at| at + Duration::from_millis(WIND_UP))
            }
            _ => self.inner.timeout(),
        }
    }

    fn on_timeout(&mut self, now: Instant) -> Vec<LifecycleAction> {
        let actions = self.inner.on_timeout(now);
        self.seen(actions, now)
    }

    fn seen(&mut self, mut actions: Vec<LifecycleAction>, now: Instant) -> Vec<LifecycleAction> {
        for action in &mut actions {
            match action {
                LifecycleAction::OpenWindow { held } => self.unheld = !*held,
                LifecycleAction::CloseWindow => self.unheld = false,
                LifecycleAction::StartFlush { reason, deadline } => {
                    self.flushing = true;
                    if self.broken == Broken::ShutdownBelieved && *reason == FlushReason::Shutdown {
                        *deadline = now;
                    }
                }
                LifecycleAction::CancelFlush => self.flushing = false,
                _ => {}
            }
        }
        let starts = |action: &LifecycleAction| {
            matches!(action, LifecycleAction::StartFlush { reason: FlushReason::EndOfInvocation, .. })
        };
        if self.broken == Broken::NextDuringFlush && actions.iter().any(starts) {
            actions.push(LifecycleAction::CallNext);
        }
        if self.broken == Broken::WarnsAlways
            && actions.contains(&LifecycleAction::OpenWindow { held: false })
        {
            actions.insert(0, LifecycleAction::Warn(Warning::NoRuntimeDone));
        }
        actions
    }
}

#[derive(Default)]
struct Seen {
    invocations: u64,
    given_up: u64,
    cancelled: u64,
    near_deadline: u64,
    near_unheld: u64,
    unheld: u64,
    after_missed_end: u64,
    late: u64,
    cancelled_by_event: u64,
    shutdown_past: u64,
    early: u64,
    shutdown_first: u64,
    exits: u64,
    errors: u64,
}

/// The events that the platform, the Telemetry API and the pipeline will send.
enum Coming {
    Invoke,
    RuntimeDone(String),
    FlushDone { flush: u32 },
    Shutdown,
    NextFailed,
    TaskExited(Task),
}

struct Invocation {
    request_id: String,
    /// The deadline as far as it is trusted.
    deadline: u64,
    arrived: u64,
    done_at: Option<u64>,
    held: bool,
    /// True if it is not held and must be flushed before its deadline.
    watched: bool,
    flushed_since: bool,
}

/// All times are in milliseconds, from an origin that only the machine sees as an instant.
#[expect(clippy::struct_excessive_bools, reason = "a world has many facts, each true or false")]
struct World {
    origin: Instant,
    now: u64,
    random: Random,
    machine: Machine,
    flush_timeout: u64,
    coming: Vec<(u64, Coming)>,
    next_outstanding: bool,
    flush: Option<u32>,
    flushes: u32,
    /// The running invocation; one that is not held stays here until the next event.
    invocation: Option<Invocation>,
    function_ends_at: u64,
    times_out: bool,
    is_open: bool,
    /// The ids of finished invocations that were not held, whose `runtimeDone` is pending.
    awaited: Vec<String>,
    end_missed: bool,
    warned: bool,
    invocations: u32,
    upcoming_id: String,
    overtaken_by: Vec<String>,
    /// The deadline as far as it is trusted.
    shutdown_deadline: Option<u64>,
    telemetry_alive: bool,
    pipeline_alive: bool,
    exited: bool,
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
        let flush_timeout = [0, 50, 1000, 5000][random.below(4)];
        let runtime_done_expected = random.below(16) != 0;
        #[expect(
            clippy::disallowed_methods,
            reason = "an origin for virtual time; the clock is not read again"
        )]
        let origin = Instant::now();
        let settings = LifecycleSettings {
            flush_timeout: Duration::from_millis(flush_timeout),
            margin: Duration::from_millis(MARGIN),
            exit_margin: Duration::from_millis(EXIT_MARGIN),
            linger: Duration::from_millis([0, 100][random.below(2)]),
            runtime_done_expected,
        };
        let inner = Lifecycle::new(settings);
        Self {
            origin,
            now: 0,
            random,
            machine: Machine {
                inner,
                broken,
                flushing: false,
                events: 0,
                request_id: String::new(),
                unheld: false,
            },
            flush_timeout,
            coming: Vec::new(),
            next_outstanding: false,
            flush: None,
            flushes: 0,
            invocation: None,
            function_ends_at: 0,
            times_out: false,
            is_open: false,
            awaited: Vec::new(),
            end_missed: false,
            warned: false,
            invocations: 0,
            upcoming_id: "r1".to_owned(),
            overtaken_by: Vec::new(),
            shutdown_deadline: None,
            telemetry_alive: runtime_done_expected,
            pipeline_alive: true,
            exited: false,
        }
    }

    fn run(mut self, seen: &mut Seen) -> Result<(), String> {
        self.rarely_lose_a_task();
        let actions = self.machine.on(LifecycleEvent::InitDone, self.instant(self.now));
        self.carry_out(&actions, seen)?;
        while !self.exited {
            self.expect_nothing_of_a_spurious_timeout()?;
            let due = self.machine.timeout().map(|at| self.millis(at));
            let first = (0..self.coming.len()).min_by_key(|index| self.coming[*index].0);
            match (first.map(|index| self.coming[index].0), due) {
                (None, None) => return Err(self.stuck()),
                (Some(at), due) if due.is_none_or(|due| at <= due) => {
                    self.now = self.now.max(at);
                    let (_, coming) = self.coming.swap_remove(first.unwrap_or_default());
                    let actions = self.deliver(coming, seen)?;
                    self.carry_out(&actions, seen)?;
                }
                (_, due) => {
                    self.now = self.now.max(due.unwrap_or_default());
                    let actions = self.machine.on_timeout(self.instant(self.now));
                    self.carry_out(&actions, seen)?;
                }
            }
            self.check_deadlines()?;
        }
        Ok(())
    }

    fn rarely_lose_a_task(&mut self) {
        if self.random.below(16) == 0 {
            let task = [Task::Telemetry, Task::Pipeline, Task::Receiver][self.random.below(3)];
            let at = self.random.up_to(5000);
            self.coming.push((at, Coming::TaskExited(task)));
        }
    }

    fn deliver(&mut self, coming: Coming, seen: &mut Seen) -> Result<Vec<LifecycleAction>, String> {
        let now = self.instant(self.now);
        Ok(match coming {
            Coming::Invoke => self.invoke(seen)?,
            Coming::RuntimeDone(request_id) => self.runtime_done(request_id, seen)?,
            Coming::FlushDone { flush } => {
                if self.flush != Some(flush) {
                    return Ok(Vec::new());
                }
                self.flush = None;
                self.machine.on(LifecycleEvent::FlushDone, now)
            }
            Coming::Shutdown => {
                self.next_outstanding = false;
                if self.invocations == 0 {
                    seen.shutdown_first += 1;
                }
                // The clock may be ahead of the platform's by more than there is left.
                let left = [2000, 2000, 300, 0][self.random.below(4)];
                seen.shutdown_past += u64::from(left == 0);
                self.shutdown_deadline = Some(self.now + left.max(SHUTDOWN_LEAST));
                self.end_unheld();
                let deadline = self.instant(self.now + left);
                let actions = self.machine.on(LifecycleEvent::Shutdown { deadline }, now);
                self.is_cancelled_first(&actions, seen)?;
                actions
            }
            Coming::NextFailed => {
                self.next_outstanding = false;
                self.machine.on(LifecycleEvent::NextFailed, now)
            }
            Coming::TaskExited(task) => {
                match task {
                    Task::Telemetry => self.telemetry_alive = false,
                    Task::Pipeline => {
                        self.pipeline_alive = false;
                        self.flush = None;
                    }
                    Task::Receiver => {}
                }
                self.machine.on(LifecycleEvent::TaskExited(task), now)
            }
        })
    }

    fn invoke(&mut self, seen: &mut Seen) -> Result<Vec<LifecycleAction>, String> {
        self.next_outstanding = false;
        seen.invocations += 1;
        let request_id = self.upcoming_id.clone();
        let timeout = [1000, 3000, 900_000][self.random.below(3)];
        // The clock may be ahead of the platform's by more than the function's timeout.
        let left = if self.random.below(8) == 0 { [0, 50][self.random.below(2)] } else { timeout };
        self.plan_runtime_done(&request_id, timeout);
        self.invocations += 1;
        self.upcoming_id = format!("r{}", self.invocations + 1);
        self.end_unheld();
        let asked = self.random.below(2) == 0;
        let held = asked && self.telemetry_alive && !self.end_missed;
        seen.unheld += u64::from(!asked && self.telemetry_alive);
        seen.after_missed_end += u64::from(asked && self.end_missed);
        let early = self.overtaken_by.drain(..).any(|id| id == request_id);
        seen.early += u64::from(early);
        let deadline = self.now + left.max(FUNCTION_TIMEOUT_LEAST);
        self.invocation = Some(Invocation {
            request_id: request_id.clone(),
            deadline,
            arrived: self.now,
            done_at: early.then_some(self.now),
            held,
            watched: !held && !early && self.telemetry_alive && self.flush_timeout > 0,
            flushed_since: false,
        });
        let deadline = self.instant(self.now + left);
        let event = LifecycleEvent::Invoke { request_id, deadline, held: asked };
        let actions = self.machine.on(event, self.instant(self.now));
        self.is_cancelled_first(&actions, seen)?;
        if !actions.contains(&LifecycleAction::OpenWindow { held }) {
            let though = if held { "not held though it is to be" } else { "held though it is not to be" };
            return Err(format!("r{} {though}", self.invocations));
        }
        let warns = actions.contains(&LifecycleAction::Warn(Warning::NoRuntimeDone));
        if self.end_missed && !self.warned && !warns {
            return Err("no warning of an end that did not come".to_owned());
        }
        Ok(actions)
    }

    fn runtime_done(&mut self, request_id: String, seen: &mut Seen) -> Result<Vec<LifecycleAction>, String> {
        self.end_missed = false;
        let now = self.instant(self.now);
        if let Some(late) = self.awaited.iter().position(|awaited| *awaited == request_id) {
            self.awaited.swap_remove(late);
            seen.late += 1;
            let actions = self.machine.on(LifecycleEvent::RuntimeDone { request_id }, now);
            return if actions.is_empty() {
                Ok(actions)
            } else {
                Err(format!("a late runtimeDone led to {actions:?}"))
            };
        }
        let mut closes = false;
        match &mut self.invocation {
            Some(invocation) if invocation.request_id == request_id && invocation.done_at.is_none() => {
                invocation.done_at = Some(self.now);
                // A flush that is in flight may not cover what came with this runtimeDone.
                invocation.flushed_since = false;
                closes = !invocation.held && self.is_open && invocation.watched;
                invocation.watched = false;
            }
            Some(invocation) if invocation.held || invocation.request_id == request_id => {}
            _ => self.overtaken_by.push(request_id.clone()),
        }
        let actions = self.machine.on(LifecycleEvent::RuntimeDone { request_id }, now);
        if closes && !actions.contains(&LifecycleAction::CloseWindow) {
            return Err("an invocation that is not held was not closed at its end".to_owned());
        }
        Ok(actions)
    }

    /// Ends an invocation that was not held, once the next event has arrived.
    fn end_unheld(&mut self) {
        let Some(invocation) = self.invocation.take() else { return };
        if invocation.done_at.is_none() && self.telemetry_alive {
            self.awaited.push(invocation.request_id);
        }
    }

    /// Asserts that an event cancels a flush in progress before anything else.
    fn is_cancelled_first(&self, actions: &[LifecycleAction], seen: &mut Seen) -> Result<(), String> {
        if self.flush.is_none() {
            return Ok(());
        }
        seen.cancelled_by_event += 1;
        if actions.first() == Some(&LifecycleAction::CancelFlush) {
            Ok(())
        } else {
            Err("a flush goes on beyond the next event".to_owned())
        }
    }

    /// Plans the Telemetry API's deliveries for an invocation.
    fn plan_runtime_done(&mut self, request_id: &str, timeout: u64) {
        self.times_out = self.random.below(8) == 0;
        let took = if self.times_out { timeout } else { self.random.up_to(timeout) };
        self.function_ends_at = self.now + took;
        let at = match self.random.below(8) {
            0 => return,
            1 => self.now + timeout + self.random.up_to(2000),
            _ => self.now + took + 25,
        };
        self.coming.push((at, Coming::RuntimeDone(request_id.to_owned())));
        if self.random.below(4) == 0 {
            let again = at + self.random.up_to(3000);
            self.coming.push((again, Coming::RuntimeDone(request_id.to_owned())));
        }
        if self.random.below(4) == 0 {
            let at = self.now + self.random.up_to(timeout);
            self.coming.push((at, Coming::RuntimeDone("foreign".to_owned())));
        }
    }

    fn carry_out(&mut self, actions: &[LifecycleAction], seen: &mut Seen) -> Result<(), String> {
        for action in actions {
            match *action {
                LifecycleAction::OpenWindow { .. } => self.is_open = true,
                LifecycleAction::CloseWindow => {
                    if !std::mem::take(&mut self.is_open) {
                        return Err("a Close without an Open".to_owned());
                    }
                }
                LifecycleAction::Warn(Warning::NoRuntimeDone) => {
                    if std::mem::replace(&mut self.warned, true) {
                        return Err("a second warning".to_owned());
                    }
                }
                LifecycleAction::CallNext => self.called_next(seen)?,
                LifecycleAction::StartFlush { reason, deadline } => {
                    if self.flush.is_some() {
                        return Err("a second flush while one is in flight".to_owned());
                    }
                    if !self.pipeline_alive {
                        return Err("a flush with nobody to do it".to_owned());
                    }
                    if reason == FlushReason::NearDeadline {
                        seen.near_deadline += 1;
                        if !self.is_open {
                            return Err("a flush while no function runs".to_owned());
                        }
                    }
                    if let Some(invocation) = &mut self.invocation {
                        if reason == FlushReason::EndOfInvocation && !invocation.held {
                            return Err(format!(
                                "a flush at the end of {}, which has none",
                                invocation.request_id
                            ));
                        }
                        seen.near_unheld += u64::from(!invocation.held);
                        invocation.flushed_since = true;
                    }
                    let until = self.shutdown_deadline.map(|at| self.instant(at - EXIT_MARGIN));
                    if reason == FlushReason::Shutdown && until != Some(deadline) {
                        return Err("the last flush is cut short".to_owned());
                    }
                    let left = self.millis(deadline).saturating_sub(self.now);
                    self.flushes += 1;
                    self.flush = Some(self.flushes);
                    if self.random.below(4) != 0 {
                        let at = self.now + self.random.up_to(left * 3 / 2 + 1);
                        self.coming.push((at, Coming::FlushDone { flush: self.flushes }));
                    }
                }
                LifecycleAction::CancelFlush => {
                    seen.cancelled += 1;
                    self.flush = None;
                }
                LifecycleAction::StopIntake => {}
                LifecycleAction::ReportError => seen.errors += 1,
                LifecycleAction::Exit => {
                    self.exited = true;
                    if self.shutdown_deadline.is_some() {
                        seen.exits += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn called_next(&mut self, seen: &mut Seen) -> Result<(), String> {
        if self.next_outstanding {
            return Err("a second /next while one is outstanding".to_owned());
        }
        if self.flush.is_some() {
            return Err("/next while a flush is in flight".to_owned());
        }
        if self.shutdown_deadline.is_some() {
            return Err("/next after SHUTDOWN".to_owned());
        }
        if let Some(invocation) = self.invocation.take_if(|invocation| invocation.held) {
            self.check_time_after_end(&invocation)?;
            if self.telemetry_alive {
                self.end_missed = invocation.done_at.is_none();
                if self.is_open {
                    return Err(format!("{} not closed at its end", invocation.request_id));
                }
            }
            let at_deadline = self.now + MARGIN >= invocation.deadline;
            if at_deadline && invocation.done_at.is_none() && self.telemetry_alive {
                seen.given_up += 1;
            }
            if self.telemetry_alive && !at_deadline {
                if invocation.done_at.is_none() {
                    return Err(format!("/next of {} before its runtimeDone", invocation.request_id));
                }
                let has_flush = self.pipeline_alive && self.flush_timeout > 0;
                if has_flush && !invocation.flushed_since {
                    return Err(format!(
                        "/next of {} without a flush after runtimeDone",
                        invocation.request_id
                    ));
                }
            }
        }
        self.next_outstanding = true;
        // Lambda waits for the function, and for us.
        let gap = [0, 30, 5000][self.random.below(3)];
        let at = self.now.max(self.function_ends_at) + self.random.up_to(gap);
        let answer = match self.random.below(16) {
            1 | 2 => Coming::NextFailed,
            // A function that times out is the end of its environment.
            _ if self.invocations >= 5 || self.times_out => Coming::Shutdown,
            0 => Coming::Shutdown,
            // A Runtime API that is gone for good.
            3 if self.invocations == 0 => {
                self.invocations = 100;
                Coming::NextFailed
            }
            _ => Coming::Invoke,
        };
        let answer = if self.invocations >= 100 { Coming::NextFailed } else { answer };
        if matches!(answer, Coming::Invoke) && self.random.below(8) == 0 {
            let overtaking = at.saturating_sub(self.random.up_to(30)).max(self.now);
            self.coming.push((overtaking, Coming::RuntimeDone(self.upcoming_id.clone())));
        }
        self.coming.push((at, answer));
        Ok(())
    }

    fn check_deadlines(&self) -> Result<(), String> {
        if let Some(invocation) = &self.invocation {
            let limit = invocation.deadline.saturating_sub(MARGIN).max(invocation.arrived);
            if !invocation.held {
                if invocation.watched && !invocation.flushed_since && self.pipeline_alive && self.now > limit
                {
                    return Err(format!("{} not flushed before its deadline", invocation.request_id));
                }
                return Ok(());
            }
            if self.now > limit {
                return Err(format!("{} held past its deadline", invocation.request_id));
            }
            self.check_time_after_end(invocation)?;
        }
        if self.shutdown_deadline.is_some_and(|deadline| self.now > deadline - EXIT_MARGIN) && !self.exited {
            return Err("did not exit before the deadline of SHUTDOWN".to_owned());
        }
        Ok(())
    }

    fn check_time_after_end(&self, invocation: &Invocation) -> Result<(), String> {
        if invocation.done_at.is_some_and(|at| self.now > at + self.flush_timeout.saturating_sub(WIND_UP)) {
            let id = &invocation.request_id;
            return Err(format!("{id} held longer after its runtimeDone than leaves time for /next"));
        }
        Ok(())
    }

    fn expect_nothing_of_a_spurious_timeout(&mut self) -> Result<(), String> {
        let due = self.machine.timeout().map(|at| self.millis(at));
        if due.is_some_and(|due| due <= self.now) || self.random.below(4) != 0 {
            return Ok(());
        }
        let actions = self.machine.on_timeout(self.instant(self.now));
        // A broken machine hides its timeouts from this model, not from itself.
        if actions.is_empty() || self.machine.broken != Broken::Nowhere {
            Ok(())
        } else {
            Err(format!("a spurious timeout led to {actions:?}"))
        }
    }

    fn stuck(&self) -> String {
        match (&self.invocation, self.shutdown_deadline) {
            (_, Some(_)) => "did not exit before the deadline of SHUTDOWN".to_owned(),
            (Some(invocation), None) => format!("{} held past its deadline, for ever", invocation.request_id),
            (None, None) => "stuck outside an invocation".to_owned(),
        }
    }

    fn instant(&self, millis: u64) -> Instant {
        self.origin + Duration::from_millis(millis)
    }

    fn millis(&self, instant: Instant) -> u64 {
        u64::try_from(instant.duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A small generator (SplitMix64), so that a seed names a schedule.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    fn up_to(&mut self, limit: u64) -> u64 {
        self.next() % (limit + 1)
    }
}
