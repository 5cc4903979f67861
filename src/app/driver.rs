//! The one loop: events from every side into the lifecycle, its actions out to every side.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};

use crate::app::intake::Told;
use crate::app::pipeline::{Control, Handle};
use crate::core::lifecycle::{Action, Event, Lifecycle, Task};
use crate::edge::clock;
use crate::edge::extensions_api::{ApiError, ExtensionsApi, NextEvent};

/// Platform: no function may run longer.
const FUNCTION_TIMEOUT_MOST: Duration = Duration::from_mins(15);
/// Platform: SIGKILL comes two seconds after SHUTDOWN.
const SHUTDOWN_MOST: Duration = Duration::from_secs(2);
/// The pipeline answers at once, if it still does.
const END_TIMEOUT: Duration = Duration::from_millis(50);

/// The tasks beside the loop, each known by what its end means.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    kinds: HashMap<Id, Task>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, kind: Task, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.kinds.insert(id, kind);
    }

    /// The next task that ends; never, where none is left.
    async fn ended(&mut self) -> Task {
        loop {
            let (id, how) = match self.set.join_next_with_id().await {
                Some(Ok((id, ()))) => (id, "ended"),
                Some(Err(error)) => (error.id(), "panicked"),
                None => std::future::pending().await,
            };
            let Some(kind) = self.kinds.remove(&id) else { continue };
            let without = match kind {
                Task::Pipeline => "telemetry is no longer sent",
                Task::Telemetry => "logs are no longer taken",
                Task::Receiver => "a listener of the OTLP receiver is gone",
            };
            tracing::error!("a task of the extension {how}: {without}; the function is not affected");
            return kind;
        }
    }
}

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
    tasks: Tasks,
    /// Whether the failure of `/next` was told.
    told_next_failed: bool,
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
    pub fn new(api: ExtensionsApi, lifecycle: Lifecycle, links: Links, tasks: Tasks) -> Self {
        let Links { pipeline, telemetry, runtime_done } = links;
        Self {
            api: Some(api),
            next: None,
            lifecycle,
            pipeline,
            telemetry,
            runtime_done,
            flush_done: None,
            tasks,
            told_next_failed: false,
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
            Ok(NextEvent::Invoke { request_id, deadline_ms }) => {
                self.told_next_failed = false;
                self.pipeline.control(Control::Open);
                // Without it lines of the invocation's first moments lack their request id, and nothing else.
                let _ = self.telemetry.try_send(Told::Invoked(request_id.clone()));
                Event::Invoke { request_id, deadline: clock::instant_of(deadline_ms, FUNCTION_TIMEOUT_MOST) }
            }
            Ok(NextEvent::Shutdown { deadline_ms }) => {
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
                Action::StartFlush { reason, .. } => {
                    let (done, flush_done) = oneshot::channel();
                    self.flush_done = Some(flush_done);
                    self.pipeline.control(Control::Flush { reason, done });
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
        let announced = self.lifecycle.ends_are_announced();
        self.pipeline.control(if announced { Control::Close } else { Control::StayOpen });
        if let Some(mut api) = self.api.take() {
            self.next = Some(Box::pin(async move {
                let answer = api.next().await;
                (api, answer)
            }));
        }
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
        self.tasks.set.abort_all();
    }
}

async fn pending_or<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_told_by_what_its_end_means() {
        let mut tasks = Tasks::default();
        tasks.spawn(Task::Receiver, std::future::pending());
        tasks.spawn(Task::Pipeline, async { panic!("a bug") });
        assert_eq!(tasks.ended().await, Task::Pipeline);
        tasks.spawn(Task::Telemetry, async {});
        assert_eq!(tasks.ended().await, Task::Telemetry);
    }
}
