//! Secret references in a text: `${arn:…}` and `$<arn:…>` anywhere, or `secret://arn:…` as the whole text. A secret in the
//! function's region may be named: `${secretsmanager:NAME}`.
//!
//! Decides which texts are valid references, which references are fetched together, and which part of a secret a reference
//! selects. Promises that messages contain nothing of a secret or of the text around a reference. Leaves fetching to
//! `edge::secrets`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::echo;
use crate::secret::Secret;

/// The maximum number of secrets in one call. Platform: `BatchGetSecretValue` and `GetParameters` accept at most ten names.
pub const BATCH_LIMIT: usize = 10;

/// The fetched secrets, each whole, by ARN.
pub type Secrets = BTreeMap<Arn, Secret>;

/// The AWS service that stores a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    SecretsManager,
    /// The Parameter Store of AWS Systems Manager.
    ParameterStore,
}

impl Service {
    /// The URL of its public endpoint in a region.
    pub fn url(self, region: &str) -> String {
        let name = match self {
            Self::SecretsManager => "secretsmanager",
            Self::ParameterStore => "ssm",
        };
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{name}.{region}.{domain}")
    }
}

/// The ARN of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    pub service: Service,
    /// Empty for a secret that is named without a region: then it is in the function's.
    pub region: String,
    /// The whole ARN, which both services also accept as the secret's name. A version of a secret follows it as in task
    /// definitions of ECS: `ARN::STAGE:` or `ARN:::ID`.
    pub text: String,
}

/// One secret reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    pub arn: Arn,
    /// The top-level key of a JSON secret; `None` selects the whole secret.
    pub key: Option<String>,
}

/// The secrets to fetch with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretBatch {
    pub service: Service,
    pub region: String,
    /// At most [`BATCH_LIMIT`] distinct ARNs.
    pub arns: Vec<Arn>,
}

/// The reason why a key's value cannot be extracted from a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// The secret is not a JSON object.
    #[error(
        "the secret is not a JSON object, so it has no key {key:?}; store it as JSON, or remove \"#{key}\" to use the whole secret",
        key = echo::name(.0)
    )]
    NotAnObject(String),
    /// The key is missing.
    #[error("the secret has no key {:?}; check its spelling and case", echo::name(.0))]
    Missing(String),
    /// The value is null, a list or an object.
    #[error(
        "the secret's key {:?} is not a string, number or boolean; store the value as a JSON string",
        echo::name(.0)
    )]
    NotText(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) if is_shown(key) => write!(f, "{}#{key}", self.arn.text),
            Some(_) => write!(f, "{}#…", self.arn.text),
            None => f.write_str(&self.arn.text),
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The reason why a reference has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// The secret was not fetched. Its error says why.
    NotFetched,
    /// The secret has no such value: cause and remedy.
    Unusable(String),
}

impl SecretRef {
    /// The value that it selects. Fails if the secret was not fetched or lacks the key.
    pub fn value(&self, secrets: &Secrets) -> Result<Secret, NoValue> {
        let secret = secrets.get(&self.arn).ok_or(NoValue::NotFetched)?;
        extract(secret.expose(), self.key.as_deref())
            .map(Secret::new)
            .map_err(|error| NoValue::Unusable(format!("{}: {error}", self.arn)))
    }
}

/// Returns true for a key that a message may repeat. If a closing brace is missing, the text after it looks like a key.
fn is_shown(key: &str) -> bool {
    key.len() <= KEY_SHOWN && key.chars().all(|c| c.is_alphanumeric() || " -_./@+:".contains(c))
}

/// Returns all references in a text, in order; or the cause and the remedy for the first malformed one.
pub fn find(text: &str) -> Result<Vec<SecretRef>, String> {
    if !text.trim_start().starts_with(WHOLE) && text.contains("secret://arn:") {
        return Err(
            "secret:// must be the whole value, but there is text around it; use ${arn:…} instead".to_owned()
        );
    }
    let found: Vec<_> = Occurrences::of(text)
        .take(REFERENCE_LIMIT + 1)
        .map(|occurrence| occurrence.reference)
        .collect::<Result<_, _>>()?;
    if found.len() > REFERENCE_LIMIT {
        return Err(format!("has more than {REFERENCE_LIMIT} secret references; use fewer"));
    }
    Ok(found)
}

