//! The one loop: events from every side into the lifecycle, its actions out to every side.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::app::intake::Told;
use crate::app::pipeline::{Control, Handle, Invocation};
use crate::app::tasks::Tasks;
use crate::core::cadence::{self, Beside, Cadence, Strategy};
use crate::core::correlation::Invoked;
use crate::core::lifecycle::{Action, Event, FlushReason, Lifecycle, Task};
use crate::core::platform::ShutdownReason;
use crate::edge::clock;
use crate::edge::extensions_api::{ApiError, ExtensionsApi, NextEvent};
use crate::edge::signals::Termination;

/// Platform: no function may run longer.
const FUNCTION_TIMEOUT_MOST: Duration = Duration::from_mins(15);
/// Platform: SIGKILL comes two seconds after SHUTDOWN.
const SHUTDOWN_MOST: Duration = Duration::from_secs(2);
/// The other tasks answer at once, if they still do.
const END_TIMEOUT: Duration = Duration::from_millis(50);
/// The intake may have a backlog to go through, on the smallest share of a core. What it takes of this, the last flush lacks.
const LAST_CALL_TIMEOUT: Duration = Duration::from_millis(300);

/// Everything that the loop holds.
pub struct Driver {
    /// `None` while a `/next` has it.
    api: Option<ExtensionsApi>,
    next: Option<NextCall>,
    lifecycle: Lifecycle,
    pipeline: Handle,
    telemetry: mpsc::Sender<Told>,
    runtime_done: mpsc::Receiver<String>,
    flush_done: Option<oneshot::Receiver<()>>,
    home: Home,
    cadence: Cadence,
    /// What each task was given at the last INVOKE, to drop in its turn.
    pulses: Vec<(Task, oneshot::Receiver<()>)>,
    tasks: Tasks,
    termination: Termination,
    /// Whether the failure of `/next` was told.
    told_next_failed: bool,
    shutdown_reason: ShutdownReason,
}

/// Where the function lives.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// When telemetry is to leave.
    pub strategy: Strategy,
    /// The environment is never frozen, and nobody tells when an invocation begins or ends.
    pub managed_instances: bool,
    /// The first INVOKE comes in an environment restored from a snapshot.
    pub snap_start: bool,
}

type NextCall = Pin<Box<dyn Future<Output = (ExtensionsApi, Result<NextEvent, ApiError>)>>>;

/// What the loop is connected to.
pub struct Links {
    /// The way to the pipeline.
    pub pipeline: Handle,
    /// The way to the intake.
    pub telemetry: mpsc::Sender<Told>,
    /// Request ids of invocations that are done.
    pub runtime_done: mpsc::Receiver<String>,
}

impl Driver {
    /// A loop that is about to call the first `/next`.
    pub fn new(api: ExtensionsApi, lifecycle: Lifecycle, links: Links, tasks: Tasks, home: Home) -> Self {
        let Links { pipeline, telemetry, runtime_done } = links;
        Self {
            api: Some(api),
            next: None,
            lifecycle,
            pipeline,
            telemetry,
            runtime_done,
            flush_done: None,
            home,
            cadence: Cadence::new(home.strategy),
            pulses: Vec::new(),
            tasks,
            termination: Termination::default(),
            told_next_failed: false,
            shutdown_reason: ShutdownReason::Spindown,
        }
    }

