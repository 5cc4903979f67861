//! The backend goes down, in every way it can, and comes back: the function is not harmed, and only what was refused for
//! good is lost.

use std::time::Duration;

use lambda_sandbox::collector::{Behaviour, Collector, Counts, Outcome, Protocol, Received, Refusal};
use lambda_sandbox::{Extension, Function, Invocation, Sandbox, Signal, Status, Transport};
use serde_json::{Value, json};

use support::outage::Outage;
use support::{compare, end, extension, impatient, trusted, working};

async fn endpoint(outage: &Outage, protocol: Protocol) -> (Collector, Extension) {
    if *outage == Outage::ForgetsTls {
        return trusted(protocol).await;
    }
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, protocol);
    (collector, extension)
}

async fn start(extension: Extension, collector: &Collector, function: Function) -> Sandbox {
    let builder = Sandbox::builder().extension(extension).collector(collector).function(function);
    builder.timeout(Duration::from_mins(5)).start().await.expect("a sandbox")
}

/// Runs an invocation that succeeds and takes `milliseconds`.
async fn invoke(sandbox: &Sandbox, milliseconds: u64) -> (Invocation, Received) {
    let mut invocation = sandbox.invoke(json!(milliseconds)).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    let at_next = invocation.collector_at_next.take().expect("a collector is attached");
    (invocation, at_next)
}

/// Invokes until both signals arrive again. Asserts that all of a signal arrives with its first item.
async fn recovers(sandbox: &Sandbox, before: Counts) {
    let mut waiting = vec![Signal::Logs, Signal::Traces];
    for _ in 0..100 {
        // So long that a busy machine answers meanwhile: a probe that is called off with the function is sent again,
        // rightly.
        let (invocation, at_next) = invoke(sandbox, 500).await;
        let comparison = sandbox.ledger().compare(&at_next);
        waiting.retain(|signal| {
            let back = at_next.counts().of(*signal) > before.of(*signal);
            let missing = comparison.missing.iter().filter(|entry| entry.signal == *signal).count();
            assert!(!back || missing == 0, "{missing} {} were left behind: {invocation:?}", signal.items());
            !back
        });
        if waiting.is_empty() {
            return;
        }
    }
    panic!("{waiting:?} did not come back: {:#?}", sandbox.extension_output());
}

async fn is_survived(outage: Outage) {
    tokio::join!(is_survived_over(Protocol::Grpc, &outage), is_survived_over(Protocol::Http, &outage));
}

