//! Why there is no value: AWS's error code or one of ours, and the remedy.

use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use crate::core::secret_ref::Service;

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

const NETWORK: &str = "no answer from AWS; a function in a VPC needs a NAT gateway or an interface endpoint of the \
    service, and a security group that lets it out to port 443";
const NOT_AWS: &str =
    "what answered is not AWS; check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's name servers";
const CREDENTIALS: &str = "AWS does not know these credentials; see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
    AWS_SESSION_TOKEN, which Lambda sets and nothing else should";
const NO_CREDENTIALS: &str = "there are no credentials; Lambda sets them, elsewhere set AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY";
const CREDENTIALS_ENDPOINT: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI with AWS_CONTAINER_AUTHORIZATION_TOKEN leads to no \
    credentials; leave both as Lambda sets them";
const CREDENTIALS_TIME: &str = "the endpoint of AWS_CONTAINER_CREDENTIALS_FULL_URI did not answer in time; leave it as \
    Lambda sets it";

/// Why one secret, or all of a call, were not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: String,
    /// Whether the same call may go well a little later.
    passing: bool,
    /// Where the code alone does not tell it.
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
                    Some(code) => Self::of_code(code),
                    // The SDK tells what it cannot read as an error of the service, whatever the status.
                    None if status.is_success() => Self::ours("UnreadableAnswer"),
                    None => {
                        Self { remedy: Some(NOT_AWS), ..Self::of_code(&format!("Http{}", status.as_u16())) }
                    }
                };
                Self { passing: refusal.passing || status.is_server_error(), ..refusal }
            }
            SdkError::TimeoutError(_) => Self::timeout(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::timeout(),
            SdkError::DispatchFailure(failure) if failure.is_io() => {
                Self { passing: true, ..Self::ours("ConnectionFailed") }
            }
            SdkError::ResponseError(_) => Self::ours("UnreadableAnswer"),
            _ => Self::ours("InvalidRequest"),
        }
    }

    /// No answer within the budget.
    pub(super) fn timeout() -> Self {
        Self { passing: true, ..Self::ours("Timeout") }
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

    /// There is nothing to look for credentials in.
    pub(super) fn no_credentials() -> Self {
        Self { remedy: Some(NO_CREDENTIALS), ..Self::ours("NoCredentials") }
    }

    /// The endpoint for credentials is none.
    pub(super) fn bad_credentials_endpoint() -> Self {
        Self { remedy: Some(CREDENTIALS_ENDPOINT), ..Self::ours("NoCredentials") }
    }

    /// The endpoint for credentials has not answered within the budget.
    pub(super) fn no_credentials_in_time() -> Self {
        Self { remedy: Some(CREDENTIALS_TIME), ..Self::ours("NoCredentials") }
    }

    fn ours(code: &str) -> Self {
        Self { code: code.to_owned(), passing: THROTTLED.contains(&code), remedy: None }
    }

    /// Whether a call for the same secrets one by one may go better.
    pub(super) fn may_concern_one(&self) -> bool {
        MAY_CONCERN_ONE.contains(&self.code.as_str())
    }

    /// Whether the same call may go well a little later.
    pub(super) fn may_pass(&self) -> bool {
        self.passing
    }

    pub(super) fn into_code(self) -> String {
        self.code
    }

    pub(super) fn remedy(&self, service: Service) -> &'static str {
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
            ("Timeout" | "ConnectionFailed", _) => NETWORK,
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
                "AWS throttles the account's calls; ask for a higher limit or start fewer functions at once"
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
    fn a_code_that_is_no_word_is_not_repeated() {
        assert_eq!(Refusal::of_code("AccessDeniedException").code, "AccessDeniedException");
        for wrong in ["", "key=hunter2", "two words", &"a".repeat(65)] {
            assert_eq!(Refusal::of_code(wrong).code, "UnknownError", "{wrong:?}");
        }
    }

    #[test]
    fn a_fault_says_what_to_do() {
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
            "UnreadableAnswer",
            "UnrecognizedClientException",
            "ValidationException",
        ];
        let told: Vec<_> = codes
            .iter()
            .map(|code| format!("{code}; {}", Refusal::of_code(code).remedy(Service::ParameterStore)))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default
        BinarySecret; it holds bytes, which fit in no variable; store it as text (SecretString)
        ConnectionFailed; no answer from AWS; a function in a VPC needs a NAT gateway or an interface endpoint of the service, and a security group that lets it out to port 443
        DecryptionFailure; allow the function's role kms:Decrypt on its key, and see that the key is enabled
        InternalServiceError; look the code up in the AWS API reference of the service
        InvalidRequest; no endpoint fits it; check the ARN's region, AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT
        InvalidRequestException; it has no current value or is scheduled for deletion; see it in the console
        NoAnswer; AWS said nothing of it; check the ARN's region, account and name
        NoClient; the HTTP client cannot be set up; check HTTPS_PROXY and HTTP_PROXY
        ResourceNotFoundException; it is not there; check the ARN's region, account and name
        ThrottlingException; AWS throttles the account's calls; ask for a higher limit or start fewer functions at once
        UnreadableAnswer; what answered is not AWS; check AWS_ENDPOINT_URL, HTTPS_PROXY and the VPC's name servers
        UnrecognizedClientException; AWS does not know these credentials; see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which Lambda sets and nothing else should
        ValidationException; AWS does not take the ARN; copy it from the console
        ");
    }
}
