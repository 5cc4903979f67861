//! The background tasks, by the meaning of their end.
//!
//! If a task panics, ends or gets stuck, only its own work stops.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinSet};

#[cfg(feature = "failpoints")]
use crate::app::failpoints::{self, TaskFailpoint};
use rotel_core::lambda::lifecycle::Task;

/// The running tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    known: HashMap<Id, (Task, AbortHandle)>,
    /// The kinds of which an end was logged. Some kinds have two tasks.
    logged: Vec<Task>,
    #[cfg(feature = "failpoints")]
    failpoint: Option<TaskFailpoint>,
}

impl Tasks {
    /// Breaks the tasks that are spawned from now on.
    #[cfg(feature = "failpoints")]
    pub(crate) fn break_by(&mut self, failpoint: Option<TaskFailpoint>) {
        self.failpoint = failpoint;
    }

    /// Starts a task.
    pub fn spawn(&mut self, kind: Task, task: impl Future<Output = ()> + Send + 'static) {
        #[cfg(feature = "failpoints")]
        let task = failpoints::run(self.failpoint, kind, task);
        let handle = self.set.spawn(task);
        self.known.insert(handle.id(), (kind, handle));
    }

    /// Waits for the next task that ends; forever if none is left.
    pub async fn ended(&mut self) -> Task {
        loop {
            let (id, how) = match self.set.join_next_with_id().await {
                Some(Ok((id, ()))) => (id, "ended"),
                Some(Err(error)) if error.is_panic() => (error.id(), "panicked"),
                Some(Err(error)) => (error.id(), "was stuck and was aborted"),
                None => std::future::pending().await,
            };
            let Some((kind, _)) = self.known.remove(&id) else { continue };
            let without = match kind {
                Task::Pipeline => "telemetry is no longer sent",
                Task::Telemetry => "log collection has stopped",
                Task::Receiver => "an OTLP listener has stopped",
            };
            if !self.logged.contains(&kind) {
                self.logged.push(kind);
                tracing::error!("an extension task {how}: {without}; the function is not affected");
            }
            return kind;
        }
    }

    /// Aborts the tasks of a kind, one of which is stuck.
    pub fn end(&mut self, kind: Task) {
        for (_, task) in self.known.values().filter(|(known, _)| *known == kind) {
            task.abort();
        }
    }

    /// Aborts all tasks without logging.
    pub fn end_all(&mut self) {
        self.known.clear();
        self.set.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_of_tasks_are_reported_by_kind() {
        let mut tasks = Tasks::default();
        tasks.spawn(Task::Receiver, std::future::pending());
        tasks.spawn(Task::Pipeline, async { panic!("a bug") });
        assert_eq!(tasks.ended().await, Task::Pipeline);
        tasks.spawn(Task::Telemetry, async {});
        assert_eq!(tasks.ended().await, Task::Telemetry);
        tasks.end(Task::Receiver);
        assert_eq!(tasks.ended().await, Task::Receiver);
    }
}
