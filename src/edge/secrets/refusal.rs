//! The reason why a secret has no value: an error code, from AWS or ours, and the remedy.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use super::{CredentialSources, Recovery, SecretError};
use rotel_core::config::secret_ref::Service;

/// The maximum length of an AWS error code, in bytes.
const CODE_LIMIT: usize = 64;

/// Error codes of whole batches that a single secret may have caused.
const MAY_BE_CAUSED_BY_ONE: [&str; 7] = [
    "AccessDeniedException",
    "DecryptionFailure",
    "InvalidKeyId",
    "InvalidParameterException",
    "InvalidRequestException",
    "ResourceNotFoundException",
    "ValidationException",
];

/// Error codes of throttling.
const THROTTLING: [&str; 4] =
    ["ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException"];

/// Error codes that no retry in this environment can clear.
const PERMANENT: [&str; 4] =
    ["InvalidParameterException", "InvalidRequest", "NoClient", "ValidationException"];

const NETWORK: &str = "AWS cannot be reached; a function in a VPC needs a NAT gateway or an interface endpoint for the \
    service, and a security group that allows outbound traffic to port 443";
const PROXY: &str = "the proxy in HTTPS_PROXY refuses the connection or cannot be reached; check it, or add the service's host \
    to NO_PROXY";
const TIMEOUT: Remedy = Remedy::Retried(
    "no answer yet",
    "a function in a VPC needs a NAT gateway or an interface endpoint for the service, and a security group that allows \
     outbound traffic to port 443",
);
const PROXY_TIMEOUT: Remedy =
    Remedy::Retried("no answer yet", "check the proxy in HTTPS_PROXY, or add the service's host to NO_PROXY");
const FAILING: Remedy = Remedy::Retried("the service fails", "see the AWS Health Dashboard");
const FAILING_OR_NOT_AWS: Remedy =
    Remedy::Retried("the service fails", "check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's DNS servers");
const NOT_AWS: &str =
    "the response is not from AWS; check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's DNS servers";
const REJECTED_CREDENTIALS: &str = "AWS rejects the credentials; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
    AWS_SESSION_TOKEN, which only Lambda should set";
const NO_CREDENTIALS: &str = "there are no credentials; Lambda sets them; outside Lambda, set AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY";
const NO_CLI_CREDENTIALS: &str = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set \
    AWS_PROFILE to a profile with credentials";
const CONTAINER_ENDPOINT_FAILED: &str = "the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI returns no \
    credentials; leave it and AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them";
const CONTAINER_ENDPOINT_TIMEOUT: Remedy = Remedy::Retried(
    "no credentials yet from the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "leave the variable as Lambda sets it",
);
const CLI_PROVIDER_FAILED: &str = if cfg!(feature = "cli-credentials") {
    "the credentials provider fails; run `aws sts get-caller-identity` with the same variables to see why"
} else {
    "the credentials provider fails; run `aws sts get-caller-identity` with the same variables to see why; this build \
        lacks SSO and credential_process, `make build` includes them"
};

/// The remedy, in words for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Fix(&'static str),
    /// The state, which another call may find changed, and the fix if it does not.
    Retried(&'static str, &'static str),
}

/// The circumstances of a call that decide the remedy.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallContext {
    pub(super) service: Service,
    /// A proxy is between the function and AWS.
    pub(super) is_proxied: bool,
    /// Nobody retries after the command has ended.
    pub(super) sources: CredentialSources,
}

/// The reason why a call returned no value, for one secret or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: String,
    recovery: Recovery,
    /// Set if the code alone does not determine the remedy.
    remedy: Option<Remedy>,
}

impl Refusal {
    /// Converts AWS's error code for one secret of a call.
    pub(super) fn from_code(code: &str) -> Self {
        // Users see the code, so text that cannot be a code is not kept.
        let is_code =
            (1..=CODE_LIMIT).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
        Self::new(if is_code { code } else { "UnknownError" })
    }

