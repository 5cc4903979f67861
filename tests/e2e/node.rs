//! Node.js: the published instrumentation.

use std::path::Path;

use lambda_sandbox::collector::Protocol;

use crate::ROOT;
use crate::samples::{SDKS, function, is_joined};

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_node_function_names_the_span_of_its_invocation() {
    let lines = ["a plain line", "a line of a level", "a line within a span of its own", "line two of two"];
    let samples = Path::new(ROOT).join("tests/e2e/samples/node");
    let file = |name: &str| samples.join(name).to_string_lossy().into_owned();
    let arguments = ["--require", &file("instrumentation.js"), &file("runtime.js")];
    let packages = Path::new(ROOT).join("target/e2e/node/node_modules");
    for (sdk, protocol) in SDKS.into_iter().zip([Protocol::Http, Protocol::Grpc]) {
        let function = function(Path::new("node"), &arguments, &samples, sdk)
            .env("NODE_PATH", packages.to_string_lossy());
        is_joined(function, protocol, &lines, "no stock").await;
    }
}
