//! Node.js: the published instrumentations, loaded as the layers of OpenTelemetry for Lambda load them.

use std::path::Path;

use lambda_sandbox::Function;

use crate::ROOT;
use crate::samples::{Sdk, are_joined, function};

fn node(sdk: Sdk) -> Function {
    let samples = Path::new(ROOT).join("tests/e2e/samples/node");
    let file = |name: &str| samples.join(name).to_string_lossy().into_owned();
    let packages = Path::new(ROOT).join("target/e2e/node/node_modules");
    let arguments = ["--require", &file("instrumentation.js"), &file("runtime.js")];
    function(Path::new("node"), &arguments, &samples, sdk)
        .env("NODE_PATH", packages.to_string_lossy())
        // Lambda's own runtime does not speak to the Runtime API through Node's client, as this one does.
        .env("OTEL_NODE_DISABLED_INSTRUMENTATIONS", "http,net,dns")
}

#[tokio::test(flavor = "multi_thread")]
async fn node_lines_name_their_invocations_span() {
    let lines = ["a plain line", "a line of a level", "a line within a span of its own", "line two of two"];
    are_joined(node, &[Sdk::Protobuf, Sdk::Grpc, Sdk::Json], &lines, "no stock").await;
}
