//! Credentials in wrong places: wherever people put one, neither the log nor `--check` nor a debug print shows it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lambda_sandbox::{Function, Sandbox};
use rotel_core::config::{SECTIONS, Variable, Variables};
use rotel_lambda_extension::app::check::{self, CheckOptions};
use rotel_lambda_extension::app::settings::Settings;
use serde_json::Value;
use support::{end, invoke, unconfigured};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const ENDPOINT: (&str, &str) = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.invalid:4317");
/// Ingestion keys, passwords and tokens as they look.
const KEYS: [&str; 5] = [
    "hunter2",
    "7d4e1f0c-93b2-4c5a-8e6f-0a1b2c3d4e5f",
    "AKIA2E0A8F3B244C9986",
    "Zm9vYmFyOmh1bnRlcjI0MjQ0MgQ",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.SflKxwRJSMeKKF2QT4fwpM",
];
/// The number of environments at once.
const SIDE_BY_SIDE: usize = 4;

/// Values with a credential in them, which `{}` stands for.
const VALUES: &[&str] = &[
    "{}",
    "\"{}\"",
    "Bearer {}",
    "Authorization={}",
    "Authorization: {}",
    "Authorization={}\nX-Team=a",
    "Authorization: key={}",
    "{}=x",
    "{}==",
    "x,{}",
    "x={},{}",
    "me:{}@host:4317",
    "{}@host",
    "https://me:{}@host:4317",
    "https://{}@host",
    "grpc://me:{}@host:4317",
    "https://me%3A{}%40host:4317",
    "me%3A{}%40host",
    "https://host:4317?token={}",
    "https://host:4317/#{}",
    "https://host:4317/{}/v1/logs",
    "host:4317/{}",
    "host?token={}",
    "https://{}:4317",
    "{}:4317",
    "https://host:{}",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    "-----BEGIN {}",
    "${{}}",
    "${{}",
    "${arn:aws:ssm:us-east-1:123456789012:parameter/key,{}}",
    "${arn:aws:ssm:us-east-1:123456789012:parameter/key}@{}",
    "${arn:aws:ssm:us-east-1:{}:parameter/key}",
    "${arn:aws:{}:us-east-1:123456789012:secret:key}",
    "${arn:{}:ssm:us-east-1:123456789012:parameter/key}",
    "Authorization=secret://arn:aws:ssm:us-east-1:123456789012:parameter/key,{}",
    "periodic,{}",
    "5s {}",
    "1{}",
    "(unclosed {}",
];

/// A file whose every value and key is replaced by a credential in turn.
const COLLECTOR_YAML: &str = "\
receivers:
  otlp/@:
    protocols:
      grpc: {endpoint: '@', max_recv_msg_size_mib: '@', '@': 1}
      http: {endpoint: 'localhost:@', traces_url_path: '@', tls: '@'}
  telemetryapi: {types: ['@'], port: '@'}
  '@': {}
processors:
  batch: {send_batch_max_size: '@', timeout: '@', '@': 1}
  memory_limiter: {limit_mib: '@'}
  resource: {attributes: [{key: '@', value: '@', action: upsert}, {key: a, value: b, action: '@'}]}
  '@': {a: '@'}
exporters:
  otlp:
    endpoint: 'https://me:@host:4317'
    headers: {authorization: '@', '@': '@', 'authorization:@': ''}
    compression: '@'
    timeout: '@'
    retry_on_failure: {initial_interval: '@', '@': 1}
    tls: {insecure: '@', ca_file: '@', key_file: '@', cert_pem: '@', server_name_override: '@'}
    auth: {authenticator: '@'}
    sending_queue: '@'
    proxy_url: 'http://me:@host'
    '@': '@'
  otlphttp/second:
    endpoint: 'https://host/?token=@'
    traces_endpoint: '@'
    encoding: '@'
    headers: [{name: '@', value: '@'}]
    auth: {authenticator: basicauth/@}
