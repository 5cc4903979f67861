//! AWS Secrets Manager and the Parameter Store: takes ARNs, returns values, in rounds.
//!
//! Promises:
//! - a round ends within its budget (CLI credentials may take 30 s more), and then every ARN has a value or an error;
//! - a denied, unknown or slow secret does not block the others; services and regions are called concurrently;
//! - a service that throttles or fails gets at most two attempts per call in the first round, and one in each later round;
//! - the AWS SDK is not initialized before a round has something to fetch;
//! - errors contain no values, and no text from AWS except error codes.
//!
//! `rotel_core::config::secret_ref` decides which ARNs to fetch. The caller decides when to start another round.
//!
//! aws-config finds the credentials and endpoints. It reads the [`Variables`] instead of the process environment, so
//! `ROTEL_ENV_FILE` applies to it too.

mod access;
mod http_client;
mod parameter_store;
mod plan;
mod refusal;
mod secrets_manager;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::access::Access;
use self::parameter_store::ParameterStore;
use self::plan::Plan;
use self::refusal::{CallContext, Refusal};
use self::secrets_manager::SecretsManager;
use crate::edge::clock;
use rotel_core::config::secret_ref::{SecretBatch, Service};
use rotel_core::config::{self, Variables};
use rotel_core::secret::Secret;

/// The SDK's maximum number of attempts per call in the first round. In later rounds it makes one.
const FIRST_ATTEMPTS: u32 = 2;
/// The pause after the first of several rounds. It doubles after each further round, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The time limit for CLI credentials: `credential_process` may prompt the user.
const PROMPT_BUDGET: Duration = Duration::from_secs(30);
/// If the wall clock advances more than this beyond the monotonic clock, the environment was frozen. A freeze cuts
/// connections.
const MIN_FREEZE: Duration = Duration::from_secs(1);

/// The credentials providers to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialSources {
    /// Those of a function: environment variables, and the container endpoint that they name. No other provider is tried, so
    /// that missing credentials are an error at once.
    ///
    /// Platform: under SnapStart, the environment holds no keys. It names the endpoint, which returns fresh keys after a
    /// restore.
    #[default]
    Function,
    /// Those of the AWS CLI: also profiles, SSO, web identity, `credential_process` and the instance metadata service.
    Cli,
}

/// The values fetched so far, and the errors of all other ARNs.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The values, by the ARN as requested.
    pub values: HashMap<String, Secret>,
    /// One error for each ARN without a value, sorted by ARN.
    pub errors: Vec<SecretError>,
}

/// A secret that has not been fetched: its ARN, the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{arn}: {code}; {remedy}")]
pub struct SecretError {
    /// The ARN as requested.
    pub arn: String,
    /// The error code of AWS, or ours if AWS returned none.
    pub code: String,
    /// The remedy, in words for the user.
    pub remedy: String,
    /// When another call may fetch the secret.
    pub recovery: Recovery,
}

/// When a failed call may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Without a fix: the service throttles, fails or has not responded yet.
    Soon,
    /// After somebody fixes the cause, for example grants the permission or creates the secret.
    OnceFixed,
    /// Not in this environment: the ARN or a variable is wrong. The secret is not requested again, unless
    /// [`Fetcher::forget`] is called.
    Never,
}

impl Resolution {
    /// Returns true if another round may fetch more.
    pub fn may_improve(&self) -> bool {
        self.errors.iter().any(|error| error.recovery != Recovery::Never)
    }
}

/// The value or error of each ARN in a response. AWS may omit a requested ARN.
type Outcomes = Vec<(String, Result<Secret, Refusal>)>;

/// Fetches the secrets that the settings refer to, in rounds. Fetched values are kept.
///
/// It has no `Debug`: it holds the function's credentials.
pub struct Fetcher {
    variables: Variables,
    sources: CredentialSources,
    plans: BTreeMap<(Service, String), Plan>,
    values: HashMap<String, Secret>,
}

