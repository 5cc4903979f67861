//! The one loop: events from every side into the lifecycle, its actions out to every side.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::app::intake::{IntakeMessage, RuntimeDone};
use crate::app::pipeline::{Control, Handle, InvocationStart};
use crate::app::tasks::Tasks;
use crate::core::delivery::cadence::{self, Cadence, DuringInvocation, SendPlan, Strategy};
use crate::core::elapsed::Elapsed;
use crate::core::lambda::correlation::InvokeTimes;
use crate::core::lambda::lifecycle::{
    FlushReason, Lifecycle, LifecycleAction, LifecycleEvent, Task, Warning,
};
use crate::core::lambda::platform::ShutdownReason;
use crate::edge::clock;
use crate::edge::extensions_api::{ApiError, ExtensionsApi, NextEvent};
use crate::edge::signals::Termination;

/// Platform: no function may run longer.
const MAX_FUNCTION_TIMEOUT: Duration = Duration::from_mins(15);
/// Platform: SIGKILL comes two seconds after SHUTDOWN.
const MAX_SHUTDOWN_TIME: Duration = Duration::from_secs(2);
/// The other tasks answer at once, if they still do.
const END_TIMEOUT: Duration = Duration::from_millis(50);
/// The intake may have a backlog to go through, on the smallest share of a core. What it takes of this, the last flush lacks.
const SHUTDOWN_NOTICE_TIMEOUT: Duration = Duration::from_millis(300);

/// A task that has not answered for so many invocations has a backlog: one is held, so that the task has its turn.
const BACKLOG_AFTER: u32 = 20;
/// A task is ended after so many without an answer. In one that is not held it may have had no time at all, which says nothing
/// of it; at the end of one that was held it has answered, or never will.
const UNANSWERED_LIMIT: u32 = 1_000;

/// Everything that the loop holds.
pub struct Driver {
    /// `None` while a `/next` has it.
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
    /// INVOKE announced it, and the pipeline is still to know.
    starting: Option<(InvocationStart, SendPlan)>,
    running: Option<RunningInvocation>,
    /// The last invocation was to be held.
    last_held: bool,
    probes: Vec<LivenessProbe>,
    tasks: Tasks,
    termination: Termination,
    /// Whether the failure of `/next` was told.
    next_failure_logged: bool,
    shutdown_reason: ShutdownReason,
}

/// Where the function lives.
#[derive(Clone, Copy, Debug)]
pub struct DriverSettings {
    /// When telemetry is to leave.
    pub strategy: Strategy,
    /// The environment is never frozen, and nobody tells when an invocation begins or ends.
    pub managed_instances: bool,
    /// The first INVOKE comes in an environment restored from a snapshot.
    pub snap_start: bool,
}

/// A message to each task, dropped when its turn comes: a task that is stuck keeps it.
#[derive(Debug)]
struct LivenessProbe {
    task: Task,
    answer: oneshot::Receiver<()>,
    /// In how many invocations it was not answered.
    unanswered: u32,
}

/// An invocation whose end the pipeline is still to know.
#[derive(Debug)]
struct RunningInvocation {
    request_id: String,
    held: bool,
}

type NextCall = Pin<Box<dyn Future<Output = (ExtensionsApi, Result<NextEvent, ApiError>)>>>;

/// What the loop is connected to.
pub struct Channels {
    /// The way to the pipeline.
    pub pipeline: Handle,
    /// The way to the intake.
    pub telemetry: mpsc::Sender<IntakeMessage>,
    /// The ends of invocations.
    pub runtime_done: mpsc::Receiver<RuntimeDone>,
}

impl Driver {
    /// A loop that is about to call the first `/next`.
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

    /// Runs until SHUTDOWN, or until the environment is broken.
    pub async fn run(mut self) -> ExitCode {
        let actions = self.lifecycle.on(LifecycleEvent::InitDone, clock::now());
        let mut exit = self.carry_out(actions).await;
        // The first poll of the loop sends `/next`, and only then comes the pipeline's turn to set the exporter up.
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

    /// The next event; `None` when the lifecycle's timeout is due.
    async fn wait(&mut self) -> Option<LifecycleEvent> {
        let timeout = self.lifecycle.timeout();
        tokio::select! {
            biased;
            // The platform's word first: SHUTDOWN has the hardest deadline.
            (api, answer) = or_pending(self.next.as_mut()), if self.next.is_some() => {
                self.next = None;
                self.api = Some(api);
                Some(self.next_event(answer))
            }
            // SIGTERM flushes as SHUTDOWN does. Below `/next`, so that the first poll sends that before it installs a handler.
            () = self.termination.received() => {
                Some(LifecycleEvent::Shutdown { deadline: clock::instant_of_deadline(None, MAX_SHUTDOWN_TIME) })
            }
            // A flush that ended in time was not called off.
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
                // Without it lines of the invocation's first moments lack their request id, and nothing else.
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
                LifecycleEvent::Shutdown { deadline: clock::instant_of_deadline(deadline_ms, MAX_SHUTDOWN_TIME) }
            }
            Err(error) => {
                if !self.next_failure_logged {
                    tracing::warn!("{error}; trying again");
                }
                self.next_failure_logged = true;
                LifecycleEvent::NextFailed
            }
        }
    }

