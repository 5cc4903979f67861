//! The HTTP client of the AWS SDK and of aws-config: reqwest, with our roots, proxies and timeouts.
//!
//! The SDK's own client reads the system's certificate store and the process environment.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use reqwest::{Client, NoProxy, Proxy, Url};

use super::refusal::Refusal;
use crate::edge::http::read_body;
use crate::edge::tls;
use rotel_core::config::{self, Proxies, Tls, Variables};

/// The time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for one attempt, the TLS handshake on the smallest share of a core included. After a freeze that cut the
/// connection, nothing else ends the wait for the answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum size of an answer. Ten secrets of 64 KiB are less, even with every byte written as `\u00xx`.
const ANSWER_LIMIT: usize = 8 << 20;

/// Link-local addresses, of which no proxy knows: the container credentials endpoints and the instance metadata service.
const LINK_LOCAL: &str = "169.254.0.0/16,fd00:ec2::/32";

/// Returns the client for all calls.
pub(super) fn of(variables: &Variables) -> Result<SharedHttpClient, Refusal> {
    let client = client(variables)?;
    Ok(http_client_fn(move |settings, _| {
        SharedHttpConnector::new(Connector { client: client.clone(), timeout: timeout(settings) })
    }))
}

fn client(variables: &Variables) -> Result<Client, Refusal> {
    let tls = tls::client_config(&Tls::default(), &["http/1.1"]).map_err(|_| Refusal::no_client())?;
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .no_proxy();
    let Proxies { https, http, except } = config::proxies(variables).ok_or_else(Refusal::no_client)?;
    let direct = direct(variables, except);
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

/// The hosts that are reached without a proxy, as `NO_PROXY` has them. A container credentials endpoint is on this machine.
fn direct(variables: &Variables, except: Option<String>) -> String {
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

/// The time for one attempt. aws-config waits less than a service's client where an address may lead nowhere.
fn timeout(settings: &HttpConnectorSettings) -> Duration {
    let asked = settings.connect_timeout().zip(settings.read_timeout());
    asked.map_or(ATTEMPT_TIMEOUT, |(connect, read)| ATTEMPT_TIMEOUT.min(connect + read))
}

/// Sends one request and reads the whole answer.
#[derive(Clone, Debug)]
struct Connector {
    client: Client,
    timeout: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { client, timeout } = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = tokio::time::timeout(timeout, exchange(&client, request)).await;
            answer.unwrap_or_else(|elapsed| Err(ConnectorError::timeout(elapsed.into())))
        })
    }
}

async fn exchange(client: &Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    // No call has a body that is not in memory.
    let request = request.map(|body| body.bytes().map(Bytes::copy_from_slice).unwrap_or_default());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;
    let answer: http::Response<reqwest::Body> = client.execute(request).await.map_err(failure)?.into();
    let (head, mut body) = answer.into_parts();
    let body = read_body(&mut body, ANSWER_LIMIT).await.map_err(|error| ConnectorError::io(error.into()))?;
    let answer = HttpResponse::try_from(http::Response::from_parts(head, body.into()))
        .map_err(|error| ConnectorError::user(error.into()))?;
    Ok(answer)
}

/// All of these are retried.
fn failure(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
