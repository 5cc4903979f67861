//! The extension's own log lines come back to it as records to export: there must be few, whatever happens.

use lambda_sandbox::collector::{Behaviour, Collector, Protocol, Refusal};
use lambda_sandbox::{Function, Sandbox, Transport};
use serde_json::Value;

use support::outage::Outage;
use support::{end, extension, hour};

#[test]
fn hour_of_outage_logs_few_lines() {
    for (outage, verdicts) in hour::OUTAGES {
        let lines = hour::lines_of(verdicts);
        assert!((1..=120).contains(&lines), "{outage}: {lines} lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_errors_start_no_log_loop() {
    for outage in [
        Outage::Refuses,
        Outage::Answers(Behaviour::Refuse(Refusal::status(503))),
        Outage::Answers(Behaviour::Refuse(Refusal::status(404))),
        Outage::Answers(Behaviour::PartialSuccess { rejected: 1 }),
    ] {
        let over = async |protocol| {
            let collector = Collector::start().await.expect("a collector");
            let function = Function::builtin(|context| async move {
                context.send_spans(Transport::Grpc, 2).await.expect("the receiver takes spans");
                context.send_points(Transport::Grpc, 2).await.expect("the receiver takes metrics");
                Ok(Value::Null)
            });
            let sandbox = Sandbox::builder()
                .extension(extension(&collector, protocol))
                .function(function)
                .start()
                .await
                .expect("a sandbox");
            outage.begin(&collector).await;
            let mut lines = Vec::new();
            for _ in 0..8 {
                sandbox.invoke(Value::Null).await.expect("an invocation");
                lines.push(sandbox.extension_output().len());
            }
            assert!(lines[0] > 0, "it was not logged");
            assert_eq!(lines[2], lines[7], "{lines:?} {:#?}", sandbox.extension_output());
            end(&sandbox).await;
        };
        tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
    }
}
