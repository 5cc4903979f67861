//! Why there is no value: AWS's error code or one of ours, and the remedy.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use super::{CredentialSources, Recovery, SecretError};
use rotel_core::config::secret_ref::Service;

/// Error codes of AWS are words.
const CODE_LIMIT: usize = 64;

/// Codes of whole calls that one of the secrets asked for may be the reason of.
const MAY_CONCERN_ONE: [&str; 7] = [
    "AccessDeniedException",
    "DecryptionFailure",
    "InvalidKeyId",
    "InvalidParameterException",
    "InvalidRequestException",
    "ResourceNotFoundException",
    "ValidationException",
];

/// Codes that say: not now.
const THROTTLED: [&str; 4] =
    ["ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException"];

/// Codes that the same environment gets every time.
const FINAL: [&str; 4] = ["InvalidParameterException", "InvalidRequest", "NoClient", "ValidationException"];

const NETWORK: &str = "AWS cannot be reached; a function in a VPC needs a NAT gateway or an interface endpoint of the \
    service, and a security group that lets it out to port 443";
const TIMEOUT: &str = "no answer yet, the extension tries again during later invocations; if it stays so, a function in a \
    VPC needs a NAT gateway or an interface endpoint of the service, and a security group that lets it out to port 443";
const FAILING: &str = "the service fails, the extension tries again during later invocations; if it stays so, see the AWS \
    Health Dashboard";
const FAILING_OR_NOT_AWS: &str = "the service fails, the extension tries again during later invocations; if it stays so, \
    check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's name servers";
const NOT_AWS: &str =
    "what answered is not AWS; check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's name servers";
const CREDENTIALS: &str = "AWS does not know these credentials; see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
    AWS_SESSION_TOKEN, which Lambda sets and nothing else should";
const NO_CREDENTIALS: &str = "there are no credentials; Lambda sets them, elsewhere set AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY";
const NO_CREDENTIALS_OF_CLI: &str = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set \
    AWS_PROFILE to a profile that has some";
const CREDENTIALS_ENDPOINT: &str = "the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI gives no credentials; leave it and \
    AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them";
const CREDENTIALS_TIME: &str = "no credentials yet from the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI, the extension \
    tries again during later invocations; leave the variable as Lambda sets it";
const CREDENTIALS_OF_CLI: &str = if cfg!(feature = "cli-credentials") {
    "the source of the credentials fails; run `aws sts get-caller-identity` with the same variables to see why"
} else {
    "the source of the credentials fails; run `aws sts get-caller-identity` with the same variables to see why; this build \
        leaves out SSO and credential_process, `make build` has them"
};

/// The reason why a call returned no value, for one secret or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: String,
    recovery: Recovery,
    /// Where the code alone does not say it.
    remedy: Option<&'static str>,
}

impl Refusal {
    /// As AWS has it for one secret of a call.
    pub(super) fn of_code(code: &str) -> Self {
        // The code is repeated to people and so must be one.
        let is_code =
            (1..=CODE_LIMIT).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
        Self::ours(if is_code { code } else { "UnknownError" })
    }

