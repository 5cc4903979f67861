//! Python: `awslambdaric` and the published instrumentation.

use std::path::Path;

use lambda_sandbox::collector::Protocol;

use crate::ROOT;
use crate::samples::{SDKS, function, is_joined};

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_python_function_names_the_span_of_its_invocation() {
    let lines =
        ["a plain line", "a line through logging", "a line within a span of its own", "line two of two"];
    let samples = Path::new(ROOT).join("tests/e2e/samples/python");
    let python = Path::new(ROOT).join("target/e2e/bin/python");
    for (sdk, protocol) in SDKS.into_iter().zip([Protocol::Http, Protocol::Grpc]) {
        let function = function(&python, &["-m", "awslambdaric", "app.handler"], &samples, sdk)
            .env("PYTHONPATH", samples.to_string_lossy())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        is_joined(function, protocol, &lines, "no stock").await;
    }
}
