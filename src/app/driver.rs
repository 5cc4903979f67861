//! The main loop: feeds events into the lifecycle and carries out its actions.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::app::intake::{IntakeMessage, RuntimeDone};
use crate::app::pipeline::{Control, Handle, InvocationStart};
use crate::app::tasks::Tasks;
use crate::edge::clock;
use crate::edge::extensions_api::{ApiError, ExtensionsApi, NextEvent};
use crate::edge::signals::Termination;
use rotel_core::delivery::cadence::{self, Cadence, DuringInvocation, SendPlan, Strategy};
use rotel_core::elapsed::Elapsed;
use rotel_core::lambda::correlation::InvokeTimes;
use rotel_core::lambda::lifecycle::{FlushReason, Lifecycle, LifecycleAction, LifecycleEvent, Task, Warning};
use rotel_core::lambda::platform::ShutdownReason;

/// Platform: the maximum function timeout.
const MAX_FUNCTION_TIMEOUT: Duration = Duration::from_mins(15);
/// Platform: SIGKILL comes two seconds after SHUTDOWN.
const MAX_SHUTDOWN_TIME: Duration = Duration::from_secs(2);
/// The time for the other tasks to answer, which they do at once if they are alive.
const END_TIMEOUT: Duration = Duration::from_millis(50);
/// The time for the intake to work off its backlog, on the smallest share of a core. The last flush loses that time.
const SHUTDOWN_NOTICE_TIMEOUT: Duration = Duration::from_millis(300);

/// A task that has not answered for this many invocations has a backlog. Then an invocation is held, to give it CPU time.
const BACKLOG_AFTER: u32 = 20;
/// A task is aborted after this many invocations without an answer. In an unheld invocation it may have had no CPU time, so
/// a single miss proves nothing. By the end of a held invocation, it has answered or never will.
const UNANSWERED_LIMIT: u32 = 1_000;

/// The main loop and its state.
pub struct Driver {
    /// `None` while a `/next` call owns it.
    api: Option<ExtensionsApi>,
    next: Option<NextCall>,
    lifecycle: Lifecycle,
    pipeline: Handle,
    telemetry: mpsc::Sender<IntakeMessage>,
    runtime_done: mpsc::Receiver<RuntimeDone>,
    flush_done: Option<oneshot::Receiver<()>>,
    settings: DriverSettings,
    cadence: Cadence,
    elapsed: Elapsed,
    /// The invocation of the last INVOKE, before the pipeline knows it.
    starting: Option<(InvocationStart, SendPlan)>,
    running: Option<RunningInvocation>,
    /// True if the last invocation was planned to be held.
    last_held: bool,
    probes: Vec<LivenessProbe>,
    tasks: Tasks,
    termination: Termination,
    /// True if the failure of `/next` was logged.
    next_failure_logged: bool,
    shutdown_reason: ShutdownReason,
}

/// The settings of the loop.
#[derive(Clone, Copy, Debug)]
pub struct DriverSettings {
    /// The flush strategy.
    pub strategy: Strategy,
    /// True on managed instances: the environment never freezes, and no event announces invocations.
    pub managed_instances: bool,
    /// True if the first INVOKE comes after a restore from a snapshot.
    pub snap_start: bool,
}

/// A message that a live task drops when it gets to it. A stuck task keeps it.
#[derive(Debug)]
struct LivenessProbe {
    task: Task,
    answer: oneshot::Receiver<()>,
    /// The number of invocations without an answer.
    unanswered: u32,
}

/// An invocation whose end the pipeline does not know yet.
#[derive(Debug)]
struct RunningInvocation {
    request_id: String,
    held: bool,
}

type NextCall = Pin<Box<dyn Future<Output = (ExtensionsApi, Result<NextEvent, ApiError>)>>>;

/// The channels to and from the loop.
pub struct Channels {
    /// To the pipeline.
    pub pipeline: Handle,
    /// To the intake.
    pub telemetry: mpsc::Sender<IntakeMessage>,
    /// From the intake: the ends of invocations.
    pub runtime_done: mpsc::Receiver<RuntimeDone>,
}

impl Driver {
    /// Returns a loop that is about to call the first `/next`.
    pub fn new(
        api: ExtensionsApi,
        lifecycle: Lifecycle,
        channels: Channels,
        tasks: Tasks,
        settings: DriverSettings,
    ) -> Self {
        let Channels { pipeline, telemetry, runtime_done } = channels;
        Self {
            api: Some(api),
            next: None,
            lifecycle,
            pipeline,
            telemetry,
            runtime_done,
            flush_done: None,
            settings,
            cadence: Cadence::new(settings.strategy),
            elapsed: Elapsed::new(),
            starting: None,
            running: None,
            last_held: true,
            probes: Vec::new(),
            tasks,
            termination: Termination::default(),
            next_failure_logged: false,
            shutdown_reason: ShutdownReason::Spindown,
        }
    }

