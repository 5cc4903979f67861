//! The HTTP client of the AWS SDK and aws-config: reqwest, with our root certificates, proxies and timeouts.
//!
//! The SDK's own client would read the system's certificate store and the process environment.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http::StatusCode;
use reqwest::{Client, NoProxy, Proxy, Url};

use super::refusal::Refusal;
use crate::edge::http::read_body;
use crate::edge::tls;
use rotel_core::config::{self, Proxies, Tls, Variables};

/// The timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout of one attempt, including the TLS handshake on the smallest share of a core. If a freeze cut the connection,
/// nothing else ends the wait for the response.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum size of a response, in bytes. Ten secrets of 64 KiB fit, even if every byte is written as `\u00xx`.
const RESPONSE_LIMIT: usize = 8 << 20;

/// Link-local addresses, which no proxy can reach: the container credentials endpoints and the instance metadata service.
const LINK_LOCAL: &str = "169.254.0.0/16,fd00:ec2::/32";

/// The HTTP clients of one access. They share their connections.
pub(super) struct HttpClients(Client);

impl HttpClients {
    pub(super) fn new(variables: &Variables) -> Result<Self, Refusal> {
        reqwest_client(variables).map(Self)
    }

    /// The client for the services, whose errors the SDK parses.
    pub(super) fn for_services(&self) -> SharedHttpClient {
        self.with(|_| false)
    }

    /// The client for credentials. aws-config takes every response but a success for a refusal. A credentials provider that
    /// fails or throttles has not refused, so such a response counts as none.
    pub(super) fn for_credentials(&self) -> SharedHttpClient {
        self.with(|status| status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS)
    }

    fn with(&self, is_no_response: fn(StatusCode) -> bool) -> SharedHttpClient {
        let client = self.0.clone();
        http_client_fn(move |settings, _| {
            let timeout = attempt_timeout(settings);
            SharedHttpConnector::new(Connector { client: client.clone(), timeout, is_no_response })
        })
    }
}

fn reqwest_client(variables: &Variables) -> Result<Client, Refusal> {
    let tls = tls::client_config(&Tls::default(), &["http/1.1"]).map_err(|_| Refusal::no_client())?;
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .no_proxy();
    let Proxies { https, http, except } = config::proxies(variables).ok_or_else(Refusal::no_client)?;
    let direct = direct_hosts(variables, except);
    if let Some(proxy) = https {
        let proxy = Proxy::https(proxy.url.expose()).map_err(|_| Refusal::no_client())?;
        client = client.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
    }
    if let Some(proxy) = http {
        let proxy = Proxy::http(proxy.url.expose()).map_err(|_| Refusal::no_client())?;
        client = client.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
    }
    client.build().map_err(|_| Refusal::no_client())
}

/// Returns the hosts to reach without a proxy, in the syntax of `NO_PROXY`. An `http` container credentials endpoint is one
/// of them: it is on this machine.
fn direct_hosts(variables: &Variables, except: Option<String>) -> String {
    let mut direct = except.unwrap_or_default();
    direct.push(',');
    direct.push_str(LINK_LOCAL);
    let endpoint = variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let endpoint = endpoint.and_then(|url| Url::parse(url.trim()).ok()).filter(|url| url.scheme() == "http");
    if let Some(host) = endpoint.as_ref().and_then(Url::host_str) {
        direct.push(',');
        direct.push_str(host.trim_matches(['[', ']']));
    }
    direct
}

/// Returns the timeout of one attempt. aws-config sets a shorter one for an address that may lead nowhere.
fn attempt_timeout(settings: &HttpConnectorSettings) -> Duration {
    let requested = settings.connect_timeout().zip(settings.read_timeout());
    requested.map_or(ATTEMPT_TIMEOUT, |(connect, read)| ATTEMPT_TIMEOUT.min(connect + read))
}

/// Sends one request and reads the whole response.
#[derive(Clone, Debug)]
struct Connector {
    client: Client,
    timeout: Duration,
    is_no_response: fn(StatusCode) -> bool,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { client, timeout, is_no_response } = self.clone();
        HttpConnectorFuture::new(async move {
            let response = tokio::time::timeout(timeout, exchange(&client, request)).await;
            let response = response.unwrap_or_else(|elapsed| Err(ConnectorError::timeout(elapsed.into())))?;
            let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or_default();
            if is_no_response(status) {
                return Err(ConnectorError::io(NoResponse(status).into()));
            }
            Ok(response)
        })
    }
}

async fn exchange(client: &Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    // The body of every request is in memory.
    let request = request.map(|body| body.bytes().map(Bytes::copy_from_slice).unwrap_or_default());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;
    let response: http::Response<reqwest::Body> =
        client.execute(request).await.map_err(connector_error)?.into();
    let (head, mut body) = response.into_parts();
    let body =
        read_body(&mut body, RESPONSE_LIMIT).await.map_err(|error| ConnectorError::io(error.into()))?;
    let response = HttpResponse::try_from(http::Response::from_parts(head, body.into()))
        .map_err(|error| ConnectorError::user(error.into()))?;
    Ok(response)
}

/// A response that counts as none.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {0}")]
struct NoResponse(StatusCode);

/// The SDK retries all errors that this returns.
fn connector_error(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
