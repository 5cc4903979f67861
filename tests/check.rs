//! `--check`, against collectors and other servers that have what people meet wrong with them.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Output};
use std::sync::mpsc;

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::{Behaviour, Collector, Identity, Protocol, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use support::{PROTOCOLS, name};

const ENDPOINT: &str = "ROTEL_OTLP_EXPORTER_ENDPOINT";
const PROTOCOL: &str = "ROTEL_OTLP_EXPORTER_PROTOCOL";
const HEADERS: &str = "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS";
const CA: &str = "ROTEL_OTLP_EXPORTER_TLS_CA_PEM";

/// Every secret of these tests holds it, as it is or in base64, at any place of three bytes.
const SECRET: [&str; 4] = ["hunter2", "aHVudGVyM", "h1bnRlcj", "odW50ZXIy"];
const KEY: &str = "hunter2-ingestion-key";
const SECRET_ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123";
const PARAMETER_ARN: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key";

/// A check that is to be made.
struct Check {
    variables: Vec<(String, String)>,
    offline: bool,
    /// Told as `[host]`.
    host: String,
}

impl Check {
    fn new() -> Self {
        Self { variables: Vec::new(), offline: false, host: "no such host".to_owned() }
    }

    /// Of an endpoint, whose host and port are other ones each time.
    fn of(endpoint: &str, protocol: Protocol) -> Self {
        let host = endpoint.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL");
        let check = Self { host: host.to_owned(), ..Self::new() };
        check.with(ENDPOINT, endpoint).with(PROTOCOL, name(protocol))
    }

    fn collector(collector: &Collector, protocol: Protocol) -> Self {
        Self::of(&collector.url(protocol), protocol)
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn with_aws(self, aws: &Aws) -> Self {
        aws.variables().into_iter().fold(self, |check, (name, value)| check.with(&name, value))
    }

    /// A name server may take its time to say that there is no such name.
    fn with_patience(self) -> Self {
        self.with("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "60s")
    }

    fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Everything that it prints, and its exit code.
    async fn whole(self) -> String {
        let mut arguments = vec!["--check"];
        arguments.extend(self.offline.then_some("--offline"));
        let Output { status, stdout, stderr } = run(&arguments, self.variables).await;
        let stdout = String::from_utf8(stdout).expect("text");
        assert_eq!(String::from_utf8_lossy(&stderr), "");
        assert!(!SECRET.iter().any(|secret| stdout.contains(secret)), "a secret was shown");
        let code = status.code().expect("an exit code");
        format!("{}exit code {code}", stdout.replace(&self.host, "[host]"))
    }

    /// The same without the configuration.
    async fn account(self) -> String {
        let whole = self.whole().await;
        whole.split_once("\n\n").map(|(_, account)| account.to_owned()).expect("an account")
    }
}

async fn run(arguments: &[&str], variables: Vec<(String, String)>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rotel-extension"));
    command.args(arguments).env_clear().envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.expect("no panic").expect("the extension can be run")
}

/// The accounts of both protocols, below each other.
async fn both(mut check: impl FnMut(Protocol) -> Check) -> String {
    let mut accounts = Vec::new();
    for protocol in PROTOCOLS {
        accounts.push(check(protocol).account().await);
    }
    accounts.join("\n\n")
}

async fn collector() -> Collector {
    Collector::start().await.expect("a collector")
}

/// A collector that wants the key.
async fn locked() -> Collector {
    Collector::builder().authorization(KEY).start().await.expect("a collector")
}

/// A collector with a certificate; with it the certificate.
async fn behind_tls(
    parameters: impl FnOnce(String) -> rcgen::CertificateParams + Send + 'static,
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

fn named(name: String) -> rcgen::CertificateParams {
    rcgen::CertificateParams::new([name]).expect("parameters")
}

/// What a server that is no collector does with a connection.
#[derive(Clone, Copy)]
enum Server {
    /// Writes this once it has read something.
    Answers(&'static str),
    /// Writes this at once.
    Begins(&'static [u8]),
}

/// Its endpoint, for as long as the test runs.
async fn serve(server: Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                match server {
                    Server::Answers(answer) => {
                        let _ = stream.read(&mut read).await?;
                        stream.write_all(answer.as_bytes()).await?;
                    }
                    Server::Begins(greeting) => stream.write_all(greeting).await?,
                }
                stream.shutdown().await?;
                // What is left unread would make the system cut the answer short.
                while stream.read(&mut read).await? > 0 {}
                Ok::<_, std::io::Error>(())
            });
        }
    });
    format!("http://{address}")
}

fn to_https(endpoint: &str) -> String {
    endpoint.replace("http://", "https://")
}

fn to_http(endpoint: &str) -> String {
    endpoint.replace("https://", "http://")
}

fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Grpc => Protocol::Http,
        Protocol::Http => Protocol::Grpc,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_item_of_each_signal_is_accepted() {
    for protocol in PROTOCOLS {
        let collector = locked().await;
        let check = Check::collector(&collector, protocol)
            .with(HEADERS, format!("Authorization={KEY}"))
            .with("AWS_LAMBDA_FUNCTION_NAME", "my-function");
        let account = check.account().await;
        assert!(account.ends_with("exit code 0"), "{account}");
        let received = collector.received();
        let counts = received.counts();
        assert_eq!((counts.logs, counts.metric_points, counts.spans), (1, 1, 1), "{counts:?}");
        let services = [
            received.logs().next().expect("a log record").resource_attribute("service.name"),
            received.metrics().next().expect("a metric").resource_attribute("service.name"),
            received.spans().next().expect("a span").resource_attribute("service.name"),
        ];
        assert_eq!(services, [(); 3].map(|()| Some("my-function".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_configuration_is_shown_with_its_sources_and_called_good() {
    let collector = locked().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rotel.env");
    std::fs::write(&file, "ROTEL_FLUSH_TIMEOUT=2s\n").expect("a file");
    let whole = Check::collector(&collector, Protocol::Grpc)
        .with(HEADERS, format!("Authorization={KEY}"))
        .with("ROTEL_ENV_FILE", file.to_string_lossy())
        .whole()
        .await;
    insta::assert_snapshot!(whole.replace(&*file.to_string_lossy(), "[file]"), @"
    Configuration
      ROTEL_ENV_FILE                              environment  [file]
      ROTEL_EXPORTER                              default      otlp
      ROTEL_OTLP_EXPORTER_ENDPOINT                environment  http://[host]
      ROTEL_OTLP_EXPORTER_PROTOCOL                environment  grpc
      ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS          environment  Authorization=[redacted]
      ROTEL_OTLP_EXPORTER_COMPRESSION             default      gzip
      ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT         default      5s
      ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY         default      false
      ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF   default      ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF
      ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF       default      ROTEL_EXPORTER_RETRY_MAX_BACKOFF
      ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME  default      ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME
      ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF        default      5s
      ROTEL_EXPORTER_RETRY_MAX_BACKOFF            default      30s
      ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME       default      300s
      ROTEL_OTLP_GRPC_ENDPOINT                    default      localhost:4317
      ROTEL_OTLP_HTTP_ENDPOINT                    default      localhost:4318
      ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB       default      4
      ROTEL_TELEMETRY_ENDPOINT                    default      0.0.0.0:8990
      ROTEL_LAMBDA_TELEMETRY_TYPES                default      platform,function,extension
      ROTEL_LAMBDA_PLATFORM_EVENTS                default      metrics,spans
      ROTEL_LAMBDA_XRAY_TRACE_CONTEXT             default      false
      OTEL_SERVICE_NAME                           default      the function's name
      ROTEL_FLUSH_STRATEGY                        default      end
      ROTEL_FLUSH_TIMEOUT                         file         2s
      ROTEL_BATCH_MAX_SIZE                        default      8192
      ROTEL_BUFFER_MAX_BYTES                      default      memory size / 16, 4 to 64 MiB
      ROTEL_ON_INIT_ERROR                         default      continue
      ROTEL_LOG_LEVEL                             default      info
      ROTEL_ENABLE_INTERNAL_TELEMETRY             default      false
      ROTEL_LOG_FORMAT                            default      AWS_LAMBDA_LOG_FORMAT
      ROTEL_DEBUG_LOG_VERBOSITY                   default      basic

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    OK: every signal that has an endpoint was accepted there
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_behind_bearer_is_told_outright() {
    let collector = locked().await;
    let account = both(|protocol| {
        Check::collector(&collector, protocol).with(HEADERS, format!("Authorization=Bearer {KEY}"))
    });
    insta::assert_snapshot!(account.await, @r#"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: UNAUTHENTICATED: the authorization header begins with "Bearer ", and ClickStack takes the ingestion API key alone; remove "Bearer " in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 401: the authorization header begins with "Bearer ", and ClickStack takes the ingestion API key alone; remove "Bearer " in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told() {
    let collector = locked().await;
    let account = both(|protocol| {
        Check::collector(&collector, protocol).with(HEADERS, format!("Authorization=other-{KEY}"))
    });
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: UNAUTHENTICATED: the key in the authorization header is not one of this endpoint; copy the ingestion API key from ClickStack's settings into ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 401: the key in the authorization header is not one of this endpoint; copy the ingestion API key from ClickStack's settings into ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_told() {
    let collector = locked().await;
    insta::assert_snapshot!(both(|protocol| Check::collector(&collector, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: UNAUTHENTICATED: it wants a key, and no authorization header is set; set ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=<ingestion API key>

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 401: it wants a key, and no authorization header is set; set ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=<ingestion API key>

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told() {
    let collector = locked().await;
    let account = Check::collector(&collector, Protocol::Http)
        .with("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic")
        .with("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me")
        .with("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2");
    insta::assert_snapshot!(account.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 401: user name or password are wrong; correct ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME and ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD, or set an ingestion API key in their place

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_is_told() {
    let collector = collector().await;
    collector.behave(Behaviour::Refuse(Refusal::status(403)));
    insta::assert_snapshot!(both(|protocol| Check::collector(&collector, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: PERMISSION_DENIED: it is not allowed; a firewall or proxy before ClickStack does that, and so does a key without the right to write; see their rules, and the key in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 403: it is not allowed; a firewall or proxy before ClickStack does that, and so does a key without the right to write; see their rules, and the key in ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_is_told() {
    let account = both(|protocol| Check::of("https://clickstack.invalid:4317", protocol).with_patience());
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_suspected_where_one_is_set() {
    let check = Check::of("https://clickstack.invalid:4317", Protocol::Grpc);
    let proxy = check.with("HTTPS_PROXY", "http://me:hunter2@proxy.invalid:3128").with_patience();
    insta::assert_snapshot!(proxy.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names; the way goes through the proxy of HTTPS_PROXY, so it may be that which fails

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_told() {
    let collector = collector().await;
    // A port that was closed may be held open for a moment by a process that another test is about to start.
    let never_open = format!("http://{}:4319", collector.address(Protocol::Grpc).ip());
    insta::assert_snapshot!(both(|protocol| Check::of(&never_open, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: connection refused, so nothing listens there; start it, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: connection refused, so nothing listens there; start it, or correct host and port in ROTEL_OTLP_EXPORTER_ENDPOINT

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_is_told() {
    let collector = collector().await;
    collector.go_deaf();
    let account = both(|protocol| {
        Check::collector(&collector, protocol).with("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "250ms")
    });
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: no answer within 250ms; a firewall or a security group that drops packets does that, and so does a name server that is away; a slow endpoint wants a longer ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: no answer within 250ms; a firewall or a security group that drops packets does that, and so does a name server that is away; a slow endpoint wants a longer ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_plain_port_is_told() {
    let collector = collector().await;
    let account = both(|protocol| Check::of(&to_https(&collector.url(protocol)), protocol));
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: no TLS is spoken on this port; write http:// in place of https:// in ROTEL_OTLP_EXPORTER_ENDPOINT

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: no TLS is spoken on this port; write http:// in place of https:// in ROTEL_OTLP_EXPORTER_ENDPOINT

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_to_a_tls_port_is_told() {
    let (collector, _) = behind_tls(named, None).await;
    let account = both(|protocol| Check::of(&to_http(&collector.url(protocol)), protocol));
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: plain gRPC is not understood there, so the port wants TLS or is OTLP/HTTP's; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or write the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: plain HTTP is not understood there, so the port wants TLS or is gRPC's; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or write the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_to_a_tls_port_that_answers_400_is_told() {
    let server =
        Server::Answers("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    let account = Check::of(&serve(server).await, Protocol::Http).account().await;
    insta::assert_snapshot!(account, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 400: it does not take the request, as a port does that wants TLS; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_told() {
    let (collector, _) = behind_tls(named, None).await;
    insta::assert_snapshot!(both(|protocol| Check::collector(&collector, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: its certificate is of an authority that is not known here; set ROTEL_OTLP_EXPORTER_TLS_CA_FILE to that authority's certificate

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: its certificate is of an authority that is not known here; set ROTEL_OTLP_EXPORTER_TLS_CA_FILE to that authority's certificate

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_than_the_given_is_told() {
    let (collector, _) = behind_tls(named, None).await;
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).expect("a certificate");
    let check = Check::collector(&collector, Protocol::Grpc).with(CA, other.cert.pem());
    insta::assert_snapshot!(check.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: its certificate is not of the authority in ROTEL_OTLP_EXPORTER_TLS_CA_PEM; put the certificate there that signed it

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_told() {
    let (collector, certificate) = behind_tls(|_| named("other.example.com".to_owned()), None).await;
    let ip = collector.address(Protocol::Grpc).ip().to_string();
    let account = both(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate)).await;
    insta::assert_snapshot!(account.replace(&ip, "[ip]"), @r#"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: its certificate is of another name: invalid peer certificate: certificate not valid for name "[ip]"; certificate is only valid for DnsName("other.example.com"); write that name in ROTEL_OTLP_EXPORTER_ENDPOINT, or have a certificate made for this one

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: its certificate is of another name: invalid peer certificate: certificate not valid for name "[ip]"; certificate is only valid for DnsName("other.example.com"); write that name in ROTEL_OTLP_EXPORTER_ENDPOINT, or have a certificate made for this one

    FAILED: 3 signals not accepted
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_told() {
    let expired = |name| {
        let mut parameters = named(name);
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        parameters
    };
    let (collector, certificate) = behind_tls(expired, None).await;
    let account = both(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate));
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: its certificate has expired or is not valid yet; renew it, and see the clock of this machine

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: its certificate has expired or is not valid yet; renew it, and see the clock of this machine

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_client_certificate_is_told() {
    let client = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
    let (collector, certificate) = behind_tls(named, Some(client.cert.pem())).await;
    let account = both(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate));
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: it closed the connection during TLS, as a server does that wants a certificate of the client (mTLS); set ROTEL_OTLP_EXPORTER_TLS_CERT_FILE and ROTEL_OTLP_EXPORTER_TLS_KEY_FILE, or see its own log

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: it closed the connection during TLS, as a server does that wants a certificate of the client (mTLS); set ROTEL_OTLP_EXPORTER_TLS_CERT_FILE and ROTEL_OTLP_EXPORTER_TLS_KEY_FILE, or see its own log

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_that_is_not_taken_is_told_without_its_key() {
    let [client, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate"));
    let (collector, certificate) = behind_tls(named, Some(other.cert.pem())).await;
    let key = client.signing_key.serialize_pem();
    let check = Check::collector(&collector, Protocol::Grpc)
        .with(CA, certificate)
        .with("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", client.cert.pem())
        .with("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", &*key);
    let whole = check.whole().await;
    for line in key.lines() {
        assert!(!whole.contains(line), "the private key was shown");
    }
    insta::assert_snapshot!(whole.split_once("\n\n").expect("an account").1, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: it closed the connection during TLS, as a server does that does not take the client's certificate in ROTEL_OTLP_EXPORTER_TLS_CERT_PEM; have that signed by an authority it trusts, or see its own log

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_that_cannot_be_used_is_told_without_itself() {
    let [client, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate"));
    let key = other.signing_key.serialize_pem();
    let check = Check::of("https://127.0.0.1:1", Protocol::Grpc)
        .with("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", client.cert.pem())
        .with("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", &*key)
        .offline();
    let whole = check.whole().await;
    let body = key.lines().nth(1).expect("the key itself");
    assert!(!whole.contains(body), "the private key was shown");
    insta::assert_snapshot!(whole.split_once("\n\n").expect("an account").1, @"
    Faults of TLS
      ROTEL_OTLP_EXPORTER_TLS_KEY_PEM: no usable private key in it: keys may not be consistent: KeyMismatch; give the PEM block -----BEGIN PRIVATE KEY----- of the certificate

    FAILED: 1 fault
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_otlp_is_told() {
    let collector = collector().await;
    let endpoint = collector.url(Protocol::Http);
    let check = || Check::of(&endpoint, Protocol::Http);
    let accounts = [
        check().with("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", &*endpoint).account().await,
        Check::of(&format!("{endpoint}/v1/traces"), Protocol::Http).account().await,
        Check::of(&format!("{endpoint}/otlp"), Protocol::Http).account().await,
    ];
    insta::assert_snapshot!(accounts.join("\n\n"), @"
    Test records, service.name = rotel-extension-check
      logs     ok      http  http://[host]/v1/logs
      metrics  ok      http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/

    Why
      traces: [host]: HTTP 404: no OTLP at this path; ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT is used as it stands, so write /v1/traces at its end

    FAILED: 1 signal not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/traces/v1/logs
      metrics  FAILED  http  http://[host]/v1/traces/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 404: no OTLP at this path; /v1/logs and so on are appended to ROTEL_OTLP_EXPORTER_ENDPOINT, so remove its own /v1/…

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/otlp/v1/logs
      metrics  FAILED  http  http://[host]/otlp/v1/metrics
      traces   FAILED  http  http://[host]/otlp/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 404: no OTLP at this path, which is that of ROTEL_OTLP_EXPORTER_ENDPOINT with /v1/logs and so on appended; correct host, port or path there

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_to_the_http_port_of_a_collector_is_told() {
    let collector = collector().await;
    let account = Check::of(&collector.url(Protocol::Http), Protocol::Grpc).account().await;
    insta::assert_snapshot!(account, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: HTTP 404: that is HTTP without gRPC; write the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_to_a_port_that_speaks_http_1_only_is_told() {
    let server = Server::Answers("HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n");
    let account = Check::of(&serve(server).await, Protocol::Grpc).account().await;
    insta::assert_snapshot!(account, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: plain gRPC is not understood there, so the port wants TLS or is OTLP/HTTP's; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or write the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_to_the_grpc_port_of_a_collector_is_told() {
    let collector = collector().await;
    // A server of gRPC that speaks first, as Go's does.
    let begins = serve(Server::Begins(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00")).await;
    let accounts = [
        Check::of(&collector.url(Protocol::Grpc), Protocol::Http).account().await,
        Check::of(&begins, Protocol::Http).account().await,
    ];
    insta::assert_snapshot!(accounts.join("\n\n"), @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: plain HTTP is not understood there, and port 4317 is gRPC's by custom; write the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc; if it wants TLS, write https:// there

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: plain HTTP is not understood there, so the port wants TLS or is gRPC's; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or write the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_protocol_over_tls_is_told() {
    let (collector, certificate) = behind_tls(named, None).await;
    let account =
        both(|protocol| Check::of(&collector.url(other(protocol)), protocol).with(CA, &*certificate));
    insta::assert_snapshot!(account.await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  https://[host]
      metrics  FAILED  grpc  https://[host]
      traces   FAILED  grpc  https://[host]

    Why
      logs, metrics, traces: [host]: HTTP 404: that is HTTP without gRPC; write the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  https://[host]/v1/logs
      metrics  FAILED  http  https://[host]/v1/metrics
      traces   FAILED  http  https://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: its answer is not OTLP: it is gRPC, but HTTP was asked for; write the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_without_an_answer_is_told() {
    let endpoint = serve(Server::Answers("")).await;
    insta::assert_snapshot!(both(|protocol| Check::of(&endpoint, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: plain gRPC is not understood there, so the port wants TLS or is OTLP/HTTP's; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or write the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: plain HTTP is not understood there, so the port wants TLS or is gRPC's; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or write the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_told() {
    let server = Server::Answers(
        "HTTP/1.1 301 Moved Permanently\r\nlocation: https://example.com/hunter2\r\ncontent-length: 0\r\n\r\n",
    );
    let account = Check::of(&serve(server).await, Protocol::Http).account().await;
    insta::assert_snapshot!(account, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 301: it redirects, and telemetry does not follow; write the address that it redirects to in ROTEL_OTLP_EXPORTER_ENDPOINT, often https:// in place of http://

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_is_told() {
    let server = Server::Answers(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>",
    );
    let account = Check::of(&serve(server).await, Protocol::Http).account().await;
    insta::assert_snapshot!(account, @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: its answer is not OTLP: HTTP 200 with another content type than asked for; write the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_items_are_told() {
    let collector = collector().await;
    collector.behave_for(lambda_sandbox::Signal::Metrics, Behaviour::PartialSuccess { rejected: 1 });
    insta::assert_snapshot!(both(|protocol| Check::collector(&collector, protocol)).await, @"
    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   ok      grpc  http://[host]

    Why
      metrics: [host]: it took the request and rejected the item in it; its own log says why

    FAILED: 1 signal not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     ok      http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   ok      http  http://[host]/v1/traces

    Why
      metrics: [host]: it took the request and rejected the item in it; its own log says why

    FAILED: 1 signal not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_busy_or_broken_is_told() {
    let collector = collector().await;
    let mut accounts = Vec::new();
    for status in [429, 500, 503] {
        collector.behave(Behaviour::Refuse(Refusal::status(status)));
        accounts.push(both(|protocol| Check::collector(&collector, protocol)).await);
    }
    insta::assert_snapshot!(accounts.join("\n\n"), @"
    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: answered gRPC RESOURCE_EXHAUSTED; raise its limits, or try again later

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 429: it has too much to do; try again later, or raise its limits

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: answered gRPC INTERNAL; its own log says why

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 500: it failed by itself; its own log says why

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  grpc  http://[host]
      metrics  FAILED  grpc  http://[host]
      traces   FAILED  grpc  http://[host]

    Why
      logs, metrics, traces: [host]: answered gRPC UNAVAILABLE; see that ClickStack runs, and what stands before it

    FAILED: 3 signals not accepted
    exit code 1

    Test records, service.name = rotel-extension-check
      logs     FAILED  http  http://[host]/v1/logs
      metrics  FAILED  http  http://[host]/v1/metrics
      traces   FAILED  http  http://[host]/v1/traces

    Why
      logs, metrics, traces: [host]: HTTP 503: the proxy or load balancer there reaches no backend; see that ClickStack runs

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_leads_back_to_the_extension_is_told() {
    let check = Check::new().with(ENDPOINT, "http://localhost:4317");
    insta::assert_snapshot!(check.account().await, @"
    Faults
      ROTEL_OTLP_EXPORTER_ENDPOINT: this extension itself listens there, on localhost:4317, so telemetry would go in a circle; write the address of your ClickStack

    Test records, service.name = rotel-extension-check
      logs     FAILED  not sent because of the faults above
      metrics  FAILED  not sent because of the faults above
      traces   FAILED  not sent because of the faults above

    FAILED: 1 fault, 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_endpoint_is_told() {
    insta::assert_snapshot!(Check::new().account().await, @"
    Warnings
      ROTEL_OTLP_EXPORTER_ENDPOINT: not set, so telemetry is received and dropped; write your ClickStack endpoint, such as https://host:4317

    FAILED: no endpoint, so nothing can be sent; set ROTEL_OTLP_EXPORTER_ENDPOINT
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blackhole_is_well_and_sends_nothing() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_EXPORTER", "blackhole");
    insta::assert_snapshot!(check.account().await, @"
    OK: ROTEL_EXPORTER is blackhole, so nothing is sent
    exit code 0
    ");
    assert_eq!(collector.received().requests().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_without_an_endpoint_is_no_failure() {
    let collector = collector().await;
    let mut check = Check::collector(&collector, Protocol::Grpc);
    check.variables = vec![("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT".to_owned(), collector.url(Protocol::Grpc))];
    insta::assert_snapshot!(check.account().await, @"
    Test records, service.name = rotel-extension-check
      logs     –       no endpoint is set for it, so it is received and dropped
      metrics  –       no endpoint is set for it, so it is received and dropped
      traces   ok      grpc  http://[host]

    OK: every signal that has an endpoint was accepted there
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_fails_the_check_though_every_signal_is_accepted() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_BATCH_MAX_SIZE", "many");
    insta::assert_snapshot!(check.account().await, @r#"
    Faults
      ROTEL_BATCH_MAX_SIZE: "many" is not a count; write a whole number of 1 or more

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    FAILED: 1 fault
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_the_way_of_one_signal_leaves_the_others() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "collector:4317")
        .with("ROTEL_OTLP_EXPORTER_ENDPIONT", "http://collector:4317");
    insta::assert_snapshot!(check.account().await, @r#"
    Warnings
      ROTEL_OTLP_EXPORTER_ENDPIONT: there is no such variable, so it has no effect; ROTEL_OTLP_EXPORTER_ENDPOINT may be meant

    Faults
      ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT: "collector:4317" has no scheme; write http://collector:4317 or https://collector:4317

    Test records, service.name = rotel-extension-check
      logs     FAILED  not sent because of the faults above
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    FAILED: 1 fault, 1 signal not accepted
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_alone_do_not_fail_the_check() {
    let collector = collector().await;
    let check = Check::collector(&collector, Protocol::Grpc).with("ROTEL_KAFKA_BROKERS", "broker:9092");
    insta::assert_snapshot!(check.account().await, @"
    Warnings
      ROTEL_KAFKA_BROKERS: this extension leaves out the Kafka exporter and receiver of Rotel, so it has no effect; remove it

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    OK: every signal that has an endpoint was accepted there
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_fetched_and_not_shown() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, KEY);
    let collector = locked().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"));
    insta::assert_snapshot!(check.account().await, @"
    Secrets
      ok      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123

    Test records, service.name = rotel-extension-check
      logs     ok      grpc  http://[host]
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    OK: every signal that has an endpoint was accepted there
    exit code 0
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_told_beside_the_others() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, KEY);
    let collector = locked().await;
    let check = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}}"))
        .with("ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS", format!("Authorization=${{{PARAMETER_ARN}}}"));
    insta::assert_snapshot!(check.account().await, @"
    Secrets
      ok      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123
      FAILED  arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key: ParameterNotFound; it is not there; check the ARN's region, account and name

    Faults with the secrets
      ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS: arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key has not been fetched; its own message says why

    Test records, service.name = rotel-extension-check
      logs     FAILED  not sent because of the faults above
      metrics  ok      grpc  http://[host]
      traces   ok      grpc  http://[host]

    FAILED: 1 fault, 1 secret not fetched, 1 signal not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_and_a_service_that_come_from_secrets_are_not_shown() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET_ARN, "https://hunter2.invalid:4317");
    aws.keep(PARAMETER_ARN, "service.name=hunter2");
    let check = Check::new()
        .with_aws(&aws)
        .with("AWS_LAMBDA_FUNCTION_NAME", "my-function")
        .with(ENDPOINT, format!("${{{SECRET_ARN}}}"))
        .with("ROTEL_OTEL_RESOURCE_ATTRIBUTES", format!("secret://{PARAMETER_ARN}"))
        .with_patience();
    insta::assert_snapshot!(check.account().await, @"
    Secrets
      ok      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123
      ok      arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key

    Test records
      logs     FAILED  grpc  ${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}
      metrics  FAILED  grpc  ${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}
      traces   FAILED  grpc  ${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}

    Why
      logs, metrics, traces: the endpoint: its name has no address; correct ROTEL_OTLP_EXPORTER_ENDPOINT, and in a VPC see that it resolves names

    FAILED: 3 signals not accepted
    exit code 1
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_nothing_is_fetched_and_nothing_sent() {
    let aws = Aws::start().await.expect("a stand-in for AWS");
    let collector = collector().await;
    let whole = Check::collector(&collector, Protocol::Grpc)
        .with_aws(&aws)
        .with(HEADERS, format!("Authorization=${{{SECRET_ARN}}},X-Key=${{{SECRET_ARN}#key}}"))
        .offline()
        .whole()
        .await;
    insta::assert_snapshot!(whole, @"
    Configuration
      ROTEL_EXPORTER                              default      otlp
      ROTEL_OTLP_EXPORTER_ENDPOINT                environment  http://[host]
      ROTEL_OTLP_EXPORTER_PROTOCOL                environment  grpc
      ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS          environment  Authorization=${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123},X-Key=${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123#key}
      ROTEL_OTLP_EXPORTER_COMPRESSION             default      gzip
      ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT         default      5s
      ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY         default      false
      ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF   default      ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF
      ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF       default      ROTEL_EXPORTER_RETRY_MAX_BACKOFF
      ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME  default      ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME
      ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF        default      5s
      ROTEL_EXPORTER_RETRY_MAX_BACKOFF            default      30s
      ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME       default      300s
      ROTEL_OTLP_GRPC_ENDPOINT                    default      localhost:4317
      ROTEL_OTLP_HTTP_ENDPOINT                    default      localhost:4318
      ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB       default      4
      ROTEL_TELEMETRY_ENDPOINT                    default      0.0.0.0:8990
      ROTEL_LAMBDA_TELEMETRY_TYPES                default      platform,function,extension
      ROTEL_LAMBDA_PLATFORM_EVENTS                default      metrics,spans
      ROTEL_LAMBDA_XRAY_TRACE_CONTEXT             default      false
      OTEL_SERVICE_NAME                           default      the function's name
      ROTEL_FLUSH_STRATEGY                        default      end
      ROTEL_FLUSH_TIMEOUT                         default      1s
      ROTEL_BATCH_MAX_SIZE                        default      8192
      ROTEL_BUFFER_MAX_BYTES                      default      memory size / 16, 4 to 64 MiB
      ROTEL_ON_INIT_ERROR                         default      continue
      ROTEL_LOG_LEVEL                             default      info
      ROTEL_ENABLE_INTERNAL_TELEMETRY             default      false
      ROTEL_LOG_FORMAT                            default      AWS_LAMBDA_LOG_FORMAT
      ROTEL_DEBUG_LOG_VERBOSITY                   default      basic

    Secrets, to be fetched
      arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123

    OK: nothing is wrong as far as that shows offline
    exit code 0
    ");
    assert!(aws.calls().is_empty());
    assert_eq!(collector.received().requests().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_is_told() {
    let check = Check::new()
        .with(ENDPOINT, "https://clickstack.example.com:4317")
        .with("ROTEL_ENV_FILE", "/nowhere/rotel.env")
        .offline();
    insta::assert_snapshot!(check.account().await, @r#"
    Faults
      ROTEL_ENV_FILE: "/nowhere/rotel.env" is not there; put the file into the bundle, whose files are in /var/task, or correct the path

    FAILED: 1 fault
    exit code 1
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_in_readme_is_what_is_printed() {
    let collector = locked().await;
    let whole = Check::collector(&collector, Protocol::Grpc)
        .with(HEADERS, format!("Authorization=Bearer {KEY}"))
        .with("AWS_LAMBDA_FUNCTION_NAME", "my-function")
        .whole()
        .await;
    let printed = whole.replace("[host]", "clickstack.example.com:4317");
    let (_, account) = printed.split_once("\n\n").expect("an account");
    let account = account.trim_end_matches("exit code 1");
    let readme = std::fs::read_to_string("README.md").expect("README.md");
    assert!(readme.contains(account), "README.md does not show this:\n{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_are_not_known_are_refused_with_the_usage() {
    for arguments in [&["--chekc"][..], &["--offline"], &["--check", "--online"], &["--check", "--help"]] {
        let Output { status, stdout, stderr } = run(arguments, Vec::new()).await;
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{arguments:?}");
        assert!(stderr.contains(&arguments.join(" ")) && stderr.contains("--check --offline"), "{stderr}");
    }
    let help = run(&["--help"], Vec::new()).await;
    assert!(String::from_utf8_lossy(&help.stdout).contains("--check --offline"));
    assert!(help.status.success());
}