    /// Converts the error of a whole call. Only the code is kept: the SDK's errors hold the body of the response.
    pub(super) fn from_sdk_error<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Self {
        match error {
            SdkError::ServiceError(error) => {
                let status = error.raw().status();
                let refusal = match error.err().code() {
                    Some(code) if status.is_server_error() && !THROTTLING.contains(&code) => {
                        Self { remedy: Some(FAILING), ..Self::from_code(code) }
                    }
                    Some(code) => Self::from_code(code),
                    // The SDK reports an unreadable response as a service error, whatever the status.
                    None if status.is_success() => Self::new("UnreadableAnswer"),
                    None => {
                        let remedy =
                            if status.is_server_error() { FAILING_OR_NOT_AWS } else { Remedy::Fix(NOT_AWS) };
                        Self { remedy: Some(remedy), ..Self::from_code(&format!("Http{}", status.as_u16())) }
                    }
                };
                if status.is_server_error() { refusal.transient() } else { refusal }
            }
            SdkError::TimeoutError(_) => Self::timeout(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::timeout(),
            SdkError::DispatchFailure(failure) if failure.is_io() => {
                Self::new("ConnectionFailed").transient()
            }
            SdkError::ResponseError(_) => Self::new("UnreadableAnswer"),
            _ => Self::new("InvalidRequest"),
        }
    }

    /// No response in time, or the environment was frozen meanwhile.
    pub(super) fn timeout() -> Self {
        Self::new("Timeout").transient()
    }

    /// A secret that holds bytes, not text.
    pub(super) fn binary() -> Self {
        Self::new("BinarySecret")
    }

    /// The response of AWS omits the secret.
    pub(super) fn not_in_response() -> Self {
        Self::new("NoAnswer")
    }

    /// The HTTP client cannot be set up.
    pub(super) fn no_client() -> Self {
        Self::new("NoClient")
    }

    /// No credentials provider returned any. The error is not kept, because it may hold a provider's response.
    pub(super) fn from_credentials_error(error: &CredentialsError, sources: CredentialSources) -> Self {
        use CredentialsError::{CredentialsNotLoaded, InvalidConfiguration, ProviderError};
        match error {
            CredentialsNotLoaded(_) => {
                let remedy = match sources {
                    CredentialSources::Function => NO_CREDENTIALS,
                    CredentialSources::Cli => NO_CLI_CREDENTIALS,
                };
                Self { remedy: Some(Remedy::Fix(remedy)), ..Self::new("NoCredentials") }
            }
            InvalidConfiguration(_) | ProviderError(_) => Self::credentials_provider_failed(sources),
            // No response, a server error, or a response that cannot be read.
            _ => Self::credentials_timeout(sources),
        }
    }

    /// The credentials provider refuses, or its variables are wrong.
    pub(super) fn credentials_provider_failed(sources: CredentialSources) -> Self {
        let remedy = match sources {
            CredentialSources::Function => CONTAINER_ENDPOINT_FAILED,
            CredentialSources::Cli => CLI_PROVIDER_FAILED,
        };
        Self { remedy: Some(Remedy::Fix(remedy)), ..Self::new("NoCredentials") }
    }

    /// The credentials provider fails, or has not responded in time.
    pub(super) fn credentials_timeout(sources: CredentialSources) -> Self {
        match sources {
            CredentialSources::Function => {
                Self { remedy: Some(CONTAINER_ENDPOINT_TIMEOUT), ..Self::new("NoCredentials") }.transient()
            }
            CredentialSources::Cli => Self::credentials_provider_failed(sources),
        }
    }

    fn new(code: &str) -> Self {
        let recovery = if THROTTLING.contains(&code) {
            Recovery::Soon
        } else if PERMANENT.contains(&code) {
            Recovery::Never
        } else {
            Recovery::OnceFixed
        };
        Self { code: code.to_owned(), recovery, remedy: None }
    }

    fn transient(self) -> Self {
        Self { recovery: Recovery::Soon, ..self }
    }

    /// Returns the error for one secret of a refused batch. A call for it alone may succeed.
    pub(super) fn for_one_of_batch(&self) -> Self {
        self.clone().transient()
    }

    /// Returns true if a single secret may have caused the error of its batch. A call for each one alone may succeed.
    pub(super) fn may_be_caused_by_one(&self) -> bool {
        MAY_BE_CAUSED_BY_ONE.contains(&self.code.as_str())
    }

    /// Returns true if another call may succeed.
    pub(super) fn may_succeed(&self) -> bool {
        self.recovery != Recovery::Never
    }

    pub(super) fn is_timeout(&self) -> bool {
        self.code == "Timeout"
    }

    pub(super) fn is_connection_failure(&self) -> bool {
        self.code == "ConnectionFailed"
    }

    /// Returns the error that users see.
    pub(super) fn to_error(&self, arn: &str, context: CallContext) -> SecretError {
        let remedy = match (self.remedy(context), context.sources) {
            (Remedy::Fix(fix), _) => fix.to_owned(),
            (Remedy::Retried(state, fix), CredentialSources::Function) => {
                format!("{state}, the extension retries during later invocations; if this persists, {fix}")
            }
            (Remedy::Retried(state, fix), CredentialSources::Cli) => {
                format!("{state}; try again; if this persists, {fix}")
            }
        };
        SecretError { arn: arn.to_owned(), code: self.code.clone(), remedy, recovery: self.recovery }
    }

    fn remedy(&self, context: CallContext) -> Remedy {
        if let Some(remedy) = self.remedy {
            return remedy;
        }
        Remedy::Fix(match (self.code.as_str(), context.service) {
            ("ConnectionFailed", _) if context.is_proxied => PROXY,
            ("Timeout", _) if context.is_proxied => return PROXY_TIMEOUT,
            ("Timeout", _) => return TIMEOUT,
            (code, _) if THROTTLING.contains(&code) => {
                return Remedy::Retried("AWS throttles the account's calls", "request a higher quota");
            }
            ("AccessDeniedException", Service::SecretsManager) => {
                "allow the function's role secretsmanager:GetSecretValue on it, and kms:Decrypt on its key if that is \
                 not the account's default"
            }
            ("AccessDeniedException", Service::ParameterStore) => {
                "allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the \
                 account's default"
            }
            ("DecryptionFailure" | "InvalidKeyId", _) => {
                "allow the function's role kms:Decrypt on its key, and check that the key is enabled"
            }
            ("ResourceNotFoundException" | "ParameterNotFound", _) => {
                "it does not exist; check the ARN's region, account and name"
            }
            ("NoAnswer", _) => "AWS's response omits it; check the ARN's region, account and name",
            ("InvalidParameterException" | "ValidationException", _) => {
                "AWS rejects the ARN; copy it from the console"
            }
            ("InvalidRequestException", _) => {
                "it has no current value or is scheduled for deletion; check it in the console"
            }
            ("BinarySecret", _) => "it holds bytes, but variables hold text; store it as text (SecretString)",
            ("ConnectionFailed", _) => NETWORK,
            (
                "ExpiredTokenException"
                | "IncompleteSignature"
                | "InvalidClientTokenId"
                | "InvalidSignatureException"
                | "MissingAuthenticationToken"
                | "UnrecognizedClientException",
                _,
            ) => REJECTED_CREDENTIALS,
            ("UnreadableAnswer", _) => NOT_AWS,
            ("InvalidRequest", _) => {
                "it has no valid endpoint; check the ARN's region, AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT"
            }
            ("NoClient", _) => "the HTTP client cannot be set up; check HTTPS_PROXY and HTTP_PROXY",
            _ => "look up the code in the service's AWS API reference",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(is_proxied: bool, sources: CredentialSources) -> CallContext {
        CallContext { service: Service::ParameterStore, is_proxied, sources }
    }

    #[test]
    fn proxies_are_named_and_commands_promise_no_retry() {
        let remedies = ["ConnectionFailed", "Timeout"].map(|code| {
            let error = Refusal::from_code(code).to_error("", context(true, CredentialSources::Cli));
            format!("{}; {}", error.code, error.remedy)
        });
        insta::assert_snapshot!(remedies.join("\n"), @"
        ConnectionFailed; the proxy in HTTPS_PROXY refuses the connection or cannot be reached; check it, or add the service's host to NO_PROXY
        Timeout; no answer yet; try again; if this persists, check the proxy in HTTPS_PROXY, or add the service's host to NO_PROXY
        ");
    }

    #[test]
    fn malformed_code_is_not_kept() {
        assert_eq!(Refusal::from_code("AccessDeniedException").code, "AccessDeniedException");
        for wrong in ["", "key=hunter2", "two words", &"a".repeat(65)] {
            assert_eq!(Refusal::from_code(wrong).code, "UnknownError", "{wrong:?}");
        }
    }

    #[test]
    fn every_code_has_a_remedy() {
        let codes = [
            "AccessDeniedException",
            "BinarySecret",
            "ConnectionFailed",
            "DecryptionFailure",
            "InternalServiceError",
            "InvalidRequest",
            "InvalidRequestException",
            "NoAnswer",
            "NoClient",
            "ResourceNotFoundException",
            "ThrottlingException",
            "Timeout",
            "UnreadableAnswer",
            "UnrecognizedClientException",
            "ValidationException",
        ];
        let remedies: Vec<_> = codes
            .iter()
            .map(|code| Refusal::from_code(code).to_error("", context(false, CredentialSources::Function)))
            .map(|error| format!("{}; {}", error.code, error.remedy))
            .collect();
        insta::assert_snapshot!(remedies.join("\n"), @r"
        AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default
        BinarySecret; it holds bytes, but variables hold text; store it as text (SecretString)
        ConnectionFailed; AWS cannot be reached; a function in a VPC needs a NAT gateway or an interface endpoint for the service, and a security group that allows outbound traffic to port 443
        DecryptionFailure; allow the function's role kms:Decrypt on its key, and check that the key is enabled
        InternalServiceError; look up the code in the service's AWS API reference
        InvalidRequest; it has no valid endpoint; check the ARN's region, AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT
        InvalidRequestException; it has no current value or is scheduled for deletion; check it in the console
        NoAnswer; AWS's response omits it; check the ARN's region, account and name
        NoClient; the HTTP client cannot be set up; check HTTPS_PROXY and HTTP_PROXY
        ResourceNotFoundException; it does not exist; check the ARN's region, account and name
        ThrottlingException; AWS throttles the account's calls, the extension retries during later invocations; if this persists, request a higher quota
        Timeout; no answer yet, the extension retries during later invocations; if this persists, a function in a VPC needs a NAT gateway or an interface endpoint for the service, and a security group that allows outbound traffic to port 443
        UnreadableAnswer; the response is not from AWS; check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's DNS servers
        UnrecognizedClientException; AWS rejects the credentials; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which only Lambda should set
        ValidationException; AWS rejects the ARN; copy it from the console
        ");
    }
}
