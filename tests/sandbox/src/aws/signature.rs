//! Signature Version 4, checked as AWS does: a signed header that was changed in transit is detected.

use std::fmt::Write as _;

use http::request::Parts;
use ring::{digest, hmac};

use super::Keys;
use crate::web;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The content of a valid signature.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) access_key_id: String,
    pub(super) region: String,
    pub(super) service: String,
}

impl Signature {
    /// Recomputes the signature; returns an AWS error code if it differs from the one received.
    pub(super) fn check(head: &Parts, body: &[u8], keys: &[Keys]) -> Result<Self, &'static str> {
        let authorization =
            web::header(&head.headers, "authorization").ok_or("MissingAuthenticationTokenException")?;
        let field = |name: &str| {
            let start = authorization.find(&format!("{name}="))? + name.len() + 1;
            authorization.get(start..)?.split(',').next()
        };
        let incomplete = "IncompleteSignatureException";
        let credential = field("Credential").ok_or(incomplete)?;
        let signed_headers = field("SignedHeaders").ok_or(incomplete)?;
        let signature = field("Signature").ok_or(incomplete)?;
        let mut parts = credential.split('/');
        let mut part = || parts.next().ok_or(incomplete);
        let (access_key_id, date, region, service) = (part()?, part()?, part()?, part()?);
        let keys = keys.iter().find(|keys| keys.access_key_id == access_key_id);
        let keys = keys.ok_or("UnrecognizedClientException")?;
        if web::header(&head.headers, "x-amz-security-token") != Some(keys.session_token) {
            return Err("UnrecognizedClientException");
        }
        let time = web::header(&head.headers, "x-amz-date").ok_or(incomplete)?;
        let request = canonical(head, signed_headers, body);
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256(request.as_bytes()));
        let mut key = format!("AWS4{}", keys.secret_access_key).into_bytes();
        for part in [date, region, service, "aws4_request", &text] {
            key = sign(&key, part);
        }
        if hex(&key) != signature {
            return Err("InvalidSignatureException");
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }
}

fn canonical(head: &Parts, signed_headers: &str, body: &[u8]) -> String {
    let query = head.uri.query().unwrap_or_default();
    let line = |name| format!("{name}:{}\n", web::header(&head.headers, name).unwrap_or_default().trim());
    let headers: String = signed_headers.split(';').map(line).collect();
    let body = sha256(body);
    format!("{}\n{}\n{query}\n{headers}\n{signed_headers}\n{body}", head.method, head.uri.path())
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
