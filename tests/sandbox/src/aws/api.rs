//! The three operations, as in the AWS API references.

use std::collections::BTreeMap;

use http::request::Parts;
use serde_json::{Value, json};

use super::{Action, Call, Held};
use crate::web;

/// The length of the suffix after a secret's name in its ARN: a hyphen and six letters or digits.
const SUFFIX_LEN: usize = 7;
/// The most names that GetParameters accepts.
const NAMES_LIMIT: usize = 10;
/// The most secrets that BatchGetSecretValue accepts.
const SECRETS_LIMIT: usize = 20;

type Outcome = Result<Value, (u16, &'static str)>;

impl Action {
    /// The service, as the scope of a signature names it.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::BatchGetSecretValue | Self::GetSecretValue => "secretsmanager",
            Self::GetParameters => "ssm",
            Self::Credentials => "",
        }
    }
}

/// The operation of a request.
pub(super) fn action(head: &Parts) -> Option<Action> {
    match web::header(&head.headers, "x-amz-target")? {
        "secretsmanager.BatchGetSecretValue" => Some(Action::BatchGetSecretValue),
        "secretsmanager.GetSecretValue" => Some(Action::GetSecretValue),
        "AmazonSSM.GetParameters" => Some(Action::GetParameters),
        _ => None,
    }
}

/// The ids in a request.
pub(super) fn ids(action: Action, asked: &Value) -> Vec<String> {
    let list = |name| asked.get(name).and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<_> = match action {
        Action::BatchGetSecretValue => list("SecretIdList").collect(),
        Action::GetSecretValue => asked.get("SecretId").into_iter().collect(),
        Action::GetParameters => list("Names").collect(),
        Action::Credentials => Vec::new(),
    };
    ids.into_iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns the answer to a call.
pub(super) fn reply(held: &BTreeMap<String, Held>, call: &Call, asked: &Value) -> Outcome {
    match call.action {
        Action::GetSecretValue => {
            let id = call.ids.first().ok_or((400, "InvalidParameterException"))?;
            match secret(held, call, id) {
                Some((_, Held::Refused(code))) => Err((400, code)),
                Some((arn, held)) => Ok(entry(arn, held)),
                None => Err((400, "ResourceNotFoundException")),
            }
        }
        Action::BatchGetSecretValue if call.ids.len() > SECRETS_LIMIT => {
            Err((400, "InvalidParameterException"))
        }
        Action::BatchGetSecretValue => {
            let (mut values, mut errors) = (Vec::new(), Vec::new());
            for id in &call.ids {
                let error = |code| json!({ "SecretId": id, "ErrorCode": code, "Message": "by the test" });
                match secret(held, call, id) {
                    Some((_, Held::Refused(code))) => errors.push(error(*code)),
                    Some((arn, held)) => values.push(entry(arn, held)),
                    None => errors.push(error("ResourceNotFoundException")),
                }
            }
            Ok(json!({ "SecretValues": values, "Errors": errors }))
        }
        Action::GetParameters if call.ids.len() > NAMES_LIMIT => Err((400, "ValidationException")),
        Action::GetParameters => parameters(held, call, asked),
        Action::Credentials => Err((404, "NotFound")),
    }
}

/// Returns an error if access to any of the parameters is denied, as AWS does.
fn parameters(held: &BTreeMap<String, Held>, call: &Call, asked: &Value) -> Outcome {
    let decrypted = asked.get("WithDecryption").and_then(Value::as_bool) == Some(true);
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for id in &call.ids {
        // The id may end in a selector, as in `parameter/name:3`; an ARN has five colons before its name.
        let (arn, selector) = match id.match_indices(':').nth(5) {
            Some((at, _)) => id.split_at(at),
            None => (id.as_str(), ""),
        };
        match held.get(arn).filter(|_| region(arn) == call.region) {
            Some(Held::Refused(code)) => return Err((400, code)),
            Some(Held::Text(value)) => {
                let name = arn.split_once(":parameter").map_or(arn, |(_, name)| name);
                let value = if decrypted { value } else { "AQICAHencrypted" };
                found.push(json!({
                    "Name": name, "Type": "SecureString", "Value": value, "Version": 1, "ARN": arn,
                    "Selector": selector, "DataType": "text", "LastModifiedDate": 1.7e9,
                }));
            }
            Some(Held::Bytes) | None => invalid.push(id),
        }
    }
    Ok(json!({ "Parameters": found, "InvalidParameters": invalid }))
}

/// The secret with this ARN, with or without its suffix, in the region of the call.
fn secret<'a>(held: &'a BTreeMap<String, Held>, call: &Call, id: &str) -> Option<(&'a str, &'a Held)> {
    let of = |arn: &str| {
        let suffix = arn.strip_prefix(id);
        suffix.is_some_and(|suffix| {
            suffix.is_empty() || (suffix.len() == SUFFIX_LEN && suffix.starts_with('-'))
        })
    };
    let here = held.iter().filter(|(arn, _)| region(arn) == call.region);
    here.filter(|(arn, _)| of(arn)).map(|(arn, held)| (arn.as_str(), held)).next()
}

fn entry(arn: &str, held: &Held) -> Value {
    let name = arn.rsplit(':').next().unwrap_or_default();
    let name = name.get(..name.len().saturating_sub(SUFFIX_LEN)).unwrap_or_default();
    let (content, value) = match held {
        Held::Text(text) => ("SecretString", text.as_str()),
        Held::Bytes | Held::Refused(_) => ("SecretBinary", "AAEC"),
    };
    json!({
        "ARN": arn, "Name": name, "VersionId": "a1b2c3d4-0000-4000-8000-000000000000",
        "VersionStages": ["AWSCURRENT"], "CreatedDate": 1.7e9, content: value,
    })
}

/// `eu-west-1` of `arn:aws:ssm:eu-west-1:…`.
fn region(arn: &str) -> &str {
    arn.split(':').nth(3).unwrap_or_default()
}
