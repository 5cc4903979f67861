//! A run of `--check`, its output, and the collectors that it checks.

use std::process::{Command, Output};

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::{Collector, Protocol};

use support::{PROTOCOLS, name};

pub(crate) const ENDPOINT: &str = "ROTEL_OTLP_EXPORTER_ENDPOINT";
pub(crate) const HEADERS: &str = "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS";
pub(crate) const CA: &str = "ROTEL_OTLP_EXPORTER_TLS_CA_PEM";

/// The text within every secret of these tests, plain or in base64 at any of the three byte offsets.
const SECRET: [&str; 4] = ["hunter2", "aHVudGVyM", "h1bnRlcj", "odW50ZXIy"];
pub(crate) const KEY: &str = "hunter2-ingestion-key";
pub(crate) const SECRET_ARN: &str =
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123";
pub(crate) const PARAMETER_ARN: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key";

/// A check to run.
pub(crate) struct Check {
    pub(crate) variables: Vec<(String, String)>,
    offline: bool,
    /// Texts that must not be shown.
    hidden: Vec<String>,
    /// Shown as `[host]`.
    host: String,
    /// The start of the report if all signals fail alike; the host is masked.
    all_failed: String,
}

impl Check {
    pub(crate) fn new() -> Self {
        Self {
            variables: Vec::new(),
            offline: false,
            hidden: SECRET.map(str::to_owned).into(),
            host: "no such host".to_owned(),
            all_failed: String::new(),
        }
    }

    /// A check of this endpoint, whose host and port differ in each run.
    pub(crate) fn of(endpoint: &str, protocol: Protocol) -> Self {
        let (scheme, rest) = endpoint.split_once("://").expect("a URL");
        let host = rest.split('/').next().expect("a host");
        let protocol = name(protocol);
        let rows = ["logs", "metrics", "traces"].map(|signal| {
            let path = if protocol == "http" { format!("/v1/{signal}") } else { String::new() };
            format!("  {signal:7}  FAILED  {protocol}  {scheme}://[host]{path}\n")
        });
        let all_failed = format!(
            "Test records, service.name = rotel-extension-check\n{}\nDiagnosis\n  logs, metrics, traces: ",
            rows.concat()
        );
        let check = Self { host: host.to_owned(), all_failed, ..Self::new() };
        check.with(ENDPOINT, endpoint).with("ROTEL_OTLP_EXPORTER_PROTOCOL", protocol)
    }

    pub(crate) fn collector(collector: &Collector, protocol: Protocol) -> Self {
        Self::of(&collector.url(protocol), protocol)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn with_aws(self, aws: &Aws) -> Self {
        aws.variables().into_iter().fold(self, |check, (name, value)| check.with(&name, value))
    }

    /// Allows for a name server that is slow to report an unknown name.
    pub(crate) fn with_patience(self) -> Self {
        self.with("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "60s")
    }

    pub(crate) fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Adds texts that must not be shown.
    pub(crate) fn hiding<'a>(mut self, hidden: impl Iterator<Item = &'a str>) -> Self {
        self.hidden.extend(hidden.map(str::to_owned));
        self
    }

    /// Returns the full output and the exit code.
    pub(crate) async fn whole(self) -> String {
        let mut arguments = vec!["--check"];
        arguments.extend(self.offline.then_some("--offline"));
        let Output { status, stdout, stderr } = run(&arguments, self.variables).await;
        let stdout = String::from_utf8(stdout).expect("text");
        assert_eq!(String::from_utf8_lossy(&stderr), "");
        assert!(!self.hidden.iter().any(|secret| stdout.contains(secret)), "a secret was shown");
        let code = status.code().expect("an exit code");
        format!("{}exit code {code}", stdout.replace(&self.host, "[host]"))
    }

    /// Returns the same without the configuration.
    pub(crate) async fn account(self) -> String {
        let whole = self.whole().await;
        whole.split_once("\n\n").map(|(_, account)| account.to_owned()).expect("an account")
    }

    /// Returns the common cause of failure of all signals; panics if the report contains anything else.
    pub(crate) async fn cause(self) -> String {
        let all_failed = self.all_failed.clone();
        let account = self.account().await;
        let cause = account
            .strip_prefix(&all_failed)
            .and_then(|rest| rest.strip_suffix("\n\nFAILED: 3 signals not accepted\nexit code 1"));
        let cause = cause.filter(|cause| !cause.contains('\n'));
        cause.unwrap_or_else(|| panic!("the signals did not all fail alike:\n{account}")).to_owned()
    }
}

/// Runs the extension outside Lambda.
pub(crate) async fn run(arguments: &[&str], variables: Vec<(String, String)>) -> Output {
    let mut command = Command::new(support::binary());
    command.args(arguments).env_clear().envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.expect("no panic").expect("the extension can be run")
}

/// Returns the reports for both protocols, one below the other.
pub(crate) async fn both(mut check: impl FnMut(Protocol) -> Check) -> String {
    let mut accounts = Vec::new();
    for protocol in PROTOCOLS {
        accounts.push(check(protocol).account().await);
    }
    accounts.join("\n\n")
}

/// Returns the common cause of failure of all signals, one line per protocol.
pub(crate) async fn causes(mut check: impl FnMut(Protocol) -> Check) -> String {
    let mut causes = Vec::new();
    for protocol in PROTOCOLS {
        causes.push(format!("{}: {}", name(protocol), check(protocol).cause().await));
    }
    causes.join("\n")
}

pub(crate) async fn collector() -> Collector {
    Collector::start().await.expect("a collector")
}

/// A collector that requires the key.
pub(crate) async fn locked() -> Collector {
    Collector::builder().authorization(KEY).start().await.expect("a collector")
}
