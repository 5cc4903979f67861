//! The access to AWS: credentials, endpoints and retries, as aws-config finds them.
//!
//! aws-config reads a map in place of the process environment. In the function's environment that map leaves out profiles, web
//! identity and the instance metadata service: none of them exists there, and to look for one takes time.

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
use super::http_client;
use super::refusal::Refusal;
use rotel_core::config::Variables;

/// The SDK's longest pause before its second attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// Variables that lead away from the function's own credentials.
const NOT_IN_A_FUNCTION: [&str; 3] = ["AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"];

/// Values that keep aws-config from the function's home and from the network.
const IN_A_FUNCTION: [(&str, &str); 3] = [
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// The container credentials endpoint, and its path where the host is that of ECS.
const ENDPOINT: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const ENDPOINT_PATH: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

/// The access to all services in all regions.
pub(super) struct Access {
    config: SdkConfig,
    partition: RetryPartition,
}

impl Access {
    /// Finds credentials and sets up what the clients share. They are asked for anew each time, so that expired ones never
    /// sign a call. `region` is where STS is asked for a role, and `attempts` is how often the SDK tries each call.
    pub(super) async fn new(
        variables: &Variables,
        sources: CredentialSources,
        region: &str,
        attempts: u32,
    ) -> Result<Self, Refusal> {
        let environment = Environment::new(variables, sources);
        let retries =
            RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(INITIAL_BACKOFF);
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .env(Env::from(environment.variables))
            // Without one, aws-config asks the instance metadata service.
            .region(Region::new(region.to_owned()))
            .http_client(http_client::of(variables)?)
            .retry_config(retries)
            // It watches over long downloads.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        let chain = config.credentials_provider().ok_or_else(Refusal::no_client)?;
        // Here and not by the first call, whose error would not name the cause; and once for all calls.
        let credentials = chain.provide_credentials().await;
        let credentials = credentials.map_err(|error| {
            if environment.has_bad_endpoint {
                Refusal::bad_credentials_source(sources)
            } else {
                Refusal::of_credentials(&error, sources)
            }
        })?;
        let credentials = SharedCredentialsProvider::new(credentials);
        let config = config.into_builder().credentials_provider(credentials).build();
        // The SDK's default quota is shared by the whole process: trouble in one region would end the attempts in another.
        // The number of attempts is the limit here.
        let partition = RetryPartition::custom("secrets").token_bucket(TokenBucket::unlimited()).build();
        Ok(Self { config, partition })
    }

    /// The settings of a Secrets Manager client.
    pub(super) fn secrets_manager(&self, region: &str) -> aws_sdk_secretsmanager::Config {
        let builder = aws_sdk_secretsmanager::config::Builder::from(&self.in_region(region));
        builder.retry_partition(self.partition.clone()).build()
    }

    /// The settings of a Parameter Store client.
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
    /// A container credentials endpoint is set that is none. aws-config would panic.
    has_bad_endpoint: bool,
}

impl Environment {
    /// Blank variables count as unset.
    fn new(variables: &Variables, sources: CredentialSources) -> Self {
        let mut environment = Self { variables: HashMap::new(), has_bad_endpoint: false };
        for (name, value) in variables {
            let value = value.trim();
            if !(name.starts_with("AWS_") || name == "HOME") || value.is_empty() {
                continue;
            }
            if is_usable(name, value) {
                environment.variables.insert(name.clone(), value.to_owned());
            } else {
                environment.has_bad_endpoint = true;
            }
        }
        if sources == CredentialSources::Function {
            for name in NOT_IN_A_FUNCTION {
                environment.variables.remove(name);
            }
            for (name, value) in IN_A_FUNCTION {
                environment.variables.insert(name.to_owned(), value.to_owned());
            }
        }
        environment
    }
}

/// Returns false for a container credentials endpoint that is not a URL, or not a path.
fn is_usable(name: &str, value: &str) -> bool {
    let uri = || value.parse::<Uri>();
    match name {
        ENDPOINT => {
            uri().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        }
        ENDPOINT_PATH => uri().is_ok_and(|uri| uri.authority().is_none() && value.starts_with('/')),
        _ => true,
    }
}
