//! A real OpenTelemetry Collector with ClickStack's settings, as a process. `make otelcol` builds it; `OTELCOL` names
//! another.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lambda_sandbox::Signal;
use lambda_sandbox::collector::{Collector, Protocol, Received};
use reqwest::Client;
use rotel_core::config::Tls;
use rotel_lambda_extension::edge::tls;
use tempfile::TempDir;

use crate::ROOT;

/// The line the collector logs once it listens.
const READY: &str = "Everything is ready";

/// The collector.
pub(crate) struct Otelcol {
    /// Reserves the address while its ports are closed, and shows the files' content as the sandbox's collector does.
    address: Collector,
    /// The telemetry received, by signal, in OTLP/JSON; and the collector's certificate, if it has one.
    files: TempDir,
    key: String,
    /// Each file overrides those before it.
    configurations: Vec<&'static str>,
    process: Option<Process>,
}

fn client() -> Client {
    let tls = tls::client_config(&Tls::default(), &[]).expect("a TLS configuration");
    Client::builder().tls_backend_preconfigured(tls).no_proxy().build().expect("a client")
}

/// The collector's process. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Otelcol {
    /// Starts a collector that accepts clients with this key.
    pub(crate) async fn start(key: &str) -> Self {
        let mut collector = Self::stopped(key).await;
        collector.run();
        collector
    }

    /// Like [`Self::start`], but also accepts `Bearer` before the key.
    pub(crate) async fn with_bearer(key: &str) -> Self {
        let mut collector = Self::stopped(key).await;
        collector.configurations.push("bearer.yaml");
        collector.run();
        collector
    }

    /// Starts a collector with its own certificate; also returns the path of the certificate file.
    pub(crate) async fn with_tls(key: &str) -> (Self, PathBuf) {
        let mut collector = Self::stopped(key).await;
        let certified = rcgen::generate_simple_self_signed([collector.host()]).expect("a certificate");
        let certificate = collector.files.path().join("certificate.pem");
        fs::write(&certificate, certified.cert.pem()).expect("a file");
        fs::write(collector.files.path().join("key.pem"), certified.signing_key.serialize_pem())
            .expect("a file");
        collector.configurations.push("tls.yaml");
        collector.run();
        (collector, certificate)
    }

    async fn stopped(key: &str) -> Self {
        let address = Collector::start().await.expect("an address");
        address.refuse_connections().await;
        Self {
            address,
            files: TempDir::new().expect("a folder"),
            key: key.to_owned(),
            configurations: vec!["clickstack.yaml"],
            process: None,
        }
    }

    /// Stops the collector and returns the folder of what it stored: OTLP/JSON by signal, one request a line.
    pub(crate) fn stored(&mut self) -> &Path {
        self.stop();
        self.files.path()
    }

    /// Sends a request for logs, in protobuf.
    pub(crate) async fn post_logs(&self, body: Vec<u8>) {
        let request = client().post(format!("{}/v1/logs", self.url(Protocol::Http)));
        let request =
            request.header("authorization", &self.key).header("content-type", "application/x-protobuf");
        let answer = request.body(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// For `ROTEL_OTLP_EXPORTER_ENDPOINT`.
    pub(crate) fn url(&self, protocol: Protocol) -> String {
        let scheme = if self.configurations.contains(&"tls.yaml") { "https" } else { "http" };
        format!("{scheme}://{}", self.address.address(protocol))
    }

    fn host(&self) -> String {
        self.address.address(Protocol::Grpc).ip().to_string()
    }

    /// Starts listening; telemetry received earlier is kept.
    pub(crate) fn run(&mut self) {
        let folder = Path::new(ROOT).join("tests/e2e/otelcol");
        let files = self.configurations.iter().map(|name| folder.join(name));
        let host = self.host();
        let output = self.files.path().to_str().expect("a path");
        let process =
            Process::start(files, [("ADDRESS", host.as_str()), ("KEY", &self.key), ("OUTPUT", output)]);
        self.process = Some(process);
    }

    /// Accepts clients with this key, from the next [`Self::run`] on.
    pub(crate) fn change_key(&mut self, key: &str) {
        key.clone_into(&mut self.key);
    }

    /// Stops the collector as an operator does, so that it writes everything it has acknowledged to the files; returns
    /// its output.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.process.take().map(Process::stop).unwrap_or_default()
    }

    /// Stops the collector and reads the files it wrote.
    pub(crate) async fn received(&mut self) -> Received {
        self.stop();
        // Without TLS and a key, for it has nothing to do with them.
        self.address.come_back().await.expect("its ports are free");
        let client = client();
        for signal in Signal::ALL {
            let path = self.files.path().join(format!("{}.json", signal.name()));
            let text = fs::read_to_string(path).expect("the file exporter makes a file for each signal");
            for line in text.lines() {
                let url = format!("{}/v1/{}", self.address.url(Protocol::Http), signal.name());
                let request = client.post(url).header("content-type", "application/json");
                let answer = request.body(line.to_owned()).send().await.expect("an answer");
                assert!(answer.status().is_success(), "{}: {line}", answer.status());
            }
        }
        self.address.received()
    }
}

impl Process {
    /// Starts a collector with these configuration files, of which each overrides those before it, and waits until it listens.
    pub(crate) fn start<'v>(
        configurations: impl IntoIterator<Item = PathBuf>,
        variables: impl IntoIterator<Item = (&'v str, &'v str)>,
    ) -> Self {
        let program = program();
        let mut command = Command::new(&program);
        for path in configurations {
            command.arg("--config").arg(path);
        }
        let mut child = command
            .envs(variables)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make otelcol` builds it", program.display()));
        let mut output = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut lines = Vec::new();
        let ready = output.by_ref().any(|line| {
            let ready = line.contains(READY);
            lines.push(line);
            ready
        });
        assert!(ready, "it ended: {lines:#?}");
        let lines = Arc::new(Mutex::new(lines));
        let kept = Arc::clone(&lines);
        // It would come to a stop at a full pipe.
        let reader = std::thread::spawn(move || {
            output.for_each(|line| kept.lock().unwrap_or_else(PoisonError::into_inner).push(line));
        });
        Self { child, lines, reader: Some(reader) }
    }

    /// Stops the collector as an operator does, so that it sends on everything it has acknowledged; returns its output.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(killed.success(), "{killed}");
        let status = self.child.wait().expect("its end");
        self.reader.take().expect("a thread").join().expect("its last lines");
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(status.success(), "{status}: {lines:#?}");
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch of these tests, not a variable of the extension")]
fn program() -> PathBuf {
    let given = std::env::var_os("OTELCOL").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(ROOT).join("target/otelcol/otelcol"))
}