impl Fetcher {
    /// Creates a fetcher without fetching anything. `variables` hold the function's credentials, proxies and AWS endpoints.
    pub fn new(variables: Variables, batches: Vec<SecretBatch>) -> Self {
        let mut arns: BTreeMap<(Service, String), Vec<String>> = BTreeMap::new();
        let own_region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| variables.get(*name));
        for batch in batches {
            // A secret that is named without a region is in the function's.
            let region =
                if batch.region.is_empty() { own_region.cloned().unwrap_or_default() } else { batch.region };
            let store_arns = arns.entry((batch.service, region)).or_default();
            store_arns.extend(batch.arns.into_iter().map(|arn| arn.text));
        }
        let plans = arns.into_iter().map(|(store, arns)| (store, Plan::new(arns))).collect();
        Self { variables, sources: CredentialSources::default(), plans, values: HashMap::new() }
    }

    /// Sets the credentials providers to try.
    #[must_use]
    pub fn with_credentials_from(self, sources: CredentialSources) -> Self {
        Self { sources, ..self }
    }

    /// Fetches the secrets that have no value yet, within `budget`. Returns all values and errors known by then.
    ///
    /// The first round requests all secrets at once. If a batch is refused and one of its secrets may be the cause, each of
    /// them is requested alone. BatchGetSecretValue is a separate permission that few roles have, and GetParameters returns
    /// no values if one parameter is denied. A later round makes one call per service and region. It makes another only if
    /// the call returned a value for each requested secret.
    ///
    /// If the future is dropped early, the values of completed calls are kept.
    pub async fn round(&mut self, budget: Duration) -> Resolution {
        if self.plans.values().all(Plan::is_settled) {
            return self.resolution(&Refusal::not_in_response());
        }
        let deadline = clock::now() + budget;
        let (access, deadline) = match self.sources {
            CredentialSources::Function => (self.access(deadline).await, deadline),
            CredentialSources::Cli => {
                let access = self.access(clock::now() + PROMPT_BUDGET).await;
                (access, clock::now() + budget)
            }
        };
        let access = match access {
            Ok(access) => access,
            Err(refusal) => return self.refuse_all(&refusal),
        };
        let deadline = Instant::from_std(deadline);
        let mut stores = Vec::new();
        let mut calls = JoinSet::new();
        for (store_index, ((service, region), plan)) in self.plans.iter_mut().enumerate() {
            let store = Store::new(&access, *service, region);
            for arns in plan.begin_round() {
                calls.spawn(call(store_index, store.clone(), arns, deadline));
            }
            stores.push((store, plan));
        }
        while let Some(ended) = calls.join_next().await {
            // After a panic in the SDK, the ARNs of its call have no result.
            let Ok(CompletedCall { store_index, arns, result }) = ended else { continue };
            let Some((store, plan)) = stores.get_mut(store_index) else { continue };
            let (values, next) = plan.on_call_end(arns, result);
            self.values.extend(values);
            for arns in next {
                calls.spawn(call(store_index, store.clone(), arns, deadline));
            }
        }
        self.resolution(&Refusal::not_in_response())
    }

    async fn access(&self, deadline: std::time::Instant) -> Result<Access, Refusal> {
        let attempts = if self.plans.values().all(Plan::is_new) { FIRST_ATTEMPTS } else { 1 };
        let region = self.plans.keys().next().map_or("", |(_, region)| region);
        let (variables, sources, region) = (self.variables.clone(), self.sources, region.to_owned());
        // A task contains a panic in aws-config. Dropping the set aborts it.
        let mut task = JoinSet::new();
        task.spawn(async move { Access::new(&variables, sources, &region, attempts).await });
        match timeout_at(Instant::from_std(deadline), task.join_next()).await {
            Ok(Some(Ok(access))) => access,
            Ok(Some(Err(_)) | None) => Err(Refusal::credentials_provider_failed(sources)),
            Err(_) => Err(Refusal::credentials_timeout(sources)),
        }
    }

    /// Runs rounds within `budget`, with growing pauses between them, until all secrets are fetched. Stops earlier if no
    /// missing secret can be fetched without a fix.
    pub async fn rounds(&mut self, budget: Duration) -> Resolution {
        let deadline = clock::now() + budget;
        let remaining = || deadline.saturating_duration_since(clock::now());
        let mut pause = FIRST_PAUSE;
        loop {
            let resolution = self.round(remaining()).await;
            let may_recover = resolution.errors.iter().any(|error| error.recovery == Recovery::Soon);
            if !may_recover || pause >= remaining() {
                return resolution;
            }
            tokio::time::sleep(pause).await;
            pause = MAX_PAUSE.min(pause * 2);
        }
    }

    /// Drops all values, so that they are fetched again: one may have changed.
    pub fn forget(&mut self) {
        self.values.clear();
        self.plans.values_mut().for_each(Plan::forget);
    }

    /// Returns the result of a round in which no service could be called.
    fn refuse_all(&mut self, refusal: &Refusal) -> Resolution {
        self.plans.values_mut().for_each(|plan| plan.refuse_all(refusal));
        self.resolution(refusal)
    }

    fn resolution(&self, default: &Refusal) -> Resolution {
        let mut errors = Vec::new();
        for ((service, region), plan) in
            self.plans.iter().filter(|(_, plan)| plan.missing(default).next().is_some())
        {
            let is_proxied = config::has_proxy(&self.variables, &service.url(region));
            let context = CallContext { service: *service, is_proxied, sources: self.sources };
            errors.extend(plan.missing(default).map(|(arn, refusal)| refusal.to_error(arn, context)));
        }
        errors.sort_unstable_by(|left, right| left.arn.cmp(&right.arn));
        Resolution { values: self.values.clone(), errors }
    }
}

