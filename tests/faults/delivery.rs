//! Secrets, keys and connections that fail, and what the strategies cost: measured as the others are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lambda_sandbox::aws::{Action, Aws, Behaviour as Answer};
use lambda_sandbox::collector::{Behaviour, Collector, Protocol};
use lambda_sandbox::{Comparison, Extension, Function, Sandbox, ShutdownReason, Status};
use serde_json::{Value, json};

use crate::Row;
use crate::measures::{median, milliseconds};
use support::{compare, sending, with_aws, working};

const KEY: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ingestion-key-a1B2c3";
/// Pauses between rounds for secrets grow to a minute.
const INVOCATIONS_MOST: usize = 1_000;

async fn start(extension: Extension, collector: &Collector, function: Function) -> Sandbox {
    let builder = Sandbox::builder().extension(extension).collector(collector).function(function);
    builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox")
}

async fn invoke(sandbox: &Sandbox, milliseconds: u64) -> lambda_sandbox::Invocation {
    let invocation = sandbox.invoke(json!(milliseconds)).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    invocation
}

async fn end(sandbox: &Sandbox) {
    sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown");
}

/// Invokes until all has arrived.
async fn recover(sandbox: &Sandbox, collector: &Collector) {
    for _ in 0..INVOCATIONS_MOST {
        invoke(sandbox, 100).await;
        if compare(sandbox, collector).missing.is_empty() {
            return;
        }
    }
}

fn with_secret(extension: &Path, collector: &Collector, aws: &Aws) -> Extension {
    let extension = with_aws(sending(Extension::binary(extension), collector, Protocol::Http), aws);
    extension.env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization=${{{KEY}}}"))
}

fn lost(what: &'static str, sandbox: &Sandbox, collector: &Collector, more: &str) -> Row {
    let Comparison { missing, repeated, .. } = compare(sandbox, collector);
    let emitted = sandbox.ledger().entries().len();
    Row {
        what,
        target: "0 lost, none twice",
        figure: format!("{} of {emitted} lost, {} twice{more}", missing.len(), repeated.len()),
        met: missing.is_empty() && repeated.is_empty() && emitted > 0,
    }
}

pub(crate) async fn throttled_secrets(extension: PathBuf) -> Row {
    const THROTTLED: Duration = Duration::from_secs(7);
    let collector = Collector::builder().authorization("key").start().await.expect("a collector");
    let aws = Aws::start().await.expect("a stand-in");
    aws.keep(KEY, "key");
    aws.behave(Action::GetSecretValue, Answer::Refuse { status: 400, code: "ThrottlingException" });
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let began = Instant::now();
    let sandbox = start(with_secret(&extension, &collector, &aws), &collector, working()).await;
    while began.elapsed() < THROTTLED {
        invoke(&sandbox, 200).await;
    }
    let calls = aws.calls().len();
    aws.behave(Action::GetSecretValue, Answer::Answer);
    recover(&sandbox, &collector).await;
    end(&sandbox).await;
    let more = format!("; {calls} calls of AWS in 7 s");
    lost("Secrets Manager throttles for 7 s", &sandbox, &collector, &more)
}

pub(crate) async fn frozen_secret(extension: PathBuf) -> Row {
    let collector = Collector::builder().authorization("key").start().await.expect("a collector");
    let aws = Aws::start().await.expect("a stand-in");
    aws.keep(KEY, "key");
    aws.behave_next(1, &Answer::Hang);
    let sandbox = start(with_secret(&extension, &collector, &aws), &collector, working()).await;
    sandbox.stall(Duration::from_secs(8), async {}).await.expect("a freeze");
    recover(&sandbox, &collector).await;
    end(&sandbox).await;
    lost("frozen for 8 s after init, a secret in flight", &sandbox, &collector, "")
}

pub(crate) async fn rotated_key(extension: PathBuf) -> Row {
    let collector = Collector::builder().authorization("old").start().await.expect("a collector");
    let aws = Aws::start().await.expect("a stand-in");
    aws.keep(KEY, "old");
    let sandbox = start(with_secret(&extension, &collector, &aws), &collector, working()).await;
    recover(&sandbox, &collector).await;
    aws.keep(KEY, "new");
    collector.authorize("new");
    recover(&sandbox, &collector).await;
    end(&sandbox).await;
    let more = format!("; {} calls of AWS in all", aws.calls().len());
    lost("the key is rotated, the backend answers 401 to the old one", &sandbox, &collector, &more)
}

