//! The background tasks, by the meaning of their end.
//!
//! If a task panics, ends or gets stuck, only its own work stops.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinSet};

use crate::core::lambda::lifecycle::Task;

/// The running tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    known: HashMap<Id, (Task, AbortHandle)>,
    /// The kinds of which an end was logged. Some kinds have two tasks.
    logged: Vec<Task>,
    sabotage: Option<Sabotage>,
}

impl Tasks {
    /// Returns a set without tasks. `sabotage` is for tests: builds without debug assertions have none.
    pub fn new(sabotage: Option<Sabotage>) -> Self {
        Self { sabotage, ..Self::default() }
    }

    /// Starts a task.
    pub fn spawn(&mut self, kind: Task, task: impl Future<Output = ()> + Send + 'static) {
        let handle = match self.sabotage {
            Some(sabotage) if sabotage.task == kind => self.set.spawn(sabotage.of(task)),
            _ => self.set.spawn(task),
        };
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

/// Breaks the tasks of one kind, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    task: Task,
    how: How,
    /// The number of polls before the break.
    turns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Panic,
    End,
    Stall,
}

impl Sabotage {
    /// Parses `panic,pipeline,20`: the break, the task, and the number of polls before.
    pub fn parse(text: &str) -> Option<Self> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let mut parts = text.split(',');
        let how = match parts.next()? {
            "panic" => How::Panic,
            "end" => How::End,
            "stall" => How::Stall,
            _ => return None,
        };
        let task = match parts.next()? {
            "pipeline" => Task::Pipeline,
            "telemetry" => Task::Telemetry,
            "receiver" => Task::Receiver,
            _ => return None,
        };
        Some(Self { task, how, turns: parts.next()?.parse().ok()? })
    }

    #[expect(clippy::panic, reason = "the panic of a test build that asked for it")]
    async fn of(self, task: impl Future<Output = ()>) {
        let mut task = std::pin::pin!(task);
        let mut turns = 0;
        std::future::poll_fn(|context| {
            turns += 1;
            match self.how {
                _ if turns <= self.turns => task.as_mut().poll(context),
                How::Panic => panic!("as the test asked for"),
                How::End => std::task::Poll::Ready(()),
                How::Stall => std::task::Poll::Pending,
            }
        })
        .await;
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

    #[tokio::test]
    async fn sabotaged_task_breaks_after_its_polls() {
        for (how, after) in [("panic", 0), ("end", 3)] {
            let sabotage = Sabotage::parse(&format!("{how},telemetry,{after}")).expect("a sabotage");
            let mut tasks = Tasks::new(Some(sabotage));
            tasks.spawn(Task::Telemetry, async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            assert_eq!(tasks.ended().await, Task::Telemetry);
        }
        assert_eq!(Sabotage::parse("panic,nobody,1"), None);
    }
}