extensions:
  basicauth/@: {client_auth: {username: '@', password: '@', '@': '@'}}
  '@': '@'
connectors: '@'
service:
  extensions: ['@', basicauth/@]
  telemetry: {logs: {level: '@', encoding: '@', '@': 1}, '@': '@'}
  pipelines:
    traces: {receivers: [otlp, '@'], processors: [batch, resource, '@'], exporters: [otlp, '@']}
    metrics: {receivers: [otlp], exporters: [otlphttp/second, '${@:x}', '${env:@}']}
    logs/@: {receivers: [otlp], exporters: [otlphttp/second], '@': '@'}
    '@': {}
  '@': '@'
'@': '@'
";

const ENV_FILE_LINES: &[&str] = &[
    "{}",
    "{} = x",
    "export {}",
    "Authorization: {}",
    "ROTEL_{}=x",
    "A=${{}}",
    "A=${{}",
    "A=${{}:-x}",
    "A=\"{}",
    "A='{}",
    "A=\"x\\{}\"",
    "ROTEL_OTLP_EXPORTER_PROTOCOL={}",
    "ROTEL_OTLP_EXPORTER_ENDPOINT=me:{}@host",
];

/// Settings with a credential somewhere in them.
type Case = Vec<(String, String)>;

fn case(pairs: &[(&str, &str)]) -> Case {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn filled(text: &str, key: &str) -> String {
    text.replace("{}", key)
}

/// Every variable with every one of the values.
fn of_variables(key: &str) -> Vec<Case> {
    let names = SECTIONS.iter().flat_map(|section| section.variables).flat_map(Variable::names);
    let of_second = ["ENDPOINT", "PROTOCOL", "CUSTOM_HEADERS", "TLS_KEY_FILE", "AUTHENTICATOR"]
        .map(|setting| format!("ROTEL_EXPORTER_SECOND_{setting}"));
    let mut cases = Vec::new();
    for name in names.chain(of_second).chain(["https_proxy".to_owned(), "AWS_LAMBDA_LOG_FORMAT".to_owned()]) {
        for value in VALUES {
            let mut variables = case(&[ENDPOINT]);
            if name.starts_with("ROTEL_EXPORTER_SECOND_") {
                variables.push(("ROTEL_EXPORTERS".to_owned(), "second:otlp".to_owned()));
            }
            variables.push((name.clone(), filled(value, key)));
            cases.push(variables);
        }
    }
    for name in
        ["ROTEL_{}", "ROTEL_OTLP_EXPORTER_{}_ENDPOINT", "ROTEL_DATADOG_{}", "ROTEL_API_KEY={}", "ROTEL_\n{}"]
    {
        cases.push(vec![(filled(name, key), "x".to_owned())]);
    }
    // A name of an exporter is a word, so that a password which is one cannot be distinguished from it.
    if key.len() > 10 {
        cases.push(case(&[("ROTEL_EXPORTERS", &format!("{key}:otlp"))]));
        cases.push(case(&[("ROTEL_EXPORTERS", &format!("a:otlp,{key}:otlp"))]));
    }
    cases.push(case(&[("ROTEL_EXPORTERS", &format!("me:{key}"))]));
    cases.push(case(&[("ROTEL_EXPORTERS", "a:otlp"), ("ROTEL_EXPORTERS_LOGS", key)]));
    cases
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a path").to_owned()
}

/// Files with a credential in each of their places.
fn of_files(key: &str, folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, line) in ENV_FILE_LINES.iter().enumerate() {
        let file = written(folder, &format!("{number}.env"), &format!("A=1\n{}\n", filled(line, key)));
        cases.push(case(&[ENDPOINT, ("ROTEL_ENV_FILE", &file)]));
    }
    let places = COLLECTOR_YAML.matches('@').count();
    for place in 0..=places {
        let mut at = 0;
        let text = COLLECTOR_YAML.split('@').enumerate().fold(String::new(), |text, (part, after)| {
            let between = if part == 0 {
                ""
            } else if at == place || place == places {
                key
            } else {
                "a"
            };
            at += usize::from(part > 0);
            text + between + after
        });
        let file = written(folder, &format!("{place}.yaml"), &text);
        cases.push(case(&[("OPENTELEMETRY_COLLECTOR_CONFIG_URI", &file)]));
    }
    cases.push(case(&[("OPENTELEMETRY_COLLECTOR_CONFIG_URI", &format!("{key}:x"))]));
    let file = written(folder, "broken.yaml", &format!("a: [{key}\n"));
    cases.push(case(&[("OPENTELEMETRY_COLLECTOR_CONFIG_URI", &file)]));
    let pem = format!("-----BEGIN {key}\n-----BEGIN PRIVATE KEY-----\n{key}!\n-----END PRIVATE KEY-----\n");
    let file = written(folder, "key.pem", &pem);
    for name in ["CA", "CERT", "KEY"] {
        let file_of = |of: &str| format!("ROTEL_OTLP_EXPORTER_TLS_{of}_FILE");
        cases.push(case(&[
            ENDPOINT,
            (&file_of(name), &file),
            (&file_of("CERT"), &file),
            (&file_of("KEY"), &file),
        ]));
    }
    cases
}

