//! Secrets from AWS: few calls, all at once, in rounds; and the faults when some fail.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws, Behaviour};
use rotel_core::config::secret_ref::{Arn, Batch, Service};
use rotel_core::config::{LogSettings, Variables};
use rotel_lambda_extension::edge::logging;
use rotel_lambda_extension::edge::secrets::{CredentialSources, Fetcher, Recovery, Resolution, resolve};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tracing::{Dispatch, Level};

/// A budget that no test is to use up.
const BUDGET: Duration = Duration::from_mins(1);
/// One that is used up, and in which a busy machine still gets what is to be had.
const SHORT: Duration = Duration::from_secs(5);

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

fn batch(service: Service, region: &str, arns: &[String]) -> Batch {
    let arn = |text: &String| Arn { service, region: region.to_owned(), text: text.clone() };
    Batch { service, region: region.to_owned(), arns: arns.iter().map(arn).collect() }
}

fn secrets(arns: &[String]) -> Vec<Batch> {
    vec![batch(Service::SecretsManager, "us-east-1", arns)]
}

fn parameters(arns: &[String]) -> Vec<Batch> {
    vec![batch(Service::ParameterStore, "us-east-1", arns)]
}

/// So many secrets, kept.
fn kept(aws: &Aws, count: usize, arn: impl Fn(&str, usize) -> String) -> Vec<String> {
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
    resolution.errors.iter().map(|fault| fault.code.as_str()).collect()
}

#[track_caller]
fn assert_whole(resolution: &Resolution, arns: &[String]) {
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
    // None is answered before all are there.
    for action in [Action::BatchGetSecretValue, Action::GetSecretValue, Action::GetParameters] {
        aws.behave(action, Behaviour::Gather(5));
    }
    let resolution = resolve(batches, &aws.variables(), BUDGET).await;
    assert_whole(&resolution, &all);
    let calls = aws.calls();
    assert_eq!(calls.len(), 5, "{calls:#?}");
    assert_eq!(aws.most_in_flight(), 5);
    assert!(calls.iter().all(|call| call.access_key_id == "ASIAENVIRONMENT"), "{calls:#?}");
    // A lone secret needs no more than the permission that roles usually have.
    assert_eq!(calls.iter().filter(|call| call.action == Action::GetSecretValue).count(), 1);
}

#[tokio::test]
async fn a_secret_is_found_with_and_without_the_suffix_of_its_arn() {
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
async fn a_parameter_is_found_with_the_version_that_its_arn_names() {
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
    let arns = kept(&aws, 10, secret);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Refuse { status: 400, code: DENIED });
    aws.behave(Action::GetSecretValue, Behaviour::Gather(10));
    let resolution = resolve(secrets(&arns), &aws.variables(), BUDGET).await;
    assert_whole(&resolution, &arns);
    let calls = aws.calls();
    assert_eq!(calls.len(), 11, "{calls:#?}");
    assert_eq!(aws.most_in_flight(), 10);
}

#[tokio::test]
async fn one_denied_parameter_does_not_take_the_others_with_it() {
    let aws = Aws::start().await.expect("a stand-in");
    let mut arns = kept(&aws, 4, parameter);
    let denied = arns.remove(1);
    aws.refuse(&denied, DENIED);
    let asked = [arns.clone(), vec![denied]].concat();
    let mut resolution = resolve(parameters(&asked), &aws.variables(), BUDGET).await;
    insta::assert_snapshot!(error_lines(&resolution), @"arn:aws:ssm:us-east-1:123456789012:parameter/key-01: AccessDeniedException; allow the function's role ssm:GetParameters on it, and kms:Decrypt on its key if that is not the account's default");
    resolution.errors.clear();
    assert_whole(&resolution, &arns);
    assert_eq!(aws.calls().len(), 5);
}

#[tokio::test]
async fn failed_secret_is_named_with_its_code() {
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
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-02-a1B2c3: DecryptionFailure; allow the function's role kms:Decrypt on its key, and see that the key is enabled
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-03-a1B2c3: BinarySecret; it holds bytes, which fit in no variable; store it as text (SecretString)
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-04-a1B2c3: ResourceNotFoundException; it is not there; check the ARN's region, account and name
    arn:aws:ssm:us-east-1:123456789012:parameter/key-01: ParameterNotFound; it is not there; check the ARN's region, account and name
    ");
    resolution.errors.clear();
    assert_whole(&resolution, &good);
    assert_eq!(aws.calls().len(), 2);
}