/// Replaces each reference by its `value`. References without a value and malformed ones stay unchanged. Inserted values are
/// not searched again.
pub fn fill<'v>(text: &str, value: impl Fn(&SecretRef) -> Option<&'v str>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut occurrences = Occurrences::of(text);
    for Occurrence { before, raw, reference } in occurrences.by_ref() {
        filled.push_str(before);
        filled.push_str(reference.ok().and_then(|reference| value(&reference)).unwrap_or(raw));
    }
    filled.push_str(occurrences.rest);
    filled
}

/// Returns true if a text is one valid reference and nothing else, so that it may be printed.
pub fn is_single_reference(text: &str) -> bool {
    let mut occurrences = Occurrences::of(text.trim());
    let first = occurrences
        .next()
        .filter(|occurrence| occurrence.before.is_empty())
        .and_then(|occurrence| occurrence.reference.ok())
        .is_some_and(|reference| reference.key.is_none_or(|key| is_shown(&key)));
    first && occurrences.rest.is_empty()
}

/// Returns true if a text ends within a reference, so that a comma after it is part of a key.
pub fn is_open(text: &str) -> bool {
    STARTS.iter().any(|start| {
        let closing = if start.starts_with("${") { '}' } else { '>' };
        text.rfind(start).is_some_and(|at| text.get(at..).is_some_and(|from| !from.contains(closing)))
    })
}

/// Groups the distinct ARNs into the fewest calls, by service and region, in sorted order.
pub fn batches<'r>(references: impl IntoIterator<Item = &'r SecretRef>) -> Vec<SecretBatch> {
    let mut arns: Vec<&Arn> = references.into_iter().map(|reference| &reference.arn).collect();
    arns.sort_unstable();
    arns.dedup();
    arns.chunk_by(|a, b| (a.service, &a.region) == (b.service, &b.region))
        .flat_map(|alike| alike.chunks(BATCH_LIMIT))
        .filter_map(|chunk| {
            let first = chunk.first()?;
            let arns = chunk.iter().map(|arn| (*arn).clone()).collect();
            Some(SecretBatch { service: first.service, region: first.region.clone(), arns })
        })
        .collect()
}

/// The keys of a JSON secret that a message may repeat, joined; `None` if the secret is not a JSON object.
pub fn shown_keys(secret: &str) -> Option<String> {
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(secret).ok()?;
    let shown = object.keys().filter(|key| echo::is_name(key)).take(8);
    Some(shown.map(String::as_str).collect::<Vec<_>>().join(", ")).filter(|keys| !keys.is_empty())
}

/// Extracts the value of a key from a JSON secret: a string without quotes, a number or boolean as written. Without a key,
/// returns the whole secret.
pub fn extract(secret: &str, key: Option<&str>) -> Result<String, ExtractError> {
    let Some(key) = key else { return Ok(secret.to_owned()) };
    // Raw values preserve the digits of numbers.
    let object: BTreeMap<String, &RawValue> =
        serde_json::from_str(secret).map_err(|_| ExtractError::NotAnObject(key.to_owned()))?;
    let raw = object.get(key).ok_or_else(|| ExtractError::Missing(key.to_owned()))?.get();
    match serde_json::from_str(raw) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Number(_) | Value::Bool(_)) => Ok(raw.to_owned()),
        _ => Err(ExtractError::NotText(key.to_owned())),
    }
}

const WHOLE: &str = "secret://";
/// The starts of references within a text.
const STARTS: [&str; 4] = ["${arn:", "$<arn:", "${secretsmanager:", "$<secretsmanager:"];
/// The prefix of secrets as collectors write it, before an ARN or a name.
const PREFIX: &str = "secretsmanager:";
/// The maximum number of references in one value.
const REFERENCE_LIMIT: usize = 100;
/// The longest key that a message repeats.
const KEY_SHOWN: usize = 64;
const INCOMPLETE: &str = "a secret reference is not a complete ARN; use arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX \
                         or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME";

/// A reference in a text, with the text before it.
struct Occurrence<'t> {
    before: &'t str,
    /// The reference with its delimiters.
    raw: &'t str,
    reference: Result<SecretRef, String>,
}

