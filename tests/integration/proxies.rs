//! Proxies: what goes through them, what goes past them, and what is logged when they refuse us.

use std::time::Duration;

use lambda_sandbox::aws::Aws;
use lambda_sandbox::collector::{Collector, Protocol};
use lambda_sandbox::{Extension, Passage, Proxy, Sandbox};

use support::{PROTOCOLS, assert_exact, extension, trusted, with_aws};

/// Lives through two invocations, without a second attempt to send anything.
async fn live(extension: Extension) -> Sandbox {
    let extension =
        extension.env("ROTEL_FLUSH_TIMEOUT", "60s").env("ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME", "1ms");
    support::live(Sandbox::builder().extension(extension).timeout(Duration::from_mins(5))).await
}

/// Asserts that everything arrived and nothing was logged.
fn assert_well(sandbox: &Sandbox, collector: &Collector) {
    assert_exact(sandbox, &collector.received());
    assert_eq!(sandbox.extension_output(), Vec::<String>::new());
}

fn url(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address())
}

/// Everything went through a tunnel to the collector, and nothing else did.
fn assert_tunnelled(proxy: &Proxy, collector: &Collector, protocol: Protocol) {
    let passages = proxy.passages();
    let tunnel = Passage::Tunnel(collector.address(protocol).to_string());
    assert!(!passages.is_empty() && passages.iter().all(|passage| *passage == tunnel), "{passages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_tunnel() {
    for protocol in PROTOCOLS {
        for name in ["HTTPS_PROXY", "https_proxy"] {
            let proxy = Proxy::start().await.expect("a proxy");
            let (collector, extension) = trusted(protocol).await;
            let sandbox = live(extension.env(name, url(&proxy))).await;
            assert_well(&sandbox, &collector);
            assert_tunnelled(&proxy, &collector, protocol);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn env_file_proxy_overrides_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rotel.env");
    let proxy = Proxy::start().await.expect("a proxy");
    std::fs::write(&file, format!("https_proxy={}\n", url(&proxy))).expect("a file");
    let (collector, extension) = trusted(Protocol::Grpc).await;
    let other = Proxy::start().await.expect("a proxy");
    let extension = extension.env("ROTEL_ENV_FILE", file.to_string_lossy()).env("HTTPS_PROXY", url(&other));
    assert_well(&live(extension).await, &collector);
    assert_tunnelled(&proxy, &collector, Protocol::Grpc);
    assert_eq!(other.passages(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_http_is_forwarded() {
    let proxy = Proxy::start().await.expect("a proxy");
    let collector = Collector::start().await.expect("a collector");
    let extension = extension(&collector, Protocol::Http).env("HTTP_PROXY", url(&proxy));
    assert_well(&live(extension).await, &collector);
    let passages = proxy.passages();
    let ours = |passage: &Passage| match passage {
        Passage::Forward(to) => to.starts_with(&collector.url(Protocol::Http)),
        _ => false,
    };
    assert!(!passages.is_empty() && passages.iter().all(ours), "{passages:?}");
    assert_eq!(passages.len(), collector.received().requests().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_skips_other_schemes_and_no_proxy() {
    for protocol in PROTOCOLS {
        let proxy = Proxy::start().await.expect("a proxy");
        let (collector, extension) = trusted(protocol).await;
        assert_well(&live(extension.env("HTTP_PROXY", url(&proxy))).await, &collector);

        let (collector, extension) = trusted(protocol).await;
        let host = collector.address(protocol).ip().to_string();
        let extension =
            extension.env("HTTPS_PROXY", url(&proxy)).env("NO_PROXY", format!("example.com, {host}"));
        assert_well(&live(extension).await, &collector);

        let collector = Collector::start().await.expect("a collector");
        let extension = support::extension(&collector, protocol)
            .env("http_proxy", url(&proxy))
            .env("HTTPS_PROXY", url(&proxy))
            .env("no_proxy", "127.0.0.0/8");
        assert_well(&live(extension).await, &collector);
        assert_eq!(proxy.passages(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_credentials_are_sent_and_hidden() {
    // `me:hunter2`
    let authorization = "Basic bWU6aHVudGVyMg==";
    let mut logged = Vec::new();
    for (protocol, variable) in
        [(Protocol::Grpc, "HTTPS_PROXY"), (Protocol::Http, "HTTPS_PROXY"), (Protocol::Http, "HTTP_PROXY")]
    {
        for user in ["me:hunter2@", "me:hunter3@", ""] {
            let proxy = Proxy::start_with(authorization).await.expect("a proxy");
            let (collector, extension) = if variable == "HTTPS_PROXY" {
                trusted(protocol).await
            } else {
                let collector = Collector::start().await.expect("a collector");
                let extension = extension(&collector, protocol);
                (collector, extension)
            };
            let extension = extension.env(variable, format!("http://{user}{}", proxy.address()));
            let sandbox = live(extension.env("RUST_LOG", "trace,hyper_util=trace,reqwest=trace")).await;
            let lines = sandbox.extension_output();
            let credentials = ["hunter", "bWU6aHVudGVy"];
            assert!(
                !lines.iter().any(|line| credentials.iter().any(|text| line.contains(text))),
                "{lines:#?}"
            );
            if user.contains("hunter2") {
                assert_exact(&sandbox, &collector.received());
                continue;
            }
            assert_eq!(collector.received().requests().count(), 0);
            assert!(proxy.passages().iter().all(|passage| *passage == Passage::Refused));
            logged.push(lines.into_iter().find(|line| line.contains("WARN")).expect("a warning"));
        }
    }
    insta::assert_snapshot!(logged.join("\n"), @"
    WARN export: the endpoint could not be reached: tunnel error: proxy authorization required (via the proxy in HTTPS_PROXY); check the proxy's address, credentials and allowed hosts; telemetry is kept and sent with a later flush
    WARN export: the endpoint could not be reached: tunnel error: proxy authorization required (via the proxy in HTTPS_PROXY); check the proxy's address, credentials and allowed hosts; telemetry is kept and sent with a later flush
    WARN export: the endpoint could not be reached: tunnel error: proxy authorization required (via the proxy in HTTPS_PROXY); check the proxy's address, credentials and allowed hosts; telemetry is kept and sent with a later flush
    WARN export: the endpoint could not be reached: tunnel error: proxy authorization required (via the proxy in HTTPS_PROXY); check the proxy's address, credentials and allowed hosts; telemetry is kept and sent with a later flush
    WARN export: the endpoint could not be reached: proxy authorization required (via the proxy in HTTP_PROXY); check the proxy's address, credentials and allowed hosts; telemetry is kept and sent with a later flush
    WARN export: the endpoint could not be reached: proxy authorization required (via the proxy in HTTP_PROXY); check the proxy's address, credentials and allowed hosts; telemetry is kept and sent with a later flush
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_fetched_through_the_proxy_of_the_env_file() {
    const SECRET: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123";
    let aws = Aws::start().await.expect("a stand-in for AWS");
    aws.keep(SECRET, "hunter2");
    let collector = Collector::builder().authorization("hunter2").start().await.expect("a collector");
    let proxy = Proxy::start().await.expect("a proxy");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rotel.env");
    let host = collector.address(Protocol::Grpc).ip();
    std::fs::write(&file, format!("http_proxy={}\nNO_PROXY={host}\n", url(&proxy))).expect("a file");
    let extension = extension(&collector, Protocol::Grpc)
        .env("ROTEL_ENV_FILE", file.to_string_lossy())
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", format!("Authorization=${{{SECRET}}}"));
    assert_well(&live(with_aws(extension, &aws)).await, &collector);
    assert_eq!(proxy.passages(), [Passage::Forward(format!("{}/", aws.url()))]);
}
