//! The tasks that carry out what one sender asks for: its setup and its requests.

use std::task::{Context, Poll};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::export::{Export, Made, Setup};
use crate::core::delivery::event::{Event, RequestId, SetUp};
use crate::core::delivery::verdict::{Failure, Verdict};
use crate::core::signal::Signal;

/// The exporter of one backend and the tasks that use it.
pub(super) struct Requests<E> {
    setup: Option<Setup<E>>,
    exporter: Option<E>,
    tasks: JoinSet<Ended<E>>,
    /// Those that were not aborted.
    running: Vec<(What, AbortHandle)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Setup,
    Request(RequestId),
}

/// The result of a task.
#[derive(Debug)]
enum Ended<E> {
    Setup(Made<E>),
    Answer(Verdict),
}

impl<E: Export> Requests<E> {
    pub(super) fn new(setup: Option<Setup<E>>) -> Self {
        Self { setup, exporter: None, tasks: JoinSet::new(), running: Vec::new() }
    }

    pub(super) fn set_up(&mut self, refresh: bool) {
        let Some(setup) = &mut self.setup else { return };
        let making = setup(refresh);
        let task = self.tasks.spawn(async { Ended::Setup(making.await) });
        self.running.push((What::Setup, task));
    }

    pub(super) fn send(
        &mut self,
        request: RequestId,
        signal: Signal,
        chunks: Vec<bytes::Bytes>,
        fresh: bool,
    ) {
        let Some(exporter) = self.exporter(fresh) else { return };
        let task = self.tasks.spawn(async move { Ended::Answer(exporter.attempt(signal, chunks).await) });
        self.running.push((What::Request(request), task));
    }

    pub(super) fn warm(&mut self, request: RequestId, fresh: bool) {
        let Some(exporter) = self.exporter(fresh) else { return };
        let task = self.tasks.spawn(async move { Ended::Answer(exporter.warm().await) });
        self.running.push((What::Request(request), task));
    }

    /// Explains a failure by the settings.
    pub(super) fn explain(&self, signal: Signal, failure: &Failure) -> Option<String> {
        self.exporter.as_ref()?.explain(signal, failure)
    }

    pub(super) fn abort_setup(&mut self) {
        self.abort_what(What::Setup);
    }

    pub(super) fn abort(&mut self, request: RequestId) {
        self.abort_what(What::Request(request));
    }

    fn abort_what(&mut self, what: What) {
        for (_, task) in self.running.extract_if(.., |(running, _)| *running == what) {
            task.abort();
        }
    }

    /// The exporter, with new connections where the old ones may be dead.
    fn exporter(&mut self, fresh: bool) -> Option<E> {
        let exporter = self.exporter.as_mut()?;
        if fresh {
            *exporter = exporter.with_new_connections();
        }
        Some(exporter.clone())
    }

    /// The next task that ends; pending, where none does.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next_with_id(context) {
            if let Some(event) = self.event(ended) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    /// The next task that has ended, if there is one.
    pub(super) fn try_ended(&mut self) -> Option<Event> {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            if let Some(event) = self.event(ended) {
                return Some(event);
            }
        }
        None
    }

    /// The sender's event; none for a task that was aborted.
    fn event(&mut self, ended: Result<(Id, Ended<E>), JoinError>) -> Option<Event> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let at = self.running.iter().position(|(_, task)| task.id() == id)?;
        let (what, _) = self.running.swap_remove(at);
        Some(match (what, ended) {
            (What::Setup, Ok((_, Ended::Setup(made)))) => {
                let set_up = made.set_up();
                self.exporter = made.exporter.or(self.exporter.take());
                Event::SetUp(set_up)
            }
            (What::Request(request), Ok((_, Ended::Answer(verdict)))) => Event::Answered(request, verdict),
            // A setup that panics is tried again like one that fails.
            (What::Setup, _) => Event::SetUp(SetUp { routes: None, has_secret: true }),
            // A batch on which the exporter panics would make it panic again.
            (What::Request(request), _) => Event::Answered(request, Verdict::Refused(Failure::Panicked)),
        })
    }
}