    /// Runs until SHUTDOWN, or until the environment is broken. Returns the exit code.
    pub async fn run(mut self) -> ExitCode {
        let actions = self.lifecycle.on(LifecycleEvent::InitDone, clock::now());
        let mut exit = self.carry_out(actions).await;
        // The first poll of the loop sends `/next`. Only then can the pipeline run and set the exporter up.
        self.pipeline.control(Control::SetUp);
        while exit.is_none() {
            let actions = match self.wait().await {
                Some(event) => self.lifecycle.on(event, clock::now()),
                None => self.lifecycle.on_timeout(clock::now()),
            };
            exit = self.carry_out(actions).await;
        }
        exit.unwrap_or(ExitCode::SUCCESS)
    }

    /// Waits for the next event; `None` when the lifecycle's timeout is due.
    async fn wait(&mut self) -> Option<LifecycleEvent> {
        let timeout = self.lifecycle.timeout();
        tokio::select! {
            biased;
            // The platform first: SHUTDOWN has the hardest deadline.
            (api, answer) = or_pending(self.next.as_mut()), if self.next.is_some() => {
                self.next = None;
                self.api = Some(api);
                Some(self.next_event(answer))
            }
            // SIGTERM flushes like SHUTDOWN. Below `/next`, so that the first poll sends that before it installs a signal handler.
            () = self.termination.received() => {
                Some(LifecycleEvent::Shutdown { deadline: clock::instant_of_deadline(None, MAX_SHUTDOWN_TIME) })
            }
            // Above the timeout, so that a flush that ended in time is not cancelled.
            _ = or_pending(self.flush_done.as_mut()), if self.flush_done.is_some() => {
                self.flush_done = None;
                Some(LifecycleEvent::FlushDone)
            }
            Some(done) = self.runtime_done.recv() => Some(self.runtime_done(done)),
            task = self.tasks.ended() => Some(LifecycleEvent::TaskExited(task)),
            () = clock::until(timeout) => None,
        }
    }

    fn next_event(&mut self, answer: Result<NextEvent, ApiError>) -> LifecycleEvent {
        match answer {
            Ok(NextEvent::Invoke { request_id, deadline_ms, invoked_arn, xray }) => {
                self.next_failure_logged = false;
                if std::mem::take(&mut self.settings.snap_start) {
                    self.pipeline.control(Control::Restored);
                }
                let elapsed = self.elapsed.advance_to(clock::reading());
                let has_backlog = self.probes.iter().any(|probe| probe.unanswered >= BACKLOG_AFTER);
                let urgent = has_backlog || self.pipeline.wants_flush();
                let plan = self.cadence.on_invoke(elapsed, fastrand::f64(), urgent);
                let invoked = Some(InvokeTimes { at: clock::epoch_nanos(), deadline_ms });
                let invocation = InvocationStart { request_id: request_id.clone(), xray, invoked };
                self.starting = Some((invocation, plan));
                // If the queue is full, the first lines of the invocation lack their request id, and nothing else.
                let message =
                    IntakeMessage::Invoked { request_id: request_id.clone(), invoked_arn, xray, deadline_ms };
                let _ = self.telemetry.try_send(message);
                let deadline = clock::instant_of_deadline(deadline_ms, MAX_FUNCTION_TIMEOUT);
                LifecycleEvent::Invoke { request_id, deadline, held: plan.held }
            }
            Ok(NextEvent::Shutdown { reason, deadline_ms }) => {
                self.shutdown_reason = reason;
                if let Some(RunningInvocation { request_id, .. }) = self.running.take() {
                    self.pipeline.control(Control::InvocationEnded { request_id, at: clock::epoch_nanos() });
                }
                LifecycleEvent::Shutdown {
                    deadline: clock::instant_of_deadline(deadline_ms, MAX_SHUTDOWN_TIME),
                }
            }
            Err(error) => {
                if !self.next_failure_logged {
                    tracing::warn!("{error}; retrying");
                }
                self.next_failure_logged = true;
                LifecycleEvent::NextFailed
            }
        }
    }

    /// Handles `platform.runtimeDone`. An unheld invocation ends at the platform's time, even if the event is late. A held one
    /// ends with the flush after it: [`LifecycleAction::CloseWindow`].
    fn runtime_done(&mut self, RuntimeDone { request_id, time }: RuntimeDone) -> LifecycleEvent {
        if self.running.as_ref().is_some_and(|running| running.held && running.request_id == request_id) {
            return LifecycleEvent::RuntimeDone { request_id };
        }
        self.running.take_if(|running| running.request_id == request_id);
        let now = clock::epoch_nanos();
        let at = time.map_or(now, |time| time.min(now));
        self.pipeline.control(Control::InvocationEnded { request_id: request_id.clone(), at });
        LifecycleEvent::RuntimeDone { request_id }
    }

