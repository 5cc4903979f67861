//! References to secrets within a text: `${arn:…}`, `$<arn:…>`, and `secret://arn:…` as the whole of it.
//!
//! Decides what a reference is and what is wrong with one, which of them are fetched together, and which part of a secret
//! is meant. Promises that no message holds anything of a secret or of the text around a reference. To fetch is left to
//! `edge::secrets`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::echo;
use crate::secret::Secret;

/// Platform: `BatchGetSecretValue` and `GetParameters` take ten names at most.
pub const BATCH_LIMIT: usize = 10;

/// What fetching gave: the whole secret of each ARN.
pub type Secrets = BTreeMap<Arn, Secret>;

/// Who keeps a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// AWS Secrets Manager.
    SecretsManager,
    /// Parameter Store of AWS Systems Manager.
    ParameterStore,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    /// Who keeps it.
    pub service: Service,
    /// In which region.
    pub region: String,
    /// The ARN as it stands, which is also the name under which the service knows the secret.
    pub text: String,
}

/// One reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    /// The secret.
    pub arn: Arn,
    /// The top-level key of a JSON secret whose value is meant; without it the whole secret is.
    pub key: Option<String>,
}

/// Secrets that are fetched with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Whom to ask.
    pub service: Service,
    /// Where.
    pub region: String,
    /// For what: at most [`BATCH_LIMIT`] distinct ones.
    pub arns: Vec<Arn>,
}

/// Why a key's value cannot be taken from a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// It is no JSON object.
    #[error(
        "the secret is not a JSON object, so it has no key {key:?}; store it as JSON, or leave \"#{key}\" away to take the whole",
        key = echo::name(.0)
    )]
    NotAnObject(String),
    /// The key is not there.
    #[error("the secret has no key {:?}; check its spelling, upper and lower case differ", echo::name(.0))]
    Missing(String),
    /// The value is null, a list or an object.
    #[error(
        "the secret's key {:?} holds neither text, number nor true or false; store the value as a JSON string",
        echo::name(.0)
    )]
    NotText(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}#{key}", self.arn.text),
            None => f.write_str(&self.arn.text),
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl SecretRef {
    /// What it stands for, if it has been fetched and can be taken.
    pub fn value(&self, secrets: &Secrets) -> Result<Secret, String> {
        let secret = secrets
            .get(&self.arn)
            .ok_or_else(|| format!("{} has not been fetched; its own message says why", self.arn))?;
        extract(secret.expose(), self.key.as_deref())
            .map(Secret::new)
            .map_err(|error| format!("{}: {error}", self.arn))
    }
}

/// Every reference in a text, in its order; or cause and remedy of the first that is malformed.
pub fn find(text: &str) -> Result<Vec<SecretRef>, String> {
    if !text.trim_start().starts_with(WHOLE) && text.contains("secret://arn:") {
        return Err(
            "secret:// stands for a whole value only, and here is text around it; write ${arn:…} instead"
                .to_owned(),
        );
    }
    Occurrences::of(text).map(|occurrence| occurrence.reference).collect()
}

/// The text with each reference replaced by what `value` says it stands for. One that it does not know stays as it is, as
/// does a malformed one. What is put in is not searched again.
pub fn fill<'v>(text: &str, value: impl Fn(&SecretRef) -> Option<&'v str>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut occurrences = Occurrences::of(text);
    for Occurrence { before, spelled, reference } in occurrences.by_ref() {
        filled.push_str(before);
        filled.push_str(reference.ok().and_then(|reference| value(&reference)).unwrap_or(spelled));
    }
    filled.push_str(occurrences.rest);
    filled
}

/// Whether a text is one good reference and nothing else, so that it may be shown.
pub fn is_single_reference(text: &str) -> bool {
    let mut occurrences = Occurrences::of(text.trim());
    let first = occurrences
        .next()
        .is_some_and(|occurrence| occurrence.before.is_empty() && occurrence.reference.is_ok());
    first && occurrences.rest.is_empty()
}

/// Groups references into the fewest calls: distinct ARNs by service and region, in the order of these and of the ARNs.
pub fn batches<'r>(references: impl IntoIterator<Item = &'r SecretRef>) -> Vec<Batch> {
    let mut arns: Vec<&Arn> = references.into_iter().map(|reference| &reference.arn).collect();
    arns.sort_unstable();
    arns.dedup();
    arns.chunk_by(|a, b| (a.service, &a.region) == (b.service, &b.region))
        .flat_map(|alike| alike.chunks(BATCH_LIMIT))
        .filter_map(|chunk| {
            let first = chunk.first()?;
            let arns = chunk.iter().map(|arn| (*arn).clone()).collect();
            Some(Batch { service: first.service, region: first.region.clone(), arns })
        })
        .collect()
}

