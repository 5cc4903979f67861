//! Fetching secrets from AWS: few concurrent calls, in rounds, and the errors if some fail.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws, Behaviour};
use rotel_core::config::secret_ref::{Arn, SecretBatch, Service};
use rotel_core::config::{LogSettings, Variables};
use rotel_lambda_extension::edge::logging;
use rotel_lambda_extension::edge::secrets::{CredentialSources, Fetcher, Recovery, Resolution, resolve};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tracing::{Dispatch, Level};

/// A budget that no test uses up.
const BUDGET: Duration = Duration::from_mins(1);
/// A budget that tests use up. Even a busy machine fetches all available secrets within it.
const SHORT_BUDGET: Duration = Duration::from_secs(5);

const DENIED: &str = "AccessDeniedException";
const THROTTLED: Behaviour = Behaviour::Refuse { status: 400, code: "ThrottlingException" };

fn secret(region: &str, number: usize) -> String {
    format!("arn:aws:secretsmanager:{region}:123456789012:secret:key-{number:02}-a1B2c3")
}

fn parameter(region: &str, number: usize) -> String {
    format!("arn:aws:ssm:{region}:123456789012:parameter/key-{number:02}")
}

fn value(arn: &str) -> String {
    format!("hunter2 of {arn}")
}

fn batch(service: Service, region: &str, arns: &[String]) -> SecretBatch {
    let arn = |text: &String| Arn { service, region: region.to_owned(), text: text.clone() };
    SecretBatch { service, region: region.to_owned(), arns: arns.iter().map(arn).collect() }
}

fn secrets(arns: &[String]) -> Vec<SecretBatch> {
    vec![batch(Service::SecretsManager, "us-east-1", arns)]
}

fn parameters(arns: &[String]) -> Vec<SecretBatch> {
    vec![batch(Service::ParameterStore, "us-east-1", arns)]
}

/// Stores `count` secrets or parameters; returns their ARNs.
fn store(aws: &Aws, count: usize, arn: impl Fn(&str, usize) -> String) -> Vec<String> {
    let arns: Vec<_> = (0..count).map(|number| arn("us-east-1", number)).collect();
    for arn in &arns {
        aws.keep(arn, value(arn));
    }
    arns
}

fn actions(aws: &Aws) -> Vec<Action> {
    aws.calls().iter().map(|call| call.action).collect()
}

