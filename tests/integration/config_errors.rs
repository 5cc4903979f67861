//! Configuration errors do not harm the function, and each is logged once.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{ErrorReport, Extension, Function, Operation, Sandbox, Status, Transport};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use support::{end, extension, with_aws};

const INVOCATIONS: usize = 2;
const LINES: usize = 5;
const SPANS: usize = 3;
/// The maximum time an invocation may take after the function on the busiest machine. A flush that waits for anything
/// takes its whole timeout, which is six times as long.
const UNSLOWED: Duration = Duration::from_secs(10);
/// The number of concurrent environments.
const SIDE_BY_SIDE: usize = 8;

const HEADERS: &str = "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS";
const ABSENT: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:absent-abc123";
const DENIED: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/denied";
const BINARY: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:binary-abc123";
const TEXT: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:text-abc123";

/// The part of the function's telemetry that still reaches the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrives {
    All,
    OnlyLogs,
    OnlySpans,
    Nothing,
}
use Arrives::{All, Nothing, OnlyLogs, OnlySpans};

/// One mistake each, on top of a working endpoint. `{dir}` is a folder, `{taken}` an address already in use, `{ip}` the
/// environment's own address.
const FAULTS: &[(Arrives, &[(&str, &str)])] = &[
    (All, &[("ROTEL_ENV_FILE", "{dir}/absent.env")]),
    (All, &[("ROTEL_ENV_FILE", "{dir}")]),
    (All, &[("ROTEL_ENV_FILE", "{dir}/bad.env")]),
    (All, &[("ROTEL_ENV_FILE", "{dir}/bytes.env")]),
    (Nothing, &[("ROTEL_ENV_FILE", "{dir}/endpoint.env")]),
    (Nothing, &[("ROTEL_EXPORTER", "datadog")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "clickstack.example.com:4317")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "tcp://clickstack.example.com:4317")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://:4317")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://<your endpoint>:4317")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://me:hunter2@clickstack.example.com")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://{ip}:4318")]),
    (OnlySpans, &[("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "nowhere")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_PROTOCOL", "http/json")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_COMPRESSION", "brotli")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "5")]),
    (OnlyLogs, &[("ROTEL_OTLP_EXPORTER_TRACES_REQUEST_TIMEOUT", "60m")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "often")]),
    (Nothing, &[(HEADERS, "hunter2")]),
    (Nothing, &[(HEADERS, "X-Team=a,My Key=hunter2")]),
    (Nothing, &[(HEADERS, "Authorization=hunter2\nX-Team=a")]),
    (Nothing, &[(HEADERS, "Content-Type=text/plain")]),
    (Nothing, &[(HEADERS, "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key")]),
    (Nothing, &[(HEADERS, "Authorization=${{absent}}")]),
    (Nothing, &[(HEADERS, "Authorization=${{denied}}")]),
    (OnlyLogs, &[("ROTEL_OTLP_EXPORTER_TRACES_CUSTOM_HEADERS", "Authorization=${{binary}}")]),
    (Nothing, &[(HEADERS, "Authorization=${{text}#key}")]),
    (All, &[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "team=${{absent}}")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "{dir}/absent.pem")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "hunter2")]),
    (OnlyLogs, &[("ROTEL_OTLP_EXPORTER_TRACES_TLS_CA_PEM", "hunter2")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_TLS_CERT_FILE", "{dir}/absent.pem")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY", "yes")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "sigv4auth")]),
    (Nothing, &[("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "digest")]),
    (
        Nothing,
        &[("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic"), ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me")],
    ),
    (Nothing, &[("HTTP_PROXY", "socks5://me:hunter2@127.0.0.1:1")]),
    (All, &[("HTTPS_PROXY", "http://me:hunter2@proxy:port")]),
    (Nothing, &[("http_proxy", "http://me:hunter2@127.0.0.1:1")]),
    (All, &[("ROTEL_OTLP_GRPC_ENDPOINT", "4317")]),
    (All, &[("ROTEL_OTLP_GRPC_ENDPOINT", "{taken}")]),
    (All, &[("ROTEL_OTLP_HTTP_ENDPOINT", "${{text}}")]),
    (All, &[("ROTEL_OTLP_HTTP_ENDPOINT", "{taken}")]),
    (All, &[("ROTEL_TELEMETRY_ENDPOINT", "localhost:telemetry")]),
    // Addresses of documentation, which no machine has.
    (OnlySpans, &[("ROTEL_TELEMETRY_ENDPOINT", "192.0.2.1:8990")]),
    (All, &[("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", "4MiB")]),
    (All, &[("ROTEL_OTLP_RECEIVER_LOGS_DISABLED", "no")]),
    (All, &[("ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH", "v1/logs")]),
    (All, &[("ROTEL_LAMBDA_TELEMETRY_TYPES", "platform,functions")]),
    (All, &[("ROTEL_LAMBDA_LOG_EXCLUDE", "(hunter2")]),
    // All that the lines say is masked.
    (OnlySpans, &[("ROTEL_LAMBDA_LOG_MASK", "(hunter2")]),
    (All, &[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "my-lambda-api")]),
    (All, &[("ROTEL_FLUSH_STRATEGY", "sometimes")]),
    (All, &[("ROTEL_FLUSH_TIMEOUT", "soon")]),
    (All, &[("ROTEL_BATCH_MAX_SIZE", "many")]),
    (All, &[("ROTEL_LOGS_BATCH_MAX_SIZE", "0")]),
    (All, &[("ROTEL_BUFFER_MAX_BYTES", "4GB")]),
    (All, &[("ROTEL_BUFFER_MAX_BYTES", "268435456")]),
    (All, &[("ROTEL_ON_INIT_ERROR", "panic")]),
    (All, &[("ROTEL_LOG_LEVEL", "loud")]),
    (All, &[("ROTEL_LOG_FORMAT", "xml")]),
    // Several at once. A secret that nothing hangs on any more is not fetched.
    (
        Nothing,
        &[
            ("ROTEL_OTLP_EXPORTER_PROTOCOL", "pigeon"),
            (HEADERS, "Authorization=${{denied}}"),
            ("ROTEL_BATCH_MAX_SIZE", "0"),
        ],
    ),
];

/// The files, addresses and secrets that the mistakes refer to.
struct Surroundings {
    folder: TempDir,
    taken: TcpListener,
    aws: Aws,
}

impl Surroundings {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).expect("a file");
        write("bad.env", b"ROTEL_FLUSH_TIMEOUT=2s\nhunter2\n");
        write("bytes.env", b"ROTEL_FLUSH_TIMEOUT=\xff\n");
        write("endpoint.env", b"ROTEL_OTLP_EXPORTER_ENDPOINT=clickstack.example.com:4317\n");
        let aws = Aws::start().await.expect("a stand-in for AWS");
        aws.refuse(DENIED, "AccessDeniedException");
        aws.keep_bytes(BINARY);
        aws.keep(TEXT, "hunter2");
        Self { folder, taken: TcpListener::bind("127.0.0.1:0").expect("a port"), aws }
    }

    /// The extension, sending to the collector, with additional variables.
    fn extension(&self, collector: &Collector, variables: &[(&str, &str)]) -> Extension {
        let extension = extension(collector, Protocol::Grpc).env("ROTEL_FLUSH_TIMEOUT", "60s");
        let extension = with_aws(extension, &self.aws);
        variables.iter().fold(extension, |extension, (name, value)| extension.env(*name, self.fill(value)))
    }

    fn pairs(&self) -> [(&'static str, String); 6] {
        [
            ("{dir}", self.folder.path().to_string_lossy().into_owned()),
            ("{taken}", self.taken.local_addr().expect("its address").to_string()),
            ("{absent}", ABSENT.to_owned()),
            ("{denied}", DENIED.to_owned()),
            ("{binary}", BINARY.to_owned()),
            ("{text}", TEXT.to_owned()),
        ]
    }

    fn fill(&self, value: &str) -> String {
        self.pairs().iter().fold(value.to_owned(), |value, (name, text)| value.replace(name, text))
    }

    /// Replaces values that differ between runs with their placeholders.
    fn empty(&self, line: &str, sandbox: &Sandbox) -> String {
        let line = line.replace(&sandbox.ip().to_string(), "{ip}");
        self.pairs().iter().take(2).fold(line, |line, (name, text)| line.replace(text, name))
    }
}

/// A function that sends lines and spans. If one of the receivers is misconfigured, it uses the other.
fn function(variables: &[(&str, &str)]) -> Function {
    let http = variables.iter().all(|(name, _)| *name != "ROTEL_OTLP_HTTP_ENDPOINT");
    let transport = if http { Transport::HttpProtobuf } else { Transport::Grpc };
    Function::builtin(move |context| async move {
        context.log_lines(LINES);
        context.send_spans(transport, SPANS).await.expect("the receiver takes spans");
        Ok(Value::Null)
    })
}

/// Runs two invocations with a fault; returns the log lines.
async fn live_with(arrives: Arrives, variables: &[(&str, &str)], surroundings: &Surroundings) -> Vec<String> {
    let collector = Collector::start().await.expect("a collector");
    let sandbox = Sandbox::builder()
        .extension(surroundings.extension(&collector, variables))
        .function(function(variables))
        .timeout(Duration::from_mins(1))
        .start()
        .await
        .expect("a sandbox");
    for _ in 0..INVOCATIONS {
        let invocation = sandbox.invoke(Value::Null).await.expect("an invocation");
        assert_eq!(invocation.status, Status::Success, "{variables:?}: {invocation:?}");
        assert!(invocation.added < UNSLOWED, "{variables:?}: {invocation:?}");
    }
    end(&sandbox).await;
    let journal = sandbox.journal();
    assert_eq!(journal.count(Operation::Next), 1 + INVOCATIONS, "{variables:?}");
    assert_eq!(journal.count(Operation::InitError), 0, "{variables:?}");

    let lines = sandbox.extension_output();
    let received = collector.received();
    let counts = received.counts();
    let logs = sandbox.ledger().compare(&received).once - counts.spans;
    let expected = match arrives {
        All => (LINES * INVOCATIONS, SPANS * INVOCATIONS),
        OnlyLogs => (LINES * INVOCATIONS, 0),
        OnlySpans => (0, SPANS * INVOCATIONS),
        Nothing => (0, 0),
    };
    assert_eq!((logs, counts.spans), expected, "{variables:?}: {lines:#?}");
    if arrives == Nothing {
        assert_eq!(received.requests().count(), 0, "{variables:?}: nothing is tried that cannot go well");
    }
    // Where an address is wrong the default holds, which another process of this machine may have taken. How much is masked
    // by when depends on how the lines are delivered.
    lines
        .iter()
        .filter(|line| !line.contains("cannot listen on localhost:") && !line.contains("log record totals"))
        // Telemetry is kept for a secret that may still come.
        .filter(|line| !line.contains("the environment shuts down before everything was sent"))
        .map(|line| surroundings.empty(line, &sandbox))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_logged_once_without_harm() {
    let surroundings = Arc::new(Surroundings::new().await);
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut lives = JoinSet::new();
    for (number, (arrives, variables)) in FAULTS.iter().enumerate() {
        let (surroundings, places) = (Arc::clone(&surroundings), Arc::clone(&places));
        lives.spawn(async move {
            let _place = places.acquire().await.expect("a place");
            (number, live_with(*arrives, variables, &surroundings).await)
        });
    }
    let mut logged = lives.join_all().await;
    logged.sort();
    let logged: String = logged.into_iter().fold(String::new(), |mut text, (number, lines)| {
        assert!(!lines.is_empty(), "nothing was logged of {:?}", FAULTS.get(number));
        let _ = writeln!(text, "{}", lines.join("\n"));
        text
    });
    assert!(!logged.contains("hunter2"), "{logged}");
    insta::assert_snapshot!(logged, @r##"
    ERROR ROTEL_ENV_FILE: "{dir}/absent.env" does not exist; add it to the deployment package (its files are in /var/task), or fix the path
    ERROR ROTEL_ENV_FILE: "{dir}" is a directory; set the path of a file in it
    ERROR bad.env:2: has no "="; use the form NAME=value, or start a comment with #
    ERROR ROTEL_ENV_FILE: "{dir}/bytes.env" is not UTF-8; save it as UTF-8
    ERROR endpoint.env:1: ROTEL_OTLP_EXPORTER_ENDPOINT: "clickstack.example.com:4317" has no scheme; set http://clickstack.example.com:4317 or https://clickstack.example.com:4317
    ERROR ROTEL_EXPORTER: "datadog" is an exporter of Rotel that this extension does not support; use otlp or blackhole
    ERROR ROTEL_OTLP_EXPORTER_ENDPOINT: "clickstack.example.com:4317" has no scheme; set http://clickstack.example.com:4317 or https://clickstack.example.com:4317
    ERROR ROTEL_OTLP_EXPORTER_ENDPOINT: "tcp://clickstack.example.com:4317" has an unsupported scheme; use http:// or https://
    ERROR ROTEL_OTLP_EXPORTER_ENDPOINT: "https://:4317" has no host; use the form https://clickstack.example.com:4317
    ERROR ROTEL_OTLP_EXPORTER_ENDPOINT: the URL contains a placeholder in <>; replace it with your own host
    ERROR ROTEL_OTLP_EXPORTER_ENDPOINT: the URL contains a user name; send credentials as a header instead
    ERROR ROTEL_OTLP_EXPORTER_ENDPOINT: the endpoint is this extension's own listener, {ip}:4318, so telemetry would loop; set the address of your ClickStack
    ERROR ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT: "nowhere" has no scheme; set http://nowhere or https://nowhere
    ERROR ROTEL_OTLP_EXPORTER_PROTOCOL: "http/json" is supported for receiving only; set http, which sends protobuf, or grpc
    ERROR ROTEL_OTLP_EXPORTER_COMPRESSION: "brotli" is not a compression method; use gzip, zstd or none
    ERROR ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT: "5" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ERROR ROTEL_OTLP_EXPORTER_TRACES_REQUEST_TIMEOUT: "60m" is longer than a Lambda function can run; set 15m or less
    ERROR ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF: "often" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ERROR ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: part 1 has no "="; use the form name=value,name2=value2
    ERROR ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: the name in part 2 is not a valid header name; use letters, digits and hyphens
    ERROR ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: the value in part 1 contains a character that is not allowed in headers, such as a line break; remove it
    ERROR ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: content-type is set by the extension; remove it
    ERROR ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: a secret reference has no closing '}'; use the form ${arn:…} or $<arn:…>
    ERROR arn:aws:secretsmanager:us-east-1:123456789012:secret:absent-abc123: ResourceNotFoundException; it does not exist; check the ARN's region, account and name
    ERROR arn:aws:ssm:us-east-1:123456789012:parameter/denied: AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default
    ERROR arn:aws:secretsmanager:us-east-1:123456789012:secret:binary-abc123: BinarySecret; it holds bytes, but variables hold text; store it as text (SecretString)
    ERROR ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: arn:aws:secretsmanager:us-east-1:123456789012:secret:text-abc123: the secret is not a JSON object, so it has no key "key"; store it as JSON, or remove "#key" to use the whole secret
    ERROR arn:aws:secretsmanager:us-east-1:123456789012:secret:absent-abc123: ResourceNotFoundException; it does not exist; check the ARN's region, account and name
    ERROR ROTEL_OTLP_EXPORTER_TLS_CA_FILE: "{dir}/absent.pem" does not exist; add it to the deployment package (its files are in /var/task), or fix the path
    ERROR ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate: no PEM certificate found; set one or more PEM blocks -----BEGIN CERTIFICATE-----
    ERROR ROTEL_OTLP_EXPORTER_TRACES_TLS_CA_PEM: no usable certificate: no PEM certificate found; set one or more PEM blocks -----BEGIN CERTIFICATE-----
    ERROR ROTEL_OTLP_EXPORTER_TLS_CERT_FILE: a client certificate needs both certificate and key; set ROTEL_OTLP_EXPORTER_TLS_KEY_FILE as well
    ERROR ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY: "yes" is not a boolean; set true or false
    ERROR ROTEL_OTLP_EXPORTER_AUTHENTICATOR: sigv4auth is not supported; set basic, or use an endpoint that accepts a header
    ERROR ROTEL_OTLP_EXPORTER_AUTHENTICATOR: "digest" is not an authenticator; use basic
    ERROR ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD: not set, but ROTEL_OTLP_EXPORTER_AUTHENTICATOR=basic needs it; set it, or remove ROTEL_OTLP_EXPORTER_AUTHENTICATOR
    ERROR HTTP_PROXY: only HTTP proxies are supported; use the form http://proxy.example.com:3128
    ERROR HTTPS_PROXY: not a valid proxy URL: invalid port number; use the form http://proxy.example.com:3128
    ERROR http_proxy: gRPC without TLS cannot pass through a proxy; use an https:// endpoint, set ROTEL_OTLP_EXPORTER_PROTOCOL=http, or add the endpoint's host to NO_PROXY
    ERROR ROTEL_OTLP_GRPC_ENDPOINT: "4317" is not a listen address; use host:port, such as localhost:4317
    ERROR ROTEL_OTLP_GRPC_ENDPOINT: cannot listen on {taken}: Address already in use (os error 98), so nothing is received there; set it to a free address, and set OTEL_EXPORTER_OTLP_ENDPOINT to the same
    ERROR ROTEL_OTLP_HTTP_ENDPOINT: cannot hold a secret reference, because it is needed before secrets are fetched; set the value itself
    ERROR ROTEL_OTLP_HTTP_ENDPOINT: cannot listen on {taken}: Address already in use (os error 98), so nothing is received there; set it to a free address, and set OTEL_EXPORTER_OTLP_ENDPOINT to the same
    ERROR ROTEL_TELEMETRY_ENDPOINT: a value of 19 characters is not a listen address; use host:port, such as localhost:4317
    ERROR ROTEL_TELEMETRY_ENDPOINT: cannot listen on 192.0.2.1:8990: Cannot assign requested address (os error 99), so no logs are forwarded; set it to a free port on an address of this machine
    ERROR ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB: "4MiB" is not a valid number; use a whole number from 1 to 1024
    ERROR ROTEL_OTLP_RECEIVER_LOGS_DISABLED: "no" is not a boolean; set true or false
    ERROR ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH: "v1/logs" is not a path; set /v1/logs
    ERROR ROTEL_LAMBDA_TELEMETRY_TYPES: "functions" is not a Telemetry API event type; use platform, function or extension
    ERROR ROTEL_LAMBDA_LOG_EXCLUDE: not a regular expression: found open group without closing ')'; write one in the syntax of the Rust crate regex-lite, several joined by |
    ERROR ROTEL_LAMBDA_LOG_MASK: not a regular expression: found open group without closing ')'; write one in the syntax of the Rust crate regex-lite, several joined by |; until it is fixed, everything is masked
    ERROR ROTEL_OTEL_RESOURCE_ATTRIBUTES: part 1 has no "="; use the form name=value,name2=value2
    ERROR ROTEL_FLUSH_STRATEGY: "sometimes" is not a flush strategy; use end, adaptive or periodic,20s
    ERROR ROTEL_FLUSH_TIMEOUT: "soon" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ERROR ROTEL_BATCH_MAX_SIZE: "many" is not a valid number; use a whole number of at least 1
    ERROR ROTEL_LOGS_BATCH_MAX_SIZE: "0" is not a valid number; use a whole number of at least 1
    ERROR ROTEL_BUFFER_MAX_BYTES: "4GB" is not a valid number; use a whole number of at least 1
    ERROR ROTEL_BUFFER_MAX_BYTES: "268435456" exceeds the function's memory of 134217728 bytes; decrease it
    ERROR ROTEL_ON_INIT_ERROR: "panic" is not an action for startup errors; use continue or fail
    ERROR ROTEL_LOG_LEVEL: "loud" is not a log level; use error, warn, info, debug, trace or off
    ERROR ROTEL_LOG_FORMAT: "xml" is not a log format; use text or json
    ERROR ROTEL_OTLP_EXPORTER_PROTOCOL: "pigeon" is not a protocol; use grpc or http
    ERROR ROTEL_BATCH_MAX_SIZE: "0" is not a valid number; use a whole number of at least 1
    "##);
}

/// One error of each kind, all of which fail the init.
const FATAL: &[&[(&str, &str)]] = &[
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "clickstack.example.com:4317"), ("ROTEL_BATCH_MAX_SIZE", "0")],
    &[("ROTEL_ENV_FILE", "{dir}/absent.env")],
    &[("ROTEL_ENV_FILE", "{dir}/bad.env")],
    &[(HEADERS, "Authorization=${{absent}}")],
    &[(HEADERS, "Authorization=${{text}#key}")],
    &[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "team=${{denied}}")],
    &[("ROTEL_OTLP_GRPC_ENDPOINT", "{taken}")],
    &[("ROTEL_TELEMETRY_ENDPOINT", "192.0.2.1:8990")],
    &[("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "{dir}/absent.pem")],
    &[("ROTEL_LAMBDA_LOG_EXCLUDE", "(hunter2")],
];

/// Fails the init; returns the error reported to Lambda.
async fn fail_with(variables: &[(&str, &str)], surroundings: &Surroundings) -> ErrorReport {
    let collector = Collector::start().await.expect("a collector");
    let extension = surroundings.extension(&collector, variables).env("ROTEL_ON_INIT_ERROR", "fail");
    let sandbox =
        Sandbox::builder().extension(extension).function(Function::idle()).open().await.expect("a sandbox");
    let init = sandbox.init().await.expect("an init");
    assert_eq!(init.status, Status::Error, "{variables:?}: {init:?}");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
    let shutdown = init.shutdown.expect("the environment has ended");
    let end = shutdown.extensions.first().expect("the extension");
    assert!(!end.killed, "{variables:?}: {end:?}");
    assert_eq!(end.exit.and_then(|exit| exit.status.code()), Some(1), "{variables:?}");
    let calls = sandbox.journal().calls;
    assert!(calls.iter().all(|call| call.what != Operation::Next), "{calls:?}");
    let mut reports = calls.into_iter().filter_map(|call| call.report);
    let mut report = reports.next().expect("a report");
    assert_eq!(reports.next(), None);
    report.error_message = surroundings.empty(&report.error_message, &sandbox);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn one_error_of_each_kind_fails_init() {
    let surroundings = Surroundings::new().await;
    let mut logged = String::new();
    for variables in FATAL {
        let ErrorReport { error_type, error_message } = fail_with(variables, &surroundings).await;
        assert_eq!(error_type, "Extension.ConfigInvalid");
        let _ = writeln!(logged, "{error_message}");
    }
    assert!(!logged.contains("hunter2"), "{logged}");
    insta::assert_snapshot!(logged, @r##"
    ROTEL_OTLP_EXPORTER_ENDPOINT: "clickstack.example.com:4317" has no scheme; set http://clickstack.example.com:4317 or https://clickstack.example.com:4317; ROTEL_BATCH_MAX_SIZE: "0" is not a valid number; use a whole number of at least 1
    ROTEL_ENV_FILE: "{dir}/absent.env" does not exist; add it to the deployment package (its files are in /var/task), or fix the path
    bad.env:2: has no "="; use the form NAME=value, or start a comment with #
    arn:aws:secretsmanager:us-east-1:123456789012:secret:absent-abc123: ResourceNotFoundException; it does not exist; check the ARN's region, account and name
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: arn:aws:secretsmanager:us-east-1:123456789012:secret:text-abc123: the secret is not a JSON object, so it has no key "key"; store it as JSON, or remove "#key" to use the whole secret
    arn:aws:ssm:us-east-1:123456789012:parameter/denied: AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default
    ROTEL_OTLP_GRPC_ENDPOINT: cannot listen on {taken}: Address already in use (os error 98), so nothing is received there; set it to a free address, and set OTEL_EXPORTER_OTLP_ENDPOINT to the same
    ROTEL_TELEMETRY_ENDPOINT: cannot listen on 192.0.2.1:8990: Cannot assign requested address (os error 99), so no logs are forwarded; set it to a free port on an address of this machine
    ROTEL_OTLP_EXPORTER_TLS_CA_FILE: "{dir}/absent.pem" does not exist; add it to the deployment package (its files are in /var/task), or fix the path
    ROTEL_LAMBDA_LOG_EXCLUDE: not a regular expression: found open group without closing ')'; write one in the syntax of the Rust crate regex-lite, several joined by |
    "##);
}
