//! The platform's streams, as a listener receives them.

use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::{
    Builder, Extension, Failure, Fault, Function, Initialization, Sandbox, ShutdownReason, Status,
};
use serde_json::{Value, json};

use crate::player::{Listener, NAME, PATIENCE, Player, subscription, types};

const ALL: [&str; 3] = ["platform", "function", "extension"];

/// An environment with an extension that listens and does nothing.
async fn listening(builder: Builder, subscribed: &[&str]) -> (Arc<Sandbox>, Arc<Listener>) {
    let sandbox = Arc::new(builder.extension(Extension::external(NAME)).open().await.unwrap());
    let listener = Listener::start(sandbox.ip()).await;
    let shared = Arc::clone(&sandbox);
    let init = tokio::spawn(async move { shared.init().await.unwrap() });
    sandbox.wait_for_init(PATIENCE).await.unwrap();
    let mut player = Player::new(&sandbox);
    // Managed instances refuse INVOKE; a second attempt without it works for both.
    if player.register(&["INVOKE", "SHUTDOWN"]).await.0 != 200 {
        assert_eq!(player.register(&["SHUTDOWN"]).await.0, 200);
    }
    assert_eq!(player.subscribe(subscribed).await.0, 200);
    tokio::spawn(player.live());
    assert_eq!(init.await.unwrap().status, Status::Success);
    (sandbox, listener)
}

fn has(kind: &'static str) -> impl Fn(&[Value]) -> bool {
    move |records| types(records).contains(&kind)
}

fn find<'a>(records: &'a [Value], kind: &str) -> &'a Value {
    records.iter().find(|record| record["type"] == kind).unwrap()
}