/// The part of a secret that is meant: with a key its value in the JSON object, texts as they are, numbers, `true` and
/// `false` as they are written; without one the whole.
pub fn extract(secret: &str, key: Option<&str>) -> Result<String, ExtractError> {
    let Some(key) = key else { return Ok(secret.to_owned()) };
    // Raw values keep a number's digits as they were written.
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
const NOT_WHOLE: &str = "a secret reference is not a whole ARN; write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX \
                         or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME";

/// A reference and the text before it.
struct Occurrence<'t> {
    before: &'t str,
    /// The reference with its braces.
    spelled: &'t str,
    reference: Result<SecretRef, String>,
}

/// The references of a text, one after another.
struct Occurrences<'t> {
    /// The text behind the last one found.
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
            return Some(Occurrence { before: "", spelled: text, reference: parse(arn.trim_end()) });
        }
        let at = [text.find("${arn:"), text.find("$<arn:")].into_iter().flatten().min()?;
        let (before, from) = text.split_at_checked(at)?;
        let closing = if from.starts_with("${") { '}' } else { '>' };
        let Some((spelled, rest)) = from.find(closing).and_then(|end| from.split_at_checked(end + 1)) else {
            self.rest = "";
            let message =
                format!("a secret reference has no {closing:?} at its end; write ${{arn:…}} or $<arn:…>");
            return Some(Occurrence { before, spelled: from, reference: Err(message) });
        };
        self.rest = rest;
        let inner = spelled.get(2..spelled.len() - 1).unwrap_or_default();
        Some(Occurrence { before, spelled, reference: parse(inner) })
    }
}

/// Reads `arn:partition:service:region:account:resource`, with `#key` behind it.
fn parse(text: &str) -> Result<SecretRef, String> {
    // Where the closing brace is missing, all up to the next one would be taken for the ARN, other credentials included.
    // So nothing is shown that holds what no ARN may.
    let lawful = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-:#".contains(c);
    if !text.chars().all(lawful) {
        return Err("a secret reference holds a character that no ARN and no key may have; check that it is closed where it ends"
            .to_owned());
    }
    let (arn, key) = match text.split_once('#') {
        Some((arn, key)) => (arn, Some(key)),
        None => (text, None),
    };
    let mut parts = arn.splitn(6, ':');
    let [Some("arn"), Some(partition), Some(service), Some(region), Some(account), Some(resource)] =
        std::array::from_fn(|_| parts.next())
    else {
        return Err(NOT_WHOLE.to_owned());
    };
    let service = match service {
        "secretsmanager" => Service::SecretsManager,
        "ssm" => Service::ParameterStore,
        _ => {
            return Err(format!(
                "a secret reference names {} as its service; secrets are read from secretsmanager and ssm only",
                echo::value(service)
            ));
        }
    };
    if partition != "aws" && !partition.starts_with("aws-") {
        return Err(format!(
            "a secret reference names {} as its partition; write aws, aws-cn or aws-us-gov",
            echo::value(partition)
        ));
    }
    // Only an ARN that is whole is shown: a credential may stand where a part of it belongs.
    if !echo::is_name(region) {
        return Err(
            "a secret reference names no region; write the one where the secret is, such as us-east-1"
                .to_owned(),
        );
    }
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a secret reference names no account; write its twelve digits before the secret's name"
            .to_owned());
    }
    check_resource(service, resource)?;
    match (service, key) {
        (Service::ParameterStore, Some(_)) => {
            return Err(format!(
                "{arn} is a parameter, and \"#key\" takes a key of a Secrets Manager secret only; remove what begins with \"#\""
            ));
        }
        (_, Some("")) => {
            return Err(format!(
                "{arn} has nothing behind its \"#\"; write the key's name there, or remove the \"#\""
            ));
        }
        _ => {}
    }
    let arn = Arn { service, region: region.to_owned(), text: arn.to_owned() };
    Ok(SecretRef { arn, key: key.map(str::to_owned) })
}