/// An iterator over the references in a text.
struct Occurrences<'t> {
    /// The text after the last reference found.
    rest: &'t str,
    at_start: bool,
}

impl<'t> Occurrences<'t> {
    fn of(text: &'t str) -> Self {
        Self { rest: text, at_start: true }
    }
}

impl<'t> Iterator for Occurrences<'t> {
    type Item = Occurrence<'t>;

    fn next(&mut self) -> Option<Occurrence<'t>> {
        let text = self.rest;
        let at_start = std::mem::replace(&mut self.at_start, false);
        if let Some(arn) = text.trim_start().strip_prefix(WHOLE).filter(|_| at_start) {
            self.rest = "";
            return Some(Occurrence { before: "", raw: text, reference: parse(arn.trim_end()) });
        }
        let starts_at =
            |at: usize| text.get(at..).is_some_and(|text| STARTS.iter().any(|start| text.starts_with(start)));
        let (at, _) = text.match_indices('$').find(|(at, _)| starts_at(*at))?;
        let (before, from) = text.split_at_checked(at)?;
        let closing = if from.starts_with("${") { '}' } else { '>' };
        let Some((raw, rest)) = from.find(closing).and_then(|end| from.split_at_checked(end + 1)) else {
            self.rest = "";
            let message =
                format!("a secret reference has no closing {closing:?}; use the form ${{arn:…}} or $<arn:…>");
            return Some(Occurrence { before, raw: from, reference: Err(message) });
        };
        self.rest = rest;
        let inner = raw.get(2..raw.len() - 1).unwrap_or_default();
        Some(Occurrence { before, raw, reference: parse(inner) })
    }
}

/// Parses `arn:partition:service:region:account:resource`, optionally followed by `#key`, or the name of a secret.
fn parse(text: &str) -> Result<SecretRef, String> {
    let (text, may_be_name) = match text.strip_prefix(PREFIX) {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (arn, key) = match text.split_once('#') {
        Some((arn, key)) => (arn, Some(key)),
        None => (text, None),
    };
    // If the closing brace is missing, everything up to the next brace looks like the ARN, including other credentials. So a
    // text with characters that are not allowed in ARNs is not repeated.
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-:!".contains(c);
    if !arn.chars().all(is_allowed) || key.is_some_and(|key| key.contains(char::is_control)) {
        return Err(
            "a secret reference contains a character that is not allowed in ARNs; check its closing brace"
                .to_owned(),
        );
    }
    let (arn, ecs_key) =
        if arn.starts_with("arn:") || !may_be_name { parse_arn(arn)? } else { (named(arn)?, None) };
    let (key, version) = match key {
        Some(key) => split_version(key),
        None => (None, None),
    };
    let key = key.or(ecs_key);
    match (arn.service, key, text.contains('#')) {
        (Service::ParameterStore, _, true) => Err(format!(
            "{arn} is a parameter, but \"#key\" works for Secrets Manager secrets only; remove \"#\" and the key"
        )),
        (_, None, true) if version.is_none() => {
            Err(format!("{arn} has no key after \"#\"; add the key's name, or remove the \"#\""))
        }
        (_, key, _) => {
            let text = arn.text + version.as_deref().unwrap_or_default();
            Ok(SecretRef { arn: Arn { text, ..arn }, key: key.map(str::to_owned) })
        }
    }
}

/// Parses an ARN, and the key that follows it as in task definitions of ECS.
fn parse_arn(arn: &str) -> Result<(Arn, Option<&str>), String> {
    let mut parts = arn.splitn(6, ':');
    let [Some("arn"), Some(partition), Some(service), Some(region), Some(account), Some(resource)] =
        std::array::from_fn(|_| parts.next())
    else {
        return Err(INCOMPLETE.to_owned());
    };
    let service = match service {
        "secretsmanager" => Service::SecretsManager,
        "ssm" => Service::ParameterStore,
        _ => {
            return Err(format!(
                "a secret reference has the unsupported service {}; use secretsmanager or ssm",
                echo::value(service)
            ));
        }
    };
    if partition != "aws" && !partition.starts_with("aws-") {
        return Err(format!(
            "a secret reference has the unknown partition {}; use aws, aws-cn or aws-us-gov",
            echo::value(partition)
        ));
    }
    // Only a complete ARN is printed: any part of an incomplete one may be a credential.
    if !echo::is_name(region) {
        return Err(
            "a secret reference has no valid region; use the secret's region, such as us-east-1".to_owned()
        );
    }
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a secret reference has no valid account; use the twelve-digit account id".to_owned());
    }
    let (kind, example) = match service {
        Service::SecretsManager => ("secret:", "secret:NAME-SUFFIX"),
        Service::ParameterStore => ("parameter/", "parameter/NAME"),
    };
    let Some(name) = resource.strip_prefix(kind).filter(|name| !name.is_empty()) else {
        return Err(format!("a secret reference does not end with {example}; copy the complete ARN"));
    };
    let at = |text: &str| Arn { service, region: region.to_owned(), text: text.to_owned() };
    let after_name = match (service, name.split_once(':')) {
        // A parameter's version or label is part of its name.
        (Service::ParameterStore, _) | (_, None) => return Ok((at(arn), None)),
        (Service::SecretsManager, Some((_, after))) => after,
    };
    let plain = arn.get(..arn.len() - after_name.len() - 1).unwrap_or(arn);
    let parts: Vec<_> = after_name.split(':').collect();
    let (key, version) = match parts[..] {
        [key] | [key, "", ""] => (key, String::new()),
        [key, stage] | [key, stage, ""] if !stage.is_empty() => (key, format!("::{stage}:")),
        [key, "", id] => (key, format!(":::{id}")),
        _ => {
            return Err(format!(
                "{plain} is followed by more than :KEY:STAGE:VERSION-ID; use #KEY to select a key of a JSON secret"
            ));
        }
    };
    Ok((at(&format!("{plain}{version}")), Some(key).filter(|key| !key.is_empty())))
}

