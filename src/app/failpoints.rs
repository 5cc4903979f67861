//! Failpoints: faults that tests inject into a running extension, by variables of its environment.
//!
//! Compiled in by the cargo feature `failpoints` alone. Only tests enable it, and `make build` refuses a release binary that
//! names a failpoint.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::edge::clock;
use rotel_core::config::Variables;
use rotel_core::lambda::lifecycle::Task;

/// Breaks tasks: `panic,pipeline,20` makes the pipeline panic after 20 polls.
const TASK: &str = "EXTENSION_FAILPOINT_TASK";
/// Skews the wall clock: the path of a file with a number of seconds, which is read on every clock reading.
const CLOCK: &str = "EXTENSION_FAILPOINT_CLOCK";

/// Activates the failpoints that the variables name. Returns that of the tasks.
#[expect(clippy::panic, reason = "a test with a misspelt failpoint must fail")]
pub(crate) fn activate(variables: &Variables) -> Option<TaskFailpoint> {
    if let Some(file) = variables.get(CLOCK) {
        clock::skew_by(file);
    }
    let text = variables.get(TASK)?;
    let failpoint = TaskFailpoint::parse(text);
    Some(failpoint.unwrap_or_else(|| panic!("{TASK}: {text:?} is not FAULT,TASK,POLLS")))
}

/// A fault of the tasks of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskFailpoint {
    task: Task,
    fault: Fault,
    /// Polls before the fault.
    polls: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Panic,
    End,
    Stall,
}

impl TaskFailpoint {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let fault = match parts.next()? {
            "panic" => Fault::Panic,
            "end" => Fault::End,
            "stall" => Fault::Stall,
            _ => return None,
        };
        let task = match parts.next()? {
            "pipeline" => Task::Pipeline,
            "telemetry" => Task::Telemetry,
            "receiver" => Task::Receiver,
            _ => return None,
        };
        Some(Self { task, fault, polls: parts.next()?.parse().ok()? })
    }
}

/// Runs a task, with the fault if it is for this kind.
#[expect(clippy::panic, reason = "the panic that a test asked for")]
pub(crate) async fn run(failpoint: Option<TaskFailpoint>, kind: Task, task: impl Future<Output = ()>) {
    let Some(TaskFailpoint { fault, polls, .. }) = failpoint.filter(|failpoint| failpoint.task == kind)
    else {
        return task.await;
    };
    let mut task = pin!(task);
    let mut polled = 0;
    poll_fn(|context| {
        polled += 1;
        match fault {
            _ if polled <= polls => task.as_mut().poll(context),
            Fault::Panic => panic!("by {TASK}"),
            Fault::End => Poll::Ready(()),
            Fault::Stall => Poll::Pending,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tasks::Tasks;

    #[tokio::test]
    async fn fault_ends_the_task() {
        for text in ["panic,telemetry,0", "end,telemetry,3"] {
            let mut tasks = Tasks::default();
            tasks.break_by(Some(TaskFailpoint::parse(text).expect("a failpoint")));
            tasks.spawn(Task::Telemetry, async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            assert_eq!(tasks.ended().await, Task::Telemetry);
        }
    }

    #[test]
    #[should_panic(expected = "EXTENSION_FAILPOINT_TASK: \"panic,nobody,1\" is not FAULT,TASK,POLLS")]
    fn misspelt_failpoint_panics() {
        let variables = Variables::from([(TASK.to_owned(), "panic,nobody,1".to_owned())]);
        activate(&variables);
    }
}