    /// The end of an invocation that is not held is that which the platform names, whenever it comes. The end of a held one
    /// is that of the flush behind it: [`Action::Close`].
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

    /// Carries actions out; answers with the exit code once there is nothing more to do.
    async fn carry_out(&mut self, actions: Vec<LifecycleAction>) -> Option<ExitCode> {
        let mut exit = ExitCode::SUCCESS;
        for action in actions {
            match action {
                LifecycleAction::OpenWindow { held } => self.open(held),
                LifecycleAction::CloseWindow => self.close(),
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

    fn open(&mut self, held: bool) {
        let Some((invocation, plan)) = self.starting.take() else { return };
        self.check_liveness();
        self.last_held = plan.held;
        self.running = Some(RunningInvocation { request_id: invocation.request_id.clone(), held });
        self.pipeline.control(Control::InvocationStarted(invocation));
        // One that was to be held and is not has no flush at its end, so that telemetry is sent as it comes.
        let during = if held == plan.held { plan.during } else { DuringInvocation::AtOnce };
        self.pipeline.control(Control::OpenWindow { during, held });
        self.probe_liveness();
    }

    fn close(&mut self) {
        if let Some(RunningInvocation { request_id, .. }) = self.running.take() {
            self.pipeline.control(Control::InvocationEnded { request_id, at: clock::epoch_nanos() });
        }
        self.pipeline.control(Control::CloseWindow);
    }

    fn warn(&self, Warning::NoRuntimeDone: Warning) {
        // A function that timed out had no end to announce.
        if self.shutdown_reason == ShutdownReason::Spindown {
            tracing::warn!(
                "Telemetry API: no platform.runtimeDone came for an invocation; later ones are not held until one comes; check \
                 that ROTEL_TELEMETRY_ENDPOINT is an address that Lambda can reach"
            );
        }
    }

    fn call_next(&mut self) {
        if !self.lifecycle.announces_ends() {
            self.pipeline.control(Control::KeepOpen(if self.settings.managed_instances {
                cadence::unattended(self.settings.strategy)
            } else {
                // An emulator, or the intake is gone: who knows whether there is a next time.
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

    /// Ends the tasks that have not had their turn since an invocation before.
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

    /// Asks the tasks of which no answer is pending to show that they have their turn.
    fn probe_liveness(&mut self) {
        for task in [Task::Pipeline, Task::Telemetry] {
            if self.probes.iter().any(|probe| probe.task == task) {
                continue;
            }
            let (probe, answer) = oneshot::channel();
            if task == Task::Pipeline {
                self.pipeline.control(Control::LivenessProbe(probe));
            } else {
                // A full queue drops it, which is an answer, too.
                let _ = self.telemetry.try_send(IntakeMessage::LivenessProbe(probe));
            }
            self.probes.push(LivenessProbe { task, answer, unanswered: 0 });
        }
    }

    /// Has the intake say what became of the last invocation, before the flush that is to cover it. Not as soon as
    /// SHUTDOWN comes, because what the platform says of it may be on its way still.
    async fn announce_shutdown(&self) {
        let (done, finished) = oneshot::channel();
        let _ = self.telemetry.try_send(IntakeMessage::ShutDown { reason: self.shutdown_reason, done });
        let _ = tokio::time::timeout(SHUTDOWN_NOTICE_TIMEOUT, finished).await;
    }

    async fn report_error(&mut self) {
        const MESSAGE: &str = "the Extensions API stopped answering /next";
        tracing::error!("{MESSAGE}; the extension ends");
        if let Some(api) = &mut self.api {
            // Lambda learns of the end from the exit itself as well.
            let _ = api.exit_error("Extension.NextFailed", MESSAGE).await;
        }
    }

    /// Ends the other tasks, once the pipeline has told of what it still holds.
    async fn stop_intake(&mut self) {
        let (done, message) = oneshot::channel();
        self.pipeline.control(Control::Shutdown(done));
        let _ = tokio::time::timeout(END_TIMEOUT, message).await;
        self.tasks.end_all();
    }
}

async fn or_pending<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
