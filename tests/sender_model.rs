//! The sender under random schedules in virtual time: functions that are short or long, held or not, environments that are
//! frozen with the monotonic clock standing still, wall clocks that step both ways, backends that are slow, refuse, hang
//! or ask for a wait, secrets that cannot be fetched, keys that are rotated.
//!
//! The same model runs against senders that are broken from outside, to show that each breakage is caught.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::similar_names,
    reason = "the numbers here are small, and what was seen is no seed"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
use rotel_core::chunk::{Chunk, Origin};
use rotel_core::delivery::breaker::RetryPolicy;
use rotel_core::delivery::budget::ByteBudget;
use rotel_core::delivery::cadence::DuringInvocation;
use rotel_core::delivery::event::{
    OwnTelemetry, RequestId, Route, RouteState, SenderAction, SenderContext, SenderEvent, SenderSettings,
    SetupResult,
};
use rotel_core::delivery::sender::BackendSender;
use rotel_core::delivery::verdict::{Failure, Verdict};
use rotel_core::elapsed::{Elapsed, Now};
use rotel_core::lambda::correlation::{Correlation, FallbackSpans};
use rotel_core::lambda::lifecycle::FlushReason;
use rotel_core::otlp::Limits;
use rotel_core::signal::{PerSignal, Signal};

/// `make test-long` runs a million.
const SCHEDULES: u64 = if cfg!(feature = "long") { 1_000_000 } else { 100_000 };
/// Milliseconds, as all times here.
const FLUSH_TIMEOUT: u64 = 950;
const REQUEST_TIMEOUT: u64 = 5_000;
const INTERVAL: u64 = 20_000;
const BUDGET: usize = 256 * 1024;
const BATCH_BYTES: usize = 64 * 1024;
/// No connection survives a longer freeze.
const FREEZE_SURVIVED: u64 = 2_000;
/// A pause, a wait for a refresh, a long run at its greatest caution: none is longer, but for a wish of the backend's.
const PAUSE_MOST: u64 = 65_000;
const WISH_MOST: u64 = 600_000;

#[test]
fn random_schedules_keep_every_promise() {
    let mut seen = Seen::default();
    for seed in 0..SCHEDULES {
        if let Err(violation) = check(seed, Broken::Nowhere, &mut seen) {
            panic!("seed {seed}: {violation}");
        }
    }
    // A model that never gets anywhere keeps every promise too.
    for (what, times) in [
        ("requests cut off", seen.cut_off),
        ("requests cut off by a freeze", seen.frozen),
        ("empty probes", seen.empty_probes),
        ("failed setups", seen.failed_setups),
        ("keys fetched again", seen.refreshes),
        ("items dropped", seen.dropped),
        ("invocations not held", seen.unheld),
        ("requests in invocations not held", seen.unheld_requests),
        ("wall clock steps", seen.steps),
    ] {
        assert!(times > SCHEDULES / 1_000, "only {times} {what}");
    }
}

#[test]
fn silent_loss_is_caught() {
    assert_caught(Broken::LosesChunks, "neither delivered, kept nor counted");
}

#[test]
fn request_across_freeze_is_caught() {
    assert_caught(Broken::NeverAborts, "in flight while the environment may be frozen");
}

#[test]
fn sending_in_unheld_invocations_is_caught() {
    assert_caught(Broken::TakesAllForHeld, "in an invocation that is not held");
}

#[test]
fn endless_resending_is_caught() {
    assert_caught(Broken::ForgetsCutOffs, "times");
}

#[test]
fn setup_without_retry_is_caught() {
    assert_caught(Broken::SetsUpOnce, "dark");
}

#[test]
fn stale_refused_key_is_caught() {
    assert_caught(Broken::NeverRefreshes, "dark");
}

#[test]
fn pause_by_wall_clock_is_caught() {
    assert_caught(Broken::TrustsTheWallClock, "further ahead than its maximum");
}