/// Fetches the secrets of all batches, in as many rounds as fit into `budget`.
pub async fn resolve(batches: Vec<SecretBatch>, variables: &Variables, budget: Duration) -> Resolution {
    Fetcher::new(variables.clone(), batches).rounds(budget).await
}

/// A service in a region.
#[derive(Clone)]
enum Store {
    SecretsManager(SecretsManager),
    ParameterStore(ParameterStore),
}

impl Store {
    fn new(access: &Access, service: Service, region: &str) -> Self {
        match service {
            Service::SecretsManager => Self::SecretsManager(SecretsManager::new(access, region)),
            Service::ParameterStore => Self::ParameterStore(ParameterStore::new(access, region)),
        }
    }

    async fn fetch(&self, arns: &[String]) -> Result<Outcomes, Refusal> {
        match self {
            Self::SecretsManager(store) => store.fetch(arns).await,
            Self::ParameterStore(store) => store.fetch(arns).await,
        }
    }
}

struct CompletedCall {
    /// The index of the service and region that was called.
    store_index: usize,
    arns: Vec<String>,
    result: Result<Outcomes, Refusal>,
}

async fn call(store_index: usize, store: Store, arns: Vec<String>, deadline: Instant) -> CompletedCall {
    let (start, wall_start) = (clock::now(), clock::since_epoch());
    let result = timeout_at(deadline, store.fetch(&arns)).await.unwrap_or_else(|_| Err(Refusal::timeout()));
    let wall_elapsed = clock::since_epoch().saturating_sub(wall_start);
    let was_frozen = wall_elapsed > clock::now().saturating_duration_since(start) + MIN_FREEZE;
    let result = result.map_err(|refusal| {
        if was_frozen && refusal.is_connection_failure() { Refusal::timeout() } else { refusal }
    });
    CompletedCall { store_index, arns, result }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use rotel_core::config::secret_ref::Arn;

    /// Returns the error code of a secret if each connection is closed at once, after a call of `on_connection`.
    async fn error_code_with_closed_connections(on_connection: fn()) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                on_connection();
                drop(connection);
            }
        });
        let mut variables = Variables::new();
        for (name, value) in
            [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]
        {
            variables.insert(name.to_owned(), value.to_owned());
        }
        let (service, region) = (Service::ParameterStore, "us-east-1".to_owned());
        let arn = Arn { service, region: region.clone(), text: "arn".to_owned() };
        let mut fetcher = Fetcher::new(variables, vec![SecretBatch { service, region, arns: vec![arn] }]);
        fetcher.round(Duration::from_mins(1)).await.errors.remove(0).code
    }

    #[tokio::test]
    async fn freeze_is_not_a_connection_failure() {
        assert_eq!(error_code_with_closed_connections(|| {}).await, "ConnectionFailed");
        let freeze = || clock::tests::freeze(Duration::from_mins(1));
        assert_eq!(error_code_with_closed_connections(freeze).await, "Timeout");
    }
}
