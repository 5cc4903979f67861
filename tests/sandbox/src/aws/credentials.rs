//! The sources of credentials: the container endpoint, the instance metadata service, and STS and SSO for clients with a token.
//! All return the same keys.

use http::Method;
use http::request::Parts;
use serde_json::json;

use super::{CONTAINER_TOKEN, CREDENTIALS_PATH, Keys};
use crate::web;

/// The token of a web identity and of an SSO session.
pub(super) const IDENTITY_TOKEN: &str = "identity-token";
const METADATA_TOKEN: &str = "metadata-token";
const METADATA_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "role";
const EXPIRATION: &str = "2099-01-01T00:00:00Z";
const EXPIRATION_MILLIS: u64 = 4_070_908_800_000;

/// Returns true for a request to one of the sources.
pub(super) fn is_asked(head: &Parts, body: &[u8]) -> bool {
    let path = head.uri.path();
    path == CREDENTIALS_PATH
        || path.starts_with("/latest/")
        || path == "/federation/credentials"
        || form(body, "Action").is_some()
}

/// Returns the answer to a request to one of the sources.
pub(super) fn reply(head: &Parts, body: &[u8], keys: &Keys) -> Result<web::Answer, (u16, &'static str)> {
    let header = |name| web::header(&head.headers, name);
    let allowed = |given: Option<&str>, token: &str| {
        if given == Some(token) { Ok(()) } else { Err((401, "InvalidAuthorizationToken")) }
    };
    let role = format!("{METADATA_PATH}{ROLE}");
    match (&head.method, head.uri.path()) {
        (_, CREDENTIALS_PATH) => {
            allowed(header("authorization"), CONTAINER_TOKEN)?;
            Ok(web::json(200, &document(keys)))
        }
        (&Method::PUT, "/latest/api/token") => {
            let mut answer = web::text("text/plain", METADATA_TOKEN);
            let seconds = http::HeaderValue::from_static("21600");
            answer.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", seconds);
            Ok(answer)
        }
        (_, METADATA_PATH) => {
            allowed(header("x-aws-ec2-metadata-token"), METADATA_TOKEN)?;
            Ok(web::text("text/plain", ROLE))
        }
        (_, path) if path == role => {
            allowed(header("x-aws-ec2-metadata-token"), METADATA_TOKEN)?;
            Ok(web::json(200, &document(keys)))
        }
        (_, "/federation/credentials") => {
            allowed(header("x-amz-sso_bearer_token"), IDENTITY_TOKEN)?;
            Ok(web::json(
                200,
                &json!({ "roleCredentials": {
                    "accessKeyId": keys.access_key_id, "secretAccessKey": keys.secret_access_key,
                    "sessionToken": keys.session_token, "expiration": EXPIRATION_MILLIS,
                } }),
            ))
        }
        _ if form(body, "Action").as_deref() == Some("AssumeRoleWithWebIdentity") => {
            allowed(form(body, "WebIdentityToken").as_deref(), IDENTITY_TOKEN)?;
            Ok(web::text("text/xml", &assumed(keys)))
        }
        _ => Err((404, "NotFound")),
    }
}

fn document(keys: &Keys) -> serde_json::Value {
    json!({
        "Code": "Success", "AccessKeyId": keys.access_key_id, "SecretAccessKey": keys.secret_access_key,
        "Token": keys.session_token, "Expiration": EXPIRATION,
    })
}

fn assumed(keys: &Keys) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
         <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{EXPIRATION}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>",
        keys.access_key_id, keys.secret_access_key, keys.session_token
    )
}

/// A field of a form. No value used here needs decoding.
fn form(body: &[u8], name: &str) -> Option<String> {
    let fields = std::str::from_utf8(body).ok()?.split('&');
    fields
        .filter_map(|field| field.split_once('='))
        .find(|field| field.0 == name)
        .map(|field| field.1.to_owned())
}