pub(crate) async fn forgotten_connections(extension: PathBuf) -> Row {
    let collector = Collector::start().await.expect("a collector");
    let extension = sending(Extension::binary(extension), &collector, Protocol::Http);
    let extension = extension.env("ROTEL_FLUSH_STRATEGY", "periodic,20s");
    let sandbox = start(extension, &collector, working()).await;
    for _ in 0..4 {
        invoke(&sandbox, 0).await;
    }
    sandbox.rest(Duration::from_secs(25)).await.expect("it is at rest");
    collector.forget_connections();
    end(&sandbox).await;
    lost(
        "periodic,20s: connections forgotten, SHUTDOWN 25 s after the last invocation",
        &sandbox,
        &collector,
        "",
    )
}

/// A function of 5 ms that writes 80 lines, and a backend that answers after 50 ms.
async fn short_functions(extension: &Path, strategy: &str) -> (Sandbox, Collector, usize) {
    let collector = Collector::start().await.expect("a collector");
    collector.behave(Behaviour::Slow(Duration::from_millis(50)));
    let function = Function::builtin(|context| async move {
        context.log_lines(80);
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Value::Null)
    });
    let extension = sending(Extension::binary(extension), &collector, Protocol::Http);
    let sandbox = start(extension.env("ROTEL_FLUSH_STRATEGY", strategy), &collector, function).await;
    for _ in 0..500 {
        invoke(&sandbox, 0).await;
    }
    end(&sandbox).await;
    let bytes = collector.received().requests().map(|request| request.wire_bytes).sum();
    (sandbox, collector, bytes)
}

pub(crate) async fn short_functions_by_strategy(extension: PathBuf) -> Vec<Row> {
    let (_, _, at_end) = short_functions(&extension, "end").await;
    let mut rows = Vec::new();
    for (strategy, what) in [
        ("periodic,20s", "periodic,20s: handler 5 ms, 80 lines, 500 times, backend answers after 50 ms"),
        ("adaptive", "adaptive: the same"),
    ] {
        let (sandbox, collector, bytes) = short_functions(&extension, strategy).await;
        let share = bytes * 100 / at_end.max(1);
        let mut row = lost(what, &sandbox, &collector, &format!("; {share} % of the bytes of `end`"));
        row.target = "0 lost, none twice; <= 120 %";
        row.met &= share <= 120;
        rows.push(row);
    }
    rows
}

pub(crate) async fn added_by_strategies(extension: PathBuf) -> Vec<Row> {
    let mut rows = Vec::new();
    for (strategy, what) in [
        ("periodic,20s", "periodic,20s: added by invocations that do not flush, 1,000 back to back"),
        ("adaptive", "adaptive: the same"),
    ] {
        let collector = Collector::start().await.expect("a collector");
        let extension = sending(Extension::binary(&extension), &collector, Protocol::Http);
        let sandbox = start(extension.env("ROTEL_FLUSH_STRATEGY", strategy), &collector, working()).await;
        let mut added = Vec::new();
        for _ in 0..1_000 {
            added.push(invoke(&sandbox, 0).await.added);
        }
        end(&sandbox).await;
        let Comparison { missing, repeated, .. } = compare(&sandbox, &collector);
        added.sort_unstable();
        // One flush per interval does, and under `adaptive` the first one.
        let (middle, most) = (median(added.clone()), added.get(979).copied().unwrap_or_default());
        rows.push(Row {
            what,
            target: "<= 1 ms, none lost or twice",
            figure: format!(
                "median {}, 98th percentile {}; {} lost, {} twice",
                milliseconds(middle),
                milliseconds(most),
                missing.len(),
                repeated.len()
            ),
            met: most <= Duration::from_millis(1) && missing.is_empty() && repeated.is_empty(),
        });
    }
    rows
}
