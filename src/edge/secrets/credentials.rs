//! The function's credentials: from its variables, or from the endpoint that they name.

use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_ssm::config::Credentials;
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Url};
use serde::Deserialize;

use super::client::{direct, set};
use super::refusal::Refusal;
use crate::core::config::Variables;
use crate::edge::http::read_body;

/// What the credentials say of where they are from.
const PROVIDER: &str = "rotel";

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of attempts in a round. The endpoint is on this machine.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; twice as long before the third.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);

/// What of an answer is read at most: it is a few hundred bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Where a relative URI is meant, as the AWS SDKs have it.
const RELATIVE_TO: &str = "http://169.254.170.2";

/// Those of the variables, or else those of the container endpoint.
///
/// Platform: under SnapStart there are no keys in the environment but the endpoint, which answers with fresh ones after
/// a restore.
pub(super) async fn find(variables: &Variables) -> Result<Credentials, Refusal> {
    let key = set(variables, "AWS_ACCESS_KEY_ID");
    if let Some((key, secret)) = key.zip(set(variables, "AWS_SECRET_ACCESS_KEY")) {
        let token = set(variables, "AWS_SESSION_TOKEN").map(str::to_owned);
        return Ok(Credentials::new(key, secret, token, None, PROVIDER));
    }
    let relative = set(variables, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let url = match relative {
        Some(path) => format!("{RELATIVE_TO}{path}"),
        None => set(variables, "AWS_CONTAINER_CREDENTIALS_FULL_URI")
            .ok_or_else(Refusal::no_credentials)?
            .to_owned(),
    };
    let url = Url::parse(&url).ok().filter(keeps_the_token).ok_or_else(Refusal::bad_credentials_endpoint)?;
    let token = set(variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN").map(HeaderValue::from_str).transpose();
    let token = token.map_err(|_| Refusal::bad_credentials_endpoint())?;
    // The endpoint is on this machine: no proxy leads there.
    let client = direct()?.timeout(ATTEMPT_TIMEOUT).build().map_err(|_| Refusal::no_client())?;
    Endpoint { client, url, token }.ask().await
}

/// Whether a token sent there stays on this machine or is encrypted.
fn keeps_the_token(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    url.scheme() == "https"
        || host == "localhost"
        || match host.trim_matches(['[', ']']).parse() {
            Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
            Ok(IpAddr::V6(ip)) => ip.is_loopback(),
            Err(_) => false,
        }
}

/// A container credentials endpoint.
struct Endpoint {
    client: Client,
    url: Url,
    token: Option<HeaderValue>,
}

/// Its answer. What else is in it does not concern us: the credentials live for hours, a resolution for seconds.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

impl Endpoint {
    /// Asks a few times; the budget of the round may end it earlier.
    async fn ask(&self) -> Result<Credentials, Refusal> {
        let mut backoff = INITIAL_BACKOFF;
        for attempt in 1..=ATTEMPTS {
            match self.attempt().await {
                Attempt::Answered(credentials) => return Ok(credentials),
                Attempt::Refused => return Err(Refusal::bad_credentials_endpoint()),
                Attempt::Failed if attempt == ATTEMPTS => break,
                Attempt::Failed => tokio::time::sleep(backoff).await,
            }
            backoff *= 2;
        }
        Err(Refusal::no_credentials_in_time())
    }

    async fn attempt(&self) -> Attempt {
        let mut request = self.client.get(self.url.clone());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let Ok(answer) = request.send().await else { return Attempt::Failed };
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Attempt::Failed;
        }
        if !status.is_success() {
            return Attempt::Refused;
        }
        let answer: http::Response<reqwest::Body> = answer.into();
        let Ok(body) = read_body(&mut answer.into_body(), ANSWER_LIMIT).await else { return Attempt::Failed };
        match serde_json::from_slice(&body) {
            Ok(Answer { access_key_id, secret_access_key, token }) => {
                Attempt::Answered(Credentials::new(access_key_id, secret_access_key, token, None, PROVIDER))
            }
            Err(_) => Attempt::Refused,
        }
    }
}

enum Attempt {
    Answered(Credentials),
    /// Asking again would be answered the same.
    Refused,
    Failed,
}