fn assert_hidden(key: &str, text: &str, case: &Case) {
    // Names of variables are made of some values, in upper case.
    let shows = text.to_lowercase().contains(&key.to_lowercase());
    assert!(!shows, "{case:?} shows {key}:\n{text}");
}

/// The output of `--check`, and a debug print of the settings.
async fn printed(case: &Case) -> String {
    let variables: Variables = case.iter().cloned().collect();
    let settings = Settings::read(variables.clone());
    let debug = format!("{settings:?} {:?} {:?}", settings.parsed, settings.parsed.config);
    let mut account = Vec::new();
    check::run(
        variables,
        CheckOptions { is_offline: true, shows_defaults: true, ..CheckOptions::default() },
        &mut account,
    )
    .await
    .expect("it goes to memory");
    format!("{debug}\n{}", String::from_utf8(account).expect("text"))
}

#[tokio::test]
async fn check_and_debug_show_no_credential_of_any_variable() {
    for key in KEYS {
        for case in of_variables(key) {
            assert_hidden(key, &printed(&case).await, &case);
        }
    }
}

#[tokio::test]
async fn check_and_debug_show_no_credential_of_any_file() {
    for key in KEYS {
        let folder = tempfile::tempdir().expect("a folder");
        for case in of_files(key, folder.path()) {
            assert_hidden(key, &printed(&case).await, &case);
        }
    }
}