fn error_lines(resolution: &Resolution) -> String {
    resolution.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn codes(resolution: &Resolution) -> Vec<&str> {
    resolution.errors.iter().map(|error| error.code.as_str()).collect()
}

#[track_caller]
fn assert_fetched(resolution: &Resolution, arns: &[String]) {
    assert_eq!(error_lines(resolution), "");
    assert_eq!(resolution.values.len(), arns.len());
    for arn in arns {
        assert_eq!(resolution.values.get(arn).expect("a value").expose(), value(arn));
    }
}

#[tokio::test]
async fn secrets_are_batched_and_fetched_concurrently() {
    let aws = Aws::start().await.expect("a stand-in");
    let mut batches = Vec::new();
    let mut all = Vec::new();
    for (region, count) in [("us-east-1", 11), ("eu-west-1", 2)] {
        let arns: Vec<_> = (0..count).map(|number| secret(region, number)).collect();
        batches.extend(arns.chunks(10).map(|arns| batch(Service::SecretsManager, region, arns)));
        all.extend(arns);
    }
    for (region, count) in [("us-east-1", 9), ("eu-west-1", 3)] {
        let arns: Vec<_> = (0..count).map(|number| parameter(region, number)).collect();
        batches.extend(arns.chunks(10).map(|arns| batch(Service::ParameterStore, region, arns)));
        all.extend(arns);
    }
    assert_eq!(all.len(), 25);
    for arn in &all {
        aws.keep(arn, value(arn));
    }
    // No call is answered before all have arrived.
    for action in [Action::BatchGetSecretValue, Action::GetSecretValue, Action::GetParameters] {
        aws.behave(action, Behaviour::Gather(5));
    }
    let resolution = resolve(batches, &aws.variables(), BUDGET).await;
    assert_fetched(&resolution, &all);
    let calls = aws.calls();
    assert_eq!(calls.len(), 5, "{calls:#?}");
    assert_eq!(aws.most_in_flight(), 5);
    assert!(calls.iter().all(|call| call.access_key_id == "ASIAENVIRONMENT"), "{calls:#?}");
    // A single secret needs only the permission that roles usually have.
    assert_eq!(calls.iter().filter(|call| call.action == Action::GetSecretValue).count(), 1);
}

#[tokio::test]
async fn secret_is_found_with_or_without_arn_suffix() {
    let aws = Aws::start().await.expect("a stand-in");
    let whole = secret("us-east-1", 1);
    let short = whole.trim_end_matches("-a1B2c3").to_owned();
    aws.keep(&whole, "hunter2");
    let resolution = resolve(secrets(&[whole.clone(), short.clone()]), &aws.variables(), BUDGET).await;
    assert_eq!(error_lines(&resolution), "");
    for arn in [whole, short] {
        assert_eq!(resolution.values.get(&arn).expect("a value").expose(), "hunter2");
    }
}

#[tokio::test]
async fn parameter_is_found_by_versioned_arn() {
    let aws = Aws::start().await.expect("a stand-in");
    let arn = parameter("us-east-1", 1);
    aws.keep(&arn, "hunter2");
    let versioned = format!("{arn}:3");
    let resolution = resolve(parameters(&[arn, versioned.clone()]), &aws.variables(), BUDGET).await;
    assert_eq!(error_lines(&resolution), "");
    assert_eq!(resolution.values.get(&versioned).expect("a value").expose(), "hunter2");
}

#[tokio::test]
async fn denied_batch_falls_back_to_single_calls() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 10, secret);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Refuse { status: 400, code: DENIED });
    aws.behave(Action::GetSecretValue, Behaviour::Gather(10));
    let resolution = resolve(secrets(&arns), &aws.variables(), BUDGET).await;
    assert_fetched(&resolution, &arns);
    let calls = aws.calls();
    assert_eq!(calls.len(), 11, "{calls:#?}");
    assert_eq!(aws.most_in_flight(), 10);
}

#[tokio::test]
async fn denied_parameter_does_not_block_others() {
    let aws = Aws::start().await.expect("a stand-in");
    let mut arns = store(&aws, 4, parameter);
    let denied = arns.remove(1);
    aws.refuse(&denied, DENIED);
    let requested = [arns.clone(), vec![denied]].concat();
    let mut resolution = resolve(parameters(&requested), &aws.variables(), BUDGET).await;
    insta::assert_snapshot!(error_lines(&resolution), @"arn:aws:ssm:us-east-1:123456789012:parameter/key-01: AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default");
    resolution.errors.clear();
    assert_fetched(&resolution, &arns);
    assert_eq!(aws.calls().len(), 5);
}

#[tokio::test]
async fn failed_secret_is_reported_with_its_code() {
    let aws = Aws::start().await.expect("a stand-in");
    let good = [secret("us-east-1", 0), parameter("us-east-1", 0)];
    for arn in &good {
        aws.keep(arn, value(arn));
    }
    aws.refuse(secret("us-east-1", 1), DENIED);
    aws.refuse(secret("us-east-1", 2), "DecryptionFailure");
    aws.keep_bytes(secret("us-east-1", 3));
    let mut batches = secrets(&(0..5).map(|number| secret("us-east-1", number)).collect::<Vec<_>>());
    batches.extend(parameters(&(0..2).map(|number| parameter("us-east-1", number)).collect::<Vec<_>>()));
    let mut resolution = resolve(batches, &aws.variables(), BUDGET).await;
    insta::assert_snapshot!(error_lines(&resolution), @r"
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-01-a1B2c3: AccessDeniedException; allow the function's role secretsmanager:GetSecretValue on it, and kms:Decrypt on its key if that is not the account's default
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-02-a1B2c3: DecryptionFailure; allow the function's role kms:Decrypt on its key, and check that the key is enabled
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-03-a1B2c3: BinarySecret; it holds bytes, but variables hold text; store it as text (SecretString)
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-04-a1B2c3: ResourceNotFoundException; it does not exist; check the ARN's region, account and name
    arn:aws:ssm:us-east-1:123456789012:parameter/key-01: ParameterNotFound; it does not exist; check the ARN's region, account and name
    ");
    resolution.errors.clear();
    assert_fetched(&resolution, &good);
    assert_eq!(aws.calls().len(), 2);
}

#[tokio::test]
async fn throttled_or_failed_calls_are_retried() {
    // The first error is returned more often than one round retries.
    for (times, status, code) in
        [(3, 400, "ThrottlingException"), (1, 500, "InternalServiceError"), (1, 503, "ServiceUnavailable")]
    {
        let aws = Aws::start().await.expect("a stand-in");
        let arns = store(&aws, 1, secret);
        aws.behave_next(times, &Behaviour::Refuse { status, code });
        let resolution = resolve(secrets(&arns), &aws.variables(), BUDGET).await;
        assert_fetched(&resolution, &arns);
        assert_eq!(aws.calls().len(), times + 1);
    }
}

#[tokio::test]
async fn throttling_service_gets_six_calls_at_most() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 10, secret);
    aws.behave(Action::BatchGetSecretValue, THROTTLED);
    let resolution = resolve(secrets(&arns), &aws.variables(), SHORT_BUDGET).await;
    assert_eq!(codes(&resolution), ["ThrottlingException"; 10]);
    let calls = aws.calls().len();
    assert!((2..=6).contains(&calls), "{calls}");
}

