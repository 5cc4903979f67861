//! The time at which telemetry is sent, by `ROTEL_FLUSH_STRATEGY`: the part of an invocation that has arrived at its
//! `/next`, the invocations that are held, and that no strategy loses anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lambda_sandbox::collector::{Behaviour, Collector, Protocol, Received};
use lambda_sandbox::{Context, Failure, Fault, Function, Invocation, Operation, Sandbox, Status, Transport};
use serde_json::{Value, json};
use tokio::sync::Notify;

use support::not_held::{self, NextCalls};
use support::{PATIENCE, assert_exact, compare, extension, working};

/// The payload of an invocation whose function ends only after the extension has called `/next`. If the extension held
/// it, it would never end.
const NOT_HELD: &str = "not held";

/// Runs a test over both protocols concurrently.
macro_rules! over_both {
    ($over:expr) => {{
        let over = $over;
        tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
    }};
}

async fn start(collector: &Collector, protocol: Protocol, strategy: &str, function: Function) -> Sandbox {
    let extension = extension(collector, protocol)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_FLUSH_STRATEGY", strategy);
    let builder = Sandbox::builder().extension(extension).collector(collector).function(function);
    builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox")
}

/// A sandbox whose function does `work` and obeys [`NOT_HELD`].
async fn observed<F: Future<Output = Result<Value, Failure>> + Send + 'static>(
    collector: &Collector,
    strategy: &str,
    timeout: Duration,
    work: impl Fn(Context) -> F + Send + Sync + 'static,
) -> Sandbox {
    let extension = extension(collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_FLUSH_STRATEGY", strategy);
    let builder = Sandbox::builder().extension(extension).collector(collector).timeout(timeout);
    let (builder, calls) = NextCalls::of(builder);
    let function = Function::builtin(move |context| {
        let called = calls.of_this();
        let waits = context.payload == json!(NOT_HELD);
        let work = work(context);
        async move {
            let answer = work.await?;
            if waits {
                called.await;
            }
            Ok(answer)
        }
    });
    builder.function(function).start().await.expect("a sandbox")
}

async fn log_and_trace(context: Context) -> Result<Value, Failure> {
    context.log_lines(4);
    context.send_spans(Transport::Grpc, 2).await.expect("the receiver takes spans");
    context.log_lines(1);
    Ok(Value::Null)
}

async fn invoke_not_held(sandbox: &Sandbox) -> Invocation {
    not_held::invoke(sandbox, json!(NOT_HELD)).await
}

/// Asserts that each log record of the function names the invocation that wrote it.
fn assert_own_request_ids(sandbox: &Sandbox, received: &Received) {
    let entries = sandbox.ledger().entries();
    let written: HashMap<_, _> =
        entries.iter().map(|entry| (entry.mark.as_str(), entry.request_id.as_str())).collect();
    let mut records = 0;
    for log in received.logs() {
        let texts = [Some(log.body()), log.attribute("item")];
        let mut words = texts.iter().flatten().flat_map(|text| text.split_whitespace());
        let Some(writer) = words.find_map(|word| written.get(word)) else { continue };
        assert_eq!(log.attribute("faas.invocation_id").as_deref(), Some(*writer), "{}", log.body());
        records += 1;
    }
    assert!(records > 0, "no record has a mark");
}

async fn invoke(sandbox: &Sandbox) -> Invocation {
    let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    invocation
}

/// Ends the sandbox and asserts that the strategy was valid: otherwise the test would have run with another.
async fn end(sandbox: &Sandbox) {
    support::end(sandbox).await;
    let output = sandbox.extension_output();
    assert!(!output.iter().any(|line| line.contains("ROTEL_FLUSH_STRATEGY")), "{output:#?}");
}

/// Returns true if everything emitted so far had arrived at the invocation's `/next`.
fn was_complete(sandbox: &Sandbox, invocation: &Invocation) -> bool {
    let at_next = invocation.collector_at_next.as_ref().expect("a collector is attached");
    sandbox.ledger().compare(at_next).is_exact()
}

#[tokio::test(flavor = "multi_thread")]
async fn end_flushes_after_every_invocation() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = start(&collector, protocol, "end", working()).await;
        for _ in 0..20 {
            let invocation = invoke(&sandbox).await;
            assert!(was_complete(&sandbox, &invocation), "{invocation:?}");
        }
        end(&sandbox).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn periodic_flushes_after_interval_and_at_shutdown() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        // No machine is so busy that the interval passes.
        let sandbox = start(&collector, protocol, "periodic,10m", working()).await;
        let first = invoke(&sandbox).await;
        assert!(was_complete(&sandbox, &first), "{first:?}");
        let requests = collector.received().requests().count();
        for _ in 0..20 {
            invoke(&sandbox).await;
        }
        assert_eq!(collector.received().requests().count(), requests, "it does not wait for its time");
        end(&sandbox).await;
        let comparison = compare(&sandbox, &collector);
        assert!(comparison.is_exact(), "{comparison:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn periodic_flushes_during_long_invocation() {
    over_both!(async |protocol| {
        let collector = Arc::new(Collector::start().await.expect("a collector"));
        let watched = Arc::clone(&collector);
        let function = Function::builtin(move |context| {
            let collector = Arc::clone(&watched);
            async move {
                // The function ends only when its first lines and spans are there, sent twice: by a timer.
                for round in 1..=2 {
                    context.log_lines(5);
                    context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
                    let arrived = |received: &lambda_sandbox::collector::Received| {
                        received.counts().logs >= 5 * round && received.counts().spans >= 5 * round
                    };
                    collector
                        .wait_until(arrived, PATIENCE)
                        .await
                        .expect("they are sent during the invocation");
                }
                Ok(Value::Null)
            }
        });
        let sandbox = start(&collector, protocol, "periodic,1s", function).await;
        invoke(&sandbox).await;
        end(&sandbox).await;
        assert!(compare(&sandbox, &collector).is_exact());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn adaptive_flushes_during_frequent_invocations() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = start(&collector, protocol, "adaptive", working()).await;
        let mut complete = Vec::new();
        for _ in 0..12 {
            let invocation = invoke(&sandbox).await;
            complete.push(was_complete(&sandbox, &invocation));
        }
        // Four say nothing of a cadence; with the fifth it is fast, and what waits is due.
        assert_eq!(complete[..5], [true; 5]);
        // The interval is fifteen seconds at least, which so few invocations do not take.
        let waited = complete.iter().filter(|complete| !**complete).count();
        assert!(waited >= 5, "{complete:?}");
        end(&sandbox).await;
        let comparison = compare(&sandbox, &collector);
        assert!(comparison.is_exact(), "{comparison:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn invocation_within_interval_ignores_hanging_endpoint() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = start(&collector, protocol, "periodic,10m", working()).await;
        invoke(&sandbox).await;
        collector.behave(Behaviour::Hang);
        for _ in 0..5 {
            let invocation = invoke(&sandbox).await;
            // Half of what a flush may take here.
            assert!(invocation.added < Duration::from_secs(30), "{invocation:?}");
        }
        collector.behave(Behaviour::Accept);
        end(&sandbox).await;
        assert!(compare(&sandbox, &collector).is_exact());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_invocations_are_not_held() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = observed(&collector, "periodic,10m", PATIENCE, log_and_trace).await;
    let first = invoke(&sandbox).await;
    assert!(was_complete(&sandbox, &first), "{first:?}");
    let requests = collector.received().requests().count();
    for _ in 0..1_000 {
        invoke_not_held(&sandbox).await;
    }
    assert_eq!(collector.received().requests().count(), requests, "it does not wait for its time");
    end(&sandbox).await;
    let received = collector.received();
    assert_exact(&sandbox, &received);
    assert_own_request_ids(&sandbox, &received);
    assert_eq!(sandbox.journal().count(Operation::Next), 1_002);
}

#[tokio::test(flavor = "multi_thread")]
async fn adaptive_holds_none_in_fast_cadence() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = observed(&collector, "adaptive", PATIENCE, log_and_trace).await;
    for _ in 0..5 {
        let held = invoke(&sandbox).await;
        assert!(was_complete(&sandbox, &held), "{held:?}");
    }
    for _ in 0..20 {
        invoke_not_held(&sandbox).await;
    }
    end(&sandbox).await;
    let received = collector.received();
    assert_exact(&sandbox, &received);
    assert_own_request_ids(&sandbox, &received);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_after_the_interval_is_held() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let collector = Collector::start().await.expect("a collector");
    let sandbox = observed(&collector, "periodic,1s", PATIENCE, log_and_trace).await;
    invoke(&sandbox).await;
    for _ in 0..3 {
        sandbox.rest(INTERVAL).await.expect("it is at rest");
        let due = invoke(&sandbox).await;
        assert!(was_complete(&sandbox, &due), "{due:?}");
    }
    end(&sandbox).await;
    let received = collector.received();
    assert_exact(&sandbox, &received);
    assert_own_request_ids(&sandbox, &received);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_runtime_done_ends_no_other() {
    let collector = Collector::start().await.expect("a collector");
    let delivered = Arc::new(Notify::new());
    let awaited = Arc::clone(&delivered);
    let sandbox = observed(&collector, "periodic,1s", PATIENCE, move |context| {
        let awaited = Arc::clone(&awaited);
        async move {
            if context.payload == json!("wait") {
                awaited.notified().await;
                context.log_lines(5);
            }
            Ok(Value::Null)
        }
    });
    let sandbox = sandbox.await;
    invoke(&sandbox).await;
    let before = invoke(&sandbox).await.request_id;
    sandbox.rest(Duration::from_secs(1)).await.expect("it is at rest");
    let late = async {
        let done = |journal: &lambda_sandbox::Journal| {
            journal.runtime_done(&before).is_some_and(lambda_sandbox::Delivery::is_accepted)
        };
        sandbox.wait_until(done, PATIENCE).await.expect("a runtimeDone of the invocation before");
        delivered.notify_one();
    };
    let (held, ()) = tokio::join!(sandbox.invoke(json!("wait")), late);
    let held = held.expect("an invocation");
    assert!(was_complete(&sandbox, &held), "{held:?}");
    end(&sandbox).await;
    assert_own_request_ids(&sandbox, &collector.received());
    assert_eq!(sandbox.journal().count(Operation::Next), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_before_a_crash_arrive_unheld() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = observed(&collector, "periodic,10m", PATIENCE, |context| async move {
        context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
        context.log_lines(5);
        if context.payload == json!("exit") { Err(Failure::exit()) } else { Ok(Value::Null) }
    });
    let sandbox = sandbox.await;
    invoke(&sandbox).await;
    invoke_not_held(&sandbox).await;
    let crashed = sandbox.invoke(json!("exit")).await.expect("an invocation");
    let reset = crashed.reset.as_ref().expect("a reset");
    assert!(reset.is_clean(), "{reset:?}");
    let received = collector.received();
    assert_exact(&sandbox, &received);
    assert_own_request_ids(&sandbox, &received);
    let ends = received.logs().filter(|log| log.attribute("aws.lambda.outcome").as_deref() == Some("crash"));
    let ends: Vec<_> = ends.map(|log| log.attribute("faas.invocation_id")).collect();
    assert_eq!(ends, [Some(crashed.request_id)]);
}

/// The log lines that report a missing `runtimeDone`.
fn warnings(sandbox: &Sandbox) -> usize {
    sandbox.extension_output().iter().filter(|line| line.contains("no platform.runtimeDone")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_runtime_done_holds_one_invocation() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = observed(&collector, "end", Duration::from_secs(3), log_and_trace).await;
    let well = invoke(&sandbox).await;
    assert!(was_complete(&sandbox, &well), "{well:?}");
    sandbox.set_faults([Fault::Drop("platform.runtimeDone".to_owned())]);
    let held = invoke(&sandbox).await;
    assert!(held.total > Duration::from_secs(2), "{held:?}");
    for _ in 0..5 {
        invoke_not_held(&sandbox).await;
    }
    sandbox.set_faults([]);
    let last = invoke_not_held(&sandbox).await.request_id;
    let done = |journal: &lambda_sandbox::Journal| {
        journal.runtime_done(&last).is_some_and(lambda_sandbox::Delivery::is_accepted)
    };
    // It is delivered in this one, or in the next.
    while !done(&sandbox.journal()) {
        invoke(&sandbox).await;
    }
    // The listener answers before the event is processed, so this one may still begin unheld.
    invoke(&sandbox).await;
    for _ in 0..3 {
        let held = invoke(&sandbox).await;
        assert!(was_complete(&sandbox, &held), "{held:?}");
    }
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
    assert_own_request_ids(&sandbox, &collector.received());
    assert_eq!(warnings(&sandbox), 1, "{:#?}", sandbox.extension_output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_lambda_cannot_reach_holds_one_invocation() {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Grpc)
        // The sandbox delivers to its own address and to 127.0.0.1.
        .env("ROTEL_TELEMETRY_ENDPOINT", "127.255.1.2:8990");
    let builder = Sandbox::builder().extension(extension).collector(&collector);
    let (builder, calls) = NextCalls::of(builder.timeout(Duration::from_secs(3)));
    let function = Function::builtin(move |context| {
        let called = calls.of_this();
        async move {
            if context.payload == json!(NOT_HELD) {
                called.await;
            }
            log_and_trace(context).await
        }
    });
    let sandbox = builder.function(function).start().await.expect("a sandbox");
    let held = invoke(&sandbox).await;
    assert!(held.total > Duration::from_secs(2), "{held:?}");
    for _ in 0..5 {
        invoke_not_held(&sandbox).await;
    }
    end(&sandbox).await;
    assert_eq!(warnings(&sandbox), 1, "{:#?}", sandbox.extension_output());
    let missing = compare(&sandbox, &collector).missing;
    assert!(missing.iter().all(|entry| entry.signal == lambda_sandbox::Signal::Logs), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_before_timeout_arrive_with_every_strategy() {
    for strategy in ["end", "adaptive", "periodic,10m"] {
        let collector = Collector::start().await.expect("a collector");
        let deadlines: Arc<Mutex<Vec<SystemTime>>> = Arc::default();
        let noted = Arc::clone(&deadlines);
        let function = Function::builtin(move |context| {
            noted.lock().expect("no test panics with it").push(context.deadline);
            async move {
                context.log_lines(5);
                if context.payload == json!("hang") { std::future::pending().await } else { Ok(Value::Null) }
            }
        });
        let extension = extension(&collector, Protocol::Grpc).env("ROTEL_FLUSH_STRATEGY", strategy);
        let builder = Sandbox::builder().extension(extension).collector(&collector).function(function);
        let sandbox = builder.timeout(Duration::from_secs(4)).start().await.expect("a sandbox");
        // With the sixth, adaptive holds none any more.
        for _ in 0..6 {
            invoke(&sandbox).await;
        }
        let invocation = sandbox.invoke(json!("hang")).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Timeout, "{invocation:?}");
        let received = collector.received();
        assert_exact(&sandbox, &received);
        assert_own_request_ids(&sandbox, &received);
        let deadline = *deadlines.lock().expect("no test panics with it").last().expect("a deadline");
        let mut lines = received.logs().filter(|log| log.body().contains("line "));
        assert!(lines.all(|line| line.request.time < deadline), "they came after the deadline");
        let output = sandbox.extension_output();
        assert!(!output.iter().any(|line| line.contains("ROTEL_FLUSH_STRATEGY")), "{output:#?}");
        assert_eq!(warnings(&sandbox), 0, "{output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_functions_lose_and_repeat_nothing() {
    let mut sent = Vec::new();
    for strategy in ["end", "periodic,20s", "adaptive"] {
        let collector = Collector::start().await.expect("a collector");
        // No request is answered before the end of the function that it was made in.
        collector.behave(Behaviour::Slow(Duration::from_millis(50)));
        let function = Function::builtin(|context| async move {
            context.log_lines(80);
            Ok(Value::Null)
        });
        // It is half full after some forty invocations.
        let extension = extension(&collector, Protocol::Http).env("ROTEL_BUFFER_MAX_BYTES", "2000000");
        let extension = extension.env("ROTEL_FLUSH_STRATEGY", strategy);
        let builder = Sandbox::builder().extension(extension).collector(&collector).function(function);
        let sandbox = builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
        for _ in 0..120 {
            invoke(&sandbox).await;
        }
        end(&sandbox).await;
        let received = collector.received();
        let comparison = sandbox.ledger().compare(&received);
        let output = sandbox.extension_output();
        assert!(comparison.is_exact(), "{strategy}: {} missing; {output:#?}", comparison.missing.len());
        sent.push(received.requests().map(|request| request.wire_bytes).sum::<usize>());
    }
    let most = sent[0] * 12 / 10;
    assert!(sent.iter().all(|bytes| *bytes <= most), "{sent:?} bytes with end, periodic and adaptive");
}