fn talking() -> Function {
    Function::builtin(|context| async move {
        context.log("a line");
        context.log_json(json!({"level": "INFO", "message": "an object"}));
        Ok(json!("done"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn invocation_events_are_ordered_with_late_report() {
    let (sandbox, listener) = listening(Sandbox::builder().function(talking()), &ALL).await;
    let first = sandbox.invoke(json!({})).await.unwrap();
    // The extension does not wait for telemetry, so the end may be reported only when the environment continues.
    let second = sandbox.invoke(json!({})).await.unwrap();
    sandbox.thaw().await;
    let reports =
        |records: &[Value]| types(records).iter().filter(|kind| **kind == "platform.report").count();
    let records = listener.until(|records| reports(records) == 2).await;
    sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    let id = |record: &Value| record["record"]["requestId"].as_str().map(str::to_owned);
    let of_first: Vec<&str> = records
        .iter()
        .filter(|record| id(record).as_deref() == Some(&first.request_id))
        .filter_map(|record| record["type"].as_str())
        .collect();
    assert_eq!(of_first, ["platform.start", "platform.runtimeDone", "platform.report"], "{records:#?}");
    let position = |kind: &str, of: &str| {
        records.iter().position(|record| record["type"] == kind && id(record).as_deref() == Some(of))
    };
    assert!(position("platform.report", &first.request_id) < position("platform.start", &second.request_id));
    // The position of the subscription among the init's events depends on timing.
    let (subscriptions, kinds): (Vec<_>, Vec<_>) =
        types(&records).into_iter().partition(|kind| *kind == "platform.telemetrySubscription");
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(
        kinds.iter().take(6).copied().collect::<Vec<_>>(),
        [
            "platform.initStart",
            "platform.initRuntimeDone",
            "platform.extension",
            "platform.initReport",
            "platform.start",
            "function"
        ]
    );
    assert_eq!(find(&records, "function")["record"], json!("a line"));
    let report = find(&records, "platform.report");
    assert!(report["record"]["metrics"]["initDurationMs"].is_f64(), "{report}");
    assert_eq!(find(&records, "platform.runtimeDone")["record"]["metrics"]["producedBytes"], json!(6));
    assert_eq!(sandbox.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_subscribed_types_are_delivered() {
    let (sandbox, listener) = listening(Sandbox::builder().function(talking()), &["function"]).await;
    sandbox.invoke(json!({})).await.unwrap();
    sandbox.thaw().await;
    let records = listener.until(|records| records.len() >= 2).await;
    assert_eq!(types(&records), ["function", "function"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_invocation_is_an_error_in_runtime_done() {
    let function = Function::builtin(|_| async { Err(Failure::new("OutOfPaper", "the printer is empty")) });
    let (sandbox, listener) = listening(Sandbox::builder().function(function), &ALL).await;
    sandbox.invoke(json!({})).await.unwrap();
    sandbox.thaw().await;
    let records = listener.until(has("platform.report")).await;
    for kind in ["platform.runtimeDone", "platform.report"] {
        let record = &find(&records, kind)["record"];
        assert_eq!((&record["status"], &record["errorType"]), (&json!("error"), &json!("OutOfPaper")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_while_the_environment_rests() {
    let (sandbox, listener) = listening(Sandbox::builder(), &ALL).await;
    sandbox.invoke(json!({})).await.unwrap();
    assert!(sandbox.is_frozen().await);
    sandbox.emit("function", json!("late"));
    let before = listener.records();
    assert!(!types(&before).contains(&"platform.report"));
    sandbox.thaw().await;
    let records = listener.until(has("function")).await;
    assert!(types(&records).contains(&"platform.report"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prompt_telemetry_skips_subscription_timeout() {
    let builder = Sandbox::builder().extension(Extension::external(NAME)).prompt_telemetry();
    let sandbox = builder.open().await.unwrap();
    let listener = Listener::start(sandbox.ip()).await;
    let playing = async {
        sandbox.wait_for_init(PATIENCE).await.unwrap();
        let mut player = Player::new(&sandbox);
        player.register(&["INVOKE", "SHUTDOWN"]).await;
        let mut patient = subscription(&ALL);
        patient["buffering"]["timeoutMs"] = json!(30_000);
        let (status, _) = player.identified("PUT", "/2022-07-01/telemetry", &patient.to_string()).await;
        assert_eq!(status, 200);
        listener.until(has("platform.telemetrySubscription")).await;
        player
    };
    // The init does not end, because the extension does not call `/next`.
    tokio::select! {
        init = sandbox.init() => panic!("{init:?}"),
        _ = playing => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_post_comes_again() {
    let (sandbox, listener) = listening(Sandbox::builder(), &["function"]).await;
    listener.answers.lock().unwrap().extend([500, 503]);
    sandbox.emit("function", json!("once more"));
    let records = listener.until(has("function")).await;
    assert_eq!(records.len(), 1);
    let all_ended = |journal: &lambda_sandbox::Journal| {
        journal.deliveries.iter().filter(|delivery| delivery.ended.is_some()).count() == 3
    };
    sandbox.wait_until(all_ended, PATIENCE).await.unwrap();
    let journal = sandbox.journal();
    let attempts: Vec<_> =
        journal.deliveries.iter().map(|delivery| (delivery.attempt, delivery.status)).collect();
    assert_eq!(attempts, [(0, Some(503)), (1, Some(500)), (2, Some(200))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn function_records_can_come_after_runtime_done() {
    let builder =
        Sandbox::builder().function(talking()).faults([Fault::FunctionAfterRuntimeDone]).without_freeze();
    let (sandbox, listener) = listening(builder, &ALL).await;
    sandbox.invoke(json!({})).await.unwrap();
    sandbox.thaw().await;
    let records = listener.until(has("function")).await;
    let position = |kind: &str| records.iter().position(|record| record["type"] == kind).unwrap();
    assert!(position("platform.runtimeDone") < position("function"), "{:?}", types(&records));
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpected_events_can_be_delivered() {
    let faults = [Fault::UnknownEvents, Fault::OddRecords, Fault::HugeRecord(200 << 10)];
    let (sandbox, listener) = listening(Sandbox::builder().faults(faults), &["function"]).await;
    sandbox.emit("function", json!("an ordinary line"));
    let records = listener.until(has("platform.novelty")).await;
    assert!(records.iter().any(Value::is_null));
    assert!(records.iter().any(|record| record["record"] == json!(["an", "array", 1])));
    assert!(
        records.iter().any(|record| record["record"].as_str().is_some_and(|text| text.len() == 200 << 10))
    );
    assert!(records.iter().any(|record| record["record"] == json!("an ordinary line")));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_record_comes_cut() {
    let (sandbox, listener) = listening(Sandbox::builder(), &["function"]).await;
    // Two bytes more than fit into four parts.
    let text = "\u{e9}\"".repeat(262_144);
    sandbox.emit("function", json!(text));
    let bodies = listener.until_bodies(|bodies| bodies.len() == 5).await;
    let record = b"\"record\":";
    let length = bodies[0].windows(record.len()).position(|bytes| bytes == record).unwrap() + record.len();
    let (envelope, _) = bodies[0].split_at(length);
    let parts: Vec<_> =
        bodies.iter().map(|body| body.strip_prefix(envelope).unwrap().strip_suffix(b"}]").unwrap()).collect();
    assert!(parts.iter().all(|part| part.len() <= 262_144));
    assert_eq!(serde_json::from_slice::<String>(&parts.concat()).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_post_can_be_replaced() {
    let replace = Fault::Replace { written: "\u{e9}".into(), sent: vec![0xe9] };
    let (sandbox, listener) = listening(Sandbox::builder().faults([replace]), &["function"]).await;
    sandbox.emit("function", json!("caf\u{e9}"));
    let bodies = listener.until_bodies(|bodies| !bodies.is_empty()).await;
    assert!(bodies[0].ends_with(b"\"caf\xe9\"}]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_body_is_injected_and_answered() {
    let (sandbox, listener) = listening(Sandbox::builder(), &["function"]).await;
    let status = sandbox.inject(json!([{"type": "function", "record": 1}]).to_string()).await.unwrap();
    assert_eq!(status, Some(200));
    assert_eq!(listener.records(), [json!({"type": "function", "record": 1})]);
    let nobody = Sandbox::builder().start().await.unwrap();
    assert!(nobody.inject("[]").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_command_are_objects_with_the_json_format() {
    let runtime = env!("CARGO_BIN_EXE_stub-runtime");
    let builder = Sandbox::builder()
        .function(Function::command(runtime, [""; 0]))
        .log_format(lambda_sandbox::LogFormat::Json);
    let (sandbox, listener) = listening(builder, &["function"]).await;
    let invocation = sandbox.invoke(json!({})).await.unwrap();
    sandbox.thaw().await;
    let records = listener.until(|records| records.len() == 2).await;
    assert_eq!(records[0]["record"], json!(format!("[INFO] begins {}", invocation.request_id)));
    assert_eq!(records[1]["record"]["message"], json!("goes on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_run_invocations_concurrently() {
    let together = Arc::new(tokio::sync::Barrier::new(3));
    let function = Function::builtin(move |_| {
        let together = Arc::clone(&together);
        async move {
            // Ends only if three invocations are here at once.
            together.wait().await;
            Ok(json!("together"))
        }
    });
    let builder =
        Sandbox::builder().function(function).initialization(Initialization::ManagedInstances).concurrency(3);
    let (sandbox, listener) = listening(builder, &ALL).await;
    let (a, b, c) =
        tokio::join!(sandbox.invoke(json!(1)), sandbox.invoke(json!(2)), sandbox.invoke(json!(3)));
    for invocation in [a, b, c] {
        assert_eq!(invocation.unwrap().status, Status::Success);
    }
    let reports =
        |records: &[Value]| types(records).iter().filter(|kind| **kind == "platform.report").count();
    let records = listener.until(|records| reports(records) == 3).await;
    assert!(!types(&records).contains(&"platform.runtimeDone"));
    assert_eq!(find(&records, "platform.report")["record"]["metrics"].as_object().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn snap_start_restores_before_the_first_invocation() {
    let (sandbox, listener) =
        listening(Sandbox::builder().initialization(Initialization::SnapStart), &ALL).await;
    assert!(sandbox.is_frozen().await);
    sandbox.invoke(json!({})).await.unwrap();
    sandbox.thaw().await;
    let records = listener.until(has("platform.report")).await;
    let kinds = types(&records);
    let position = |kind: &str| kinds.iter().position(|found| *found == kind).unwrap();
    assert!(position("platform.initReport") < position("platform.restoreStart"));
    assert!(position("platform.restoreStart") < position("platform.restoreRuntimeDone"));
    assert!(position("platform.restoreReport") < position("platform.start"));
}

#[tokio::test(flavor = "multi_thread")]
async fn timeout_is_reported_before_shutdown_ends() {
    let function = Function::builtin(|_| std::future::pending());
    let builder = Sandbox::builder().function(function).timeout(Duration::from_millis(200));
    let (sandbox, listener) = listening(builder, &ALL).await;
    let invocation = sandbox.invoke(json!({})).await.unwrap();
    assert_eq!(invocation.status, Status::Timeout);
    // The end was reported, or the extension exited earlier; it is never reported as a success.
    for record in listener.records().iter().filter(|record| record["type"] == "platform.runtimeDone") {
        assert_eq!(record["record"]["status"], json!("timeout"));
    }
}
