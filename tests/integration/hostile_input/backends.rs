//! Backends that hold the extension's thread.

use std::time::Duration;

use lambda_sandbox::Sandbox;
use serde_json::Value;

use support::bounds::{assert_memory, assert_time};
use support::storm::{self, CONTINUE, storming};
use support::{end, invoke, unconfigured, working};

use super::MIB;

#[tokio::test(flavor = "multi_thread")]
async fn endless_interim_answers_delay_nothing() {
    let extension = unconfigured()
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", storming(b"", CONTINUE))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", "http")
        .env("ROTEL_FLUSH_TIMEOUT", "500ms");
    let sandbox =
        Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
    let before = sandbox.resident_bytes();
    for _ in 0..3 {
        let invocation = invoke(&sandbox, Value::Null).await;
        assert_time("endless 1xx answers, one invocation", invocation.total, Duration::from_secs(2));
    }
    let grown = sandbox.peak_resident_bytes().saturating_sub(before);
    assert_memory("endless 1xx answers", grown, 16 * MIB as u64);
    // Fails if the extension had to be killed at SHUTDOWN.
    end(&sandbox).await;
    let output = sandbox.extension_output();
    assert!(output.iter().any(|line| line.contains(storm::WORDS)), "{output:#?}");
}
