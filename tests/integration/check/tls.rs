//! TLS that is not spoken at one of the ends, and certificates that are not taken.

use lambda_sandbox::collector::Protocol;
use support::{behind_tls, named, with_certificate};

use super::harness::{CA, Check, causes, collector};
use super::server::{Server, serve};

/// A certificate of a client, and its key.
fn of_client() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate")
}

fn to_https(endpoint: &str) -> String {
    endpoint.replace("http://", "https://")
}

fn to_http(endpoint: &str) -> String {
    endpoint.replace("https://", "http://")
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_plain_port_is_reported() {
    let collector = collector().await;
    let causes = causes(|protocol| Check::of(&to_https(&collector.url(protocol)), protocol));
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: this port does not use TLS; change https:// to http:// in ROTEL_OTLP_EXPORTER_ENDPOINT
    http: [host]: this port does not use TLS; change https:// to http:// in ROTEL_OTLP_EXPORTER_ENDPOINT
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_to_tls_port_is_reported() {
    let (collector, _) = behind_tls(None).await;
    let causes = causes(|protocol| Check::of(&to_http(&collector.url(protocol)), protocol));
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: plain gRPC is not understood on this port, which may expect TLS or OTLP/HTTP; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or set the gRPC port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_PROTOCOL=http
    http: [host]: plain HTTP is not understood on this port, which may expect TLS or gRPC; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT, or set the HTTP port in ROTEL_OTLP_EXPORTER_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_to_tls_port_with_400_is_reported() {
    let server =
        Server::Answers("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    let cause = Check::of(&serve(server).await, Protocol::Http).cause().await;
    insta::assert_snapshot!(cause, @"[host]: HTTP 400: the request was rejected, probably because the port expects TLS; write https:// in ROTEL_OTLP_EXPORTER_ENDPOINT");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_authority_is_reported() {
    let (collector, _) = behind_tls(None).await;
    insta::assert_snapshot!(causes(|protocol| Check::collector(&collector, protocol)).await, @"
    grpc: [host]: its certificate is signed by an unknown authority; set ROTEL_OTLP_EXPORTER_TLS_CA_FILE to that authority's certificate
    http: [host]: its certificate is signed by an unknown authority; set ROTEL_OTLP_EXPORTER_TLS_CA_FILE to that authority's certificate
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_authority_is_reported() {
    let (collector, _) = behind_tls(None).await;
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).expect("a certificate");
    let check = Check::collector(&collector, Protocol::Grpc).with(CA, other.cert.pem());
    insta::assert_snapshot!(check.cause().await, @"[host]: its certificate is not signed by the authority in ROTEL_OTLP_EXPORTER_TLS_CA_PEM; set the certificate of the authority that signed it");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_certificate_name_is_reported() {
    let (collector, certificate) = with_certificate(|_| named("other.example.com".to_owned()), None).await;
    let ip = collector.address(Protocol::Grpc).ip().to_string();
    let causes = causes(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate)).await;
    insta::assert_snapshot!(causes.replace(&ip, "[ip]"), @r#"
    grpc: [host]: its certificate is for another host name: invalid peer certificate: certificate not valid for name "[ip]"; certificate is only valid for DnsName("other.example.com"); set that name in ROTEL_OTLP_EXPORTER_ENDPOINT, or issue a certificate for this one
    http: [host]: its certificate is for another host name: invalid peer certificate: certificate not valid for name "[ip]"; certificate is only valid for DnsName("other.example.com"); set that name in ROTEL_OTLP_EXPORTER_ENDPOINT, or issue a certificate for this one
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_name_stays_on_one_line() {
    let forged = |_| named("a\nERROR forged\u{1b}[31m.example.com".to_owned());
    let (collector, certificate) = with_certificate(forged, None).await;
    let ip = collector.address(Protocol::Grpc).ip().to_string();
    let causes = causes(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate)).await;
    insta::assert_snapshot!(causes.replace(&ip, "[ip]"), @r#"
    grpc: [host]: its certificate is for another host name: invalid peer certificate: certificate not valid for name "[ip]"; certificate is only valid for DnsName("a\nERROR forged\u{1b}[31m.example.com"); set that name in ROTEL_OTLP_EXPORTER_ENDPOINT, or issue a certificate for this one
    http: [host]: its certificate is for another host name: invalid peer certificate: certificate not valid for name "[ip]"; certificate is only valid for DnsName("a\nERROR forged\u{1b}[31m.example.com"); set that name in ROTEL_OTLP_EXPORTER_ENDPOINT, or issue a certificate for this one
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_certificate_is_reported() {
    let expired = |name| {
        let mut parameters = named(name);
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        parameters
    };
    let (collector, certificate) = with_certificate(expired, None).await;
    let causes = causes(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate));
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: its certificate has expired or is not valid yet; renew it, and check this machine's clock
    http: [host]: its certificate has expired or is not valid yet; renew it, and check this machine's clock
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_client_certificate_is_reported() {
    let client = of_client();
    let (collector, certificate) = behind_tls(Some(client.cert.pem())).await;
    let causes = causes(|protocol| Check::collector(&collector, protocol).with(CA, &*certificate));
    insta::assert_snapshot!(causes.await, @"
    grpc: [host]: the server closed the connection during TLS, probably because it requires a client certificate (mTLS); set ROTEL_OTLP_EXPORTER_TLS_CERT_FILE and ROTEL_OTLP_EXPORTER_TLS_KEY_FILE, or see the backend's log
    http: [host]: the server closed the connection during TLS, probably because it requires a client certificate (mTLS); set ROTEL_OTLP_EXPORTER_TLS_CERT_FILE and ROTEL_OTLP_EXPORTER_TLS_KEY_FILE, or see the backend's log
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_client_certificate_is_reported_without_key() {
    let [client, other] = [(); 2].map(|()| of_client());
    let (collector, certificate) = behind_tls(Some(other.cert.pem())).await;
    let key = client.signing_key.serialize_pem();
    let check = Check::collector(&collector, Protocol::Grpc)
        .with(CA, certificate)
        .with("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", client.cert.pem())
        .with("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", &*key)
        .hiding(key.lines());
    insta::assert_snapshot!(check.cause().await, @"[host]: the server closed the connection during TLS, probably because it rejects the client certificate in ROTEL_OTLP_EXPORTER_TLS_CERT_PEM; use one signed by an authority that it trusts, or see the backend's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_private_key_is_reported_unshown() {
    let [client, other] = [(); 2].map(|()| of_client());
    let key = other.signing_key.serialize_pem();
    let check = Check::of("https://127.0.0.1:1", Protocol::Grpc)
        .with("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", client.cert.pem())
        .with("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", &*key)
        .hiding(key.lines().filter(|line| !line.starts_with("-----")))
        .offline();
    insta::assert_snapshot!(check.account().await, @"
    Endpoints (nothing is sent)
      logs     FAILED  not sent because of the errors below
      metrics  FAILED  not sent because of the errors below
      traces   FAILED  not sent because of the errors below

    Errors
      ROTEL_OTLP_EXPORTER_TLS_KEY_PEM: no usable private key: keys may not be consistent: KeyMismatch; set the PEM block -----BEGIN PRIVATE KEY----- of the certificate

    FAILED: 1 error
    exit code 1
    ");
}
