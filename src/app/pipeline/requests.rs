//! The tasks of one sender: its setup and its requests.

use std::task::{Context, Poll};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::export::{BackendExporter, SetupFn, SetupOutcome};
use rotel_core::delivery::event::{RequestId, SenderEvent, SetupResult};
use rotel_core::delivery::verdict::{Failure, Verdict};
use rotel_core::signal::Signal;

/// The exporter of one backend, and the tasks that use it.
pub(super) struct Requests<E> {
    setup: Option<SetupFn<E>>,
    exporter: Option<E>,
    tasks: JoinSet<TaskResult<E>>,
    /// The tasks that were not aborted.
    running: Vec<(TaskKind, AbortHandle)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskKind {
    Setup,
    Request(RequestId),
}

/// The result of a task.
#[derive(Debug)]
enum TaskResult<E> {
    Setup(SetupOutcome<E>),
    Answer(Verdict),
}

impl<E: BackendExporter> Requests<E> {
    pub(super) fn new(setup: Option<SetupFn<E>>) -> Self {
        Self { setup, exporter: None, tasks: JoinSet::new(), running: Vec::new() }
    }

    pub(super) fn start_setup(&mut self, refresh: bool) {
        let Some(setup) = &mut self.setup else { return };
        let future = setup(refresh);
        let task = self.tasks.spawn(async { TaskResult::Setup(future.await) });
        self.running.push((TaskKind::Setup, task));
    }

    pub(super) fn send(
        &mut self,
        request: RequestId,
        signal: Signal,
        chunks: Vec<bytes::Bytes>,
        fresh: bool,
    ) {
        let Some(exporter) = self.exporter(fresh) else { return };
        let task =
            self.tasks.spawn(async move { TaskResult::Answer(exporter.attempt(signal, chunks).await) });
        self.running.push((TaskKind::Request(request), task));
    }

    pub(super) fn warm(&mut self, request: RequestId, fresh: bool) {
        let Some(exporter) = self.exporter(fresh) else { return };
        let task = self.tasks.spawn(async move { TaskResult::Answer(exporter.warm().await) });
        self.running.push((TaskKind::Request(request), task));
    }

    pub(super) fn explain(&self, signal: Signal, failure: &Failure) -> Option<String> {
        self.exporter.as_ref()?.explain(signal, failure)
    }

    pub(super) fn abort_setup(&mut self) {
        self.abort_kind(TaskKind::Setup);
    }

    pub(super) fn abort(&mut self, request: RequestId) {
        self.abort_kind(TaskKind::Request(request));
    }

    fn abort_kind(&mut self, kind: TaskKind) {
        for (_, task) in self.running.extract_if(.., |(running, _)| *running == kind) {
            task.abort();
        }
    }

    /// Returns the exporter, with new connections if the old ones may be dead.
    fn exporter(&mut self, fresh: bool) -> Option<E> {
        let exporter = self.exporter.as_mut()?;
        if fresh {
            *exporter = exporter.with_new_connections();
        }
        Some(exporter.clone())
    }

    /// Polls for the next task that ends. Pending if none does.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<SenderEvent> {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next_with_id(context) {
            if let Some(event) = self.event(ended) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    /// Returns the next task that has ended, if there is one.
    pub(super) fn try_ended(&mut self) -> Option<SenderEvent> {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            if let Some(event) = self.event(ended) {
                return Some(event);
            }
        }
        None
    }

    /// Converts a task's result to a sender event; `None` if the task was aborted.
    fn event(&mut self, ended: Result<(Id, TaskResult<E>), JoinError>) -> Option<SenderEvent> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let at = self.running.iter().position(|(_, task)| task.id() == id)?;
        let (kind, _) = self.running.swap_remove(at);
        Some(match (kind, ended) {
            (TaskKind::Setup, Ok((_, TaskResult::Setup(outcome)))) => {
                let result = outcome.to_result();
                self.exporter = outcome.exporter.or(self.exporter.take());
                SenderEvent::SetupDone(result)
            }
            (TaskKind::Request(request), Ok((_, TaskResult::Answer(verdict)))) => {
                SenderEvent::Answered(request, verdict)
            }
            // A setup that panics is retried like one that fails.
            (TaskKind::Setup, _) => SenderEvent::SetupDone(SetupResult { routes: None, has_secret: true }),
            // The same batch would make the exporter panic again.
            (TaskKind::Request(request), _) => {
                SenderEvent::Answered(request, Verdict::Refused(Failure::Panicked))
            }
        })
    }
}
