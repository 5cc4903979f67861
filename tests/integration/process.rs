//! The process among its neighbours: signals, a standard output that nobody reads, a resolver that does not answer.

use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Delivery, Function, Journal, Operation, OutputLine, Sandbox, Transport};
use serde_json::Value;
use tokio::net::TcpListener;

use support::{PATIENCE, PROTOCOLS, assert_exact, end, extension, invoke, lines, working};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_flushes_and_exits_well() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol).env("ROTEL_FLUSH_STRATEGY", "periodic,10m");
        let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(working());
        let sandbox = sandbox.start().await.expect("a sandbox");
        invoke(&sandbox, Value::Null).await;
        let last = invoke(&sandbox, Value::Null).await;
        // The environment was frozen before the last records were delivered.
        sandbox.thaw().await;
        let is_delivered = |delivery: &Delivery| {
            delivery.status == Some(200) && delivery.runtime_done.contains(&last.request_id)
        };
        let delivered = sandbox.wait_until(|journal| journal.deliveries.iter().any(is_delivered), PATIENCE);
        delivered.await.expect("the end of the last invocation is announced");
        let kept = !sandbox.ledger().compare(&collector.received()).is_exact();
        assert!(kept, "all was sent before the signal: the test shows nothing");
        assert_eq!(sandbox.terminate().await, [Some(0)], "{:#?}", sandbox.extension_output());
        assert_exact(&sandbox, &collector.received());
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_output_costs_lines_only() {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        // A line for each flush.
        .env("ROTEL_DEBUG_LOG", "logs,traces")
        .unread_output();
    let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(working());
    let sandbox = sandbox.prompt_telemetry().start().await.expect("a sandbox");
    for _ in 0..100 {
        invoke(&sandbox, Value::Null).await;
    }
    end(&sandbox).await;
    assert_exact(&sandbox, &collector.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn host_names_do_not_delay_startup() {
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        .env("ROTEL_OTLP_GRPC_ENDPOINT", "receiver.invalid:4317")
        .env("ROTEL_TELEMETRY_ENDPOINT", "listener.invalid:0");
    let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(lines(3));
    let sandbox = sandbox.start().await.expect("a sandbox");
    for _ in 0..2 {
        invoke(&sandbox, Value::Null).await;
    }
    let is_logged = |journal: &Journal| {
        let is_of_receiver = |line: &OutputLine| line.text.contains("cannot listen on receiver.invalid:4317");
        journal.output.iter().any(is_of_receiver)
    };
    sandbox.thaw().await;
    sandbox.wait_until(is_logged, PATIENCE).await.expect("the line");
    end(&sandbox).await;
    assert_eq!(assert_exact(&sandbox, &collector.received()), 6);
    let output = sandbox.extension_output();
    assert!(output.iter().any(|line| line.contains("ROTEL_TELEMETRY_ENDPOINT: listening on 0.0.0.0,")));
    assert_eq!(sandbox.journal().count(Operation::Next), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn receiver_listens_on_a_host_name() {
    let collector = Collector::start().await.expect("a collector");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    let extension = extension(&collector, Protocol::Grpc)
        .env("ROTEL_FLUSH_TIMEOUT", "60s")
        // In this spelling it is looked up.
        .env("ROTEL_OTLP_HTTP_ENDPOINT", format!("LOCALHOST:{}", closed.port()));
    let function = Function::builtin(|context| async move {
        while context.send_spans(Transport::HttpProtobuf, 1).await.is_err() {
            tokio::task::yield_now().await;
        }
        Ok(Value::Null)
    });
    let sandbox =
        Sandbox::builder().extension(extension).function(function).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    assert_eq!(collector.counts().spans, 1);
}