    /// As a whole call ended. Nothing of it but the code is kept: the SDK's errors hold the answer's body.
    pub(super) fn of_call<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Self {
        match error {
            SdkError::ServiceError(error) => {
                let status = error.raw().status();
                let refusal = match error.err().code() {
                    Some(code) if status.is_server_error() && !THROTTLED.contains(&code) => {
                        Self { remedy: Some(FAILING), ..Self::of_code(code) }
                    }
                    Some(code) => Self::of_code(code),
                    // The SDK reports an unreadable answer as an error of the service, whatever the status.
                    None if status.is_success() => Self::ours("UnreadableAnswer"),
                    None => {
                        let remedy = if status.is_server_error() { FAILING_OR_NOT_AWS } else { NOT_AWS };
                        Self { remedy: Some(remedy), ..Self::of_code(&format!("Http{}", status.as_u16())) }
                    }
                };
                if status.is_server_error() { refusal.passing() } else { refusal }
            }
            SdkError::TimeoutError(_) => Self::timeout(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::timeout(),
            SdkError::DispatchFailure(failure) if failure.is_io() => Self::ours("ConnectionFailed").passing(),
            SdkError::ResponseError(_) => Self::ours("UnreadableAnswer"),
            _ => Self::ours("InvalidRequest"),
        }
    }

    /// No answer within the budget, or the environment was frozen meanwhile.
    pub(super) fn timeout() -> Self {
        Self::ours("Timeout").passing()
    }

    /// A secret of bytes.
    pub(super) fn binary() -> Self {
        Self::ours("BinarySecret")
    }

    /// AWS answered without a word on it.
    pub(super) fn left_out() -> Self {
        Self::ours("NoAnswer")
    }

    /// The HTTP client cannot be set up.
    pub(super) fn no_client() -> Self {
        Self::ours("NoClient")
    }

    /// No source gave credentials. The error itself may hold what a source answered, and is not kept.
    pub(super) fn of_credentials(error: &CredentialsError, sources: CredentialSources) -> Self {
        use CredentialsError::{CredentialsNotLoaded, InvalidConfiguration, ProviderError};
        match error {
            CredentialsNotLoaded(_) => {
                let remedy = match sources {
                    CredentialSources::Function => NO_CREDENTIALS,
                    CredentialSources::Cli => NO_CREDENTIALS_OF_CLI,
                };
                Self { remedy: Some(remedy), ..Self::ours("NoCredentials") }
            }
            InvalidConfiguration(_) | ProviderError(_) => Self::bad_credentials_source(sources),
            // No answer, or one that is cut off.
            _ => Self::no_credentials_in_time(sources),
        }
    }

    /// The source of the credentials refuses, or its variables are wrong.
    pub(super) fn bad_credentials_source(sources: CredentialSources) -> Self {
        let remedy = match sources {
            CredentialSources::Function => CREDENTIALS_ENDPOINT,
            CredentialSources::Cli => CREDENTIALS_OF_CLI,
        };
        Self { remedy: Some(remedy), ..Self::ours("NoCredentials") }
    }

    /// The source of the credentials fails, or has not answered within the budget.
    pub(super) fn no_credentials_in_time(sources: CredentialSources) -> Self {
        match sources {
            CredentialSources::Function => {
                Self { remedy: Some(CREDENTIALS_TIME), ..Self::ours("NoCredentials") }.passing()
            }
            CredentialSources::Cli => Self::bad_credentials_source(sources),
        }
    }

    fn ours(code: &str) -> Self {
        let recovery = if THROTTLED.contains(&code) {
            Recovery::Soon
        } else if FINAL.contains(&code) {
            Recovery::Never
        } else {
            Recovery::OnceFixed
        };
        Self { code: code.to_owned(), recovery, remedy: None }
    }

    fn passing(self) -> Self {
        Self { recovery: Recovery::Soon, ..self }
    }

    /// The same for one secret of a refused batch: alone it may be answered.
    pub(super) fn for_one_of_several(&self) -> Self {
        self.clone().passing()
    }

    /// Returns true if calls for the same secrets one by one may succeed.
    pub(super) fn may_concern_one(&self) -> bool {
        MAY_CONCERN_ONE.contains(&self.code.as_str())
    }

    /// Returns true if another call may succeed.
    pub(super) fn may_pass(&self) -> bool {
        self.recovery != Recovery::Never
    }

    pub(super) fn is_timeout(&self) -> bool {
        self.code == "Timeout"
    }

    pub(super) fn is_of_network(&self) -> bool {
        self.code == "ConnectionFailed"
    }

    /// As people read it.
    pub(super) fn error(&self, arn: &str, service: Service) -> SecretError {
        SecretError {
            arn: arn.to_owned(),
            code: self.code.clone(),
            remedy: self.remedy(service),
            recovery: self.recovery,
        }
    }

    fn remedy(&self, service: Service) -> &'static str {
        if let Some(remedy) = self.remedy {
            return remedy;
        }
        match (self.code.as_str(), service) {
            ("AccessDeniedException", Service::SecretsManager) => {
                "allow the function's role secretsmanager:GetSecretValue on it, and kms:Decrypt on its key if that is \
                 not the account's default"
            }
            ("AccessDeniedException", Service::ParameterStore) => {
                "allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the \
                 account's default"
            }
            ("DecryptionFailure" | "InvalidKeyId", _) => {
                "allow the function's role kms:Decrypt on its key, and see that the key is enabled"
            }
            ("ResourceNotFoundException" | "ParameterNotFound", _) => {
                "it is not there; check the ARN's region, account and name"
            }
            ("NoAnswer", _) => "AWS said nothing of it; check the ARN's region, account and name",
            ("InvalidParameterException" | "ValidationException", _) => {
                "AWS does not take the ARN; copy it from the console"
            }
            ("InvalidRequestException", _) => {
                "it has no current value or is scheduled for deletion; see it in the console"
            }
            ("BinarySecret", _) => {
                "it holds bytes, which fit in no variable; store it as text (SecretString)"
            }
            ("ConnectionFailed", _) => NETWORK,
            ("Timeout", _) => TIMEOUT,
            (
                "ExpiredTokenException"
                | "IncompleteSignature"
                | "InvalidClientTokenId"
                | "InvalidSignatureException"
                | "MissingAuthenticationToken"
                | "UnrecognizedClientException",
                _,
            ) => CREDENTIALS,
            (code, _) if THROTTLED.contains(&code) => {
                "AWS throttles the account's calls, the extension tries again during later invocations; if it stays so, \
                 request a higher quota"
            }
            ("UnreadableAnswer", _) => NOT_AWS,
            ("InvalidRequest", _) => {
                "no endpoint fits it; check the ARN's region, AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT"
            }
            ("NoClient", _) => "the HTTP client cannot be set up; check HTTPS_PROXY and HTTP_PROXY",
            _ => "look the code up in the AWS API reference of the service",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_is_no_word_is_not_repeated() {
        assert_eq!(Refusal::of_code("AccessDeniedException").code, "AccessDeniedException");
        for wrong in ["", "key=hunter2", "two words", &"a".repeat(65)] {
            assert_eq!(Refusal::of_code(wrong).code, "UnknownError", "{wrong:?}");
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
            .map(|code| format!("{code}; {}", Refusal::of_code(code).remedy(Service::ParameterStore)))
            .collect();
        insta::assert_snapshot!(remedies.join("\n"), @r"
        AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default
        BinarySecret; it holds bytes, which fit in no variable; store it as text (SecretString)
        ConnectionFailed; AWS cannot be reached; a function in a VPC needs a NAT gateway or an interface endpoint of the service, and a security group that lets it out to port 443
        DecryptionFailure; allow the function's role kms:Decrypt on its key, and see that the key is enabled
        InternalServiceError; look the code up in the AWS API reference of the service
        InvalidRequest; no endpoint fits it; check the ARN's region, AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT
        InvalidRequestException; it has no current value or is scheduled for deletion; see it in the console
        NoAnswer; AWS said nothing of it; check the ARN's region, account and name
        NoClient; the HTTP client cannot be set up; check HTTPS_PROXY and HTTP_PROXY
        ResourceNotFoundException; it is not there; check the ARN's region, account and name
        ThrottlingException; AWS throttles the account's calls, the extension tries again during later invocations; if it stays so, request a higher quota
        Timeout; no answer yet, the extension tries again during later invocations; if it stays so, a function in a VPC needs a NAT gateway or an interface endpoint of the service, and a security group that lets it out to port 443
        UnreadableAnswer; what answered is not AWS; check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's name servers
        UnrecognizedClientException; AWS does not know these credentials; see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which Lambda sets and nothing else should
        ValidationException; AWS does not take the ARN; copy it from the console
        ");
    }
}