#[tokio::test]
async fn throttled_or_failed_calls_are_repeated() {
    // The first more often than one round asks.
    for (times, status, code) in
        [(3, 400, "ThrottlingException"), (1, 500, "InternalServiceError"), (1, 503, "ServiceUnavailable")]
    {
        let aws = Aws::start().await.expect("a stand-in");
        let arns = kept(&aws, 1, secret);
        aws.behave_next(times, &Behaviour::Refuse { status, code });
        let resolution = resolve(secrets(&arns), &aws.variables(), BUDGET).await;
        assert_whole(&resolution, &arns);
        assert_eq!(aws.calls().len(), times + 1);
    }
}

#[tokio::test]
async fn throttling_service_is_called_six_times_at_most() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 10, secret);
    aws.behave(Action::BatchGetSecretValue, THROTTLED);
    let resolution = resolve(secrets(&arns), &aws.variables(), SHORT).await;
    assert_eq!(codes(&resolution), ["ThrottlingException"; 10]);
    let calls = aws.calls().len();
    assert!((2..=6).contains(&calls), "{calls}");
}

#[tokio::test]
async fn hanging_call_ends_with_the_budget() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 3, secret);
    let hanging = kept(&aws, 2, parameter);
    aws.behave(Action::GetParameters, Behaviour::Hang);
    let batches = [secrets(&arns), parameters(&hanging)].concat();
    let mut resolution =
        tokio::time::timeout(BUDGET, resolve(batches, &aws.variables(), SHORT)).await.expect("an end");
    insta::assert_snapshot!(error_lines(&resolution), @r"
    arn:aws:ssm:us-east-1:123456789012:parameter/key-00: Timeout; no answer yet, the extension tries again during later invocations; if it stays so, a function in a VPC needs a NAT gateway or an interface endpoint of the service, and a security group that lets it out to port 443
    arn:aws:ssm:us-east-1:123456789012:parameter/key-01: Timeout; no answer yet, the extension tries again during later invocations; if it stays so, a function in a VPC needs a NAT gateway or an interface endpoint of the service, and a security group that lets it out to port 443
    ");
    resolution.errors.clear();
    assert_whole(&resolution, &arns);
}

#[tokio::test]
async fn hanging_attempt_is_retried() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 2, secret);
    aws.behave_next(1, &Behaviour::Hang);
    let resolution = resolve(secrets(&arns), &aws.variables(), BUDGET).await;
    assert_whole(&resolution, &arns);
    assert_eq!(aws.calls().len(), 2);
}

fn fetcher(aws: &Aws, batches: Vec<Batch>) -> Fetcher {
    Fetcher::new(aws.variables(), batches)
}

/// The calls since the last look.
fn new_calls(aws: &Aws, seen: &mut usize) -> Vec<Vec<String>> {
    let calls = aws.calls().split_off(*seen);
    *seen += calls.len();
    calls.into_iter().map(|call| call.ids).collect()
}

#[tokio::test]
async fn throttled_secrets_come_in_a_later_round() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 12, secret);
    // Two batches, each tried twice, and the one call of the second round.
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
        assert!(resolution.errors.iter().all(|fault| fault.recovery == Recovery::Soon));
        assert_eq!(new_calls(&aws, &mut seen).len(), calls);
    }
    assert_whole(&fetcher.round(BUDGET).await, &arns);
    assert_eq!(new_calls(&aws, &mut seen).iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
    // Fetched values are kept.
    assert_whole(&fetcher.round(BUDGET).await, &arns);
    assert_eq!(new_calls(&aws, &mut seen).len(), 0);
}

#[tokio::test]
async fn services_and_regions_have_a_call_each() {
    let aws = Aws::start().await.expect("a stand-in");
    let east = [secret("us-east-1", 0), secret("us-east-1", 1)];
    let west = [secret("eu-west-1", 0), secret("eu-west-1", 1)];
    let store = [parameter("us-east-1", 0)];
    for action in [Action::BatchGetSecretValue, Action::GetParameters] {
        aws.behave(action, THROTTLED);
    }
    let batches =
        [secrets(&east), vec![batch(Service::SecretsManager, "eu-west-1", &west)], parameters(&store)];
    let mut fetcher = fetcher(&aws, batches.concat());
    let mut seen = 0;
    for calls in [6, 3, 3] {
        fetcher.round(BUDGET).await;
        assert_eq!(new_calls(&aws, &mut seen).len(), calls);
    }
}

