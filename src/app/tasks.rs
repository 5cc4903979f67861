//! The tasks beside the loop, each known by what its end means.
//!
//! A task that panics, ends or no longer has its turn costs what it did and nothing else.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinSet};

use crate::core::lambda::lifecycle::Task;

/// The tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    known: HashMap<Id, (Task, AbortHandle)>,
    /// Of which kinds an end was told: they come in pairs.
    told: Vec<Task>,
    sabotage: Option<Sabotage>,
}

impl Tasks {
    /// No tasks yet. `sabotage` is for tests: builds without debug assertions have none.
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

    /// The next task that ends; never, where none is left.
    pub async fn ended(&mut self) -> Task {
        loop {
            let (id, how) = match self.set.join_next_with_id().await {
                Some(Ok((id, ()))) => (id, "ended"),
                Some(Err(error)) if error.is_panic() => (error.id(), "panicked"),
                Some(Err(error)) => (error.id(), "got stuck"),
                None => std::future::pending().await,
            };
            let Some((kind, _)) = self.known.remove(&id) else { continue };
            let without = match kind {
                Task::Pipeline => "telemetry is no longer sent",
                Task::Telemetry => "logs are no longer taken",
                Task::Receiver => "a listener of the OTLP receiver is gone",
            };
            if !self.told.contains(&kind) {
                self.told.push(kind);
                tracing::error!("a task of the extension {how}: {without}; the function is not affected");
            }
            return kind;
        }
    }

    /// Ends the tasks of a kind, one of which no longer has its turn.
    pub fn end(&mut self, kind: Task) {
        for (_, task) in self.known.values().filter(|(known, _)| *known == kind) {
            task.abort();
        }
    }

    /// Ends all tasks, untold.
    pub fn end_all(&mut self) {
        self.known.clear();
        self.set.abort_all();
    }
}

/// How a test breaks the tasks of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    task: Task,
    how: How,
    /// How often the task has its turn before.
    turns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Panic,
    End,
    Stall,
}

impl Sabotage {
    /// Reads `panic,pipeline,20`: what happens to which task after how many turns.
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
    async fn a_task_that_panics_ends_or_gets_stuck_is_told_by_what_its_end_means() {
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
    async fn a_sabotaged_task_goes_well_until_its_turn_comes() {
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
