//! The platform and the function at their worst: frozen for long, timed out, crashed, shut down early, telemetry late
//! and in masses. What was written arrives all the same.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lambda_sandbox::collector::{Behaviour, Collector, Outcome, Protocol, Request};
use lambda_sandbox::{
    Answer, Exporter, Failure, Fault, Function, Journal, Operation, Payload, Sandbox, ShutdownReason, Status,
    Transport,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use support::{PATIENCE, assert_exact, compare, end, extension, invoke, sandbox, working};

/// Twice as long as a request may take. It is the platform's time: the extension stands still in it, so that nothing it
/// does could be waited for.
const FREEZE: Duration = Duration::from_secs(10);

/// A test over both protocols, side by side.
macro_rules! over_both {
    ($over:expr) => {{
        let over = $over;
        tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn freeze_between_invocations_loses_nothing() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, protocol).function(working()).start().await.expect("a sandbox");
        sandbox.invoke(Value::Null).await.expect("an invocation");
        sandbox.rest(FREEZE).await.expect("it is at rest");
        // Sockets die unnoticed.
        collector.close_connections();
        let invocation = invoke(&sandbox, Value::Null).await;
        let at_next = invocation.collector_at_next.expect("a collector is attached");
        assert_exact(&sandbox, &at_next);
        end(&sandbox).await;
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn freeze_during_export_loses_nothing() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let frozen = Arc::new(Notify::new());
        let thawed = Arc::clone(&frozen);
        let function = Function::builtin(move |context| {
            let thawed = Arc::clone(&thawed);
            async move {
                context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
                thawed.notified().await;
                context.log_lines(5);
                Ok(Value::Null)
            }
        });
        // Of what else could be in flight the answer would be cut off.
        let extension = extension(&collector, protocol).env("ROTEL_LAMBDA_PLATFORM_EVENTS", "none");
        let extension = extension.env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(function);
        let sandbox = sandbox.timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
        // Whatever it is: the answer to a test of the connection, say, may be awaited beside that of the export.
        collector.behave(Behaviour::Hang);
        let freeze = async {
            let hangs = |request: &Request| {
                let items = request.payload.as_ref().map_or(0, Payload::items);
                request.outcome == Outcome::Hung && items > 0
            };
            let in_flight = collector.wait_until(|received| received.requests().any(hangs), PATIENCE);
            in_flight.await.expect("an export is in flight");
            let meanwhile = async {
                collector.behave(Behaviour::Accept);
                collector.close_connections();
            };
            sandbox.stall(FREEZE, meanwhile).await.expect("a freeze");
            frozen.notify_one();
        };
        let (invocation, ()) = tokio::join!(sandbox.invoke(Value::Null), freeze);
        assert_eq!(invocation.expect("an invocation").status, Status::Success);
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_before_timeout_arrive_in_time() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let deadlines: Arc<Mutex<Vec<SystemTime>>> = Arc::default();
        let noted = Arc::clone(&deadlines);
        let function = Function::builtin(move |context| {
            noted.lock().expect("no test panics with it").push(context.deadline);
            async move {
                context.log_lines(5);
                context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
                if context.payload == json!("hang") { std::future::pending().await } else { Ok(Value::Null) }
            }
        });
        let sandbox = Sandbox::builder()
            .extension(extension(&collector, protocol))
            .collector(&collector)
            .function(function)
            .timeout(Duration::from_secs(5))
            .start()
            .await
            .expect("a sandbox");
        let invocation = sandbox.invoke(json!("hang")).await.expect("an invocation");
        assert_eq!(invocation.answer, Answer::Timeout);
        let reset = invocation.reset.expect("a reset");
        assert!(reset.is_clean(), "{reset:?}");
        assert_exact(&sandbox, &collector.received());
        let deadline = deadlines.lock().expect("no test panics with it")[0];
        let received = collector.received();
        let lines: Vec<_> = received.logs().filter(|log| log.body().contains("line ")).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.request.time < deadline), "they came after the deadline");

        let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
        assert!(invocation.cold_start, "{invocation:?}");
        end(&sandbox).await;
        assert_exact(&sandbox, &collector.received());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_before_exit_arrive_with_reset() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
            context.log_lines(5);
            if context.payload == json!("exit") { Err(Failure::exit()) } else { Ok(Value::Null) }
        });
        let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
        for payload in [json!("exit"), Value::Null, json!("exit")] {
            let invocation = sandbox.invoke(payload.clone()).await.expect("an invocation");
            assert_eq!(invocation.reset.is_some(), payload == json!("exit"), "{invocation:?}");
            if let Some(reset) = invocation.reset {
                assert_eq!(reset.reason, ShutdownReason::Failure);
                assert!(reset.is_clean(), "{reset:?}");
            }
            assert_exact(&sandbox, &collector.received());
        }
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_before_init_crash_arrive() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox =
            sandbox(&collector, protocol).function(Function::external()).open().await.expect("a sandbox");
        let runtime = Exporter::new("", sandbox.api().to_string());
        // Platform: the init is tried again with the first invocation.
        for turn in 1..=2 {
            let crash = async {
                let subscribed = |journal: &Journal| journal.count(Operation::Subscribe) == turn;
                sandbox.wait_until(subscribed, PATIENCE).await.expect("a subscription");
                sandbox.emit("function", json!("last words"));
                let error = json!({"errorType": "ImportError", "errorMessage": "no such module"}).to_string();
                let path = "/2018-06-01/runtime/init/error";
                runtime.send_http(path, "application/json", error.into()).await.expect("it is taken");
            };
            let (init, ()) = tokio::join!(sandbox.init(), crash);
            let init = init.expect("an init");
            assert_eq!(init.status, Status::Error, "{init:?}");
            let reset = init.shutdown.expect("a reset");
            assert!(reset.is_clean(), "{reset:?}");
            let received = collector.received();
            let arrived = received.logs().filter(|log| log.body() == "last words").count();
            assert_eq!(arrived, turn, "{:#?}", sandbox.extension_output());
        }
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_in_transit_at_shutdown_arrive() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, protocol).start().await.expect("a sandbox");
        for line in 0..10 {
            sandbox.emit("function", json!(format!("line {line} of the init")));
        }
        end(&sandbox).await;
        let lines = collector.received().logs().filter(|log| log.body().ends_with("of the init")).count();
        assert_eq!(lines, 10);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_during_shutdown_arrive_without_delay() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = sandbox(&collector, protocol).function(working()).start().await.expect("a sandbox");
        sandbox.invoke(Value::Null).await.expect("an invocation");
        // While the environment rests nothing is delivered: these are, once SHUTDOWN has woken it.
        for line in 0..10 {
            sandbox.emit("function", json!(format!("late line {line}")));
        }
        let storm = async {
            let posts = json!([{"time": "2022-10-12T00:00:00.000Z", "type": "function", "record": "more"}]);
            for _ in 0..200 {
                sandbox.inject(posts.to_string()).await.expect("there was a subscription");
            }
        };
        tokio::join!(end(&sandbox), storm);
        let received = collector.received();
        assert_eq!(received.logs().filter(|log| log.body().starts_with("late line")).count(), 10);
        assert_exact(&sandbox, &received);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_after_deadline_is_not_lost() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let sandbox = Sandbox::builder()
            .extension(extension(&collector, protocol))
            .collector(&collector)
            .function(working())
            .timeout(Duration::from_secs(4))
            .start()
            .await
            .expect("a sandbox");
        sandbox.set_faults([Fault::DelayPosts(Duration::from_secs(5))]);
        let first = sandbox.invoke(Value::Null).await.expect("an invocation");
        assert!(matches!(first.answer, Answer::Response(_)), "{first:?}");
        assert_eq!(first.status, Status::Success, "{first:?}");
        sandbox.set_faults([]);
        let mut invocations = 1;
        while !compare(&sandbox, &collector).missing.is_empty() {
            assert!(invocations < 50, "{:?}", compare(&sandbox, &collector));
            invoke(&sandbox, json!(200)).await;
            invocations += 1;
        }
        end(&sandbox).await;
        // Neither a missing end nor a late one made an invocation end twice.
        assert_eq!(sandbox.journal().count(Operation::Next), invocations + 1);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_lines_arrive_before_next() {
    over_both!(async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            context.log_lines(10_000);
            Ok(Value::Null)
        });
        let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
        let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
        let at_next = invocation.collector_at_next.expect("a collector is attached");
        let comparison = sandbox.ledger().compare(&at_next);
        assert!(comparison.is_exact(), "{} are missing", comparison.missing.len());
        assert_eq!(comparison.once, 10_000);
        end(&sandbox).await;
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    });
}