#[tokio::test]
async fn denied_secret_does_not_keep_the_others() {
    let aws = Aws::start().await.expect("a stand-in");
    let mut arns = kept(&aws, 4, secret);
    let denied = arns[1].clone();
    aws.refuse(&denied, DENIED);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Refuse { status: 400, code: DENIED });
    aws.behave(Action::GetSecretValue, THROTTLED);
    let mut fetcher = fetcher(&aws, secrets(&arns));
    let mut seen = 0;
    fetcher.round(BUDGET).await;
    assert_eq!(new_calls(&aws, &mut seen).len(), 9, "the batch, and each alone twice");
    aws.behave(Action::GetSecretValue, Behaviour::Answer);
    let alone = |numbers: &[usize]| numbers.iter().map(|at| vec![arns[*at].clone()]).collect::<Vec<_>>();
    assert_eq!(codes(&fetcher.round(BUDGET).await), [DENIED, "ThrottlingException", "ThrottlingException"]);
    assert_eq!(new_calls(&aws, &mut seen), alone(&[0, 1]));
    assert_eq!(codes(&fetcher.round(BUDGET).await), [DENIED]);
    assert_eq!(new_calls(&aws, &mut seen), alone(&[2, 3, 1]));

    // Then somebody grants the right.
    aws.keep(&denied, value(&denied));
    let resolution = fetcher.round(BUDGET).await;
    assert_eq!(new_calls(&aws, &mut seen), alone(&[1]));
    arns.sort();
    assert_whole(&resolution, &arns);
}

#[tokio::test]
async fn right_may_arrive_between_rounds() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = [kept(&aws, 2, secret), kept(&aws, 2, parameter)].concat();
    let actions = [Action::BatchGetSecretValue, Action::GetSecretValue, Action::GetParameters];
    for action in actions {
        aws.behave(action, Behaviour::Refuse { status: 400, code: DENIED });
    }
    let mut fetcher = fetcher(&aws, [secrets(&arns[..2]), parameters(&arns[2..])].concat());
    for _ in 0..2 {
        let resolution = fetcher.round(BUDGET).await;
        assert_eq!(codes(&resolution), [DENIED; 4]);
        assert!(resolution.errors.iter().all(|fault| fault.recovery == Recovery::OnceFixed));
    }
    for action in actions {
        aws.behave(action, Behaviour::Answer);
    }
    assert_whole(&fetcher.round(BUDGET).await, &arns);
}

#[tokio::test]
async fn forgotten_value_is_fetched_anew() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 2, secret);
    let mut fetcher = fetcher(&aws, secrets(&arns));
    assert_whole(&fetcher.round(BUDGET).await, &arns);
    aws.keep(&arns[0], "the new key");
    assert_whole(&fetcher.round(BUDGET).await, &arns);
    fetcher.forget();
    let resolution = fetcher.round(BUDGET).await;
    assert_eq!(resolution.values.get(&arns[0]).expect("a value").expose(), "the new key");
    assert_eq!(aws.calls().len(), 2);
}

#[tokio::test]
async fn round_after_a_hanging_call_asks_again() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 2, secret);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Hang);
    let mut fetcher = fetcher(&aws, secrets(&arns));
    let resolution = fetcher.round(Duration::from_millis(200)).await;
    assert_eq!(codes(&resolution), ["Timeout"; 2]);
    aws.behave(Action::BatchGetSecretValue, Behaviour::Answer);
    assert!(resolution.errors.iter().all(|fault| fault.remedy.starts_with("no answer yet")));
    assert_whole(&fetcher.round(BUDGET).await, &arns);
}

#[tokio::test]
async fn dropped_round_leaves_the_rest_to_the_next() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = [kept(&aws, 2, secret), kept(&aws, 2, parameter)].concat();
    aws.behave(Action::GetParameters, Behaviour::Hang);
    let mut fetcher = fetcher(&aws, [secrets(&arns[..2]), parameters(&arns[2..])].concat());
    let _ = tokio::time::timeout(Duration::from_millis(200), fetcher.round(BUDGET)).await;
    aws.behave(Action::GetParameters, Behaviour::Answer);
    let round = tokio::spawn(async move { fetcher.round(BUDGET).await });
    assert_whole(&round.await.expect("a round"), &arns);
}