#[tokio::test]
async fn hanging_call_ends_with_the_budget() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 3, secret);
    let hanging = store(&aws, 2, parameter);
    aws.behave(Action::GetParameters, Behaviour::Hang);
    let batches = [secrets(&arns), parameters(&hanging)].concat();
    let mut resolution =
        tokio::time::timeout(BUDGET, resolve(batches, &aws.variables(), SHORT_BUDGET)).await.expect("an end");
    insta::assert_snapshot!(error_lines(&resolution), @r"
    arn:aws:ssm:us-east-1:123456789012:parameter/key-00: Timeout; no answer yet, the extension retries during later invocations; if this persists, a function in a VPC needs a NAT gateway or an interface endpoint for the service, and a security group that allows outbound traffic to port 443
    arn:aws:ssm:us-east-1:123456789012:parameter/key-01: Timeout; no answer yet, the extension retries during later invocations; if this persists, a function in a VPC needs a NAT gateway or an interface endpoint for the service, and a security group that allows outbound traffic to port 443
    ");
    resolution.errors.clear();
    assert_fetched(&resolution, &arns);
}

#[tokio::test]
async fn hanging_attempt_is_retried() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 2, secret);
    aws.behave_next(1, &Behaviour::Hang);
    let resolution = resolve(secrets(&arns), &aws.variables(), BUDGET).await;
    assert_fetched(&resolution, &arns);
    assert_eq!(aws.calls().len(), 2);
}

fn fetcher(aws: &Aws, batches: Vec<SecretBatch>) -> Fetcher {
    Fetcher::new(aws.variables(), batches)
}

/// Returns the ARNs of each call since the last check.
fn new_calls(aws: &Aws, seen: &mut usize) -> Vec<Vec<String>> {
    let calls = aws.calls().split_off(*seen);
    *seen += calls.len();
    calls.into_iter().map(|call| call.ids).collect()
}

#[tokio::test]
async fn throttled_secrets_are_fetched_in_later_round() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 12, secret);
    // Two attempts for each of two batches, and the one call of the second round.
    aws.behave_next(5, &THROTTLED);
    let mut fetcher = fetcher(
        &aws,
        vec![
            batch(Service::SecretsManager, "us-east-1", &arns[..10]),
            batch(Service::SecretsManager, "us-east-1", &arns[10..]),
        ],
    );
    let mut seen = 0;
    for calls in [4, 1] {
        let resolution = fetcher.round(BUDGET).await;
        assert_eq!(codes(&resolution), ["ThrottlingException"; 12]);
        assert!(resolution.errors.iter().all(|error| error.recovery == Recovery::Soon));
        assert_eq!(new_calls(&aws, &mut seen).len(), calls);
    }
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
    assert_eq!(new_calls(&aws, &mut seen).iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
    // Fetched values are kept.
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
    assert_eq!(new_calls(&aws, &mut seen).len(), 0);
}

