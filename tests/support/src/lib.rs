//! What the extension's tests on the sandbox have in common: how it is started, what runs beside it, and how it has to
//! end. What a test is about stays in the test.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::sync::mpsc;
use std::time::Duration;

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::{Identity, Protocol, Received};
use lambda_sandbox::{
    Builder, Collector, Comparison, Extension, Function, Invocation, Sandbox, Shutdown, ShutdownReason,
    Status, Transport,
};
use rcgen::CertificateParams;
use serde_json::Value;

pub mod bounds;
pub mod hour;
pub mod not_held;
pub mod outage;
pub mod storm;

/// What a condition may take at most on a busy machine; nothing waits so long where all is well.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Both protocols.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// A protocol as variables name it.
pub fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    }
}

/// The path of the extension under test.
pub fn binary() -> String {
    if cfg!(feature = "bounds") {
        return bounds::binary();
    }
    // Cargo sets it for this crate only when a test runs, not when it is built.
    #[expect(
        clippy::disallowed_methods,
        reason = "Cargo's word to the test, not a variable of the extension"
    )]
    std::env::var("CARGO_BIN_EXE_rotel-extension").expect("the path, which `cargo test` sets")
}

/// The extension under test, without an endpoint.
pub fn unconfigured() -> Extension {
    let extension = Extension::binary(binary());
    if cfg!(feature = "bounds") { bounds::in_cgroup(extension) } else { extension }
}

/// The extension under test, sending to `collector`.
pub fn extension(collector: &Collector, protocol: Protocol) -> Extension {
    sending(unconfigured(), collector, protocol)
}

/// An extension, sending to `collector`.
pub fn sending(extension: Extension, collector: &Collector, protocol: Protocol) -> Extension {
    extension
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(protocol))
        .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
}

/// An extension whose pauses between attempts do not outlast an invocation, and whose flushes do not try for long.
pub fn impatient(extension: Extension) -> Extension {
    extension
        .env("ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "10ms")
        .env("ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME", "100ms")
}

/// An extension that finds AWS there.
pub fn with_aws(extension: Extension, aws: &Aws) -> Extension {
    aws.variables().into_iter().fold(extension, |extension, (name, value)| extension.env(name, value))
}

/// A sandbox with the extension under test and patience with its flushes: where a test is not about time, a busy machine
/// must not make it one.
pub fn sandbox(collector: &Collector, protocol: Protocol) -> Builder {
    let extension = extension(collector, protocol).env("ROTEL_FLUSH_TIMEOUT", "60s");
    Sandbox::builder().extension(extension).collector(collector).timeout(Duration::from_mins(5))
}

/// A function that writes so many lines.
pub fn lines(count: usize) -> Function {
    Function::builtin(move |context| async move {
        context.log_lines(count);
        Ok(Value::Null)
    })
}

/// A function that writes five lines, sends five spans and then works for as many milliseconds as it was called with,
/// or not at all.
pub fn working() -> Function {
    Function::builtin(|context| async move {
        context.log_lines(5);
        context.send_spans(Transport::Grpc, 5).await.expect("the receiver takes spans");
        if let Some(length) = context.payload.as_u64() {
            tokio::time::sleep(Duration::from_millis(length)).await;
        }
        Ok(Value::Null)
    })
}

/// An invocation, which goes well.
pub async fn invoke(sandbox: &Sandbox, payload: Value) -> Invocation {
    let invocation = sandbox.invoke(payload).await.expect("an invocation");
    assert_eq!(invocation.status, Status::Success, "{invocation:?}");
    invocation
}

/// Two invocations of [`working`], and the end of the environment.
pub async fn live(sandbox: Builder) -> Sandbox {
    let sandbox = sandbox.function(working()).start().await.expect("a sandbox");
    for _ in 0..2 {
        invoke(&sandbox, Value::Null).await;
    }
    end(&sandbox).await;
    sandbox
}

/// A collector with a certificate of its own making; with it the certificate. Clients have to show one of the
/// authority, if there is one.
pub async fn behind_tls(client_authority: Option<String>) -> (Collector, String) {
    with_certificate(named, client_authority).await
}

/// The same with a certificate that is made for the collector's address by `parameters`.
pub async fn with_certificate(
    parameters: impl FnOnce(String) -> CertificateParams + Send + 'static,
    client_authority: Option<String>,
) -> (Collector, String) {
    let (sender, certificate) = mpsc::channel();
    let collector = Collector::builder().tls(move |ip| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certified = parameters(ip.to_string()).self_signed(&key).expect("a certificate");
        sender.send(certified.pem()).expect("the test waits for it");
        Identity { certificates: certified.pem(), key: key.serialize_pem(), client_authority }
    });
    let collector = collector.start().await.expect("a collector");
    (collector, certificate.recv().expect("the certificate"))
}

/// The parameters of a certificate for this name.
pub fn named(name: String) -> CertificateParams {
    CertificateParams::new([name]).expect("parameters")
}

/// A collector behind TLS, and the extension that trusts it.
pub async fn trusted(protocol: Protocol) -> (Collector, Extension) {
    let (collector, certificate) = behind_tls(None).await;
    let extension = extension(&collector, protocol).env("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", certificate);
    (collector, extension)
}

/// What was emitted, held against what arrived.
pub fn compare(sandbox: &Sandbox, collector: &Collector) -> Comparison {
    sandbox.ledger().compare(&collector.received())
}

/// Sees that everything that was emitted had arrived, once; the answer is how many items that is.
pub fn assert_exact(sandbox: &Sandbox, received: &Received) -> usize {
    let comparison = sandbox.ledger().compare(received);
    assert!(comparison.is_exact(), "{comparison:?}\n{:#?}", sandbox.extension_output());
    comparison.once
}

/// Shuts the sandbox down and sees that the extension kept to the rules until its end.
pub async fn end(sandbox: &Sandbox) -> Shutdown {
    let shutdown = sandbox.shutdown(ShutdownReason::Spindown).await.expect("a shutdown");
    assert!(shutdown.is_clean(), "{shutdown:?}\n{:#?}", sandbox.extension_output());
    assert_eq!(sandbox.violations(), Vec::<String>::new());
    shutdown
}
