//! The main path: everything an invocation produced is at the collector before the extension asks for the next event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Context, Function, Transport};
use serde_json::{Value, json};

use support::{assert_exact, end, invoke, sandbox};

/// `make test-long` runs 200.
const INVOCATIONS: usize = if cfg!(feature = "long") { 200 } else { 50 };
const LINES: usize = 50;
const SPANS: usize = 20;
const POINTS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn invocation_is_complete_at_next_over_grpc() {
    complete_at_every_next(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invocation_is_complete_at_next_over_http() {
    complete_at_every_next(Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invocation_is_complete_on_busy_machine_over_grpc() {
    let _load = Load::start();
    complete_at_every_next(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invocation_is_complete_on_busy_machine_over_http() {
    let _load = Load::start();
    complete_at_every_next(Protocol::Http).await;
}

async fn complete_at_every_next(protocol: Protocol) {
    let collector = Collector::start().await.expect("a collector");
    let function = Function::builtin(move |context| work(context, transport(protocol)));
    let sandbox = sandbox(&collector, protocol).function(function).start().await.expect("a sandbox");
    for number in 1..=INVOCATIONS {
        let invocation = invoke(&sandbox, Value::Null).await;
        let at_next = invocation.collector_at_next.expect("a collector is attached").counts();
        assert_eq!(
            (at_next.logs, at_next.spans, at_next.metric_points),
            (LINES * number, SPANS * number, POINTS * number),
            "at the /next of invocation {number}: {:?}",
            sandbox.extension_output()
        );
    }
    end(&sandbox).await;
    assert!(assert_exact(&sandbox, &collector.received()) > 0, "nothing was emitted");
}

/// Half over the protocol under test, half over its other encodings.
fn transport(protocol: Protocol) -> [Transport; 2] {
    match protocol {
        Protocol::Grpc => [Transport::Grpc, Transport::GrpcGzip],
        Protocol::Http => [Transport::HttpProtobuf, Transport::HttpJson],
    }
}

async fn work(context: Context, transports: [Transport; 2]) -> Result<Value, lambda_sandbox::Failure> {
    let [first, second] = transports;
    context.log_lines(LINES);
    context.send_spans(first, SPANS / 2).await.expect("the receiver takes spans");
    context.send_spans(second, SPANS / 2).await.expect("the receiver takes spans");
    context.send_points(second, POINTS).await.expect("the receiver takes metrics");
    Ok(json!({ "ok": true }))
}

/// Two busy loops beside the test, on a machine that may have no more cores than that.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start() -> Self {
        let running = Arc::new(AtomicBool::new(true));
        for _ in 0..2 {
            let running = Arc::clone(&running);
            thread::spawn(move || {
                while running.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(running)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_extension_logs_nothing() {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = sandbox(&collector, Protocol::Grpc)
        .function(Function::sample(Transport::Grpc))
        .start()
        .await
        .expect("a sandbox");
    for _ in 0..5 {
        sandbox.invoke(Value::Null).await.expect("an invocation");
    }
    end(&sandbox).await;
    assert_eq!(sandbox.extension_output(), Vec::<String>::new());
}
