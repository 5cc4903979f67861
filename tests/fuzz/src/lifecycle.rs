//! The lifecycle under any operations that a platform can carry out.

use std::time::{Duration, Instant};

use rotel_core::lambda::lifecycle::{Lifecycle, LifecycleAction, LifecycleEvent, LifecycleSettings, Task};

const MARGIN: Duration = Duration::from_millis(100);
const EXIT_MARGIN: Duration = Duration::from_millis(200);
/// Deadlines are not believed that leave less.
const SHUTDOWN_LEAST: Duration = Duration::from_millis(500);
const FUNCTION_TIMEOUT_LEAST: Duration = Duration::from_secs(1);
/// Platform: SIGKILL comes so long after SHUTDOWN.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Operations of three bytes each, behind one that says how the extension is set up: what happens, to which invocation or
/// task, and how much time goes by before.
pub fn lifecycle(input: &[u8]) {
    let Some((setup, operations)) = input.split_first() else { return };
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time; the clock is not read again")]
    let origin = Instant::now();
    let settings = LifecycleSettings {
        flush_timeout: Duration::from_millis(match setup & 3 {
            0 => 0,
            1 => 50,
            2 => 1_000,
            _ => 5_000,
        }),
        margin: MARGIN,
        exit_margin: EXIT_MARGIN,
        linger: Duration::from_millis(if setup & 4 == 0 { 0 } else { 100 }),
        runtime_done_expected: setup & 8 == 0,
    };
    let mut world = World { now: origin, machine: Lifecycle::new(settings), state: State::default() };
    world.happens(LifecycleEvent::InitDone);
    let mut operations = operations.chunks_exact(3);
    while let Some([what, which, time]) = operations.next() {
        world.passes(Duration::from_millis(u64::from(*time) * 20));
        world.carry_out(*what, *which);
    }
    world.goes_on_as_it_must();
}

struct World {
    now: Instant,
    machine: Lifecycle,
    state: State,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "a world has many facts, each true or false")]
struct State {
    next_outstanding: bool,
    flushing: bool,
    pipeline_gone: bool,
    is_open: bool,
    warned: bool,
    /// When `/next` must have been called again.
    invocation_until: Option<Instant>,
    /// When the process must have ended.
    exit_until: Option<Instant>,
    exited: bool,
}

impl World {
    fn carry_out(&mut self, what: u8, which: u8) {
        if self.state.exited {
            return;
        }
        let request_id = format!("r{}", which & 7);
        match what % 8 {
            // They are answers to /next.
            0 | 1 if self.state.next_outstanding => {
                self.state.next_outstanding = false;
                let timeout = Duration::from_millis(u64::from(which) * 50);
                let deadline = self.now + timeout;
                let believed = timeout.max(FUNCTION_TIMEOUT_LEAST);
                self.state.invocation_until = Some(self.now + believed.saturating_sub(MARGIN));
                let held = what & 8 == 0;
                self.happens(LifecycleEvent::Invoke { request_id, deadline, held });
                let calls_at_once = self.state.next_outstanding;
                assert!(held || calls_at_once, "an invocation is held that flushes nothing");
            }
            2 if self.state.next_outstanding && which.is_multiple_of(4) => {
                self.state.next_outstanding = false;
                // A clock ahead of the platform's leaves nothing.
                let left = if which & 8 == 0 { SHUTDOWN } else { Duration::ZERO };
                self.state.exit_until = Some(self.now + left.max(SHUTDOWN_LEAST).saturating_sub(EXIT_MARGIN));
                self.happens(LifecycleEvent::Shutdown { deadline: self.now + left });
                assert!(!self.state.flushing, "a flush goes on beyond the next event");
            }
            3 if self.state.next_outstanding => {
                self.state.next_outstanding = false;
                self.happens(LifecycleEvent::NextFailed);
            }
            4 if self.state.flushing => {
                self.state.flushing = false;
                self.happens(LifecycleEvent::FlushDone);
            }
            5 | 6 => self.happens(LifecycleEvent::RuntimeDone { request_id }),
            7 => {
                let task = match which % 8 {
                    0 => Task::Telemetry,
                    1 => Task::Pipeline,
                    2 => Task::Receiver,
                    // A timeout that is not due does nothing.
                    _ => {
                        let due = self.machine.timeout().is_some_and(|due| due <= self.now);
                        let actions = self.machine.on_timeout(self.now);
                        assert!(due || actions.is_empty(), "a spurious timeout led to {actions:?}");
                        return self.obeys(&actions);
                    }
                };
                if task == Task::Pipeline {
                    self.state.pipeline_gone = true;
                    self.state.flushing = false;
                }
                self.happens(LifecycleEvent::TaskExited(task));
            }
            _ => {}
        }
    }

    fn happens(&mut self, event: LifecycleEvent) {
        let actions = self.machine.on(event, self.now);
        self.obeys(&actions);
    }

    fn obeys(&mut self, actions: &[LifecycleAction]) {
        for action in actions {
            assert!(!self.state.exited, "{action:?} after the exit");
            match action {
                LifecycleAction::OpenWindow { .. } => {
                    assert!(!self.state.flushing, "a flush goes on beyond the next event");
                    self.state.is_open = true;
                }
                LifecycleAction::CloseWindow => {
                    assert!(!self.state.flushing, "a flush while no function runs");
                    assert!(std::mem::take(&mut self.state.is_open), "a Close without an Open");
                }
                LifecycleAction::Warn(_) => {
                    assert!(!std::mem::replace(&mut self.state.warned, true), "a second warning");
                }
                LifecycleAction::CallNext => {
                    assert!(!self.state.next_outstanding, "a second /next while one is outstanding");
                    assert!(!self.state.flushing, "/next while a flush is in flight");
                    assert!(self.state.exit_until.is_none(), "/next after SHUTDOWN");
                    self.state.next_outstanding = true;
                    self.state.invocation_until = None;
                }
                LifecycleAction::StartFlush { deadline, .. } => {
                    assert!(!self.state.flushing, "a second flush while one is in flight");
                    assert!(!self.state.pipeline_gone, "a flush with nobody to do it");
                    assert!(*deadline >= self.now, "a flush that is over when it begins");
                    self.state.flushing = true;
                }
                LifecycleAction::CancelFlush => self.state.flushing = false,
                LifecycleAction::StopIntake | LifecycleAction::ReportError => {}
                LifecycleAction::Exit => self.state.exited = true,
            }
        }
    }

    /// Lets time go by, each timeout in its turn.
    fn passes(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let actions = self.machine.on_timeout(self.now);
            self.obeys(&actions);
            self.is_in_time();
            let again = self.machine.timeout();
            assert!(again != Some(due) || !actions.is_empty(), "a timeout that is due for ever");
        }
        self.now = until;
        self.is_in_time();
    }

    fn is_in_time(&self) {
        let late = |until: Option<Instant>| until.is_some_and(|until| self.now > until);
        assert!(!late(self.state.invocation_until), "an invocation held past its deadline");
        assert!(self.state.exited || !late(self.state.exit_until), "no exit before SIGKILL");
    }

    /// Whatever has happened: nothing waits for what may never come.
    fn goes_on_as_it_must(&mut self) {
        self.passes(Duration::from_mins(1));
        assert!(self.state.exited || self.state.next_outstanding, "stuck");
    }
}