#[tokio::test]
async fn answers_not_from_aws_are_recognized() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 2, parameter);
    for (answer, code) in [(json!("<html>"), "UnreadableAnswer"), (json!({}), "NoAnswer")] {
        aws.behave(Action::GetParameters, Behaviour::Say(answer));
        let resolution = resolve(parameters(&arns), &aws.variables(), BUDGET).await;
        assert_eq!(codes(&resolution), [code; 2]);
    }

    let mut variables = aws.variables();
    variables.insert("AWS_ENDPOINT_URL".to_owned(), "not a URL".to_owned());
    let resolution = resolve(parameters(&arns), &variables, BUDGET).await;
    assert_eq!(codes(&resolution), ["InvalidRequest"; 2]);

    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    variables.insert("AWS_ENDPOINT_URL".to_owned(), format!("http://{closed}"));
    let resolution = resolve(parameters(&arns), &variables, SHORT).await;
    assert_eq!(codes(&resolution), ["ConnectionFailed"; 2]);
}

#[tokio::test]
async fn container_endpoint_gives_credentials() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 2, secret);
    aws.behave_next(2, &Behaviour::Refuse { status: 503, code: "ServiceUnavailable" });
    let resolution = resolve(secrets(&arns), &aws.container_variables(), BUDGET).await;
    assert_whole(&resolution, &arns);
    let calls = aws.calls();
    assert_eq!(calls.last().expect("a call").access_key_id, "ASIACONTAINER");
    assert_eq!(actions(&aws), [[Action::Credentials; 3].as_slice(), &[Action::BatchGetSecretValue]].concat());
}

#[tokio::test]
async fn expired_container_credentials_are_renewed() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 1, secret);
    let mut fetcher = Fetcher::new(aws.container_variables(), secrets(&arns));
    assert_whole(&fetcher.round(BUDGET).await, &arns);
    aws.renew_keys();
    fetcher.forget();
    assert_whole(&fetcher.round(BUDGET).await, &arns);
    let signers = aws.calls().into_iter().filter(|call| call.action == Action::GetSecretValue);
    assert_eq!(signers.map(|call| call.access_key_id).collect::<Vec<_>>(), ["ASIACONTAINER", "ASIARENEWED"]);
}

#[tokio::test]
async fn function_asks_no_other_source_of_credentials() {
    let (aws, elsewhere) = (Aws::start().await.expect("a stand-in"), Aws::start().await.expect("another"));
    let arns = kept(&aws, 1, secret);
    let home =
        Home::with_profile("aws_access_key_id = ASIAENVIRONMENT\naws_secret_access_key = environment/key");
    let mut variables = home.variables(&aws, &[]);
    variables.extend(web_identity(&home, &elsewhere));
    variables.insert("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), elsewhere.url());
    let resolution = resolve(secrets(&arns), &variables, BUDGET).await;
    assert_eq!(codes(&resolution), ["NoCredentials"]);
    assert_eq!((aws.calls(), elsewhere.calls()), (vec![], vec![]));
}

/// A person's home folder with a profile.
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

    /// The variables of its owner, who asks no instance metadata service.
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

/// The key that signed the call for a secret, with the credentials that the AWS CLI would find.
async fn signer_for_people(aws: &Aws, variables: Variables) -> String {
    let arns = kept(aws, 1, secret);
    let fetcher = Fetcher::new(variables, secrets(&arns));
    assert_whole(&fetcher.with_credentials_from(CredentialSources::Cli).rounds(BUDGET).await, &arns);
    aws.calls().pop().expect("a call").access_key_id
}

#[tokio::test]
async fn people_have_credentials_of_a_profile() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile(
        "aws_access_key_id = ASIAENVIRONMENT\naws_secret_access_key = environment/key\n\
         aws_session_token = environment-token",
    );
    assert_eq!(signer_for_people(&aws, home.variables(&aws, &[])).await, "ASIAENVIRONMENT");
}