#[tokio::test]
async fn each_service_and_region_gets_a_call() {
    let aws = Aws::start().await.expect("a stand-in");
    let east = [secret("us-east-1", 0), secret("us-east-1", 1)];
    let west = [secret("eu-west-1", 0), secret("eu-west-1", 1)];
    let parameter_arns = [parameter("us-east-1", 0)];
    for action in [Action::BatchGetSecretValue, Action::GetParameters] {
        aws.behave(action, THROTTLED);
    }
    let batches = [
        secrets(&east),
        vec![batch(Service::SecretsManager, "eu-west-1", &west)],
        parameters(&parameter_arns),
    ];
    let mut fetcher = fetcher(&aws, batches.concat());
    let mut seen = 0;
    for calls in [6, 3, 3] {
        fetcher.round(BUDGET).await;
        assert_eq!(new_calls(&aws, &mut seen).len(), calls);
    }
}

#[tokio::test]
async fn denied_secret_does_not_block_others() {
    let aws = Aws::start().await.expect("a stand-in");
    let mut arns = store(&aws, 4, secret);
    let denied = arns[1].clone();
    aws.refuse(&denied, DENIED);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Refuse { status: 400, code: DENIED });
    aws.behave(Action::GetSecretValue, THROTTLED);
    let mut fetcher = fetcher(&aws, secrets(&arns));
    let mut seen = 0;
    fetcher.round(BUDGET).await;
    assert_eq!(new_calls(&aws, &mut seen).len(), 9, "one call for the batch, two for each secret");
    aws.behave(Action::GetSecretValue, Behaviour::Answer);
    let single_calls =
        |numbers: &[usize]| numbers.iter().map(|number| vec![arns[*number].clone()]).collect::<Vec<_>>();
    assert_eq!(codes(&fetcher.round(BUDGET).await), [DENIED, "ThrottlingException", "ThrottlingException"]);
    assert_eq!(new_calls(&aws, &mut seen), single_calls(&[0, 1]));
    assert_eq!(codes(&fetcher.round(BUDGET).await), [DENIED]);
    assert_eq!(new_calls(&aws, &mut seen), single_calls(&[2, 3, 1]));

    // Then the permission is granted.
    aws.keep(&denied, value(&denied));
    let resolution = fetcher.round(BUDGET).await;
    assert_eq!(new_calls(&aws, &mut seen), single_calls(&[1]));
    arns.sort();
    assert_fetched(&resolution, &arns);
}

#[tokio::test]
async fn permission_may_be_granted_between_rounds() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = [store(&aws, 2, secret), store(&aws, 2, parameter)].concat();
    let actions = [Action::BatchGetSecretValue, Action::GetSecretValue, Action::GetParameters];
    for action in actions {
        aws.behave(action, Behaviour::Refuse { status: 400, code: DENIED });
    }
    let mut fetcher = fetcher(&aws, [secrets(&arns[..2]), parameters(&arns[2..])].concat());
    for _ in 0..2 {
        let resolution = fetcher.round(BUDGET).await;
        assert_eq!(codes(&resolution), [DENIED; 4]);
        assert!(resolution.errors.iter().all(|error| error.recovery == Recovery::OnceFixed));
    }
    for action in actions {
        aws.behave(action, Behaviour::Answer);
    }
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
}

#[tokio::test]
async fn forgotten_value_is_fetched_again() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 2, secret);
    let mut fetcher = fetcher(&aws, secrets(&arns));
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
    aws.keep(&arns[0], "the new key");
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
    fetcher.forget();
    let resolution = fetcher.round(BUDGET).await;
    assert_eq!(resolution.values.get(&arns[0]).expect("a value").expose(), "the new key");
    assert_eq!(aws.calls().len(), 2);
}

#[tokio::test]
async fn hanging_call_is_retried_in_next_round() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 2, secret);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Hang);
    let mut fetcher = fetcher(&aws, secrets(&arns));
    let resolution = fetcher.round(Duration::from_millis(200)).await;
    assert_eq!(codes(&resolution), ["Timeout"; 2]);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Answer);
    assert!(resolution.errors.iter().all(|error| error.remedy.starts_with("no answer yet")));
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
}

