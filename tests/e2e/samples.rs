//! Functions on real runtimes with real instrumentation: log records that they write without knowing of traces name the
//! spans that their SDK sends.

use std::path::Path;
use std::time::Duration;

use lambda_sandbox::collector::{Collector, Protocol, Received};
use lambda_sandbox::otlp::hex;
use lambda_sandbox::{Extension, Function, Sandbox, ShutdownReason};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::ROOT;

/// The maximum startup time of a runtime on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// Both protocols of an endpoint.
const TO: [Protocol; 2] = [Protocol::Http, Protocol::Grpc];

/// The protocol an SDK sends with: `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sdk {
    Grpc,
    Protobuf,
    Json,
}

impl Sdk {
    fn variables(self) -> [(&'static str, &'static str); 2] {
        let (protocol, endpoint) = match self {
            Self::Grpc => ("grpc", "http://{ip}:4317"),
            Self::Protobuf => ("http/protobuf", "http://{ip}:4318"),
            Self::Json => ("http/json", "http://{ip}:4318"),
        };
        [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]
    }
}

/// A process that runs the function in `samples` and sends its spans over this protocol.
pub(crate) fn function(program: &Path, arguments: &[&str], samples: &Path, sdk: Sdk) -> Function {
    let function = Function::command(program, arguments.iter().copied())
        .env("LAMBDA_TASK_ROOT", samples.to_string_lossy())
        .env("_HANDLER", "app.handler")
        .env("OTEL_SERVICE_NAME", "orders");
    sdk.variables().into_iter().fold(function, |function, (name, value)| function.env(name, value))
}

/// The Python function, started as users start it.
pub(crate) fn python(sdk: Sdk) -> Function {
    let samples = Path::new(ROOT).join("tests/e2e/samples/python");
    let programs = Path::new(ROOT).join("target/e2e/bin");
    let python = programs.join("python").to_string_lossy().into_owned();
    let arguments = [&python, "-m", "awslambdaric", "app.handler"];
    function(&programs.join("opentelemetry-instrument"), &arguments, &samples, sdk)
        .env("PYTHONPATH", samples.to_string_lossy())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // The instrumentation loads the function before `awslambdaric` has taken its output over.
        .env("PYTHONUNBUFFERED", "1")
}

/// Runs [`is_joined`] for each protocol of the SDK, while the extension's own protocol alternates.
pub(crate) async fn are_joined(
    function: impl Fn(Sdk) -> Function,
    sdks: &[Sdk],
    lines: &[&str],
    error: &str,
) {
    for (sdk, protocol) in sdks.iter().zip(TO.into_iter().cycle()) {
        is_joined(function(*sdk), protocol, lines, error).await;
    }
}

/// Runs three invocations, the last of which fails. Asserts that each has one invocation span of the SDK and that every
/// log record of it names that span, with `lines` among the records of each invocation that succeeds.
async fn is_joined(function: Function, protocol: Protocol, lines: &[&str], error: &str) {
    let collector = Collector::start().await.expect("a collector");
    let extension = Extension::binary(env!("CARGO_BIN_EXE_rotel-extension"))
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", if protocol == Protocol::Grpc { "grpc" } else { "http" })
        .env("ROTEL_FLUSH_TIMEOUT", "60s");
    let sandbox = Sandbox::builder().extension(extension).collector(&collector).function(function);
    let sandbox = sandbox.timeout(PATIENCE).init_timeout(PATIENCE).start().await.expect("a sandbox");
    let mut request_ids = Vec::new();
    for payload in [json!({}), json!({}), json!({"fail": true})] {
        request_ids.push(sandbox.invoke(payload).await.expect("an invocation").request_id);
    }
    sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown");
    let received = collector.received();
    for (at, request_id) in request_ids.iter().enumerate() {
        let bodies = bodies_joined(&received, request_id);
        let expected = if at < 2 { lines } else { &[error][..] };
        for line in expected {
            assert!(bodies.iter().any(|body| body.contains(line)), "{line} is not among {bodies:#?}");
        }
    }
    let loading = received.logs().find(|log| log.body() == "the function is being loaded");
    let loading = loading.expect("the line from init");
    assert_eq!(loading.attribute("aws.lambda.phase").as_deref(), Some("init"));
    assert_eq!((loading.attribute("faas.invocation_id"), loading.item.trace_id.len()), (None, 0));
}

/// Asserts that all log records of an invocation name its span, and that this span's trace has spans below it; returns
/// the bodies of the records.
fn bodies_joined(received: &Received, request_id: &str) -> Vec<String> {
    let is_own = |key: Option<String>| key.as_deref() == Some(request_id);
    let of_it = received.spans().filter(|span| {
        is_own(span.attribute("faas.invocation_id")) || is_own(span.attribute("faas.execution"))
    });
    let spans: Vec<_> = of_it.map(|span| span.item).collect();
    let [own] = spans[..] else { panic!("the SDK's own and no other, not {spans:#?}") };
    assert_eq!(own.kind(), SpanKind::Server);
    let children = received.spans().filter(|span| span.item.parent_span_id == own.span_id);
    assert!(children.map(|span| span.item).all(|child| child.trace_id == own.trace_id));
    let logs: Vec<_> = received.logs().filter(|log| is_own(log.attribute("faas.invocation_id"))).collect();
    for log in &logs {
        let named = (hex(&log.item.trace_id), hex(&log.item.span_id));
        assert_eq!(named, (hex(&own.trace_id), hex(&own.span_id)), "{:?}", log.body());
    }
    logs.iter().map(lambda_sandbox::collector::Item::body).collect()
}
