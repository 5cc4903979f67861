//! Telemetry arrives, or is counted, whatever happens to the secrets, the key, the connections and the clocks of an
//! environment.

use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws, Behaviour};
use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Extension, Sandbox};
use serde_json::{Value, json};
use support::{assert_exact, compare, end, extension, invoke, with_aws, working};

const KEY: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ingestion-key-a1B2c3";
const FREEZE: Duration = Duration::from_secs(8);
/// Pauses grow to a minute, and invocations here are short.
const INVOCATIONS_MOST: usize = 200;

/// An extension whose key is a secret.
fn with_secret(collector: &Collector, aws: &Aws) -> Extension {
    let extension = with_aws(extension(collector, Protocol::Http), aws);
    extension.env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization=${{{KEY}}}"))
}

async fn start(extension: Extension, collector: &Collector) -> Sandbox {
    let builder = Sandbox::builder().extension(extension).collector(collector).function(working());
    builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox")
}

/// Invokes until all that was emitted has arrived.
async fn invoke_until_all_arrived(sandbox: &Sandbox, collector: &Collector) {
    for _ in 0..INVOCATIONS_MOST {
        invoke(sandbox, json!(100)).await;
        if compare(sandbox, collector).missing.is_empty() {
            return;
        }
    }
    assert_exact(sandbox, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_secrets_are_fetched_in_later_invocations() {
    for (status, code) in
        [(400, "ThrottlingException"), (500, "InternalServiceError"), (400, "AccessDeniedException")]
    {
        let collector = Collector::builder().authorization("key").start().await.expect("a collector");
        let aws = Aws::start().await.expect("a stand-in");
        aws.keep(KEY, "key");
        aws.behave(Action::GetSecretValue, Behaviour::Refuse { status, code });
        let sandbox = start(with_secret(&collector, &aws), &collector).await;
        for _ in 0..20 {
            invoke(&sandbox, json!(100)).await;
        }
        let calls = aws.calls().len();
        // The first round makes two calls; those after it one each, with pauses that double.
        assert!((2..=8).contains(&calls), "{calls} calls in two seconds after {code}");
        assert_eq!(collector.received().requests().count(), 0);
        aws.behave(Action::GetSecretValue, Behaviour::Answer);
        invoke_until_all_arrived(&sandbox, &collector).await;
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
        let output = sandbox.extension_output();
        assert!(output.len() <= 4, "{output:#?}");
        assert!(!output.iter().any(|line| line.contains("Authorization=key")), "{output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_flight_survive_a_freeze() {
    let collector = Collector::builder().authorization("key").start().await.expect("a collector");
    let aws = Aws::start().await.expect("a stand-in");
    aws.keep(KEY, "key");
    aws.behave_next(1, &Behaviour::Hang);
    let sandbox = start(with_secret(&collector, &aws), &collector).await;
    sandbox.stall(FREEZE, async {}).await.expect("a freeze");
    invoke_until_all_arrived(&sandbox, &collector).await;
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_fetched_again() {
    let collector = Collector::builder().authorization("old").start().await.expect("a collector");
    let aws = Aws::start().await.expect("a stand-in");
    aws.keep(KEY, "old");
    let sandbox = start(with_secret(&collector, &aws), &collector).await;
    invoke_until_all_arrived(&sandbox, &collector).await;
    assert_eq!(aws.calls().len(), 1);
    aws.keep(KEY, "new");
    collector.authorize("new");
    invoke_until_all_arrived(&sandbox, &collector).await;
    assert_eq!(aws.calls().len(), 2, "more calls than the rotation takes");
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
    let output = sandbox.extension_output();
    assert!(!output.iter().any(|line| line.contains("old") || line.contains("new")), "{output:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_refused_for_good_is_fetched_once_a_minute() {
    let collector = Collector::builder().authorization("other").start().await.expect("a collector");
    let aws = Aws::start().await.expect("a stand-in");
    aws.keep(KEY, "key");
    let sandbox = start(with_secret(&collector, &aws), &collector).await;
    for _ in 0..20 {
        invoke(&sandbox, json!(20)).await;
    }
    assert_eq!(aws.calls().len(), 2, "one at the start and one after the refusal");
    // Kept telemetry is delivered once the key is right after all.
    collector.authorize("key");
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_dropped_by_firewall_lose_nothing() {
    let collector = Collector::start().await.expect("a collector");
    let clock = Clock::new();
    let extension =
        clock.set(extension(&collector, Protocol::Http)).env("ROTEL_FLUSH_STRATEGY", "periodic,20s");
    let sandbox = start(extension, &collector).await;
    for _ in 0..8 {
        invoke(&sandbox, Value::Null).await;
    }
    // A freeze, as the extension sees it.
    clock.step(25);
    collector.forget_connections();
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn wall_clock_set_back_delays_nothing() {
    for strategy in ["end", "periodic,1s"] {
        let collector = Collector::start().await.expect("a collector");
        let clock = Clock::new();
        let extension = support::impatient(clock.set(extension(&collector, Protocol::Http)));
        let extension = extension.env("ROTEL_FLUSH_STRATEGY", strategy);
        let sandbox = start(extension, &collector).await;
        invoke(&sandbox, Value::Null).await;
        collector.refuse_connections().await;
        for _ in 0..5 {
            invoke(&sandbox, json!(50)).await;
        }
        collector.come_back().await.expect("its ports are free");
        clock.step(-3_600);
        invoke_until_all_arrived(&sandbox, &collector).await;
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_of_the_platforms_loses_nothing() {
    for strategy in ["end", "periodic,10m"] {
        let collector = Collector::start().await.expect("a collector");
        let clock = Clock::new();
        clock.step(3_600);
        let extension =
            clock.set(extension(&collector, Protocol::Http)).env("ROTEL_FLUSH_STRATEGY", strategy);
        let sandbox = start(extension, &collector).await;
        for _ in 0..5 {
            invoke(&sandbox, Value::Null).await;
        }
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
    }
}

/// The extension's wall clock.
struct Clock(tempfile::NamedTempFile);

impl Clock {
    fn new() -> Self {
        Self(tempfile::NamedTempFile::new().expect("a file"))
    }

    fn set(&self, extension: Extension) -> Extension {
        extension.env("EXTENSION_FAILPOINT_CLOCK", self.0.path().display().to_string())
    }

    /// Skews the clock by a number of seconds.
    fn step(&self, seconds: i64) {
        std::fs::write(self.0.path(), seconds.to_string()).expect("it is written");
    }
}