#[tokio::test]
async fn next_round_completes_a_dropped_one() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = [store(&aws, 2, secret), store(&aws, 2, parameter)].concat();
    aws.behave(Action::GetParameters, Behaviour::Hang);
    let mut fetcher = fetcher(&aws, [secrets(&arns[..2]), parameters(&arns[2..])].concat());
    let _ = tokio::time::timeout(Duration::from_millis(200), fetcher.round(BUDGET)).await;
    aws.behave(Action::GetParameters, Behaviour::Answer);
    let round = tokio::spawn(async move { fetcher.round(BUDGET).await });
    assert_fetched(&round.await.expect("a round"), &arns);
}

#[tokio::test]
async fn responses_not_from_aws_are_detected() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 2, parameter);
    for (response, code) in [(json!("<html>"), "UnreadableAnswer"), (json!({}), "NoAnswer")] {
        aws.behave(Action::GetParameters, Behaviour::Say(response));
        let resolution = resolve(parameters(&arns), &aws.variables(), BUDGET).await;
        assert_eq!(codes(&resolution), [code; 2]);
    }

    let mut variables = aws.variables();
    variables.insert("AWS_ENDPOINT_URL".to_owned(), "not a URL".to_owned());
    let resolution = resolve(parameters(&arns), &variables, BUDGET).await;
    assert_eq!(codes(&resolution), ["InvalidRequest"; 2]);

    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    variables.insert("AWS_ENDPOINT_URL".to_owned(), format!("http://{closed}"));
    let resolution = resolve(parameters(&arns), &variables, SHORT_BUDGET).await;
    assert_eq!(codes(&resolution), ["ConnectionFailed"; 2]);
}

#[tokio::test]
async fn container_endpoint_provides_credentials() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 2, secret);
    aws.behave_next(2, &Behaviour::Refuse { status: 503, code: "ServiceUnavailable" });
    let resolution = resolve(secrets(&arns), &aws.container_variables(), BUDGET).await;
    assert_fetched(&resolution, &arns);
    let calls = aws.calls();
    assert_eq!(calls.last().expect("a call").access_key_id, "ASIACONTAINER");
    assert_eq!(actions(&aws), [[Action::Credentials; 3].as_slice(), &[Action::BatchGetSecretValue]].concat());
}

#[tokio::test]
async fn expired_container_credentials_are_renewed() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 1, secret);
    let mut fetcher = Fetcher::new(aws.container_variables(), secrets(&arns));
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
    aws.renew_keys();
    fetcher.forget();
    assert_fetched(&fetcher.round(BUDGET).await, &arns);
    let signers = aws.calls().into_iter().filter(|call| call.action == Action::GetSecretValue);
    assert_eq!(signers.map(|call| call.access_key_id).collect::<Vec<_>>(), ["ASIACONTAINER", "ASIARENEWED"]);
}