    /// Carries actions out. Returns the exit code once the process must exit.
    async fn carry_out(&mut self, actions: Vec<LifecycleAction>) -> Option<ExitCode> {
        let mut exit = ExitCode::SUCCESS;
        for action in actions {
            match action {
                LifecycleAction::OpenWindow { held } => self.open_window(held),
                LifecycleAction::CloseWindow => self.close_window(),
                LifecycleAction::CallNext => self.call_next(),
                LifecycleAction::StartFlush { reason, deadline } => {
                    if reason == FlushReason::Shutdown {
                        self.announce_shutdown().await;
                    }
                    let (done, flush_done) = oneshot::channel();
                    self.flush_done = Some(flush_done);
                    self.pipeline.control(Control::Flush { reason, deadline, done });
                }
                LifecycleAction::CancelFlush => {
                    self.flush_done = None;
                    self.pipeline.control(Control::CancelFlush);
                }
                LifecycleAction::Warn(warning) => self.warn(warning),
                LifecycleAction::StopIntake => self.stop_intake().await,
                LifecycleAction::ReportError => {
                    exit = ExitCode::FAILURE;
                    self.report_error().await;
                }
                LifecycleAction::Exit => return Some(exit),
            }
        }
        None
    }

    fn open_window(&mut self, held: bool) {
        let Some((invocation, plan)) = self.starting.take() else { return };
        self.check_liveness();
        self.last_held = plan.held;
        self.running = Some(RunningInvocation { request_id: invocation.request_id.clone(), held });
        self.pipeline.control(Control::InvocationStarted(invocation));
        // An invocation that was planned to be held but is not has no flush at its end, so telemetry is sent at once.
        let during = if held == plan.held { plan.during } else { DuringInvocation::AtOnce };
        self.pipeline.control(Control::OpenWindow { during, held });
        self.probe_liveness();
    }

    fn close_window(&mut self) {
        if let Some(RunningInvocation { request_id, .. }) = self.running.take() {
            self.pipeline.control(Control::InvocationEnded { request_id, at: clock::epoch_nanos() });
        }
        self.pipeline.control(Control::CloseWindow);
    }

    fn warn(&self, Warning::NoRuntimeDone: Warning) {
        // A function that timed out had no end to announce before its deadline.
        if self.shutdown_reason == ShutdownReason::Spindown {
            tracing::warn!(
                "Telemetry API: no platform.runtimeDone arrived for an invocation; invocations do not wait for a flush \
                 until one arrives; check that Lambda can reach ROTEL_TELEMETRY_ENDPOINT"
            );
        }
    }

    fn call_next(&mut self) {
        if !self.lifecycle.announces_ends() {
            self.pipeline.control(Control::KeepOpen(if self.settings.managed_instances {
                cadence::continuous(self.settings.strategy)
            } else {
                // An emulator, or the intake is gone: there may be no later chance to send.
                DuringInvocation::AtOnce
            }));
        }
        if let Some(mut api) = self.api.take() {
            self.next = Some(Box::pin(async move {
                let answer = api.next().await;
                (api, answer)
            }));
        }
    }

    /// Aborts the tasks that have not answered since an earlier invocation.
    fn check_liveness(&mut self) {
        for mut probe in std::mem::take(&mut self.probes) {
            if probe.answer.try_recv() != Err(TryRecvError::Empty) {
                continue;
            }
            probe.unanswered += 1;
            if self.last_held || probe.unanswered >= UNANSWERED_LIMIT {
                self.tasks.end(probe.task);
            } else {
                self.probes.push(probe);
            }
        }
    }

    /// Sends a probe to each task without a pending one.
    fn probe_liveness(&mut self) {
        for task in [Task::Pipeline, Task::Telemetry] {
            if self.probes.iter().any(|probe| probe.task == task) {
                continue;
            }
            let (probe, answer) = oneshot::channel();
            if task == Task::Pipeline {
                self.pipeline.control(Control::LivenessProbe(probe));
            } else {
                // A full queue drops the probe, which counts as an answer.
                let _ = self.telemetry.try_send(IntakeMessage::LivenessProbe(probe));
            }
            self.probes.push(LivenessProbe { task, answer, unanswered: 0 });
        }
    }

    /// Has the intake report the last invocation's outcome, before the flush that covers it. Not as soon as SHUTDOWN arrives,
    /// because platform events about it may still arrive.
    async fn announce_shutdown(&self) {
        let (done, finished) = oneshot::channel();
        let _ = self.telemetry.try_send(IntakeMessage::ShutDown { reason: self.shutdown_reason, done });
        let _ = tokio::time::timeout(SHUTDOWN_NOTICE_TIMEOUT, finished).await;
    }

    async fn report_error(&mut self) {
        const MESSAGE: &str = "the Extensions API stopped answering /next";
        tracing::error!("{MESSAGE}; the extension exits");
        if let Some(api) = &mut self.api {
            // The exit alone also shows Lambda the failure.
            let _ = api.exit_error("Extension.NextFailed", MESSAGE).await;
        }
    }

    /// Aborts the other tasks after the pipeline has reported the items that it still holds.
    async fn stop_intake(&mut self) {
        let (done, finished) = oneshot::channel();
        self.pipeline.control(Control::Shutdown(done));
        let _ = tokio::time::timeout(END_TIMEOUT, finished).await;
        self.tasks.end_all();
    }
}

async fn or_pending<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
