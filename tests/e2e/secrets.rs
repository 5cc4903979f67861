//! Secrets from moto, which knows AWS's protocols from another side than our own stand-in.

use std::time::Duration;

use reqwest::Client;
use rotel_core::config::secret_ref::{self, Arn, SecretBatch, Secrets, Service};
use rotel_core::config::{Tls, Variables};
use rotel_lambda_extension::edge::secrets::resolve;
use rotel_lambda_extension::edge::tls;
use serde_json::{Value, json};

use crate::moto::Moto;

const BUDGET: Duration = Duration::from_mins(1);
const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

/// An account of moto, and a client that calls it by another way than the one under test.
struct Account {
    moto: Moto,
    client: Client,
}

impl Account {
    fn start() -> Self {
        let tls = tls::client_config(&Tls::default(), &[]).expect("a TLS configuration");
        let client = Client::builder().tls_backend_preconfigured(tls).no_proxy().build().expect("a client");
        Self { moto: Moto::start(), client }
    }

    /// Calls an operation.
    async fn call(&self, service: &str, region: &str, target: &str, body: &Value) -> Value {
        let scope = format!("Credential=key/20260101/{region}/{service}/aws4_request");
        let answer = self
            .client
            .post(&self.moto.url)
            .header("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target)
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{target}: {status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn keep_secret(&self, region: &str, name: &str, value: &str) -> String {
        let body = json!({ "Name": name, "SecretString": value });
        let kept = self.call("secretsmanager", region, "secretsmanager.CreateSecret", &body).await;
        kept.get("ARN").and_then(Value::as_str).expect("an ARN").to_owned()
    }

    async fn keep_parameter(&self, region: &str, name: &str, value: &str) -> String {
        let body = json!({ "Name": name, "Value": value, "Type": "SecureString" });
        self.call("ssm", region, "AmazonSSM.PutParameter", &body).await;
        format!("arn:aws:ssm:{region}:123456789012:parameter{name}")
    }

    fn variables(&self) -> Variables {
        [
            ("AWS_ENDPOINT_URL", self.moto.url.as_str()),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

#[tokio::test]
async fn secrets_of_two_services_and_regions_are_found() {
    let account = Account::start();
    let mut batches = Vec::new();
    let mut expected = Vec::new();
    let mut missing = Vec::new();
    for region in REGIONS {
        let mut keep = |service, mut kept: Vec<(String, &'static str)>, absent: String| {
            let mut arns: Vec<_> = kept.iter().map(|(arn, _)| arn.clone()).collect();
            arns.push(absent.clone());
            batches.push(batch(service, region, arns));
            expected.append(&mut kept);
            missing.push(absent);
        };
        let plain = account.keep_secret(region, "plain", "hunter2").await;
        let object = account.keep_secret(region, "object", r#"{"key":"hunter2","port":4317}"#).await;
        let absent = format!("arn:aws:secretsmanager:{region}:123456789012:secret:absent-a1B2c3");
        let kept = vec![(plain, "hunter2"), (object, r#"{"key":"hunter2","port":4317}"#)];
        keep(Service::SecretsManager, kept, absent);
        let flat = account.keep_parameter(region, "/flat", "hunter3").await;
        let nested = account.keep_parameter(region, "/a/b/nested", "hunter4").await;
        let absent = format!("arn:aws:ssm:{region}:123456789012:parameter/absent");
        keep(Service::ParameterStore, vec![(flat, "hunter3"), (nested, "hunter4")], absent);
    }
    let resolution = resolve(batches, &account.variables(), BUDGET).await;
    for (arn, value) in &expected {
        let found = resolution.values.get(arn).unwrap_or_else(|| panic!("{arn}: {:?}", resolution.errors));
        assert_eq!(found.expose(), *value);
    }
    assert_eq!(resolution.values.len(), expected.len());
    missing.sort();
    let failed: Vec<_> = resolution.errors.iter().map(|fault| (&fault.arn, fault.code.as_str())).collect();
    let code = |arn: &String| {
        if arn.contains(":ssm:") { "ParameterNotFound" } else { "ResourceNotFoundException" }
    };
    assert_eq!(failed, missing.iter().map(|arn| (arn, code(arn))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lone_secret_is_found() {
    let account = Account::start();
    let arn = account.keep_secret("us-east-1", "lone", "hunter2").await;
    let batch = batch(Service::SecretsManager, "us-east-1", vec![arn.clone()]);
    let resolution = resolve(vec![batch], &account.variables(), BUDGET).await;
    assert_eq!(resolution.values.get(&arn).expect("a value").expose(), "hunter2");
}

#[tokio::test]
async fn names_versions_and_partial_arns_are_found() {
    let account = Account::start();
    let arn =
        account.keep_secret("us-east-1", "rds!db-0123/a_b+c=d.e@f", r#"{"API Key":"old","key":"old"}"#).await;
    let body = json!({ "SecretId": arn, "SecretString": r#"{"API Key":"new"}"# });
    account.call("secretsmanager", "us-east-1", "secretsmanager.PutSecretValue", &body).await;
    let parameter = account.keep_parameter("us-east-1", "/key", "first").await;
    let body = json!({ "Name": "/key", "Value": "second", "Type": "SecureString", "Overwrite": true });
    account.call("ssm", "us-east-1", "AmazonSSM.PutParameter", &body).await;
    let (partial, _) = arn.rsplit_once('-').expect("a suffix");
    let expected = [
        (format!("${{{arn}#API Key}}"), "new"),
        (format!("${{{arn}#API Key:AWSPREVIOUS}}"), "old"),
        (format!("${{{arn}:key:AWSPREVIOUS:}}"), "old"),
        (format!("${{{partial}#API Key}}"), "new"),
        ("${secretsmanager:rds!db-0123/a_b+c=d.e@f#API Key}".to_owned(), "new"),
        (format!("${{{parameter}}}"), "second"),
        (format!("${{{parameter}:1}}"), "first"),
    ];
    let references: Vec<_> =
        expected.iter().flat_map(|(text, _)| secret_ref::find(text).expect("a reference")).collect();
    let mut variables = account.variables();
    variables.insert("AWS_REGION".to_owned(), "us-east-1".to_owned());
    let resolution = resolve(secret_ref::batches(&references), &variables, BUDGET).await;
    assert_eq!(resolution.errors, []);
    let secrets: Secrets = references
        .iter()
        .filter_map(|reference| {
            Some((reference.arn.clone(), resolution.values.get(&reference.arn.text)?.clone()))
        })
        .collect();
    for (reference, (text, value)) in references.iter().zip(&expected) {
        assert_eq!(reference.value(&secrets).expect("a value").expose(), *value, "{text}");
    }
}

fn batch(service: Service, region: &str, arns: Vec<String>) -> SecretBatch {
    let arn = |text| Arn { service, region: region.to_owned(), text };
    SecretBatch { service, region: region.to_owned(), arns: arns.into_iter().map(arn).collect() }
}