#[cfg(feature = "cli-credentials")]
#[tokio::test]
async fn people_have_credentials_of_a_process() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile("");
    let keys = json!({
        "Version": 1, "AccessKeyId": "ASIACONTAINER", "SecretAccessKey": "container/key",
        "SessionToken": "container-session", "Expiration": "2099-01-01T00:00:00Z",
    });
    let file = home.write("keys.json", &keys.to_string());
    home.write(".aws/config", &format!("[profile person]\ncredential_process = cat {file}\n"));
    assert_eq!(signer_for_people(&aws, home.variables(&aws, &[])).await, "ASIACONTAINER");
}

#[tokio::test]
async fn people_have_credentials_of_a_web_identity() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile("");
    let mut variables = home.variables(&aws, &[]);
    variables.extend(web_identity(&home, &aws));
    assert_eq!(signer_for_people(&aws, variables).await, "ASIACONTAINER");
}

#[tokio::test]
async fn people_have_credentials_of_an_instance() {
    let aws = Aws::start().await.expect("a stand-in");
    let url = aws.url();
    let of_metadata =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let variables = Home::with_profile("").variables(&aws, &of_metadata);
    assert_eq!(signer_for_people(&aws, variables).await, "ASIACONTAINER");
}

#[cfg(feature = "cli-credentials")]
#[tokio::test]
async fn people_have_credentials_of_sso() {
    let aws = Aws::start().await.expect("a stand-in");
    let home = Home::with_profile(
        "sso_session = test\nsso_account_id = 123456789012\nsso_role_name = role\n\
         [sso-session test]\nsso_region = us-east-1\nsso_start_url = https://example.awsapps.com/start",
    );
    let token = json!({
        "accessToken": aws.identity_token(), "expiresAt": "2099-01-01T00:00:00Z",
        "region": "us-east-1", "startUrl": "https://example.awsapps.com/start",
    });
    // The SHA-1 of the session's name, as the AWS CLI has it.
    home.write(".aws/sso/cache/a94a8fe5ccb19ba61c4c0873d391e987982fbbd3.json", &token.to_string());
    assert_eq!(signer_for_people(&aws, home.variables(&aws, &[])).await, "ASIACONTAINER");
}

#[cfg(feature = "cli-credentials")]
#[tokio::test]
async fn people_without_credentials_are_referred_to_the_cli() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 1, secret);
    let broken = Home::with_profile("credential_process = cat /nowhere/hunter2");
    let mut lines = Vec::new();
    for home in [Home::with_profile(""), broken] {
        let fetcher = Fetcher::new(home.variables(&aws, &[]), secrets(&arns));
        lines.push(error_lines(&fetcher.with_credentials_from(CredentialSources::Cli).rounds(BUDGET).await));
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set AWS_PROFILE to a profile that has some
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the source of the credentials fails; run `aws sts get-caller-identity` with the same variables to see why
    ");
    assert_eq!(aws.calls(), []);
}

#[tokio::test]
async fn without_credentials_aws_is_not_asked() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 1, secret);
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
    // The token would travel in the clear, to an address of the documentation.
    let elsewhere = with(&|variables| {
        variables.insert(full_uri.to_owned(), "http://192.0.2.1/".to_owned());
    });
    let mut lines = Vec::new();
    for variables in [none, wrong_token, elsewhere] {
        let resolution = resolve(secrets(&arns), &variables, BUDGET).await;
        assert!(resolution.values.is_empty());
        lines.push(error_lines(&resolution));
    }
    aws.behave(Action::Credentials, Behaviour::Hang);
    lines.push(error_lines(&resolve(secrets(&arns), &aws.container_variables(), SHORT).await));
    insta::assert_snapshot!(lines.join("\n"), @r"
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; there are no credentials; Lambda sets them, elsewhere set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI gives no credentials; leave it and AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI gives no credentials; leave it and AWS_CONTAINER_AUTHORIZATION_TOKEN as Lambda sets them
    arn:aws:secretsmanager:us-east-1:123456789012:secret:key-00-a1B2c3: NoCredentials; no credentials yet from the endpoint in AWS_CONTAINER_CREDENTIALS_FULL_URI, the extension tries again during later invocations; leave the variable as Lambda sets it
    ");
    assert!(aws.calls().iter().all(|call| call.action == Action::Credentials));
}

#[tokio::test]
async fn malformed_container_endpoint_is_an_error() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 1, secret);
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
            error_lines(&resolution).contains("gives no credentials; leave it"),
            "{value}: {resolution:?}"
        );
        // Keys go first.
        variables.extend(aws.variables());
        assert_whole(&resolve(secrets(&arns), &variables, BUDGET).await, &arns);
    }
}