#[test]
fn stale_connections_at_shutdown_are_caught() {
    assert_caught(Broken::KeepsConnections, "over a connection that may be dead");
}

#[test]
fn hasty_refreshes_are_caught() {
    assert_caught(Broken::RefreshesAtOnce, "fetched again after");
}

fn assert_caught(broken: Broken, expected: &str) {
    let mut violations = (0..10_000).filter_map(|seed| check(seed, broken, &mut Seen::default()).err());
    assert!(
        violations.any(|violation| violation.contains(expected)),
        "ten thousand schedules did not catch it"
    );
}

/// The defect of a sender under test.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nowhere,
    LosesChunks,
    NeverAborts,
    TakesAllForHeld,
    ForgetsCutOffs,
    SetsUpOnce,
    NeverRefreshes,
    TrustsTheWallClock,
    KeepsConnections,
    RefreshesAtOnce,
}

#[derive(Default)]
struct Seen {
    cut_off: u64,
    frozen: u64,
    empty_probes: u64,
    failed_setups: u64,
    refreshes: u64,
    dropped: u64,
    unheld: u64,
    unheld_requests: u64,
    steps: u64,
}

fn check(seed: u64, broken: Broken, seen: &mut Seen) -> Result<(), String> {
    let schedule = Schedule::new(seed);
    let mut world = World::new(&schedule, Strategy::Periodic, broken);
    let periodic = world.run(&schedule, seen)?;
    // Only some schedules: the check doubles their time.
    if schedule.is_healthy && schedule.latency <= FLUSH_TIMEOUT / 2 && seed.is_multiple_of(8) {
        let at_end = World::new(&schedule, Strategy::End, broken).run(&schedule, seen)?;
        // One that is reset earlier sends less.
        let is_whole = schedule.invocations.iter().all(|invocation| invocation.near_deadline_at.is_none());
        if is_whole && periodic * 10 > at_end * 12 + 10 * BUDGET as u64 {
            return Err(format!(
                "periodic sent {periodic} bytes where the end of each invocation sent {at_end}"
            ));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Strategy {
    End,
    Periodic,
}

/// The events of an environment, the same for each strategy.
struct Schedule {
    seed: u64,
    /// The backend and the secrets are well all the time.
    is_healthy: bool,
    latency: u64,
    setup_takes: u64,
    frozen_at_first: u64,
    invocations: Vec<Invocation>,
}

struct Invocation {
    length: u64,
    /// When each comes.
    chunks: Vec<(u64, Load)>,
    near_deadline_at: Option<u64>,
    frozen: u64,
    /// The monotonic clock goes on in the freeze, as it does for a process that is stopped.
    clock_runs: bool,
    wall_step: i64,
    backend: Condition,
    secrets_fail: bool,
    rotates: bool,
}

#[derive(Clone, Copy)]
struct Load {
    size: usize,
    signal: Signal,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Condition {
    Up,
    Refuses,
    Unavailable,
    Wishes(u64),
    Hangs,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
        let is_healthy = random.below(3) == 0;
        let latency = random.of(&[1, 5, 20, 50, 150, 400, 900, 1_500, 3_000]);
        let lengths: &[u64] =
            random.of(&[&[5][..], &[5, 20, 100], &[100, 400, 2_000], &[5, 100, 30_000], &[3_000, 60_000]]);
        let gaps: &[u64] = random.of(&[&[0][..], &[0, 20], &[0, 1_000, 5_000], &[500, 30_000, 600_000]]);
        let mut backend = Condition::Up;
        let mut secrets_fail = !is_healthy && random.below(3) == 0;
        let count = 2 + random.below(10);
        let invocations = (0..count).map(|_| {
            if !is_healthy && random.below(4) == 0 {
                backend = match random.below(6) {
                    0 => Condition::Refuses,
                    1 => Condition::Unavailable,
                    2 => Condition::Wishes(random.of(&[1_000, 60_000, 3_600_000])),
                    3 => Condition::Hangs,
                    _ => Condition::Up,
                };
            }
            secrets_fail = secrets_fail && random.below(3) > 0;
            let length = random.of(lengths);
            let mut chunks: Vec<_> = (0..random.below(6))
                .map(|_| {
                    let load = Load {
                        size: random.of(&[100, 1_000, 20_000, 60_000]),
                        signal: random.of(&[Signal::Logs, Signal::Logs, Signal::Traces]),
                        origin: random.of(&[Origin::Sdk, Origin::Platform]),
                    };
                    (random.below(length as usize + 1) as u64, load)
                })
                .collect();
            chunks.sort_unstable_by_key(|(at, _)| *at);
            Invocation {
                length,
                chunks,
                near_deadline_at: (random.below(12) == 0).then(|| random.below(length as usize + 1) as u64),
                frozen: random.of(gaps),
                clock_runs: random.below(3) == 0,
                wall_step: if random.below(8) == 0 {
                    random.of(&[-3_600_000, -30_000, 3_600_000])
                } else {
                    0
                },
                backend,
                secrets_fail,
                rotates: !is_healthy && random.below(10) == 0,
            }
        });
        let invocations = invocations.collect();
        let (setup_takes, frozen_at_first) = (random.of(&[20, 150, 2_000]), random.of(&[0, 0, 8_000]));
        Self { seed, is_healthy, latency, setup_takes, frozen_at_first, invocations }
    }
}

/// A request at the backend.
struct Request {
    id: RequestId,
    /// The numbers of its chunks.
    chunks: Vec<usize>,
    ends_at: Option<u64>,
    times_out_at: u64,
    verdict: Verdict,
}

#[expect(clippy::struct_excessive_bools, reason = "a world has many facts, each true or false")]
struct World {
    origin: Instant,
    monotonic: u64,
    wall: u64,
    elapsed: Elapsed,
    machine: Machine,
    correlation: Correlation,
    random: Random,
    strategy: Strategy,
    is_healthy: bool,
    latency: u64,
    setup_takes: u64,
    condition: Condition,
    accepted_key: u32,
    secret_key: u32,
    secrets_fail: bool,
    used_key: u32,
    requests: Vec<Request>,
    setup: Option<(u64, Option<u32>)>,
    refreshed_at: Option<Duration>,
    /// A setup was to fetch the secrets again, and none has since.
    has_forgotten: bool,
    wished: bool,
    /// The number of times each chunk was sent before the last flush.
    sent: Vec<u32>,
    accepted: usize,
    dropped: usize,
    bytes: u64,
    flushing: bool,
    is_last: bool,
    is_timed_out: bool,
    held: bool,
    is_open: bool,
    began: Duration,
    due_at: Duration,
    /// When a connection was made, or last answered.
    last_answer: Option<Duration>,
}

/// A sender, broken or not.
struct Machine {
    inner: BackendSender,
    broken: Broken,
    setups: u32,
    in_flight: Vec<RequestId>,
    latest_wall: Duration,
    wall: Duration,
}

impl World {
    fn new(schedule: &Schedule, strategy: Strategy, broken: Broken) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an origin for virtual time; the clock is not read again"
        )]
        let origin = Instant::now();
        let wall = 1_800_000_000_000;
        let settings = SenderSettings {
            name: None,
            takes: PerSignal::from_fn(|_| true),
            limits: PerSignal::from_fn(|_| Limits { items: 100, bytes: BATCH_BYTES }),
            flush_timeout: Duration::from_millis(FLUSH_TIMEOUT),
            reports_itself: false,
            has_setup: true,
        };
        let now = Now { monotonic: origin, wall: Duration::from_millis(wall) };
        let mut elapsed = Elapsed::new();
        elapsed.advance_to(now);
        let inner = BackendSender::new(settings, ByteBudget::new(BUDGET, 1), now);
        Self {
            origin,
            monotonic: 0,
            wall,
            elapsed,
            machine: Machine {
                inner,
                broken,
                setups: 0,
                in_flight: Vec::new(),
                latest_wall: now.wall,
                wall: now.wall,
            },
            correlation: Correlation::new(FallbackSpans { platform: false, xray: false }),
            random: Random(schedule.seed ^ 0x5bd1_e995),
            strategy,
            is_healthy: schedule.is_healthy,
            latency: schedule.latency,
            setup_takes: schedule.setup_takes,
            condition: Condition::Up,
            accepted_key: 0,
            secret_key: 0,
            secrets_fail: false,
            used_key: 0,
            requests: Vec::new(),
            setup: None,
            refreshed_at: None,
            has_forgotten: false,
            wished: false,
            sent: Vec::new(),
            accepted: 0,
            dropped: 0,
            bytes: 0,
            flushing: false,
            is_last: false,
            is_timed_out: false,
            held: true,
            is_open: false,
            began: Duration::ZERO,
            due_at: Duration::ZERO,
            last_answer: None,
        }
    }

    /// Runs a schedule; returns the bytes that were sent.
    fn run(&mut self, schedule: &Schedule, seen: &mut Seen) -> Result<u64, String> {
        self.secrets_fail = schedule.invocations.first().is_some_and(|first| first.secrets_fail);
        self.on(SenderEvent::Start, seen)?;
        self.freeze(schedule.frozen_at_first, false);
        for invocation in &schedule.invocations {
            self.condition = invocation.backend;
            self.secrets_fail = invocation.secrets_fail;
            if invocation.rotates {
                self.accepted_key += 1;
                self.secret_key += 1;
            }
            self.invoke(invocation, seen)?;
            if self.is_timed_out {
                break;
            }
            if invocation.wall_step != 0 {
                seen.steps += 1;
                self.wall = self.wall.saturating_add_signed(invocation.wall_step);
            }
            self.freeze(invocation.frozen, invocation.clock_runs);
        }
        let bytes = self.bytes;
        if !self.is_timed_out && self.random.below(4) == 0 {
            self.settle(seen)?;
        }
        self.shut_down(seen)?;
        Ok(bytes)
    }

    /// Everything is well, and invocations are a minute apart: nothing may be kept for long.
    fn settle(&mut self, seen: &mut Seen) -> Result<(), String> {
        // It is another backend from here on.
        self.is_healthy = false;
        (self.condition, self.secrets_fail, self.latency) = (Condition::Up, false, 20);
        self.setup_takes = self.setup_takes.min(700);
        for _ in 0..40 {
            self.freeze(61_000, false);
            let invocation = Invocation {
                length: 500,
                chunks: vec![(0, Load { size: 100, signal: Signal::Logs, origin: Origin::Platform })],
                near_deadline_at: None,
                frozen: 0,
                clock_runs: false,
                wall_step: 0,
                backend: Condition::Up,
                secrets_fail: false,
                rotates: false,
            };
            self.invoke(&invocation, seen)?;
        }
        let kept = self.kept();
        if kept > 0 { Err(format!("dark: {kept} items are kept though all is well")) } else { Ok(()) }
    }

    fn invoke(&mut self, invocation: &Invocation, seen: &mut Seen) -> Result<(), String> {
        let at = self.at();
        let is_due = at >= self.due_at;
        let held = self.strategy == Strategy::End || is_due || self.machine.inner.wants_flush();
        let interval = Duration::from_millis(INTERVAL);
        let during = match self.strategy {
            Strategy::End => DuringInvocation::AtOnce,
            Strategy::Periodic => {
                DuringInvocation::Every { first: self.due_at.saturating_sub(at).min(interval), interval }
            }
        };
        if is_due {
            self.due_at = at + interval;
        }
        if self.flushing {
            // The driver cancels it when the next event comes.
            self.flushing = false;
            self.on(SenderEvent::CancelFlush, seen)?;
        }
        (self.held, self.is_open, self.began) = (held, true, at);
        seen.unheld += u64::from(!held);
        self.on(SenderEvent::InvocationBegins { during, held }, seen)?;
        let start = self.monotonic;
        let mut near_deadline_at = invocation.near_deadline_at;
        for (offset, load) in &invocation.chunks {
            if near_deadline_at.is_some_and(|at| at <= *offset) {
                near_deadline_at = None;
                self.flush_near_deadline(start + invocation.length + 125, seen)?;
            }
            self.advance(start + offset, seen)?;
            self.enqueue(*load, seen)?;
        }
        self.advance(start + invocation.length, seen)?;
        if !held {
            return Ok(());
        }
        // The end is announced late.
        self.advance(self.monotonic + 25, seen)?;
        let near_deadline_ends_at = self.monotonic + 100;
        while self.flushing && self.step(near_deadline_ends_at, seen)? {}
        if self.flushing {
            // The deadline has come, and the environment is reset.
            self.is_timed_out = true;
            self.flushing = false;
            self.on(SenderEvent::CancelFlush, seen)?;
        } else {
            self.flush(FlushReason::EndOfInvocation, FLUSH_TIMEOUT, seen)?;
        }
        self.is_open = false;
        self.on(SenderEvent::InvocationEnds, seen)?;
        if !self.requests.is_empty() {
            return Err("a request is in flight while the environment may be frozen".to_owned());
        }
        self.account()
    }

    fn flush_near_deadline(&mut self, most: u64, seen: &mut Seen) -> Result<(), String> {
        if self.monotonic >= most || self.flushing {
            return Ok(());
        }
        self.flushing = true;
        let deadline = self.instant(most);
        self.on(
            SenderEvent::Flush { reason: FlushReason::NearDeadline, deadline, waits_for_probes: true },
            seen,
        )
    }

    fn flush(&mut self, reason: FlushReason, most: u64, seen: &mut Seen) -> Result<(), String> {
        let deadline = self.monotonic + most;
        self.flushing = true;
        let waits_for_probes = self.random.below(2) == 0;
        self.on(SenderEvent::Flush { reason, deadline: self.instant(deadline), waits_for_probes }, seen)?;
        while self.flushing && self.step(deadline, seen)? {}
        if self.flushing {
            self.flushing = false;
            self.on(SenderEvent::CancelFlush, seen)?;
        }
        Ok(())
    }

    fn shut_down(&mut self, seen: &mut Seen) -> Result<(), String> {
        if self.flushing {
            self.flushing = false;
            self.on(SenderEvent::CancelFlush, seen)?;
        }
        self.is_last = true;
        self.flush(FlushReason::Shutdown, 1_700, seen)?;
        self.on(SenderEvent::ProcessEnds, seen)?;
        self.account()
    }

    fn enqueue(&mut self, load: Load, seen: &mut Seen) -> Result<(), String> {
        let number = self.sent.len();
        self.sent.push(0);
        if self.machine.broken == Broken::LosesChunks && number % 7 == 3 {
            return Ok(());
        }
        let Load { size, signal, origin } = load;
        let mut bytes = (number as u64).to_le_bytes().to_vec();
        bytes.resize(size, 0);
        let chunk = Chunk { signal, bytes: Bytes::from(bytes), items: 1, origin, invocation: None };
        self.on(SenderEvent::Enqueued(chunk, None), seen)
    }

    /// Every item is delivered, kept, or counted as dropped.
    fn account(&self) -> Result<(), String> {
        let counted = self.machine.inner.tally().dropped.iter().map(|(_, _, items)| items).sum::<usize>();
        let (accepted, dropped, kept) = (self.accepted, self.dropped + counted, self.kept());
        if accepted + dropped + kept == self.sent.len() {
            return Ok(());
        }
        Err(format!(
            "of {} items {accepted} are delivered, {kept} kept and {dropped} dropped: the rest is neither delivered, kept nor counted",
            self.sent.len()
        ))
    }

    fn kept(&self) -> usize {
        let PerSignal { logs, metrics, traces } = self.machine.inner.kept();
        logs + metrics + traces
    }

    /// Time stands still for the environment.
    fn freeze(&mut self, length: u64, clock_runs: bool) {
        self.wall += length;
        if clock_runs {
            self.monotonic += length;
        }
        for request in &mut self.requests {
            if length > FREEZE_SURVIVED {
                request.ends_at = None;
            } else if let Some(ends_at) = &mut request.ends_at {
                *ends_at = ends_at.saturating_sub(if clock_runs { 0 } else { length });
            }
        }
        if length > FREEZE_SURVIVED
            && let Some((ends_at, outcome)) = &mut self.setup
        {
            // The connection is dead, which only a timeout shows.
            (*ends_at, *outcome) = (*ends_at + REQUEST_TIMEOUT, None);
        }
    }

    /// Goes on to `until`.
    fn advance(&mut self, until: u64, seen: &mut Seen) -> Result<(), String> {
        while self.step(until, seen)? {}
        Ok(())
    }

    /// Goes on to what comes next until then; false where nothing does.
    fn step(&mut self, until: u64, seen: &mut Seen) -> Result<bool, String> {
        let ends = |request: &Request| request.ends_at.unwrap_or(u64::MAX).min(request.times_out_at);
        let answer = self.requests.iter().map(ends).min();
        let setup = self.setup.map(|(at, _)| at);
        let timeout = self.machine.timeout().map(|at| {
            let at = at.saturating_duration_since(self.origin);
            // A timer is never early.
            at.as_millis() as u64 + u64::from(!at.subsec_nanos().is_multiple_of(1_000_000))
        });
        let next = [answer, setup, timeout].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.pass(until);
            return Ok(false);
        };
        self.pass(next);
        if answer == Some(next) {
            let at = self.requests.iter().position(|request| ends(request) == next);
            let request = self.requests.swap_remove(at.unwrap_or(0));
            let timed_out = request.times_out_at == next && request.ends_at != Some(next);
            let verdict = if timed_out { Verdict::retry(Failure::Timeout) } else { request.verdict };
            if let Verdict::Accepted { .. } = verdict {
                self.accepted += request.chunks.len();
            }
            if let Verdict::Refused(_) = verdict {
                // Only the key is ever refused, and it comes from a secret.
                self.last_answer = Some(self.at());
            }
            if let Verdict::Accepted { .. } = verdict {
                self.last_answer = Some(self.at());
            }
            self.on(SenderEvent::Answered(request.id, verdict), seen)?;
        } else if setup == Some(next) {
            let outcome = self.setup.take().and_then(|(_, outcome)| outcome);
            let retry = RetryPolicy {
                initial_backoff: Duration::from_secs(5),
                max_backoff: Duration::from_secs(30),
                max_elapsed_time: Duration::from_mins(5),
            };
            let routes = match outcome {
                Some(key) if key != self.used_key || self.last_answer.is_none() => {
                    self.used_key = key;
                    self.last_answer = Some(self.at());
                    Some(PerSignal::from_fn(|_| RouteState::Route(Route { endpoint: 0, retry })))
                }
                _ => None,
            };
            self.has_forgotten &= outcome.is_none();
            seen.failed_setups += u64::from(outcome.is_none());
            self.on(SenderEvent::SetupDone(SetupResult { routes, has_secret: true }), seen)?;
        } else {
            self.on(SenderEvent::Tick, seen)?;
            let late = self.machine.timeout().is_some_and(|at| at <= self.instant(self.monotonic));
            if late {
                return Err("a timer that was due is due again".to_owned());
            }
        }
        Ok(true)
    }

    fn pass(&mut self, until: u64) {
        let passed = until.saturating_sub(self.monotonic);
        self.monotonic += passed;
        self.wall += passed;
    }

    fn instant(&self, monotonic: u64) -> Instant {
        self.origin + Duration::from_millis(monotonic)
    }

    fn now(&self) -> Now {
        Now { monotonic: self.instant(self.monotonic), wall: Duration::from_millis(self.wall) }
    }

    fn at(&mut self) -> Duration {
        let now = self.now();
        self.elapsed.advance_to(now)
    }

    fn on(&mut self, event: SenderEvent, seen: &mut Seen) -> Result<(), String> {
        let at = self.at();
        let now = self.now();
        let jitter = self.random.below(100) as f64 / 100.0;
        let context = SenderContext { now, jitter, spans: &self.correlation };
        let actions = self.machine.on(event, &context);
        for action in actions {
            self.carry_out(action, at, seen)?;
        }
        let most = if self.wished { WISH_MOST } else { PAUSE_MOST };
        if let Some(timeout) = self.machine.timeout()
            && timeout.saturating_duration_since(now.monotonic) > Duration::from_millis(most)
        {
            return Err("a pause lies further ahead than its maximum".to_owned());
        }
        Ok(())
    }

    fn carry_out(&mut self, action: SenderAction, at: Duration, seen: &mut Seen) -> Result<(), String> {
        match action {
            SenderAction::Setup { refresh } => {
                if refresh {
                    seen.refreshes += 1;
                    let since = self.refreshed_at.map(|since| at.saturating_sub(since));
                    if let Some(since) = since.filter(|since| *since < Duration::from_mins(1)) {
                        return Err(format!("secrets are fetched again after {since:?}"));
                    }
                    self.refreshed_at = Some(at);
                }
                self.has_forgotten |= refresh;
                let outcome = if self.secrets_fail {
                    None
                } else if self.has_forgotten || self.last_answer.is_none() {
                    Some(self.secret_key)
                } else {
                    Some(self.used_key)
                };
                if self.setup.is_some() {
                    return Err("two setups at once".to_owned());
                }
                self.setup = Some((self.monotonic + self.setup_takes, outcome));
            }
            SenderAction::AbortSetup => self.setup = None,
            SenderAction::Send { request, chunks, fresh, .. } => self.send(request, &chunks, fresh, seen)?,
            SenderAction::Warm { request, fresh } => {
                if fresh {
                    self.last_answer = Some(at);
                }
                self.request(request, Vec::new());
            }
            SenderAction::Abort(id) => {
                if let Some(found) = self.requests.iter().position(|request| request.id == id) {
                    let request = self.requests.swap_remove(found);
                    seen.cut_off += u64::from(!request.chunks.is_empty());
                    seen.frozen += u64::from(!request.chunks.is_empty() && !self.held);
                }
            }
            SenderAction::FlushDone => self.flushing = false,
            SenderAction::Enqueue(OwnTelemetry::Metrics(metrics)) => {
                let sums = metrics.iter().filter_map(|metric| match &metric.data {
                    Some(Data::Sum(sum)) => Some(&sum.data_points),
                    _ => None,
                });
                for point in sums.flatten() {
                    if let Some(Value::AsInt(items)) = point.value {
                        self.dropped += usize::try_from(items).unwrap_or(0);
                        seen.dropped += 1;
                    }
                }
            }
            SenderAction::Enqueue(OwnTelemetry::Log(_)) | SenderAction::Log(_) => {}
        }
        Ok(())
    }

    fn send(
        &mut self,
        request: RequestId,
        chunks: &[Bytes],
        fresh: bool,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let at = self.at();
        seen.empty_probes += u64::from(chunks.is_empty());
        let numbers: Vec<_> = chunks
            .iter()
            .map(|chunk| chunk.first_chunk().map_or(0, |number| u64::from_le_bytes(*number) as usize))
            .collect();
        self.bytes += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let idle = self.last_answer.is_none_or(|answer| at.saturating_sub(answer) > Duration::from_secs(20));
        if fresh {
            self.last_answer = Some(at);
        } else if self.is_last && idle {
            return Err("the last flush goes over a connection that may be dead".to_owned());
        }
        if self.is_open && !self.held && !self.flushing {
            seen.unheld_requests += 1;
            let ran = at.saturating_sub(self.began);
            let is_pressed = self.machine.inner.total_bytes() >= BUDGET / 8 * 7;
            if ran < Duration::from_secs(1) && !is_pressed {
                return Err(format!("a request after {ran:?} in an invocation that is not held"));
            }
        }
        if self.is_healthy && !self.is_last {
            for number in &numbers {
                self.sent[*number] += 1;
                if self.sent[*number] > 2 {
                    return Err(format!(
                        "sent {} times to a backend that answers within {} ms",
                        self.sent[*number], self.latency
                    ));
                }
            }
        }
        self.request(request, numbers);
        Ok(())
    }

    fn request(&mut self, id: RequestId, chunks: Vec<usize>) {
        let (after, verdict) = match self.condition {
            Condition::Up if self.used_key != self.accepted_key => {
                (Some(self.latency), Verdict::of_http(401, None))
            }
            Condition::Up => (Some(self.latency), Verdict::ACCEPTED),
            Condition::Refuses => (Some(0), Verdict::retry(Failure::Http(502))),
            Condition::Unavailable => (Some(self.latency), Verdict::of_http(503, None)),
            Condition::Wishes(wish) => {
                self.wished = true;
                (Some(self.latency), Verdict::of_http(429, Some(Duration::from_millis(wish))))
            }
            Condition::Hangs => (None, Verdict::retry(Failure::Timeout)),
        };
        self.requests.push(Request {
            id,
            chunks,
            ends_at: after.map(|after| self.monotonic + after),
            times_out_at: self.monotonic + REQUEST_TIMEOUT,
            verdict,
        });
    }
}

