//! Backends that try to block the extension's thread.

use std::time::Duration;

use lambda_sandbox::Sandbox;
use serde_json::Value;

use support::bounds::{assert_memory, assert_time};
use support::storm::{self, CONTINUE, storming};
use support::{end, invoke, unconfigured, working};

use super::MIB;

#[tokio::test(flavor = "multi_thread")]
async fn endless_1xx_responses_block_nothing() {
    let extension = unconfigured()
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", storming(b"", CONTINUE))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", "http")
        .env("ROTEL_FLUSH_TIMEOUT", "500ms");
    let sandbox =
        Sandbox::builder().extension(extension).function(working()).start().await.expect("a sandbox");
    let before = sandbox.resident_bytes();
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        longest = longest.max(invoke(&sandbox, Value::Null).await.total);
    }
    assert_time("endless 1xx responses, longest of 3 invocations", longest, Duration::from_secs(2));
    let grown = sandbox.peak_resident_bytes().saturating_sub(before);
    assert_memory("endless 1xx responses", grown, 16 * MIB as u64);
    // Fails if the extension had to be killed at SHUTDOWN.
    end(&sandbox).await;
    let output = sandbox.extension_output();
    assert!(output.iter().any(|line| line.contains(storm::ERROR)), "{output:#?}");
}