async fn is_survived_over(protocol: Protocol, outage: &Outage) {
    let (collector, extension) = endpoint(outage, protocol).await;
    // Only where nothing but the deadline ends a flush may a busy machine's haste show.
    let flush_timeout = if outage.hangs() { "1s" } else { "60s" };
    let extension = impatient(extension).env("ROTEL_FLUSH_TIMEOUT", flush_timeout);
    let sandbox = start(extension, &collector, working()).await;
    let (_, at_next) = invoke(&sandbox, 0).await;
    assert!(sandbox.ledger().compare(&at_next).is_exact());
    let before = collector.counts();

    outage.begin(&collector).await;
    let mut lines = Vec::new();
    for _ in 0..4 {
        let (invocation, _) = invoke(&sandbox, 0).await;
        // Far from what a request may take, on however busy a machine.
        assert!(invocation.added < Duration::from_secs(4), "{invocation:?}");
        lines.push(sandbox.extension_output().len());
    }
    assert_eq!(collector.counts(), before);
    assert_eq!(lines.last(), lines.get(1), "it keeps logging: {:#?}", sandbox.extension_output());

    Outage::end(&collector).await;
    recovers(&sandbox, before).await;
    end(&sandbox).await;
    let comparison = compare(&sandbox, &collector);
    assert!(comparison.missing.is_empty(), "{comparison:?}");
    if !outage.hangs() {
        assert!(comparison.is_exact(), "{comparison:?}");
        let output = sandbox.extension_output();
        assert_eq!(output.len(), 2, "a line when it began and one when it ended: {output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connections_lose_nothing() {
    is_survived(Outage::Refuses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn black_hole_loses_nothing() {
    is_survived(Outage::Vanishes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_connections_lose_nothing() {
    is_survived(Outage::StandsStill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_requests_lose_nothing() {
    is_survived(Outage::Answers(Behaviour::Hang)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_tls_loses_nothing() {
    is_survived(Outage::ForgetsTls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_503_loses_nothing() {
    is_survived(Outage::Answers(Behaviour::Refuse(Refusal::status(503)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_503_with_retry_after_loses_nothing() {
    let refusal = Refusal::status(503).retry_after(Duration::from_secs(1));
    is_survived(Outage::Answers(Behaviour::Refuse(refusal))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_429_loses_nothing() {
    // Over gRPC it is RESOURCE_EXHAUSTED, which is worth another attempt only with a RetryInfo.
    let refusal = Refusal::status(429).retry_after(Duration::from_secs(1));
    is_survived(Outage::Answers(Behaviour::Refuse(refusal))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_requests_lose_nothing() {
    is_survived(Outage::Answers(Behaviour::CutRequest { after: 20 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_endpoint_costs_flush_timeout_once() {
    const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
    let over = async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol).env("ROTEL_FLUSH_TIMEOUT", "4s");
        let sandbox = start(extension, &collector, working()).await;
        invoke(&sandbox, 0).await;
        collector.behave(Behaviour::Hang);
        let (first, _) = invoke(&sandbox, 0).await;
        assert!(first.added >= FLUSH_TIMEOUT / 2, "the endpoint was given no chance: {first:?}");
        for _ in 0..5 {
            let (next, _) = invoke(&sandbox, 0).await;
            assert!(next.added < FLUSH_TIMEOUT / 2, "{next:?}");
        }
        end(&sandbox).await;
    };
    tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_kept_until_shutdown() {
    let over = async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let extension = impatient(extension(&collector, protocol)).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = start(extension, &collector, working()).await;
        let refusal = Refusal::status(503).retry_after(Duration::from_mins(10));
        collector.behave(Behaviour::Refuse(refusal));
        invoke(&sandbox, 0).await;
        let asked = collector.received().requests().count();
        collector.behave(Behaviour::Accept);
        for _ in 0..5 {
            invoke(&sandbox, 50).await;
        }
        assert_eq!(collector.received().requests().count(), asked, "it was not given the time");
        end(&sandbox).await;
        let comparison = compare(&sandbox, &collector);
        assert!(comparison.is_exact(), "{comparison:?}");
    };
    tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_data_is_dropped_alone() {
    let over = async |protocol, status| {
        let collector = Collector::start().await.expect("a collector");
        let extension = impatient(extension(&collector, protocol)).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = start(extension, &collector, working()).await;
        collector.behave(Behaviour::Refuse(Refusal::status(status)));
        for _ in 0..3 {
            invoke(&sandbox, 0).await;
        }
        collector.behave(Behaviour::Accept);
        for _ in 0..3 {
            let (invocation, at_next) = invoke(&sandbox, 0).await;
            let comparison = sandbox.ledger().compare_invocation(&invocation.request_id, &at_next);
            assert!(comparison.is_exact(), "{status}: {comparison:?}");
        }
        end(&sandbox).await;
        let output = sandbox.extension_output();
        let logged = |text: &str| output.iter().filter(|line| line.contains(text)).count();
        assert_eq!(logged("rejected items are dropped and counted"), 1, "{output:#?}");
        assert_eq!(logged("recovered after "), 1, "{output:#?}");
    };
    for status in [400, 401, 404] {
        tokio::join!(over(Protocol::Grpc, status), over(Protocol::Http, status));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_request_is_split() {
    const LIMIT: usize = 16 * 1024;
    let over = async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let function = Function::builtin(|context| async move {
            let line = "x".repeat(2 * LIMIT);
            context.log(format!("{line} too large alone"));
            context.log_lines(300);
            context.send_spans(Transport::HttpProtobuf, 500).await.expect("the receiver takes spans");
            Ok(Value::Null)
        });
        let extension = impatient(extension(&collector, protocol)).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = start(extension, &collector, function).await;
        collector.behave(Behaviour::Limit { bytes: LIMIT });
        for _ in 0..2 {
            let (_, at_next) = invoke(&sandbox, 0).await;
            let comparison = sandbox.ledger().compare(&at_next);
            assert!(comparison.is_exact(), "{} are missing", comparison.missing.len());
        }
        end(&sandbox).await;
        assert!(compare(&sandbox, &collector).is_exact());
        assert!(collector.received().logs().all(|log| !log.body().ends_with("too large alone")));
    };
    tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_endpoint_is_complete_at_next() {
    let over = async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = start(extension, &collector, working()).await;
        collector.behave(Behaviour::Slow(Duration::from_millis(300)));
        for _ in 0..4 {
            let (_, at_next) = invoke(&sandbox, 0).await;
            let comparison = sandbox.ledger().compare(&at_next);
            assert!(comparison.is_exact(), "{comparison:?}");
        }
        end(&sandbox).await;
        assert_eq!(sandbox.extension_output(), Vec::<String>::new());
    };
    tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unanswered_requests_are_repeated() {
    let over = async |protocol| {
        let collector = Collector::start().await.expect("a collector");
        let extension = impatient(extension(&collector, protocol)).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let sandbox = start(extension, &collector, working()).await;
        for _ in 0..5 {
            invoke(&sandbox, 0).await;
            collector.behave_next(1, Behaviour::CutAnswer);
            invoke(&sandbox, 500).await;
        }
        end(&sandbox).await;
        let received = collector.received();
        let comparison = sandbox.ledger().compare(&received);
        assert!(comparison.missing.is_empty(), "{comparison:?}");
        let unanswered: usize = received
            .requests()
            .filter(|request| request.outcome == Outcome::KeptUnanswered)
            .filter_map(|request| Some(request.payload.as_ref()?.items()))
            .sum();
        let extra: usize = comparison.repeated.iter().map(|(_, times)| times - 1).sum();
        assert!(extra <= unanswered, "{extra} came again, {unanswered} had no answer");
    };
    tokio::join!(over(Protocol::Grpc), over(Protocol::Http));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_is_in_time_in_every_outage() {
    let over = async |protocol, outage: Outage| {
        let (collector, extension) = endpoint(&outage, protocol).await;
        let sandbox = start(extension, &collector, working()).await;
        outage.begin(&collector).await;
        invoke(&sandbox, 0).await;
        // `end` sees that it was not killed, which is what happens 2 s after SHUTDOWN.
        end(&sandbox).await;
    };
    for outage in [
        Outage::Refuses,
        Outage::Vanishes,
        Outage::StandsStill,
        Outage::ForgetsTls,
        Outage::Answers(Behaviour::Hang),
        Outage::Answers(Behaviour::Slow(Duration::from_mins(1))),
        Outage::Answers(Behaviour::Refuse(Refusal::status(503).retry_after(Duration::from_mins(10)))),
    ] {
        tokio::join!(over(Protocol::Grpc, outage.clone()), over(Protocol::Http, outage.clone()));
    }
}
