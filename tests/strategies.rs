//! When telemetry leaves, by `ROTEL_FLUSH_STRATEGY`: what of an invocation is there at its `/next`, what goes beside a
//! later one, and that nothing is lost with any of them.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Collector, Protocol};
use lambda_sandbox::{Function, Invocation, Sandbox, Status, Transport};
use serde_json::Value;

use support::{PATIENCE, compare, extension, working};

/// A test over both protocols, side by side.
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

async fn invoke(sandbox: &Sandbox) -> Invocation {
    let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    invocation
}

/// Ends it, and sees that the strategy was one that there is: otherwise it would be another that was tested.
async fn end(sandbox: &Sandbox) {
    support::end(sandbox).await;
    let output = sandbox.extension_output();
    assert!(!output.iter().any(|line| line.contains("ROTEL_FLUSH_STRATEGY")), "{output:#?}");
}

/// Whether all that was emitted so far was there at the invocation's `/next`.
fn was_complete(sandbox: &Sandbox, invocation: &Invocation) -> bool {
    let at_next = invocation.collector_at_next.as_ref().expect("a collector is attached");
    sandbox.ledger().compare(at_next).is_exact()
}

#[tokio::test(flavor = "multi_thread")]
async fn end_sends_at_the_end_of_every_invocation_however_often_it_is_called() {
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
async fn periodic_sends_with_the_first_invocation_after_an_interval_and_the_rest_at_shutdown() {
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
async fn periodic_sends_beside_a_function_that_outlasts_the_interval() {
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
                    collector.wait_until(arrived, PATIENCE).await.expect("they leave beside the function");
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
async fn adaptive_turns_from_the_end_to_beside_once_invocations_follow_each_other_quickly() {
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
async fn an_invocation_whose_time_has_not_come_does_not_wait_for_a_hanging_endpoint() {
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
async fn logs_of_a_function_that_times_out_are_there_whatever_the_strategy() {
    for strategy in ["end", "adaptive", "periodic,10m"] {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.log_lines(5);
            std::future::pending().await
        });
        let extension = extension(&collector, Protocol::Grpc).env("ROTEL_FLUSH_STRATEGY", strategy);
        let builder = Sandbox::builder().extension(extension).collector(&collector).function(function);
        let sandbox = builder.timeout(Duration::from_secs(4)).start().await.expect("a sandbox");
        let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Timeout, "{invocation:?}");
        let comparison = compare(&sandbox, &collector);
        assert!(comparison.is_exact(), "{strategy}: {comparison:?}");
        let output = sandbox.extension_output();
        assert!(!output.iter().any(|line| line.contains("ROTEL_FLUSH_STRATEGY")), "{output:#?}");
    }
}