#[tokio::test]
async fn wrong_credentials_are_reported_once() {
    let aws = Aws::start().await.expect("a stand-in");
    let arns = kept(&aws, 5, secret);
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
async fn service_endpoint_overrides_general_one() {
    let (aws, other) = (Aws::start().await.expect("a stand-in"), Aws::start().await.expect("another"));
    let (secret, parameter) = (kept(&aws, 1, secret), kept(&other, 1, parameter));
    let mut variables = aws.variables();
    variables.insert("AWS_ENDPOINT_URL_SSM".to_owned(), other.url());
    let resolution = resolve([secrets(&secret), parameters(&parameter)].concat(), &variables, BUDGET).await;
    assert_whole(&resolution, &[secret, parameter].concat());
    assert_eq!((actions(&aws), actions(&other)), (vec![Action::GetSecretValue], vec![Action::GetParameters]));
}

/// the first line of the request to a proxy for a batch, with these variables.
async fn asked_of_a_proxy(batch: Batch, more: &[(&str, &str)]) -> String {
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
        resolution = resolve(vec![batch], &variables, BUDGET) => panic!("no proxy was asked: {resolution:?}"),
    }
}

#[tokio::test]
async fn calls_use_proxy_and_partition_endpoint() {
    let secret_of = |region| batch(Service::SecretsManager, region, &[secret(region, 1)]);
    let parameter_of = |region| batch(Service::ParameterStore, region, &[parameter(region, 1)]);
    let requests = [
        asked_of_a_proxy(secret_of("us-east-1"), &[]).await,
        asked_of_a_proxy(parameter_of("cn-north-1"), &[]).await,
        asked_of_a_proxy(secret_of("us-gov-west-1"), &[("AWS_USE_FIPS_ENDPOINT", "true")]).await,
        asked_of_a_proxy(parameter_of("eu-west-1"), &[("AWS_USE_DUALSTACK_ENDPOINT", "true")]).await,
    ];
    insta::assert_snapshot!(requests.join("\n"), @r"
    CONNECT secretsmanager.us-east-1.amazonaws.com:443 HTTP/1.1
    CONNECT ssm.cn-north-1.amazonaws.com.cn:443 HTTP/1.1
    CONNECT secretsmanager-fips.us-gov-west-1.amazonaws.com:443 HTTP/1.1
    CONNECT ssm.eu-west-1.api.aws:443 HTTP/1.1
    ");
}

/// A writer whose text the test reads.
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

/// Secrets that come, one that is denied and one that is bytes; and what is written meanwhile.
async fn resolved_with(lines: Dispatch, variables: impl Fn(&Aws) -> Variables) -> Resolution {
    let aws = Aws::start().await.expect("a stand-in");
    let bytes = secret("us-east-1", 7);
    aws.keep_bytes(&bytes);
    let denied = parameter("us-east-1", 9);
    aws.refuse(&denied, DENIED);
    let batches = [
        secrets(&[kept(&aws, 3, secret), vec![bytes]].concat()),
        parameters(&[kept(&aws, 3, parameter), vec![denied]].concat()),
    ];
    let _guard = tracing::dispatcher::set_default(&lines);
    let resolution = resolve(batches.concat(), &variables(&aws), BUDGET).await;
    tracing::info!(target: "aws_smithy_runtime::client", "a dependency is heard");
    resolution
}

#[tokio::test]
async fn no_value_is_written_at_any_level() {
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
            let resolution = resolved_with(logging::subscriber(&log, captured.writer()), variables).await;
            assert_eq!((resolution.values.len(), resolution.errors.len()), (6, 2), "{resolution:?}");
            let lines = captured.text();
            assert_eq!(lines.contains("a dependency is heard"), level != "trace", "{lines}");
            let all = format!("{lines}{resolution:?}{resolution:#?}{}", error_lines(&resolution));
            for value in private {
                assert!(!all.contains(value), "{value} is in {all}");
            }
        }
    }
    // Without our limit the SDK writes them, and so this test would see it.
    let captured = Captured::default();
    let unlimited = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(captured.writer());
    resolved_with(unlimited.finish().into(), Aws::container_variables).await;
    assert!(captured.text().contains("hunter2"));
}
