//! The process among its neighbours: signals, a standard output that nobody reads, a resolver that does not answer.

use lambda_sandbox::Sandbox;
use lambda_sandbox::collector::Collector;
use serde_json::Value;

use support::{PROTOCOLS, assert_exact, extension, invoke, working};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_flushes_and_exits_well() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, protocol).env("ROTEL_FLUSH_STRATEGY", "periodic,10m");
        let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(working());
        let sandbox = sandbox.start().await.expect("a sandbox");
        for _ in 0..2 {
            invoke(&sandbox, Value::Null).await;
        }
        let kept = !sandbox.ledger().compare(&collector.received()).is_exact();
        assert!(kept, "all was sent before the signal: the test shows nothing");
        assert_eq!(sandbox.terminate().await, [Some(0)], "{:#?}", sandbox.extension_output());
        assert_exact(&sandbox, &collector.received());
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    }
}