#[tokio::test]
async fn function_tries_no_other_credentials_provider() {
    let (aws, elsewhere) = (Aws::start().await.expect("a stand-in"), Aws::start().await.expect("another"));
    let arns = store(&aws, 1, secret);
    let home =
        Home::with_profile("aws_access_key_id = ASIAENVIRONMENT\naws_secret_access_key = environment/key");
    let mut variables = home.variables(&aws, &[]);
    variables.extend(web_identity(&home, &elsewhere));
    variables.insert("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), elsewhere.url());
    let resolution = resolve(secrets(&arns), &variables, BUDGET).await;
    assert_eq!(codes(&resolution), ["NoCredentials"]);
    assert_eq!((aws.calls(), elsewhere.calls()), (vec![], vec![]));
}

/// The home directory of a user with a profile.
struct Home(tempfile::TempDir);

impl Home {
    fn with_profile(lines: &str) -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        home.write(".aws/config", &format!("[profile person]\n{lines}\n"));
        home
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }

    /// Returns the variables of this user, with the instance metadata service disabled.
    fn variables(&self, aws: &Aws, more: &[(&str, &str)]) -> Variables {
        let (home, url) = (self.0.path().to_string_lossy(), aws.url());
        let pairs = [
            ("HOME", &*home),
            ("AWS_PROFILE", "person"),
            ("AWS_ENDPOINT_URL", &url),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        pairs.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

fn web_identity(home: &Home, aws: &Aws) -> Variables {
    let file = home.write("token", aws.identity_token());
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/person"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Fetches a secret with CLI credentials; returns the id of the key that signed the request.
async fn cli_signer(aws: &Aws, variables: Variables) -> String {
    let arns = store(aws, 1, secret);
    let fetcher = Fetcher::new(variables, secrets(&arns));
    assert_fetched(&fetcher.with_credentials_from(CredentialSources::Cli).rounds(BUDGET).await, &arns);
    aws.calls().pop().expect("a call").access_key_id
}

#[tokio::test]
async fn cli_credentials_come_from_profile() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile(
        "aws_access_key_id = ASIAENVIRONMENT\naws_secret_access_key = environment/key\n\
         aws_session_token = environment-token",
    );
    assert_eq!(cli_signer(&aws, home.variables(&aws, &[])).await, "ASIAENVIRONMENT");
}

#[cfg(feature = "cli-credentials")]
#[tokio::test]
async fn cli_credentials_come_from_process() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile("");
    let keys = json!({
        "Version": 1, "AccessKeyId": "ASIACONTAINER", "SecretAccessKey": "container/key",
        "SessionToken": "container-session", "Expiration": "2099-01-01T00:00:00Z",
    });
    let file = home.write("keys.json", &keys.to_string());
    home.write(".aws/config", &format!("[profile person]\ncredential_process = cat {file}\n"));
    assert_eq!(cli_signer(&aws, home.variables(&aws, &[])).await, "ASIACONTAINER");
}

#[tokio::test]
async fn cli_credentials_come_from_web_identity() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile("");
    let mut variables = home.variables(&aws, &[]);
    variables.extend(web_identity(&home, &aws));
    assert_eq!(cli_signer(&aws, variables).await, "ASIACONTAINER");
}

#[tokio::test]
async fn cli_credentials_come_from_instance_metadata() {
    let aws = Aws::start().await.expect("a stand-in");
    let url = aws.url();
    let metadata_variables =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let variables = Home::with_profile("").variables(&aws, &metadata_variables);
    assert_eq!(cli_signer(&aws, variables).await, "ASIACONTAINER");
}

#[cfg(feature = "cli-credentials")]
#[tokio::test]
async fn cli_credentials_come_from_sso() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile(
        "sso_session = test\nsso_account_id = 123456789012\nsso_role_name = role\n\
         [sso-session test]\nsso_region = us-east-1\nsso_start_url = https://example.awsapps.com/start",
    );
    let token = json!({
        "accessToken": aws.identity_token(), "expiresAt": "2099-01-01T00:00:00Z",
        "region": "us-east-1", "startUrl": "https://example.awsapps.com/start",
    });
    // The AWS CLI names the file by the SHA-1 of the session's name.
    home.write(".aws/sso/cache/a94a8fe5ccb19ba61c4c0873d391e987982fbbd3.json", &token.to_string());
    assert_eq!(cli_signer(&aws, home.variables(&aws, &[])).await, "ASIACONTAINER");
}

#[cfg(feature = "cli-credentials")]
#[tokio::test]
async fn missing_cli_credentials_have_a_remedy() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 1, secret);
    let broken = Home::with_profile("credential_process = cat /nowhere/hunter2");
    let mut lines = Vec::new();
    for home in [Home::with_profile(""), broken] {
        let fetcher = Fetcher::new(home.variables(&aws, &[]), secrets(&arns));
        lines.push(error_lines(&fetcher.with_credentials_from(CredentialSources::Cli).rounds(BUDGET).await));
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set AWS_PROFILE to a profile with credentials
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the credentials provider fails; run `aws sts get-caller-identity` with the same variables to see why
    ");
    assert_eq!(aws.calls(), []);
}

