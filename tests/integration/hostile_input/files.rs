//! Files that users name and that have no end, or grow without one as they are read.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Extension, Sandbox};
use serde_json::Value;

use support::bounds::{assert_memory, assert_time};
use support::{behind_tls, end, extension, invoke, lines, trusted};

/// A name for the table, a path, and what the log says of it.
type Case = (&'static str, String, &'static str);

fn endless(folder: &Path) -> [Case; 4] {
    let path = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
    let (pipe, long) = (path("pipe"), path("long"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    std::fs::write(&long, format!("A={}", "x".repeat(10_000_000))).expect("a file");
    [
        ("a pipe without a writer", pipe, "is not a regular file"),
        ("/dev/zero", "/dev/zero".to_owned(), "is not a regular file"),
        ("a directory", path(""), "is a directory"),
        ("10 MB on a line", long, "is larger than "),
    ]
}

/// Runs a function once: start, invocation and end are prompt, and the log has one error on the file, which begins with `place`.
async fn costs_one_line(extension: Extension, place: &str, (name, _, error): &Case) {
    let sandbox =
        Sandbox::builder().extension(extension).function(lines(5)).start().await.expect("a sandbox");
    let invocation = invoke(&sandbox, Value::Null).await;
    let case = format!("{place}: {name}");
    assert_time(&case, invocation.added, Duration::from_secs(2));
    assert_memory(&case, sandbox.peak_resident_bytes(), 20 * 1024 * 1024);
    end(&sandbox).await;
    let output = sandbox.extension_output();
    let about = |line: &&String| line.starts_with(&format!("ERROR {place}: ")) && line.contains(error);
    assert_eq!(output.iter().filter(about).count(), 1, "{output:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_env_file_costs_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    for case in endless(folder.path()) {
        let collector = Collector::start().await.expect("a collector");
        let extension = extension(&collector, Protocol::Grpc).env("ROTEL_ENV_FILE", case.1.as_str());
        costs_one_line(extension, "ROTEL_ENV_FILE", &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_certificates_and_keys_cost_one_line() {
    const CA: &str = "ROTEL_OTLP_EXPORTER_TLS_CA_FILE";
    const KEY: &str = "ROTEL_OTLP_EXPORTER_TLS_KEY_FILE";
    let folder = tempfile::tempdir().expect("a folder");
    for case in endless(folder.path()) {
        let (collector, _) = behind_tls(None).await;
        let unverified = extension(&collector, Protocol::Grpc).env(CA, case.1.as_str());
        costs_one_line(unverified, CA, &case).await;
        let (_collector, extension) = trusted(Protocol::Grpc).await;
        let certificate = rcgen::generate_simple_self_signed([]).expect("a certificate").cert.pem();
        let extension =
            extension.env("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", certificate).env(KEY, case.1.as_str());
        costs_one_line(extension, KEY, &case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doubling_references_spare_other_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let collector = Collector::start().await.expect("a collector");
    let mut lines = vec!["A0=xxxxxxxxxx".to_owned()];
    lines.extend((1..=30).map(|at| format!("A{at}=${{A{before}}}${{A{before}}}", before = at - 1)));
    lines.push("ROTEL_OTEL_RESOURCE_ATTRIBUTES=kept=yes".to_owned());
    let file = folder.path().join("rotel.env");
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let path = file.to_str().expect("a path").to_owned();
    let extension = extension(&collector, Protocol::Grpc).env("ROTEL_ENV_FILE", path.as_str());
    let case = ("references that double 30 times", path, "is ignored");
    costs_one_line(extension, "rotel.env:14", &case).await;
    let received = collector.received();
    let log = received.logs().next().expect("a line");
    assert_eq!(log.resource_attribute("kept").as_deref(), Some("yes"));
}
