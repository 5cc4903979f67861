//! Python: `awslambdaric`, started by `opentelemetry-instrument`.

use crate::samples::{Sdk, are_joined, python};

#[tokio::test(flavor = "multi_thread")]
async fn python_lines_name_their_invocations_span() {
    let lines =
        ["a plain line", "a line through logging", "a line within a span of its own", "line two of two"];
    // Python's SDK has no JSON.
    are_joined(python, &[Sdk::Protobuf, Sdk::Grpc], &lines, "no stock").await;
}
