//! Task failures are contained: a task that panics, ends or gets stuck is logged once, and `/next` goes on
//! being answered.

use std::process::Command;
use std::time::Duration;

use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Function, Sandbox, Status, Transport};
use serde_json::Value;

use support::{end, extension};

/// The extension's task `broken` breaks after a number of polls: all invocations must still succeed.
async fn survives(broken: &str, turns: u32, logged: Option<&str>) {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Http)
        .env("ROTEL_FLUSH_TIMEOUT", "200ms")
        .env("EXTENSION_FAILPOINT_TASK", format!("{broken},{turns}"));
    let function = Function::builtin(|context| async move {
        context.log_lines(3);
        // An SDK has its own patience with a receiver that does not answer; here it has none.
        let sent = context.send_spans(Transport::Grpc, 1);
        let _ = tokio::time::timeout(Duration::from_millis(100), sent).await;
        Ok(Value::Null)
    });
    let sandbox = Sandbox::builder()
        .extension(extension)
        .collector(&collector)
        .function(function)
        // Without its runtimeDone an invocation is held so long.
        .timeout(Duration::from_secs(2))
        .start()
        .await
        .expect("a sandbox");
    for _ in 0..4 {
        let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Success, "{broken} after {turns} turns: {invocation:?}");
    }
    end(&sandbox).await;
    let output = sandbox.extension_output();
    let lines = output.iter().filter(|line| line.contains("the function is not affected")).count();
    assert_eq!(lines, usize::from(logged.is_some()), "{broken} after {turns} turns: {output:#?}");
    if let Some(logged) = logged {
        assert!(output.iter().any(|line| line.contains(logged)), "{broken} after {turns} turns: {output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panicked_task_does_not_end_extension() {
    for turns in [0, 2, 8] {
        survives("panic,pipeline", turns, Some("panicked: telemetry is no longer sent")).await;
        survives("panic,telemetry", turns, Some("panicked: log collection has stopped")).await;
    }
    for turns in [0, 1] {
        survives("panic,receiver", turns, Some("panicked: an OTLP listener has stopped")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_task_does_not_end_extension() {
    survives("end,pipeline", 4, Some("ended: telemetry is no longer sent")).await;
    survives("end,telemetry", 4, Some("ended: log collection has stopped")).await;
    survives("end,receiver", 1, Some("ended: an OTLP listener has stopped")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_task_is_detected_and_ended() {
    for turns in [0, 2, 4] {
        survives("stall,pipeline", turns, Some("was stuck and was aborted: telemetry is no longer sent"))
            .await;
        survives("stall,telemetry", turns, Some("was stuck and was aborted: log collection has stopped"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_stuck_between_flushes_is_ended() {
    for task in ["pipeline", "telemetry"] {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, Protocol::Http)
            .env("ROTEL_FLUSH_STRATEGY", "periodic,10m")
            .env("EXTENSION_FAILPOINT_TASK", format!("stall,{task},20"));
        let builder = Sandbox::builder().extension(extension).function(Function::idle());
        // One is held until then, for its end is not announced.
        let sandbox = builder.timeout(Duration::from_secs(3)).start().await.expect("a sandbox");
        let is_ended = || sandbox.extension_output().iter().any(|line| line.contains("was stuck"));
        let mut invocations = 0;
        while !is_ended() {
            assert!(invocations < 1_000, "{task}: {:#?}", sandbox.extension_output());
            support::invoke(&sandbox, Value::Null).await;
            invocations += 1;
        }
        end(&sandbox).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_receiver_spares_everything_else() {
    survives("stall,receiver", 1, None).await;
}

/// `make build` and `make layer` refuse a binary that has this word.
#[test]
fn failpoints_are_named_in_the_binary() {
    let mut grep = Command::new("grep");
    grep.args(["--quiet", "--text", "EXTENSION_FAILPOINT", &support::binary()]);
    assert!(grep.status().expect("grep").success());
}