/// A secret of Secrets Manager in the function's region and account.
fn named(name: &str) -> Result<Arn, String> {
    if name.is_empty() || name.contains(':') {
        return Err(INCOMPLETE.to_owned());
    }
    Ok(Arn { service: Service::SecretsManager, region: String::new(), text: name.to_owned() })
}

/// Splits what follows `#`: a key, and the stage or the id of a version, as an ARN's suffix. Other stages than AWS's must be
/// written as in ECS, since a key may contain a colon.
fn split_version(key: &str) -> (Option<&str>, Option<String>) {
    let is_id = |text: &str| text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let (key, version) = match key.rsplit_once(':') {
        Some((key, stage @ ("AWSCURRENT" | "AWSPENDING" | "AWSPREVIOUS"))) => {
            (key, Some(format!("::{stage}:")))
        }
        Some((key, id)) if is_id(id) => (key, Some(format!(":::{id}"))),
        _ => (key, None),
    };
    (Some(key).filter(|key| !key.is_empty()), version)
}

/// The id of a secret, and the stage or the id of its version, as [`Arn::text`] has them.
pub fn split_secret_id(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let non_empty = |text: &str| !text.is_empty();
    // "arn:partition:secretsmanager:region:account:secret:NAME" and a version; or a name and a version.
    let colons = if text.starts_with("arn:") { 6 } else { 0 };
    let Some((at, _)) = text.match_indices(':').nth(colons) else { return (text, None, None) };
    let (id, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let mut parts = after.split(':').skip(2);
    (id, parts.next().filter(|part| non_empty(part)), parts.next().filter(|part| non_empty(part)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123";
    const PARAMETER: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key";

    fn shown(text: &str) -> Vec<String> {
        find(text).expect("references").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_three_forms_are_found() {
        assert_eq!(shown(&format!("Authorization=${{{SECRET}}}")), [SECRET]);
        assert_eq!(
            shown(&format!("a=$<{PARAMETER}>,b=${{{SECRET}#user}}!")),
            [PARAMETER.to_owned(), format!("{SECRET}#user")]
        );
        assert_eq!(shown(&format!(" secret://{SECRET}#key ")), [format!("{SECRET}#key")]);
        assert_eq!(shown(&format!("${{{SECRET}}}secret://x")), [SECRET]);
        assert_eq!(shown("${NAME} $x ${} {arn:aws} arn:aws:s3"), Vec::<String>::new());
    }

    #[test]
    fn names_keys_and_versions_are_those_of_aws() {
        let found = |text: &str| {
            let reference = find(text).unwrap_or_else(|error| panic!("{text}: {error}")).remove(0);
            (reference.arn.text, reference.key.unwrap_or_default())
        };
        let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-0123/a_b+c=d.e@f-AbCdEf";
        for (text, id, key) in [
            (format!("${{{arn}#API Key}}"), arn.to_owned(), "API Key"),
            (format!("${{{arn}#clé, a=b}}"), arn.to_owned(), "clé, a=b"),
            (format!("$<{arn}#a.b#c>"), arn.to_owned(), "a.b#c"),
            (format!("${{{arn}#key:AWSPREVIOUS}}"), format!("{arn}::AWSPREVIOUS:"), "key"),
            (format!("${{{arn}#:AWSPREVIOUS}}"), format!("{arn}::AWSPREVIOUS:"), ""),
            (
                format!("${{{arn}#a:b:01234567-89ab-cdef-0123-456789abcdef}}"),
                format!("{arn}:::01234567-89ab-cdef-0123-456789abcdef"),
                "a:b",
            ),
            (format!("${{{arn}:key::}}"), arn.to_owned(), "key"),
            (format!("${{{arn}:key:staging:}}"), format!("{arn}::staging:"), "key"),
            (format!("${{{arn}::AWSPREVIOUS}}"), format!("{arn}::AWSPREVIOUS:"), ""),
            (format!("${{{arn}:::0123}}"), format!("{arn}:::0123"), ""),
            (format!("${{secretsmanager:{arn}#key}}"), arn.to_owned(), "key"),
            ("${secretsmanager:prod/clickstack#key}".to_owned(), "prod/clickstack".to_owned(), "key"),
            (format!("${{{PARAMETER}:3}}"), format!("{PARAMETER}:3"), ""),
            (format!("${{{PARAMETER}:label}}"), format!("{PARAMETER}:label"), ""),
        ] {
            assert_eq!(found(&text), (id, key.to_owned()), "{text}");
        }
        assert_eq!(split_secret_id(arn), (arn, None, None));
        assert_eq!(split_secret_id(&format!("{arn}::AWSPREVIOUS:")), (arn, Some("AWSPREVIOUS"), None));
        assert_eq!(split_secret_id(&format!("{arn}:::0123")), (arn, None, Some("0123")));
        assert_eq!(split_secret_id("name::AWSPREVIOUS:"), ("name", Some("AWSPREVIOUS"), None));
    }

    #[test]
    fn what_may_be_a_credential_is_no_shown_key() {
        let text = format!("${{{SECRET}#key,X-Token=hunter2}}");
        let reference = find(&text).expect("a reference").remove(0);
        assert!(!reference.to_string().contains("hunter2") && !is_single_reference(&text));
        assert!(is_single_reference(&format!("${{{SECRET}#API Key}}")));
        assert!(is_open(&format!("a=${{{SECRET}#b")) && !is_open(&format!("a=${{{SECRET}#b}}")));
    }

    #[test]
    fn any_partition_is_accepted() {
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso"] {
            let arn = SECRET.replace("arn:aws:", &format!("arn:{partition}:"));
            assert_eq!(shown(&format!("${{{arn}}}")), [arn]);
        }
    }

    #[test]
    fn single_reference_has_no_text_around_it() {
        for one in [format!("${{{SECRET}#key}}"), format!(" $<{PARAMETER}> "), format!("secret://{SECRET}")] {
            assert!(is_single_reference(&one), "{one}");
        }
        for other in [
            format!("a${{{SECRET}}}"),
            format!("${{{SECRET}}}a"),
            format!("${{{SECRET},hunter2"),
            "${arn:}".to_owned(),
        ] {
            assert!(!is_single_reference(&other), "{other}");
        }
    }

    #[test]
    fn many_references_take_linear_time() {
        // Searching the rest of the text at each of these would read more than 2 GB.
        for unit in ["${secretsmanager:a}", "$<arn:a>", "$", "${", "${arn:", "$ "] {
            let text = unit.repeat(250_000 / unit.len());
            assert!(find(&text).is_err() || !text.contains("secretsmanager"), "{unit}");
            assert_eq!(fill(&text, |_| None), text);
        }
        let some = "${secretsmanager:a}".repeat(REFERENCE_LIMIT);
        assert_eq!(find(&some).map(|found| found.len()), Ok(REFERENCE_LIMIT));
    }

    #[test]
    fn malformed_references_have_remedies() {
        let malformed = [
            "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key",
            "$<arn:aws:ssm:us-east-1:123456789012:parameter/key}",
            "${arn:aws:ssm:us-east-1:123456789012:parameter/key,X=hunter2,Y=${arn:aws:ssm:x}",
            "${arn:aws:secretsmanager:us-east-1}",
            "${arn:aws:s3:us-east-1:123456789012:bucket/key}",
            "${arn:aws:ssm::123456789012:parameter/key}",
            "${arn:aws:ssm:us-east-1::parameter/key}",
            "${arn:aws:ssm:us-east-1:1234:parameter/key}",
            "${arn:amazon:ssm:us-east-1:123456789012:parameter/key}",
            "${arn:aws:secretsmanager:us-east-1:123456789012:key}",
            "${arn:aws:secretsmanager:us-east-1:123456789012:secret:key:a:b:c:d}",
            "${secretsmanager:}",
            "${arn:aws:ssm:us-east-1:123456789012:parameter/}",
            "${arn:aws:ssm:us-east-1:123456789012:parameter/key#password}",
            "${arn:aws:secretsmanager:us-east-1:123456789012:secret:key#}",
            "secret://key",
            "Authorization=secret://arn:aws:ssm:us-east-1:123456789012:parameter/key",
        ];
        let errors = malformed.map(|text| find(text).expect_err("an error"));
        assert!(!errors.join("\n").contains("hunter2"));
        insta::assert_snapshot!(errors.join("\n"), @r##"
        a secret reference has no closing '}'; use the form ${arn:…} or $<arn:…>
        a secret reference has no closing '>'; use the form ${arn:…} or $<arn:…>
        a secret reference contains a character that is not allowed in ARNs; check its closing brace
        a secret reference is not a complete ARN; use arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
        a secret reference has the unsupported service "s3"; use secretsmanager or ssm
        a secret reference has no valid region; use the secret's region, such as us-east-1
        a secret reference has no valid account; use the twelve-digit account id
        a secret reference has no valid account; use the twelve-digit account id
        a secret reference has the unknown partition "amazon"; use aws, aws-cn or aws-us-gov
        a secret reference does not end with secret:NAME-SUFFIX; copy the complete ARN
        arn:aws:secretsmanager:us-east-1:123456789012:secret:key is followed by more than :KEY:STAGE:VERSION-ID; use #KEY to select a key of a JSON secret
        a secret reference is not a complete ARN; use arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
        a secret reference does not end with parameter/NAME; copy the complete ARN
        arn:aws:ssm:us-east-1:123456789012:parameter/key is a parameter, but "#key" works for Secrets Manager secrets only; remove "#" and the key
        arn:aws:secretsmanager:us-east-1:123456789012:secret:key has no key after "#"; add the key's name, or remove the "#"
        a secret reference is not a complete ARN; use arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
        secret:// must be the whole value, but there is text around it; use ${arn:…} instead
        "##);
    }

    #[test]
    fn unknown_references_stay_unchanged() {
        let text = format!("a=${{{SECRET}}},b=$<{PARAMETER}>,c=${{NAME}}");
        let filled = fill(&text, |reference| {
            (reference.arn.service == Service::SecretsManager).then_some("${arn:aws:ssm:x}")
        });
        assert_eq!(filled, format!("a=${{arn:aws:ssm:x}},b=$<{PARAMETER}>,c=${{NAME}}"));
        assert_eq!(fill(&format!("secret://{SECRET}"), |_| Some("key")), "key");
    }

    #[test]
    fn distinct_arns_need_the_fewest_calls() {
        let reference = |service: &str, region: &str, number: usize| {
            find(&format!("${{arn:aws:{service}:{region}:123456789012:{number:02}}}").replace(
                ":123456789012:",
                if service == "ssm" { ":123456789012:parameter/" } else { ":123456789012:secret:" },
            ))
            .expect("a reference")
            .remove(0)
        };
        let mut references = Vec::new();
        for number in (0..11).rev() {
            references.push(reference("secretsmanager", "us-east-1", number));
            references.push(SecretRef {
                key: Some("k".to_owned()),
                ..reference("secretsmanager", "us-east-1", number)
            });
        }
        references.extend((0..10).map(|number| reference("ssm", "us-east-1", number)));
        references.extend((0..4).map(|number| reference("ssm", "eu-west-1", number)));
        let shape = |batches: &[SecretBatch]| -> Vec<String> {
            batches.iter().map(|b| format!("{:?} {} {}", b.service, b.region, b.arns.len())).collect()
        };
        let expected = [
            "SecretsManager us-east-1 10",
            "SecretsManager us-east-1 1",
            "ParameterStore eu-west-1 4",
            "ParameterStore us-east-1 10",
        ];
        assert_eq!(shape(&batches(&references)), expected);
        references.reverse();
        assert_eq!(shape(&batches(&references)), expected, "in any order");
        assert_eq!(batches(&[]), []);
    }

    #[test]
    fn json_key_is_extracted_as_text() {
        let secret = r#"{"user": "a\"b", "port": 1.50, "on": true, "none": null, "list": [1]}"#;
        for (key, expected) in [("user", "a\"b"), ("port", "1.50"), ("on", "true")] {
            assert_eq!(extract(secret, Some(key)).as_deref(), Ok(expected));
        }
        assert_eq!(extract("anything", None).as_deref(), Ok("anything"));
    }

    #[test]
    fn extract_errors_do_not_contain_the_secret() {
        let errors = [
            extract("hunter2", Some("password")),
            extract(r#"["hunter2"]"#, Some("password")),
            extract(r#"{"Password": "hunter2"}"#, Some("password")),
            extract(r#"{"password": ["hunter2"]}"#, Some("password")),
        ]
        .map(|extracted| extracted.expect_err("an error").to_string());
        assert!(!errors.join("\n").contains("hunter2"));
        insta::assert_snapshot!(errors.join("\n"), @r##"
        the secret is not a JSON object, so it has no key "password"; store it as JSON, or remove "#password" to use the whole secret
        the secret is not a JSON object, so it has no key "password"; store it as JSON, or remove "#password" to use the whole secret
        the secret has no key "password"; check its spelling and case
        the secret's key "password" is not a string, number or boolean; store the value as a JSON string
        "##);
    }

    fn text() -> impl Strategy<Value = String> {
        let fragment = prop_oneof![
            Just(format!("${{{SECRET}}}")),
            Just(format!("$<{PARAMETER}>")),
            Just("secret://".to_owned()),
            Just("${arn:".to_owned()),
            "[ -~]{0,8}",
            ".{0,4}",
        ];
        prop::collection::vec(fragment, 0..6).prop_map(|fragments| fragments.concat())
    }

    proptest! {
        #[test]
        fn filling_without_values_changes_nothing(text in text()) {
            prop_assert_eq!(fill(&text, |_| None), text);
        }

        #[test]
        fn filled_text_has_no_references(text in text()) {
            if find(&text).is_ok() {
                prop_assert_eq!(find(&fill(&text, |_| Some("|"))), Ok(Vec::new()));
            }
        }

        #[test]
        fn batches_contain_each_arn_once(numbers in prop::collection::vec(0..60_usize, 0..80)) {
            let references: Vec<_> = numbers
                .iter()
                .flat_map(|number| find(&format!("${{{PARAMETER}{number}}}")).expect("a reference"))
                .collect();
            let mut distinct: Vec<_> = references.iter().map(|reference| &reference.arn).collect();
            distinct.sort();
            distinct.dedup();
            let batches = batches(&references);
            prop_assert!(batches.len() == distinct.len().div_ceil(BATCH_LIMIT));
            prop_assert_eq!(batches.iter().flat_map(|batch| &batch.arns).collect::<Vec<_>>(), distinct);
        }
    }
}