impl Machine {
    fn on(&mut self, mut event: SenderEvent, context: &SenderContext<'_>) -> Vec<SenderAction> {
        self.wall = context.now.wall;
        self.latest_wall = self.latest_wall.max(self.wall);
        let mut actions = Vec::new();
        match &mut event {
            SenderEvent::InvocationBegins { during, held } if self.broken == Broken::TakesAllForHeld => {
                (*during, *held) = (DuringInvocation::AtOnce, true);
            }
            SenderEvent::CancelFlush | SenderEvent::InvocationEnds
                if self.broken == Broken::ForgetsCutOffs =>
            {
                for request in self.in_flight.drain(..) {
                    actions.push(SenderAction::Abort(request));
                    let forgotten = SenderEvent::Answered(request, Verdict::retry(Failure::Http(503)));
                    actions.extend(self.inner.on(forgotten, context));
                }
            }
            SenderEvent::Answered(answered, _) => self.in_flight.retain(|request| request != answered),
            _ => {}
        }
        actions.extend(self.inner.on(event, context));
        actions.retain_mut(|action| match action {
            SenderAction::Setup { refresh } => {
                self.setups += 1;
                *refresh &= self.broken != Broken::NeverRefreshes;
                *refresh |= self.broken == Broken::RefreshesAtOnce;
                self.broken != Broken::SetsUpOnce || self.setups == 1
            }
            SenderAction::Send { request, fresh, .. } => {
                self.in_flight.push(*request);
                *fresh &= self.broken != Broken::KeepsConnections;
                true
            }
            SenderAction::Abort(_) => self.broken != Broken::NeverAborts,
            _ => true,
        });
        actions
    }

    fn timeout(&self) -> Option<Instant> {
        let timeout = self.inner.timeout()?;
        Some(match self.broken {
            // A clock that was set back has a way to go until then.
            Broken::TrustsTheWallClock => timeout + self.latest_wall.saturating_sub(self.wall),
            _ => timeout,
        })
    }
}

/// xorshift64*, so that a seed is a schedule.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
