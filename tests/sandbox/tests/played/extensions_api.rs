//! The legal-state table of extensions, tested over HTTP.

use std::sync::Arc;

use lambda_sandbox::{
    Builder, Extension, Fault, Init, Initialization, Operation, Sandbox, ShutdownReason, Status,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::player::{NAME, PATIENCE, Player, subscription};

const BOTH: [&str; 2] = ["INVOKE", "SHUTDOWN"];

type Initialising = JoinHandle<Init>;

/// An environment in its init phase, with an extension that the test plays.
async fn in_init(builder: Builder) -> (Arc<Sandbox>, Player, Initialising) {
    let sandbox = Arc::new(builder.extension(Extension::external(NAME)).open().await.unwrap());
    let shared = Arc::clone(&sandbox);
    let init = tokio::spawn(async move { shared.init().await.unwrap() });
    sandbox.wait_for_init(PATIENCE).await.unwrap();
    let player = Player::new(&sandbox);
    (sandbox, player, init)
}

fn error_type(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["errorType"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn registration_names_function_and_account() {
    let (_sandbox, mut player, _init) = in_init(Sandbox::builder().function_name("some-function")).await;
    let (status, body) = player.register(&BOTH).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"functionName": "some-function", "functionVersion": "$LATEST", "handler": "app.handler",
            "accountId": "123456789012"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_registrations_are_refused() {
    let (sandbox, mut player, _init) = in_init(Sandbox::builder()).await;
    assert_eq!(player.register(&BOTH).await.0, 200);
    let answer = player.register(&BOTH).await;
    assert_eq!(error_type(&answer), (403, "Extension.InvalidExtensionState"));
    let answer = player.register_as("other", r#"{"events":[]}"#).await;
    assert_eq!(error_type(&answer), (403, "Extension.InvalidExtensionName"));
    let answer = player.register(&["INVOKE", "LUNCH"]).await;
    assert_eq!(error_type(&answer), (400, "Extension.InvalidEventType"));
    let answer = player.register_as(NAME, "no json").await;
    assert_eq!(error_type(&answer), (400, "InvalidRequestFormat"));
    assert_eq!(sandbox.journal().count(Operation::Register), 1);
    assert_eq!(sandbox.violations().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_need_an_identifier_that_is_known() {
    let (_sandbox, mut player, _init) = in_init(Sandbox::builder()).await;
    assert_eq!(error_type(&player.next().await), (403, "Extension.MissingExtensionIdentifier"));
    player.id = Some("no-uuid".to_owned());
    assert_eq!(error_type(&player.next().await), (403, "Extension.InvalidExtensionIdentifier"));
    player.id = Some("00000000-0000-4000-8000-000000000000".to_owned());
    assert_eq!(error_type(&player.next().await), (403, "Extension.UnknownExtensionIdentifier"));
    assert_eq!(
        error_type(&player.subscribe(&["platform"]).await),
        (403, "Extension.UnknownExtensionIdentifier")
    );
    assert_eq!(error_type(&player.exit_error().await), (403, "Extension.UnknownExtensionIdentifier"));
    let (status, _, _) = player.call("GET", "/2020-01-01/extension/lunch", &[], "").await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_concurrent_next_is_refused() {
    let (sandbox, mut player, init) = in_init(Sandbox::builder()).await;
    player.register(&BOTH).await;
    let first = player.clone();
    let first = tokio::spawn(async move { first.next().await });
    sandbox.wait_until(|journal| journal.count(Operation::Next) == 1, PATIENCE).await.unwrap();
    assert_eq!(error_type(&player.next().await), (403, "Extension.InvalidExtensionState"));
    assert_eq!(
        sandbox.violations().len(),
        sandbox.violations().iter().filter(|call| call.contains("played")).count()
    );
    // The first call continues as if nothing had happened.
    assert_eq!(init.await.unwrap().status, Status::Success);
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    assert_eq!(shutdown.reason, ShutdownReason::Spindown);
    let (status, event) = first.await.unwrap();
    assert_eq!(
        (status, &event["eventType"], &event["shutdownReason"]),
        (200, &json!("SHUTDOWN"), &json!("spindown"))
    );
    assert!(event["deadlineMs"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_can_be_subscribed_to_in_the_init_only() {
    let (sandbox, mut player, init) = in_init(Sandbox::builder()).await;
    player.register(&BOTH).await;
    assert_eq!(player.subscribe(&["platform"]).await, (200, json!("OK")));
    let living = tokio::spawn(player.clone().live());
    assert_eq!(init.await.unwrap().status, Status::Success);
    assert_eq!(error_type(&player.subscribe(&["platform"]).await), (403, "Telemetry.SubscriptionClosed"));
    let late = Player::new(&sandbox).register(&BOTH).await;
    assert_eq!(error_type(&late), (403, "Extension.RegistrationClosed"));
    sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    living.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn excessive_subscription_is_validation_error() {
    let (sandbox, mut player, _init) = in_init(Sandbox::builder()).await;
    player.register(&BOTH).await;
    let mut body = subscription(&["platform"]);
    body["buffering"]["timeoutMs"] = json!(24);
    let answer = player.identified("PUT", "/2022-07-01/telemetry", &body.to_string()).await;
    assert_eq!(error_type(&answer), (400, "ValidationError"));
    assert!(sandbox.violations().last().unwrap().contains("timeoutMs 24"));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_can_be_refused_or_unsupported() {
    let faults = [Fault::RefuseSchema("2025-01-29".to_owned())];
    let (sandbox, mut player, _init) = in_init(Sandbox::builder().faults(faults)).await;
    player.register(&BOTH).await;
    assert_eq!(error_type(&player.subscribe(&["platform"]).await), (400, "ValidationError"));
    let mut body = subscription(&["platform"]);
    body["schemaVersion"] = json!("2022-12-13");
    let answer = player.identified("PUT", "/2022-07-01/telemetry", &body.to_string()).await;
    assert_eq!(answer, (200, json!("OK")));
    sandbox.set_faults([Fault::TelemetryNotSupported]);
    assert_eq!(error_type(&player.subscribe(&["platform"]).await), (202, "Telemetry.NotSupported"));
    assert_eq!(sandbox.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_error_is_legal_before_next_only() {
    let (_sandbox, mut player, init) = in_init(Sandbox::builder()).await;
    player.register(&BOTH).await;
    assert_eq!(player.init_error().await.0, 202);
    let init = init.await.unwrap();
    assert_eq!(init.error.as_deref(), Some("played: Extension.AsToldTo"));

    let (sandbox, mut player, init) = in_init(Sandbox::builder()).await;
    player.register(&BOTH).await;
    let waiting = player.clone();
    let waiting = tokio::spawn(async move { waiting.next().await });
    init.await.unwrap();
    assert_eq!(error_type(&player.init_error().await), (403, "Extension.InvalidExtensionState"));
    sandbox.shutdown(ShutdownReason::Spindown).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(error_type(&player.next().await), (403, "Extension.InvalidExtensionState"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_error_in_an_invocation_fails_it() {
    let (sandbox, mut player, init) = in_init(Sandbox::builder()).await;
    player.register(&BOTH).await;
    let playing = tokio::spawn(async move {
        let (_, event) = player.next().await;
        (event, player.exit_error().await.0)
    });
    init.await.unwrap();
    let invocation = sandbox.invoke(json!({})).await.unwrap();
    let (event, status) = playing.await.unwrap();
    assert_eq!(status, 202);
    assert_eq!(event["requestId"], json!(invocation.request_id));
    assert_eq!(event["tracing"]["type"], "X-Amzn-Trace-Id");
    assert_eq!(invocation.status, Status::Error);
    assert_eq!(invocation.error_type.as_deref(), Some("Extension.AsToldTo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_refuse_invoke_and_the_old_schema() {
    let builder = Sandbox::builder().initialization(Initialization::ManagedInstances);
    let (_sandbox, mut player, init) = in_init(builder).await;
    assert_eq!(error_type(&player.register(&BOTH).await), (400, "Extension.InvalidEventType"));
    assert_eq!(player.register(&["SHUTDOWN"]).await.0, 200);
    let mut body = subscription(&["platform"]);
    body["schemaVersion"] = json!("2022-12-13");
    let answer = player.identified("PUT", "/2022-07-01/telemetry", &body.to_string()).await;
    assert_eq!(error_type(&answer), (400, "ValidationError"));
    tokio::spawn(player.live());
    assert_eq!(init.await.unwrap().status, Status::Success);
}
