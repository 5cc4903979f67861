//! The environment's id, which may become known after telemetry was sent.

use super::*;
use crate::app::intake::{IntakeMessage, TelemetryIntake};
use crate::edge::telemetry_listener::RefusedDeliveries;
use rotel_core::logs::Timeline;

const INSTANCE: &str = "82561ce0-53dd-47d1-90e0-c8f5e063e62e";

impl Test {
    /// Flushes. Returns true for each chunk that holds the environment's id.
    async fn named(&mut self) -> Vec<bool> {
        let flushed = self.flush(FlushReason::EndOfInvocation);
        let attempt = self.attempt().await;
        let holds_it =
            |chunk: &Bytes| chunk.windows(INSTANCE.len()).any(|bytes| bytes == INSTANCE.as_bytes());
        let named = attempt.chunks.iter().map(holds_it).collect();
        attempt.answer(ACCEPTED);
        flushed.await.expect("flushed");
        named
    }
}

#[tokio::test(start_paused = true)]
async fn equal_sdk_resources_get_the_instance_once_known() {
    let mut test = Test::start().await;
    test.offer(Signal::Traces, Origin::Sdk, 1);
    assert_eq!(test.named().await, [false]);
    test.handle.control(Control::InstanceId(INSTANCE.to_owned()));
    test.offer(Signal::Traces, Origin::Sdk, 1);
    assert_eq!(test.named().await, [true]);
}

#[tokio::test(start_paused = true)]
async fn log_records_get_the_instance_once_known() {
    let mut test = Test::start().await;
    let config = config::read(&BTreeMap::default()).config;
    let rules = ResourceRules::new(&config, &Registration::default());
    let (runtime_done, _ends) = mpsc::channel(1);
    let (intake, to_intake) = TelemetryIntake::new(
        rules,
        Timeline::new(false),
        RefusedDeliveries::default(),
        test.handle.clone(),
        runtime_done,
    );
    tokio::spawn(intake.run());
    let deliver = async |events: String| {
        to_intake.send(IntakeMessage::Delivery(events.into())).await.expect("an intake");
        let (probe, taken) = oneshot::channel();
        to_intake.send(IntakeMessage::LivenessProbe(probe)).await.expect("an intake");
        taken.await.expect_err("it is dropped");
    };
    let line = r#"{"type":"function","record":"a line"}"#;
    deliver(format!("[{line}]")).await;
    assert_eq!(test.named().await, [false]);
    let start = format!(r#"{{"type":"platform.initStart","record":{{"instanceId":"{INSTANCE}"}}}}"#);
    deliver(format!("[{start},{line}]")).await;
    assert_eq!(test.named().await, [true]);
}
