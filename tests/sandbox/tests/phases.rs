//! Phases with well-behaved and misbehaving extensions.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::{
    Answer, Error, Extension, Failure, Fault, Function, Operation, Sandbox, ShutdownReason, Status,
};
use serde_json::json;
use tokio::sync::Notify;

const EXTENSION: &str = env!("CARGO_BIN_EXE_stub-extension");
const RUNTIME: &str = env!("CARGO_BIN_EXE_stub-runtime");
const NONE: [&str; 0] = [];

fn stub(mode: &str) -> Extension {
    Extension::binary(EXTENSION).env("STUB_MODE", mode)
}

#[tokio::test(flavor = "multi_thread")]
async fn stub_lives_through_five_invocations() {
    let sandbox = Sandbox::builder().extension(stub("")).start().await.unwrap();
    for turn in 0..5 {
        let invocation = sandbox.invoke(json!({"turn": turn})).await.unwrap();
        assert_eq!(invocation.answer, Answer::Response("null".into()));
        assert_eq!(invocation.status, Status::Success);
        assert_eq!(invocation.cold_start, turn == 0);
        assert!(sandbox.is_frozen().await);
    }
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    assert!(shutdown.is_clean(), "{shutdown:?}");
    assert_eq!(sandbox.violations(), NONE);
    let output = sandbox.extension_output();
    assert_eq!(output.iter().filter(|line| line.ends_with("INVOKE")).count(), 5, "{output:?}");
    assert_eq!(sandbox.journal().count(Operation::Next), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_can_be_the_first_event() {
    let sandbox = Sandbox::builder().extension(stub("")).start().await.unwrap();
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    assert!(shutdown.is_clean(), "{shutdown:?}");
    assert!(sandbox.extension_output().contains(&"stub-extension: SHUTDOWN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_shutdown_is_killed_after_two_seconds() {
    let sandbox = Sandbox::builder().extension(stub("ignore-shutdown")).start().await.unwrap();
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    let [end] = shutdown.extensions.as_slice() else { panic!("{shutdown:?}") };
    assert!(end.killed);
    assert!(end.took >= Duration::from_secs(2), "{end:?}");
    assert_eq!(end.exit.unwrap().text(), "signal 9");
    assert!(!shutdown.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_function_times_out_and_resets() {
    let function = Function::builtin(|context| async move {
        if context.payload == json!("hang") { std::future::pending().await } else { Ok(json!("well")) }
    });
    let sandbox = Sandbox::builder()
        .extension(stub(""))
        .function(function)
        .timeout(Duration::from_millis(300))
        .start()
        .await
        .unwrap();
    let invocation = sandbox.invoke(json!("hang")).await.unwrap();
    assert_eq!((invocation.status, &invocation.answer), (Status::Timeout, &Answer::Timeout));
    let reset = invocation.reset.unwrap();
    assert_eq!(reset.reason, ShutdownReason::Timeout);
    assert!(reset.is_clean(), "{reset:?}");

    let invocation = sandbox.invoke(json!("work")).await.unwrap();
    assert!(invocation.cold_start);
    assert_eq!(invocation.answer, Answer::Response(r#""well""#.into()));
    assert_eq!(sandbox.journal().count(Operation::Register), 2);
    assert_eq!(sandbox.violations(), NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_invocation_times_out() {
    let sandbox = Sandbox::builder()
        .extension(stub("never-next"))
        .timeout(Duration::from_millis(300))
        .start()
        .await
        .unwrap();
    let invocation = sandbox.invoke(json!(null)).await.unwrap();
    assert_eq!(invocation.status, Status::Timeout);
    // The function was done in time, and its caller has the answer.
    assert_eq!(invocation.answer, Answer::Response("null".into()));
    assert!(invocation.reset.unwrap().extensions.iter().all(|end| end.killed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_exits_fails_the_function() {
    let sandbox = Sandbox::builder().extension(stub("crash-on-invoke")).start().await.unwrap();
    // In Lambda, too, the function may or may not finish before the crash; the invocation fails either way.
    let invocation = sandbox.invoke(json!(null)).await.unwrap();
    assert_eq!(invocation.status, Status::Error);
    assert_eq!(invocation.error_type.as_deref(), Some("Extension.Crash"));
}

#[tokio::test(flavor = "multi_thread")]
async fn early_exit_fails_init() {
    let sandbox = Sandbox::builder().extension(stub("exit-early")).open().await.unwrap();
    let init = sandbox.init().await.unwrap();
    assert_eq!(init.status, Status::Error);
    assert_eq!(init.error.as_deref(), Some("stub-extension: Extension.Crash"));
    assert!(sandbox.extension_output().iter().any(|line| line.contains("STUB_MODE")));

    let error = Sandbox::builder().extension(stub("exit-early")).start().await.unwrap_err();
    assert!(matches!(&error, Error::Init(text) if text.contains("STUB_MODE")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_registration_hits_init_limit() {
    let limit = Duration::from_millis(300);
    let sandbox =
        Sandbox::builder().extension(stub("never-register")).init_timeout(limit).open().await.unwrap();
    let init = sandbox.init().await.unwrap();
    assert_eq!(init.status, Status::Timeout);
    assert!(init.took >= limit);
    assert!(init.error.unwrap().starts_with("stub-extension"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_an_error() {
    let error =
        Sandbox::builder().extension(Extension::binary("/nowhere/extension")).start().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/extension"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_extension_resumes_with_next_event() {
    let sandbox = Sandbox::builder().extension(stub("")).start().await.unwrap();
    sandbox.invoke(json!(1)).await.unwrap();
    assert!(is_stopped(EXTENSION, sandbox.ip()));
    sandbox.thaw().await;
    assert!(!sandbox.is_frozen().await);
    sandbox.freeze().await.unwrap();
    assert!(is_stopped(EXTENSION, sandbox.ip()));
    sandbox.invoke(json!(2)).await.unwrap();
    assert!(sandbox.shutdown(ShutdownReason::Spindown).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_can_be_stopped_mid_phase() {
    let (runs, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let shared = (Arc::clone(&runs), Arc::clone(&goes_on));
    let function = Function::builtin(move |_| {
        let (runs, goes_on) = shared.clone();
        async move {
            runs.notify_one();
            goes_on.notified().await;
            Ok(json!(null))
        }
    });
    let sandbox = Sandbox::builder().extension(stub("")).function(function).start().await.unwrap();
    assert!(matches!(sandbox.rest(Duration::ZERO).await, Err(Error::Phase(_))));
    let stalled = async {
        runs.notified().await;
        let see = async { assert!(is_stopped(EXTENSION, sandbox.ip())) };
        sandbox.stall(Duration::ZERO, see).await.unwrap();
        goes_on.notify_one();
    };
    let (invocation, ()) = tokio::join!(sandbox.invoke(json!(null)), stalled);
    assert_eq!(invocation.unwrap().status, Status::Success);
    sandbox.rest(Duration::ZERO).await.unwrap();
    let resident = sandbox.resident_bytes();
    assert!((100_000..100_000_000).contains(&resident), "{resident}");
    assert!(sandbox.shutdown(ShutdownReason::Spindown).await.unwrap().is_clean());
    assert_eq!(sandbox.resident_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn function_crash_in_init_resets_environment() {
    let function = Function::command("/bin/sh", ["-c", "exit 3"]);
    let sandbox = Sandbox::builder().extension(stub("")).function(function).open().await.unwrap();
    for _ in 0..2 {
        let init = sandbox.init().await.unwrap();
        assert_eq!(init.error.as_deref(), Some("the function (exit status 3): Runtime.ExitError"));
        let reset = init.shutdown.unwrap();
        assert_eq!(reset.reason, ShutdownReason::Failure);
        assert!(reset.is_clean(), "{reset:?}");
    }
    assert_eq!(sandbox.violations(), NONE);
}

/// Returns true if the process with this program and this environment is stopped.
fn is_stopped(program: &str, ip: std::net::Ipv4Addr) -> bool {
    let api = format!("AWS_LAMBDA_RUNTIME_API={ip}:9001");
    for process in std::fs::read_dir("/proc").unwrap() {
        let process = process.unwrap().path();
        let is_ours = std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == *program)
            && std::fs::read_to_string(process.join("environ")).is_ok_and(|environ| environ.contains(&api));
        if is_ours {
            let stat = std::fs::read_to_string(process.join("stat")).unwrap();
            return stat.rsplit(')').next().unwrap().trim_start().starts_with('T');
        }
    }
    panic!("no process of this sandbox");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_error_is_an_answer_and_no_reset() {
    let function = Function::builtin(|_| async { Err(Failure::new("OutOfPaper", "the printer is empty")) });
    let sandbox = Sandbox::builder().extension(stub("")).function(function).start().await.unwrap();
    let invocation = sandbox.invoke(json!(null)).await.unwrap();
    assert_eq!((invocation.status, invocation.error_type.as_deref()), (Status::Error, Some("OutOfPaper")));
    assert!(invocation.reset.is_none());
    let Answer::Error { body, .. } = invocation.answer else { panic!("{:?}", invocation.answer) };
    assert!(String::from_utf8_lossy(&body).contains("the printer is empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_exits_resets_the_environment() {
    for function in [
        Function::builtin(|_| async { Err(Failure::exit()) }),
        Function::builtin(|_| async { panic!("STUB_MODE") }),
        Function::command(RUNTIME, NONE).env("STUB_MODE", "exit"),
    ] {
        let sandbox = Sandbox::builder().extension(stub("")).function(function).start().await.unwrap();
        let invocation = sandbox.invoke(json!(null)).await.unwrap();
        assert_eq!(invocation.error_type.as_deref(), Some("Runtime.ExitError"));
        let reset = invocation.reset.unwrap();
        assert_eq!(reset.reason, ShutdownReason::Failure);
        assert!(reset.is_clean(), "{reset:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_a_function() {
    let sandbox = Sandbox::builder()
        .extension(stub(""))
        .function(Function::command(RUNTIME, NONE))
        .start()
        .await
        .unwrap();
    for turn in 0..3 {
        let invocation = sandbox.invoke(json!({"turn": turn})).await.unwrap();
        assert_eq!(invocation.answer, Answer::Response(json!({"turn": turn}).to_string().into()));
    }
    assert!(sandbox.shutdown(ShutdownReason::Spindown).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hangs_is_killed() {
    let sandbox = Sandbox::builder()
        .extension(stub(""))
        .function(Function::command(RUNTIME, NONE).env("STUB_MODE", "hang"))
        .timeout(Duration::from_millis(300))
        .start()
        .await
        .unwrap();
    assert_eq!(sandbox.invoke(json!(null)).await.unwrap().status, Status::Timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_api_faults_are_no_violations() {
    let sandbox =
        Sandbox::builder().extension(stub("")).faults([Fault::RefuseRegister(500)]).open().await.unwrap();
    let init = sandbox.init().await.unwrap();
    assert_eq!(init.status, Status::Error);
    assert_eq!(sandbox.violations(), NONE);
}