    /// Runs until SHUTDOWN, or until the environment is broken.
    pub async fn run(mut self) -> ExitCode {
        let actions = self.lifecycle.on(Event::InitDone, clock::now());
        let mut exit = self.carry_out(actions).await;
        // The first poll of the loop sends `/next`, and only then comes the pipeline's turn to set the exporter up.
        self.pipeline.control(Control::Prepare);
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
    async fn wait(&mut self) -> Option<Event> {
        let timeout = self.lifecycle.timeout();
        tokio::select! {
            biased;
            // The platform's word first: SHUTDOWN has the hardest deadline.
            (api, answer) = pending_or(self.next.as_mut()), if self.next.is_some() => {
                self.next = None;
                self.api = Some(api);
                Some(self.next_event(answer))
            }
            // SIGTERM flushes as SHUTDOWN does. Below `/next`, so that the first poll sends that before it installs a handler.
            () = self.termination.received() => {
                Some(Event::Shutdown { deadline: clock::instant_of(None, SHUTDOWN_MOST) })
            }
            // A flush that ended in time was not called off.
            _ = pending_or(self.flush_done.as_mut()), if self.flush_done.is_some() => {
                self.flush_done = None;
                Some(Event::FlushDone)
            }
            Some(request_id) = self.runtime_done.recv() => Some(Event::RuntimeDone { request_id }),
            task = self.tasks.ended() => Some(Event::TaskExited(task)),
            () = clock::until(timeout) => None,
        }
    }

    fn next_event(&mut self, answer: Result<NextEvent, ApiError>) -> Event {
        match answer {
            Ok(NextEvent::Invoke { request_id, deadline_ms, invoked_arn, xray }) => {
                self.told_next_failed = false;
                if std::mem::take(&mut self.home.snap_start) {
                    self.pipeline.control(Control::Restored);
                }
                let plan = self.cadence.on_invoke(clock::since_epoch(), fastrand::f64());
                let invoked = Some(Invoked { at: clock::epoch_nanos(), deadline_ms });
                let invocation = Invocation { request_id: request_id.clone(), xray, invoked };
                self.pipeline.control(Control::Invocation(invocation));
                self.pipeline.control(Control::Open(plan.beside));
                self.feel_the_pulse();
                // Without it lines of the invocation's first moments lack their request id, and nothing else.
                let told = Told::Invoked { request_id: request_id.clone(), invoked_arn, xray, deadline_ms };
                let _ = self.telemetry.try_send(told);
                let deadline = clock::instant_of(deadline_ms, FUNCTION_TIMEOUT_MOST);
                Event::Invoke { request_id, deadline, flush_at_end: plan.flush_at_end }
            }
            Ok(NextEvent::Shutdown { reason, deadline_ms }) => {
                self.shutdown_reason = reason;
                Event::Shutdown { deadline: clock::instant_of(deadline_ms, SHUTDOWN_MOST) }
            }
            Err(error) => {
                if !self.told_next_failed {
                    tracing::warn!("{error}; trying again");
                }
                self.told_next_failed = true;
                Event::NextFailed
            }
        }
    }

    /// Carries actions out; answers with the exit code once there is nothing more to do.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Option<ExitCode> {
        let mut exit = ExitCode::SUCCESS;
        for action in actions {
            match action {
                Action::CallNext => self.call_next(),
                Action::StartFlush { reason, deadline } => {
                    if reason == FlushReason::Shutdown {
                        self.last_call().await;
                    }
                    let (done, flush_done) = oneshot::channel();
                    self.flush_done = Some(flush_done);
                    self.pipeline.control(Control::Flush { reason, deadline, done });
                }
                Action::CancelFlush => {
                    self.flush_done = None;
                    self.pipeline.control(Control::Cancel);
                }
                Action::StopIntake => self.stop_intake().await,
                Action::ReportError => {
                    exit = ExitCode::FAILURE;
                    self.report_error().await;
                }
                Action::Exit => return Some(exit),
            }
        }
        None
    }

    fn call_next(&mut self) {
        self.pipeline.control(Control::Over { at: clock::epoch_nanos() });
        self.pipeline.control(if self.lifecycle.ends_are_announced() {
            Control::Close
        } else if self.home.managed_instances {
            Control::StayOpen(cadence::unattended(self.home.strategy))
        } else {
            // An emulator, or the intake is gone: who knows whether there is a next time.
            Control::StayOpen(Beside::AtOnce)
        });
        if let Some(mut api) = self.api.take() {
            self.next = Some(Box::pin(async move {
                let answer = api.next().await;
                (api, answer)
            }));
        }
    }

    /// Ends the tasks that have not had their turn since the last INVOKE, which was at least a freeze ago; asks the
    /// others.
    fn feel_the_pulse(&mut self) {
        for (task, mut pulse) in std::mem::take(&mut self.pulses) {
            if pulse.try_recv() == Err(TryRecvError::Empty) {
                self.tasks.end(task);
            }
        }
        let (of_pipeline, pulse) = oneshot::channel();
        self.pipeline.control(Control::Pulse(of_pipeline));
        self.pulses.push((Task::Pipeline, pulse));
        let (of_telemetry, pulse) = oneshot::channel();
        // A full queue drops it, and its task is none the worse for that.
        let _ = self.telemetry.try_send(Told::Pulse(of_telemetry));
        self.pulses.push((Task::Telemetry, pulse));
    }

    /// Has the intake say what became of the last invocation, before the flush that is to cover it. Not as soon as
    /// SHUTDOWN comes, because what the platform says of it may be on its way still.
    async fn last_call(&self) {
        let (heard, said) = oneshot::channel();
        let _ = self.telemetry.try_send(Told::ShutDown { reason: self.shutdown_reason, heard });
        let _ = tokio::time::timeout(LAST_CALL_TIMEOUT, said).await;
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
        let (done, told) = oneshot::channel();
        self.pipeline.control(Control::End(done));
        let _ = tokio::time::timeout(END_TIMEOUT, told).await;
        self.tasks.end_all();
    }
}

async fn pending_or<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