#[tokio::test]
async fn no_service_is_called_without_credentials() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 1, secret);
    let full_uri = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let with = |change: &dyn Fn(&mut Variables)| {
        let mut variables = aws.container_variables();
        change(&mut variables);
        variables
    };
    let none = with(&|variables| drop(variables.remove(full_uri)));
    let wrong_token = with(&|variables| {
        variables.insert("AWS_CONTAINER_AUTHORIZATION_TOKEN".to_owned(), "hunter2".to_owned());
    });
    // The token would be sent unencrypted, to an address or a host name reserved for documentation.
    let elsewhere = ["http://192.0.2.1/", "http://credentials.example.com/"]
        .map(|url| with(&|variables| drop(variables.insert(full_uri.to_owned(), url.to_owned()))));
    let mut lines = Vec::new();
    for variables in [none, wrong_token].into_iter().chain(elsewhere) {
        let resolution = resolve(secrets(&arns), &variables, BUDGET).await;
        assert!(resolution.values.is_empty());
        lines.push(error_lines(&resolution));
    }
    aws.behave(Action::Credentials, Behaviour::Hang);
    lines.push(error_lines(&resolve(secrets(&arns), &aws.container_variables(), SHORT_BUDGET).await));
    insta::assert_snapshot!(lines.join("\n"), @"
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; there are no credentials; Lambda sets them; outside Lambda, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI returns no credentials; leave it and AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI returns no credentials; leave it and AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI returns no credentials; leave it and AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; no credentials yet from the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI, the extension retries during later invocations; if this persists, leave the variable as Lambda sets it
    ");
    assert!(aws.calls().iter().all(|call| call.action == Action::Credentials));
}

