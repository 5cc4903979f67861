//! Java: AWS's Runtime Interface Client under OpenTelemetry's agent.

use std::path::Path;

use lambda_sandbox::Function;

use crate::ROOT;
use crate::samples::{Sdk, are_joined, function};

fn java(sdk: Sdk) -> Function {
    let built = Path::new(ROOT).join("target/e2e/java");
    let (classes, packages) = (built.join("classes"), built.join("lib"));
    let agent = format!("-javaagent:{}", packages.join("opentelemetry-javaagent.jar").display());
    let class_path = format!("{}:{}/*", classes.display(), packages.display());
    let client = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";
    let arguments = [&agent, "-cp", &class_path, client, "orders.App::handleRequest"];
    function(Path::new("java"), &arguments, &classes, sdk)
        .env("_HANDLER", "orders.App::handleRequest")
        // What Lambda's wrapper for the agent sets, so that spans leave before the end of the invocation.
        .env("OTEL_INSTRUMENTATION_AWS_LAMBDA_FLUSH_TIMEOUT", "60000")
}

#[tokio::test(flavor = "multi_thread")]
async fn java_lines_name_their_invocations_span() {
    let lines =
        ["a plain line", "a line through the logger", "a line within a span of its own", "line two of two"];
    // Java's agent has no JSON.
    are_joined(java, &[Sdk::Protobuf, Sdk::Grpc], &lines, "no stock").await;
}