fn check_resource(service: Service, resource: &str) -> Result<(), String> {
    let (kind, example) = match service {
        Service::SecretsManager => ("secret:", "secret:NAME-SUFFIX"),
        Service::ParameterStore => ("parameter/", "parameter/NAME"),
    };
    match resource.strip_prefix(kind) {
        None | Some("") => Err(format!("a secret reference does not end with {example}; copy the whole ARN")),
        Some(name) if name.contains(':') => Err(
            "a secret reference has a \":\" within the name, and versions and stages cannot be chosen; remove what follows the \
             name, and write #key to take a key of a JSON secret"
                .to_owned(),
        ),
        Some(_) => Ok(()),
    }
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
    fn the_three_forms_are_found_with_text_around_them() {
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
    fn any_partition_is_taken() {
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso"] {
            let arn = SECRET.replace("arn:aws:", &format!("arn:{partition}:"));
            assert_eq!(shown(&format!("${{{arn}}}")), [arn]);
        }
    }

    #[test]
    fn a_text_is_one_reference_only_if_that_is_all_and_good() {
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
    fn a_malformed_reference_is_told_with_its_remedy() {
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
            "${arn:aws:secretsmanager:us-east-1:123456789012:secret:key:password::}",
            "${arn:aws:ssm:us-east-1:123456789012:parameter/}",
            "${arn:aws:ssm:us-east-1:123456789012:parameter/key#password}",
            "${arn:aws:secretsmanager:us-east-1:123456789012:secret:key#}",
            "secret://key",
            "Authorization=secret://arn:aws:ssm:us-east-1:123456789012:parameter/key",
        ];
        let told = malformed.map(|text| find(text).expect_err("a error"));
        assert!(!told.join("\n").contains("hunter2"));
        insta::assert_snapshot!(told.join("\n"), @r##"
        a secret reference has no '}' at its end; write ${arn:…} or $<arn:…>
        a secret reference has no '>' at its end; write ${arn:…} or $<arn:…>
        a secret reference holds a character that no ARN and no key may have; check that it is closed where it ends
        a secret reference is not a whole ARN; write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
        a secret reference names "s3" as its service; secrets are read from secretsmanager and ssm only
        a secret reference names no region; write the one where the secret is, such as us-east-1
        a secret reference names no account; write its twelve digits before the secret's name
        a secret reference names no account; write its twelve digits before the secret's name
        a secret reference names "amazon" as its partition; write aws, aws-cn or aws-us-gov
        a secret reference does not end with secret:NAME-SUFFIX; copy the whole ARN
        a secret reference has a ":" within the name, and versions and stages cannot be chosen; remove what follows the name, and write #key to take a key of a JSON secret
        a secret reference does not end with parameter/NAME; copy the whole ARN
        arn:aws:ssm:us-east-1:123456789012:parameter/key is a parameter, and "#key" takes a key of a Secrets Manager secret only; remove what begins with "#"
        arn:aws:secretsmanager:us-east-1:123456789012:secret:key has nothing behind its "#"; write the key's name there, or remove the "#"
        a secret reference is not a whole ARN; write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
        secret:// stands for a whole value only, and here is text around it; write ${arn:…} instead
        "##);
    }

    #[test]
    fn references_are_filled_once_and_the_unknown_stay() {
        let text = format!("a=${{{SECRET}}},b=$<{PARAMETER}>,c=${{NAME}}");
        let filled = fill(&text, |reference| {
            (reference.arn.service == Service::SecretsManager).then_some("${arn:aws:ssm:x}")
        });
        assert_eq!(filled, format!("a=${{arn:aws:ssm:x}},b=$<{PARAMETER}>,c=${{NAME}}"));
        assert_eq!(fill(&format!("secret://{SECRET}"), |_| Some("key")), "key");
    }

    #[test]
    fn distinct_arns_go_in_the_fewest_calls() {
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
        let shape = |batches: &[Batch]| -> Vec<String> {
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
        assert_eq!(shape(&batches(&references)), expected, "whatever their order");
        assert_eq!(batches(&[]), []);
    }

    #[test]
    fn a_key_of_a_json_secret_is_taken_as_text() {
        let secret = r#"{"user": "a\"b", "port": 1.50, "on": true, "none": null, "list": [1]}"#;
        for (key, expected) in [("user", "a\"b"), ("port", "1.50"), ("on", "true")] {
            assert_eq!(extract(secret, Some(key)).as_deref(), Ok(expected));
        }
        assert_eq!(extract("anything", None).as_deref(), Ok("anything"));
    }

    #[test]
    fn a_key_that_cannot_be_taken_is_told_without_the_secret() {
        let told = [
            extract("hunter2", Some("password")),
            extract(r#"["hunter2"]"#, Some("password")),
            extract(r#"{"Password": "hunter2"}"#, Some("password")),
            extract(r#"{"password": ["hunter2"]}"#, Some("password")),
        ]
        .map(|extracted| extracted.expect_err("a error").to_string());
        assert!(!told.join("\n").contains("hunter2"));
        insta::assert_snapshot!(told.join("\n"), @r##"
        the secret is not a JSON object, so it has no key "password"; store it as JSON, or leave "#password" away to take the whole
        the secret is not a JSON object, so it has no key "password"; store it as JSON, or leave "#password" away to take the whole
        the secret has no key "password"; check its spelling, upper and lower case differ
        the secret's key "password" holds neither text, number nor true or false; store the value as a JSON string
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
        fn a_reference_filled_with_itself_leaves_the_text_alone(text in text()) {
            prop_assert_eq!(fill(&text, |_| None), text);
        }

        #[test]
        fn what_is_filled_holds_no_reference_any_more(text in text()) {
            if find(&text).is_ok() {
                prop_assert_eq!(find(&fill(&text, |_| Some("|"))), Ok(Vec::new()));
            }
        }

        #[test]
        fn batches_hold_each_arn_once(numbers in prop::collection::vec(0..60_usize, 0..80)) {
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