#[tokio::test]
async fn failing_container_endpoint_is_retried() {
    for status in [500, 503, 429] {
        let aws = Aws::start().await.expect("a stand-in");
        let arns = store(&aws, 1, secret);
        // More often than aws-config retries by itself.
        aws.behave_next(5, &Behaviour::Refuse { status, code: "Unavailable" });
        let resolution = resolve(secrets(&arns), &aws.container_variables(), BUDGET).await;
        assert_eq!(error_lines(&resolution), "", "{status}");
        assert_eq!(resolution.values.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn malformed_container_endpoint_is_an_error() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 1, secret);
    let full = [
        "127.0.0.1:80",
        "localhost",
        "http://",
        "http:///x",
        "[::1]:80",
        "http://[::1",
        "*",
        "/x",
        "ftp://[::1]/",
    ];
    let relative = ["x", "localhost", "http://127.0.0.1/x", "*", "/ x", "?x"];
    let cases = full.map(|value| ("AWS_CONTAINER_CREDENTIALS_FULL_URI", value)).into_iter();
    for (name, value) in cases.chain(relative.map(|value| ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", value)))
    {
        let mut variables = Variables::new();
        variables.insert(name.to_owned(), value.to_owned());
        let resolution = resolve(secrets(&arns), &variables, BUDGET).await;
        assert!(
            error_lines(&resolution).contains("returns no credentials; leave it"),
            "{value}: {resolution:?}"
        );
        // Keys in the environment take precedence.
        variables.extend(aws.variables());
        assert_fetched(&resolve(secrets(&arns), &variables, BUDGET).await, &arns);
    }
}

#[tokio::test]
async fn rejected_credentials_fail_every_secret() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = store(&aws, 5, secret);
    for (variable, code) in [
        ("AWS_SECRET_ACCESS_KEY", "InvalidSignatureException"),
        ("AWS_SESSION_TOKEN", "UnrecognizedClientException"),
    ] {
        let mut variables = aws.variables();
        variables.insert(variable.to_owned(), "hunter2".to_owned());
        let resolution = resolve(secrets(&arns), &variables, BUDGET).await;
        assert_eq!(codes(&resolution), [code; 5]);
    }
    assert_eq!(aws.calls(), []);
}

#[tokio::test]
async fn service_endpoint_overrides_global_endpoint() {
    let (aws, other) = (Aws::start().await.expect("a stand-in"), Aws::start().await.expect("another"));
    let (secret, parameter) = (store(&aws, 1, secret), store(&other, 1, parameter));
    let mut variables = aws.variables();
    variables.insert("AWS_ENDPOINT_URL_SSM".to_owned(), other.url());
    let resolution = resolve([secrets(&secret), parameters(&parameter)].concat(), &variables, BUDGET).await;
    assert_fetched(&resolution, &[secret, parameter].concat());
    assert_eq!((actions(&aws), actions(&other)), (vec![Action::GetSecretValue], vec![Action::GetParameters]));
}

/// Fetches a batch through a proxy, with these variables; returns the first line of the request to the proxy.
async fn proxy_request_line(batch: SecretBatch, more: &[(&str, &str)]) -> String {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", proxy.local_addr().expect("its address"));
    let variables: Variables =
        [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("HTTPS_PROXY", &url)]
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
    let line = async {
        let (connection, _) = proxy.accept().await.expect("a connection");
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).await.expect("a line");
        line
    };
    tokio::select! {
        line = line => line.trim().to_owned(),
        resolution = resolve(vec![batch], &variables, BUDGET) => panic!("no request to the proxy: {resolution:?}"),
    }
}

#[tokio::test]
async fn requests_use_proxy_and_partition_endpoint() {
    let secret_of = |region| batch(Service::SecretsManager, region, &[secret(region, 1)]);
    let parameter_of = |region| batch(Service::ParameterStore, region, &[parameter(region, 1)]);
    let requests = [
        proxy_request_line(secret_of("us-east-1"), &[]).await,
        proxy_request_line(parameter_of("cn-north-1"), &[]).await,
        proxy_request_line(secret_of("us-gov-west-1"), &[("AWS_USE_FIPS_ENDPOINT", "true")]).await,
        proxy_request_line(parameter_of("eu-west-1"), &[("AWS_USE_DUALSTACK_ENDPOINT", "true")]).await,
    ];
    insta::assert_snapshot!(requests.join("\n"), @r"
    CONNECT secretsmanager.us-east-1.amazonaws.com:443 HTTP/1.1
    CONNECT ssm.cn-north-1.amazonaws.com.cn:443 HTTP/1.1
    CONNECT secretsmanager-fips.us-gov-west-1.amazonaws.com:443 HTTP/1.1
    CONNECT ssm.eu-west-1.api.aws:443 HTTP/1.1
    ");
}

/// A writer that keeps the written text.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn writer(&self) -> impl Fn() -> Self + Send + Sync + 'static {
        let writer = self.clone();
        move || writer.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the bytes")).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the bytes").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Fetches secrets, one denied and one binary, with this log subscriber.
async fn resolve_with_log(log: Dispatch, variables: impl Fn(&Aws) -> Variables) -> Resolution {
    let aws = Aws::start().await.expect("a stand-in");
    let bytes = secret("us-east-1", 7);
    aws.keep_bytes(&bytes);
    let denied = parameter("us-east-1", 9);
    aws.refuse(&denied, DENIED);
    let batches = [
        secrets(&[store(&aws, 3, secret), vec![bytes]].concat()),
        parameters(&[store(&aws, 3, parameter), vec![denied]].concat()),
    ];
    let _guard = tracing::dispatcher::set_default(&log);
    let resolution = resolve(batches.concat(), &variables(&aws), BUDGET).await;
    tracing::info!(target: "aws_smithy_runtime::client", "a dependency logs");
    resolution
}

#[tokio::test]
async fn no_secret_value_is_logged_at_any_level() {
    let private = [
        "hunter2",
        "container/key",
        "container-session",
        "container-token",
        "environment/key",
        "environment-token",
    ];
    let levels = [
        "trace",
        "aws_config=trace,aws_runtime=trace,aws_sdk_ssm=trace,aws_smithy_runtime=trace",
        "trace,aws_smithy_runtime=trace,aws_smithy_runtime::client::orchestrator=trace,hyper=trace",
        "aws_smithy_runtime=trace,rotel_lambda_extension=trace,reqwest=trace,rustls=trace",
    ];
    for level in levels {
        for (json, variables) in [
            (false, Aws::container_variables as fn(&Aws) -> Variables),
            (true, Aws::container_variables),
            (true, Aws::variables),
        ] {
            let captured = Captured::default();
            let log = LogSettings { level: level.to_owned(), json };
            let resolution = resolve_with_log(logging::subscriber(&log, captured.writer()), variables).await;
            assert_eq!((resolution.values.len(), resolution.errors.len()), (6, 2), "{resolution:?}");
            let lines = captured.text();
            assert_eq!(lines.contains("a dependency logs"), level != "trace", "{lines}");
            let all = format!("{lines}{resolution:?}{resolution:#?}{}", error_lines(&resolution));
            for value in private {
                assert!(!all.contains(value), "{value} is in {all}");
            }
        }
    }
    // Without our level limit the SDK logs them, so this test would detect it.
    let captured = Captured::default();
    let unlimited = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(captured.writer());
    resolve_with_log(unlimited.finish().into(), Aws::container_variables).await;
    assert!(captured.text().contains("hunter2"));
}
