//! Access to AWS: credentials, endpoints and retries, as aws-config resolves them.
//!
//! aws-config reads a map instead of the process environment. Inside a function, that map disables profiles, web identity
//! and the instance metadata service: none of them exists there, and looking for one takes time.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_ssm::config::retry::{RetryPartition, TokenBucket};
use aws_types::os_shim_internal::Env;
use http::Uri;

use super::CredentialSources;
use super::http_client::HttpClients;
use super::refusal::Refusal;
use rotel_core::config::Variables;

/// The SDK's maximum pause before its second attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// Variables removed inside a function: they select other credentials than the function's own.
const REMOVED_IN_FUNCTION: [&str; 3] = ["AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"];

/// Variables set inside a function: they keep aws-config away from the home directory and the network.
const SET_IN_FUNCTION: [(&str, &str); 3] = [
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// The variable with the URL of the container credentials endpoint.
const CONTAINER_URL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// The variable with the path of the container credentials endpoint, if the host is the one of ECS.
const CONTAINER_PATH: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

/// Access to all services in all regions.
pub(super) struct Access {
    config: SdkConfig,
    partition: RetryPartition,
}

impl Access {
    /// Fetches credentials and sets up what the clients share. Each access has fresh credentials, so that expired ones never
    /// sign a request. STS is called in `region` to assume a role. The SDK makes at most `attempts` attempts per call.
    pub(super) async fn new(
        variables: &Variables,
        sources: CredentialSources,
        region: &str,
        attempts: u32,
    ) -> Result<Self, Refusal> {
        let environment = Environment::new(variables, sources);
        let http_clients = HttpClients::new(variables)?;
        let retries =
            RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(INITIAL_BACKOFF);
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .env(Env::from(environment.variables))
            // Without a region, aws-config queries the instance metadata service.
            .region(Region::new(region.to_owned()))
            .http_client(http_clients.for_credentials())
            .retry_config(retries)
            // It monitors long downloads; responses are small here.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        let provider = config.credentials_provider().ok_or_else(Refusal::no_client)?;
        // Fetched once for all calls. If the first call fetched them instead, its error would not name the cause.
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| {
            if environment.has_invalid_endpoint {
                Refusal::credentials_provider_failed(sources)
            } else {
                Refusal::from_credentials_error(&error, sources)
            }
        })?;
        let credentials = SharedCredentialsProvider::new(credentials);
        let config = config
            .into_builder()
            .credentials_provider(credentials)
            .http_client(http_clients.for_services())
            .build();
        // The SDK's default retry quota is shared by the whole process: failures in one region would stop retries in
        // another. Here the number of attempts is the limit.
        let partition = RetryPartition::custom("secrets").token_bucket(TokenBucket::unlimited()).build();
        Ok(Self { config, partition })
    }

    /// Returns the settings of a Secrets Manager client.
    pub(super) fn secrets_manager(&self, region: &str) -> aws_sdk_secretsmanager::Config {
        let builder = aws_sdk_secretsmanager::config::Builder::from(&self.in_region(region));
        builder.retry_partition(self.partition.clone()).build()
    }

    /// Returns the settings of a Parameter Store client.
    pub(super) fn parameter_store(&self, region: &str) -> aws_sdk_ssm::Config {
        let builder = aws_sdk_ssm::config::Builder::from(&self.in_region(region));
        builder.retry_partition(self.partition.clone()).build()
    }

    fn in_region(&self, region: &str) -> SdkConfig {
        self.config.to_builder().region(Region::new(region.to_owned())).build()
    }
}

/// The environment that aws-config reads.
struct Environment {
    variables: HashMap<String, String>,
    /// True if a container credentials endpoint is set but is not valid. aws-config would panic on it.
    has_invalid_endpoint: bool,
}

impl Environment {
    /// Copies `HOME` and the AWS variables. Blank variables count as unset.
    fn new(variables: &Variables, sources: CredentialSources) -> Self {
        let mut environment = Self { variables: HashMap::new(), has_invalid_endpoint: false };
        for (name, value) in variables {
            let value = value.trim();
            if !(name.starts_with("AWS_") || name == "HOME") || value.is_empty() {
                continue;
            }
            if is_usable(name, value) {
                environment.variables.insert(name.clone(), value.to_owned());
            } else {
                environment.has_invalid_endpoint = true;
            }
        }
        if sources == CredentialSources::Function {
            for name in REMOVED_IN_FUNCTION {
                environment.variables.remove(name);
            }
            for (name, value) in SET_IN_FUNCTION {
                environment.variables.insert(name.to_owned(), value.to_owned());
            }
        }
        environment
    }
}

/// Returns false if a variable of the container credentials endpoint does not hold a URL or a path, as it should.
fn is_usable(name: &str, value: &str) -> bool {
    let uri = || value.parse::<Uri>();
    match name {
        CONTAINER_URL => {
            uri().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        }
        CONTAINER_PATH => uri().is_ok_and(|uri| uri.authority().is_none() && value.starts_with('/')),
        _ => true,
    }
}
