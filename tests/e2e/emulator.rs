//! AWS's own Runtime Interface Emulator in the sandbox's place. It knows the Runtime and Extensions API, and answers the
//! Telemetry API with 202: not supported here.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};

use lambda_sandbox::collector::{Collector, Protocol};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Client;
use rotel_core::config::Tls;
use rotel_lambda_extension::edge::tls;
use serde_json::Value;
use support::{PATIENCE, PROTOCOLS, name};
use tempfile::TempDir;

use crate::ROOT;

/// The emulator with the extension and a Python function. It is killed when dropped.
struct Emulator {
    process: Child,
    output: PipeReader,
    /// Keeps the address ours.
    address: Collector,
    _opt: TempDir,
}

impl Emulator {
    async fn start(endpoint: String, protocol: Protocol) -> Self {
        let address = Collector::start().await.expect("an address");
        address.refuse_connections().await;
        let ip = address.address(protocol).ip();
        let opt = TempDir::new().expect("a folder");
        let extension = opt.path().join("extensions/rotel-extension");
        fs::create_dir(opt.path().join("extensions")).expect("a folder");
        fs::copy(support::binary(), &extension).expect("the extension");
        fs::set_permissions(&extension, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let root = Path::new(ROOT);
        let samples = root.join("tests/e2e/samples/python");
        let (output, input) = pipe().expect("a pipe");
        let process = Command::new(root.join("tests/e2e/in_opt"))
            .arg(opt.path())
            .arg(root.join("target/e2e/aws-lambda-rie"))
            .args(["--log-level", "debug"])
            .args(["--runtime-api-address", &format!("{ip}:9002")])
            .args(["--runtime-interface-emulator-address", &format!("{ip}:8080")])
            .arg(root.join("target/e2e/bin/opentelemetry-instrument"))
            .arg(root.join("target/e2e/bin/python"))
            .args(["-m", "awslambdaric", "app.handler"])
            .env("AWS_LAMBDA_FUNCTION_NAME", "orders")
            .env("LAMBDA_TASK_ROOT", &samples)
            .env("PYTHONPATH", &samples)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("OTEL_SERVICE_NAME", "orders")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{ip}:4318"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("ROTEL_OTLP_GRPC_ENDPOINT", format!("{ip}:4317"))
            .env("ROTEL_OTLP_HTTP_ENDPOINT", format!("{ip}:4318"))
            .env("ROTEL_TELEMETRY_ENDPOINT", format!("{ip}:8990"))
            .env("ROTEL_OTLP_EXPORTER_ENDPOINT", endpoint)
            .env("ROTEL_OTLP_EXPORTER_PROTOCOL", name(protocol))
            .stdout(input.try_clone().expect("a pipe"))
            .stderr(input)
            .spawn()
            .expect("the emulator");
        Self { process, output, address, _opt: opt }
    }

    fn ip(&self) -> Ipv4Addr {
        match self.address.address(Protocol::Http) {
            SocketAddr::V4(address) => *address.ip(),
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    /// Waits until the emulator listens. It logs nothing when it does.
    async fn listens(&self) {
        let address = SocketAddr::from((self.ip(), 8080));
        let connected = async {
            while TcpStream::connect(address).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.expect("it listens");
    }

    /// Invokes the function and returns its response.
    async fn invoke(&self) -> Value {
        let tls = tls::client_config(&Tls::default(), &[]).expect("a TLS configuration");
        let client = Client::builder().tls_backend_preconfigured(tls).no_proxy().build().expect("a client");
        let url = format!("http://{}:8080/2015-03-31/functions/function/invocations", self.ip());
        let answer = client.post(url).body("{}").send().await.expect("an answer");
        let text = answer.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Stops the emulator; returns its output and that of the processes in it.
    fn shut_down(mut self) -> Vec<String> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill").success());
        let lines: Vec<_> = BufReader::new(&self.output).lines().map_while(Result::ok).collect();
        let status = self.process.wait().expect("its end");
        assert!(status.success(), "{status}: {lines:#?}");
        lines
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It fails only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_data_is_sent_in_aws_emulator() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().await.expect("a collector");
        let emulator = Emulator::start(collector.url(protocol), protocol).await;
        emulator.listens().await;
        let mut request_ids = Vec::new();
        for _ in 0..3 {
            let answer = emulator.invoke().await;
            let handled = answer.get("handled").and_then(Value::as_str);
            request_ids.push(handled.unwrap_or_else(|| panic!("{answer}")).to_owned());
        }
        let lines = emulator.shut_down();
        let at = |text: &str| {
            let found = lines.iter().position(|line| line.contains(text));
            found.unwrap_or_else(|| panic!("no {text} in {lines:#?}"))
        };

        at("External agent rotel-extension");
        at("registered, subscribed to [INVOKE SHUTDOWN]");
        let own: Vec<_> =
            lines.iter().filter(|line| line.starts_with(" WARN") || line.starts_with("ERROR")).collect();
        let [logged] = own[..] else { panic!("one line of the extension, not {own:#?}") };
        assert!(logged.contains("this platform has no Telemetry API"), "{logged}");
        // It ended by itself, and was not killed at its deadline.
        let ended = lines.get(at("Handling termination for extension-rotel-extension") - 1).expect("a line");
        assert!(ended.contains("Signo:<nil>") && !ended.contains("ExitStatus:<nil>"), "{ended}");

        let received = collector.received();
        for request_id in &request_ids {
            let is_of_it = |key: Option<String>| key.as_ref() == Some(request_id);
            let of_it = received.spans().filter(|span| is_of_it(span.attribute("faas.invocation_id")));
            let [ref span] = of_it.collect::<Vec<_>>()[..] else { panic!("one span of {request_id}") };
            assert_eq!(span.item.kind(), SpanKind::Server);
            assert_eq!(span.resource_attribute("service.name").as_deref(), Some("orders"));
            assert_eq!(span.resource_attribute("cloud.platform").as_deref(), Some("aws_lambda"));
            let within = received.spans().filter(|other| other.item.parent_span_id == span.item.span_id);
            assert_eq!(within.map(|span| span.item.name.as_str()).collect::<Vec<_>>(), ["price the order"]);
        }
    }
}
