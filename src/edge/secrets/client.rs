//! How AWS is reached: the SDK's settings, and its HTTP over the client that the exporter uses too.
//!
//! The SDK's own HTTP client can be built on hyper 1 and rustls as well, but takes its roots from the system's store and
//! is several thousand lines more in the binary; reqwest is there already.

use std::time::Duration;

use aws_sdk_ssm::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_ssm::config::timeout::TimeoutConfig;
use aws_sdk_ssm::config::{
    BehaviorVersion, Region, SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_types::SdkConfig;
use bytes::Bytes;
use reqwest::{Client, ClientBuilder, NoProxy, Proxy};

use super::credentials;
use super::refusal::Refusal;
use crate::core::config::{self, Proxies, Tls, Variables};
use crate::edge::http::read_body;
use crate::edge::tls;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one attempt may take, the TLS handshake on the smallest share of a core included. A freeze may have cut the
/// connection, and then only this ends the wait for the answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// The most that the SDK pauses before its second attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// What of an answer is read at most. Ten secrets of 64 KiB are less, every byte written as `\u00xx`.
const ANSWER_LIMIT: usize = 8 << 20;

/// The way to all services in all regions.
pub(super) struct Access {
    config: SdkConfig,
    endpoints: Endpoints,
    partition: RetryPartition,
}

/// Where `AWS_ENDPOINT_URL…` sends the calls to, in place of AWS.
struct Endpoints {
    all: Option<String>,
    secrets_manager: Option<String>,
    parameter_store: Option<String>,
}

impl Access {
    /// Finds the credentials and sets up the clients' common part. `attempts` is how often the SDK tries each call.
    pub(super) async fn new(variables: &Variables, attempts: u32) -> Result<Self, Refusal> {
        let credentials = credentials::find(variables).await?;
        let connector = SharedHttpConnector::new(Connector(http_client(variables)?));
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(client_of(connector))
            .use_fips(is_true(variables, "AWS_USE_FIPS_ENDPOINT"))
            .use_dual_stack(is_true(variables, "AWS_USE_DUALSTACK_ENDPOINT"))
            .retry_config(
                RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(INITIAL_BACKOFF),
            )
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build())
            // It watches over long downloads.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        // The SDK's default quota is shared by the whole process and would let one region's trouble end the attempts in
        // another. Their number is what limits them here.
        let partition = RetryPartition::custom("secrets").token_bucket(TokenBucket::unlimited()).build();
        Ok(Self { config, endpoints: Endpoints::new(variables), partition })
    }

    /// The settings of a client of Secrets Manager.
    pub(super) fn secrets_manager(&self, region: &str) -> aws_sdk_secretsmanager::Config {
        let config = self.in_region(region, self.endpoints.secrets_manager.as_ref());
        aws_sdk_secretsmanager::config::Builder::from(&config).retry_partition(self.partition.clone()).build()
    }

    /// The settings of a client of the Parameter Store.
    pub(super) fn parameter_store(&self, region: &str) -> aws_sdk_ssm::Config {
        let config = self.in_region(region, self.endpoints.parameter_store.as_ref());
        aws_sdk_ssm::config::Builder::from(&config).retry_partition(self.partition.clone()).build()
    }

    fn in_region(&self, region: &str, endpoint: Option<&String>) -> SdkConfig {
        let mut config = self.config.to_builder().region(Region::new(region.to_owned()));
        config.set_endpoint_url(endpoint.or(self.endpoints.all.as_ref()).cloned());
        config.build()
    }
}

impl Endpoints {
    fn new(variables: &Variables) -> Self {
        let ignored = is_true(variables, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let url = |name| if ignored { None } else { set(variables, name).map(str::to_owned) };
        Self {
            all: url("AWS_ENDPOINT_URL"),
            secrets_manager: url("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            parameter_store: url("AWS_ENDPOINT_URL_SSM"),
        }
    }
}

/// A variable's value, if it has one.
pub(super) fn set<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn is_true(variables: &Variables, name: &str) -> bool {
    set(variables, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A client without a proxy.
pub(super) fn direct() -> Result<ClientBuilder, Refusal> {
    let tls = tls::client_config(&Tls::default(), &["http/1.1"]).map_err(|_| Refusal::no_client())?;
    Ok(Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .no_proxy())
}

fn http_client(variables: &Variables) -> Result<Client, Refusal> {
    let Proxies { https, http, except } = config::proxies(variables).ok_or_else(Refusal::no_client)?;
    let except = except.as_deref().and_then(NoProxy::from_string);
    let mut client = direct()?;
    if let Some(proxy) = https {
        let proxy = Proxy::https(proxy.url.expose()).map_err(|_| Refusal::no_client())?;
        client = client.proxy(proxy.no_proxy(except.clone()));
    }
    if let Some(proxy) = http {
        let proxy = Proxy::http(proxy.url.expose()).map_err(|_| Refusal::no_client())?;
        client = client.proxy(proxy.no_proxy(except));
    }
    client.build().map_err(|_| Refusal::no_client())
}

/// The SDK's idea of an HTTP client: what makes connectors. One is enough.
fn client_of(connector: SharedHttpConnector) -> SharedHttpClient {
    http_client_fn(move |_, _| connector.clone())
}

/// One request and its answer, read whole.
#[derive(Clone, Debug)]
struct Connector(Client);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { exchange(&client, request).await })
    }
}

async fn exchange(client: &Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    // The body of a call in a JSON protocol is always in memory.
    let request = request.map(|body| body.bytes().map(Bytes::copy_from_slice).unwrap_or_default());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;
    let answer: http::Response<reqwest::Body> = client.execute(request).await.map_err(failure)?.into();
    let (head, mut body) = answer.into_parts();
    let body = read_body(&mut body, ANSWER_LIMIT).await.map_err(|error| ConnectorError::io(error.into()))?;
    let answer = HttpResponse::try_from(http::Response::from_parts(head, body.into()))
        .map_err(|error| ConnectorError::user(error.into()))?;
    Ok(answer)
}

/// All of these are tried again.
fn failure(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