/// The places that end up in a log, and of every other kind one.
const LOGGED: &[(&str, &str)] = &[
    ("ROTEL_OTLP_EXPORTER_ENDPOINT", "me:{}@host:4317"),
    ("ROTEL_OTLP_EXPORTER_ENDPOINT", "grpc://me:{}@host:4317"),
    ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://me%3A{}%40host:4317"),
    ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://host:port/?token={}"),
    ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://127.0.0.1:1/{}?token={}"),
    ("ROTEL_OTLP_EXPORTER_ENDPOINT", "{}"),
    ("ROTEL_OTLP_EXPORTER_PROTOCOL", "{}"),
    ("ROTEL_OTLP_EXPORTER_COMPRESSION", "{}"),
    ("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "{}"),
    ("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "{}"),
    ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me:{}"),
    ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "{}"),
    ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "Authorization: key={}"),
    ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "grpc-{}=x"),
    ("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "-----BEGIN CERTIFICATE-----\n{}"),
    ("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "-----BEGIN CERTIFICATE-----\n{}!\n-----END CERTIFICATE-----"),
    ("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "-----BEGIN {}"),
    ("ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY", "{}"),
    ("ROTEL_EXPORTER", "{}"),
    ("ROTEL_EXPORTERS", "{}"),
    ("ROTEL_EXPORTERS", "{}:otlp"),
    ("ROTEL_EXPORTERS", "me:{}"),
    ("ROTEL_ENV_FILE", "{}"),
    ("ROTEL_ENV_FILE", "/nowhere/{}"),
    ("OPENTELEMETRY_COLLECTOR_CONFIG_URI", "{}:x"),
    ("OPENTELEMETRY_COLLECTOR_CONFIG_URI", "{}"),
    ("HTTPS_PROXY", "me:{}@proxy:port"),
    ("HTTP_PROXY", "socks5://me:{}@proxy"),
    ("ROTEL_OTLP_GRPC_ENDPOINT", "{}"),
    ("ROTEL_OTLP_GRPC_ENDPOINT", "{}:4317"),
    ("ROTEL_TELEMETRY_ENDPOINT", "{}:8990"),
    ("ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH", "{}"),
    ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "{}"),
    ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "api.key=%ff{}"),
    ("OTEL_RESOURCE_ATTRIBUTES", "{}"),
    ("ROTEL_FLUSH_STRATEGY", "periodic,{}"),
    ("ROTEL_BATCH_MAX_SIZE", "{}"),
    ("ROTEL_LOG_LEVEL", "{}"),
    ("ROTEL_LOG_FORMAT", "{}"),
    ("ROTEL_DEBUG_LOG", "logs,{}"),
    ("ROTEL_LAMBDA_LOG_EXCLUDE", "({}"),
    ("ROTEL_LAMBDA_LOG_MASK", "({}"),
    ("ROTEL_ON_INIT_ERROR", "{}"),
    ("ROTEL_{}", "x"),
    ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "Authorization=${arn:aws:ssm:us-east-1:{}:parameter/key}"),
    (
        "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
        "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key {}}",
    ),
];

/// Lives through an invocation; the answer is the log.
async fn log_of(name: String, value: String) -> Vec<String> {
    let extension = unconfigured()
        .env(ENDPOINT.0, "http://127.0.0.1:1")
        .env("ROTEL_FLUSH_TIMEOUT", "1s")
        .env("RUST_LOG", "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,h2=trace")
        .env(&*name, value);
    let sandbox = Sandbox::builder()
        .extension(extension)
        .function(Function::builtin(|context| async move {
            context.log_lines(1);
            Ok(Value::Null)
        }))
        .timeout(Duration::from_mins(1))
        .start()
        .await
        .expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    sandbox.extension_output()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_no_credential_at_level_trace() {
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut lives = JoinSet::new();
    let key = KEYS[1];
    for (name, value) in LOGGED {
        let places = Arc::clone(&places);
        lives.spawn(async move {
            let _place = places.acquire().await.expect("a place");
            let (name, value) = (filled(name, key), filled(value, key));
            let log = log_of(name.clone(), value.clone()).await;
            assert!(!log.is_empty(), "nothing was logged of {name}={value}");
            assert_hidden(key, &log.join("\n"), &vec![(name, value)]);
        });
    }
    lives.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_no_credential_of_a_file() {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let key = KEYS[1];
    // Every place at once.
    let yaml = written(folder.path(), "all.yaml", &COLLECTOR_YAML.replace('@', key));
    let lines: Vec<String> = ENV_FILE_LINES.iter().map(|line| filled(line, key)).collect();
    let env = written(folder.path(), "all.env", &lines.join("\n"));
    for (name, file) in [("OPENTELEMETRY_COLLECTOR_CONFIG_URI", yaml), ("ROTEL_ENV_FILE", env)] {
        let log = log_of(name.to_owned(), file.clone()).await;
        assert!(!log.is_empty(), "nothing was logged of {file}");
        assert_hidden(key, &log.join("\n"), &case(&[(name, &file)]));
    }
}
