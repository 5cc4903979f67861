//! AWS Secrets Manager and the Parameter Store: ARNs in, values out, in rounds.
//!
//! Promises:
//! - a round ends within its budget, and then every ARN has a value or an error;
//! - a denied, unknown or late secret keeps no other one from being fetched; services and regions are called concurrently;
//! - a service that throttles or fails gets at most two calls per batch in the first round, and one in each later round;
//! - nothing of AWS is initialized before the first call;
//! - no error contains a value, or anything that AWS wrote except its error codes.
//!
//! `rotel_core::config::secret_ref` decides which ARNs to fetch, and the caller when to start another round.
//!
//! aws-config finds the credentials and endpoints. It reads the [`Variables`] in place of the process environment, so that
//! `ROTEL_ENV_FILE` holds for it too.

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
use self::refusal::Refusal;
use self::secrets_manager::SecretsManager;
use crate::edge::clock;
use rotel_core::config::Variables;
use rotel_core::config::secret_ref::{Batch, Service};
use rotel_core::secret::Secret;

/// The number of attempts the SDK makes at a call of the first round. In later rounds it makes one.
const FIRST_ATTEMPTS: u32 = 2;
/// The pause after the first of several rounds; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// The time that people have for credentials: `credential_process` may ask them something.
const PROMPT_BUDGET: Duration = Duration::from_secs(30);
/// A wall clock that moves on by so much more than the monotonic one was frozen with the environment, which cuts
/// connections.
const FREEZE_LEAST: Duration = Duration::from_secs(1);

/// The places to look for credentials in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialSources {
    /// Those of a function: environment variables, and the container endpoint that they name. Nothing else is asked, so that
    /// missing credentials are an error at once.
    ///
    /// Platform: under SnapStart there are no keys in the environment but the endpoint, which answers with fresh ones after
    /// a restore.
    #[default]
    Function,
    /// Those of the AWS CLI: also profiles, SSO, web identity, `credential_process` and the instance metadata service.
    Cli,
}

/// The values and errors of the ARNs, as far as known.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The values, by the ARN as it was asked for.
    pub values: HashMap<String, Secret>,
    /// The others, in the order of their ARNs.
    pub errors: Vec<SecretError>,
}

/// A secret that is missing: its ARN, the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{arn}: {code}; {remedy}")]
pub struct SecretError {
    /// The ARN as it was asked for.
    pub arn: String,
    /// AWS's error code, or one of ours if AWS was not reached.
    pub code: String,
    /// The remedy, as users read it.
    pub remedy: &'static str,
    /// When the secret may be had after all.
    pub recovery: Recovery,
}

/// When a call that failed may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// By itself: the service throttles, fails or has not answered yet.
    Soon,
    /// Once somebody grants the right, creates the secret, or the like.
    OnceFixed,
    /// Not in this environment: the ARN or a variable is wrong. Such a secret is not asked for again.
    Never,
}

impl Resolution {
    /// Returns true if another round may fetch more.
    pub fn may_improve(&self) -> bool {
        self.errors.iter().any(|error| error.recovery != Recovery::Never)
    }
}

/// The answer for each ARN of a call. An ARN that is missing was left out of AWS's answer.
type Answers = Vec<(String, Result<Secret, Refusal>)>;

/// The secrets that the settings refer to, fetched in rounds. A value that was fetched is kept.
///
/// It has no `Debug`: it holds the function's credentials.
pub struct Fetcher {
    variables: Variables,
    sources: CredentialSources,
    plans: BTreeMap<(Service, String), Plan>,
    values: HashMap<String, Secret>,
}

impl Fetcher {
    /// Nothing is fetched yet. `variables` have the function's credentials and say how AWS is reached.
    pub fn new(variables: Variables, batches: Vec<Batch>) -> Self {
        let mut arns: BTreeMap<(Service, String), Vec<String>> = BTreeMap::new();
        for batch in batches {
            let of_store = arns.entry((batch.service, batch.region)).or_default();
            of_store.extend(batch.arns.into_iter().map(|arn| arn.text));
        }
        let plans = arns.into_iter().map(|(store, arns)| (store, Plan::new(arns))).collect();
        Self { variables, sources: CredentialSources::default(), plans, values: HashMap::new() }
    }

    /// Looks for credentials in other places.
    #[must_use]
    pub fn with_credentials_from(self, sources: CredentialSources) -> Self {
        Self { sources, ..self }
    }

    /// Asks for what is missing, for at most `budget`; returns all that is known by then.
    ///
    /// The first round asks for everything at once. Where a batch is refused as a whole for what may concern one of its
    /// secrets, it asks one by one: BatchGetSecretValue is a permission of its own that few roles have, and GetParameters
    /// answers nothing if one of the parameters is denied. A later round makes one call for each service and region, and
    /// further ones only while all that was asked for is answered.
    ///
    /// Dropped before its end, it loses no value whose call had ended.
    pub async fn round(&mut self, budget: Duration) -> Resolution {
        if self.plans.values().all(Plan::is_settled) {
            return self.resolution(&Refusal::left_out());
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
            Err(refusal) => return self.refused(&refusal),
        };
        let deadline = Instant::from_std(deadline);
        let mut stores = Vec::new();
        let mut calls = JoinSet::new();
        for (at, ((service, region), plan)) in self.plans.iter_mut().enumerate() {
            let store = Store::new(&access, *service, region);
            for arns in plan.begin() {
                calls.spawn(call(at, store.clone(), arns, deadline));
            }
            stores.push((store, plan));
        }
        while let Some(ended) = calls.join_next().await {
            // A panic in the SDK leaves its ARNs without an answer.
            let Ok(Call { at, arns, outcome }) = ended else { continue };
            let Some((store, plan)) = stores.get_mut(at) else { continue };
            let (values, next) = plan.on_end(arns, outcome);
            self.values.extend(values);
            for arns in next {
                calls.spawn(call(at, store.clone(), arns, deadline));
            }
        }
        self.resolution(&Refusal::left_out())
    }

    async fn access(&self, deadline: std::time::Instant) -> Result<Access, Refusal> {
        let attempts = if self.plans.values().all(Plan::is_new) { FIRST_ATTEMPTS } else { 1 };
        let region = self.plans.keys().next().map_or("", |(_, region)| region);
        let (variables, sources, region) = (self.variables.clone(), self.sources, region.to_owned());
        // A task contains a panic in aws-config, and ends when dropped.
        let mut task = JoinSet::new();
        task.spawn(async move { Access::new(&variables, sources, &region, attempts).await });
        match timeout_at(Instant::from_std(deadline), task.join_next()).await {
            Ok(Some(Ok(access))) => access,
            Ok(Some(Err(_)) | None) => Err(Refusal::bad_credentials_source(sources)),
            Err(_) => Err(Refusal::no_credentials_in_time(sources)),
        }
    }

    /// Makes rounds with growing pauses between them until all is there, or for at most `budget`. Ends earlier where only
    /// somebody's help could change the rest.
    pub async fn rounds(&mut self, budget: Duration) -> Resolution {
        let deadline = clock::now() + budget;
        let left = || deadline.saturating_duration_since(clock::now());
        let mut pause = PAUSE;
        loop {
            let resolution = self.round(left()).await;
            let may_pass = resolution.errors.iter().any(|error| error.recovery == Recovery::Soon);
            if !may_pass || pause >= left() {
                return resolution;
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MOST.min(pause * 2);
        }
    }

    /// Forgets the values, so that the next round asks for all of them: one may have changed.
    pub fn forget(&mut self) {
        self.values.clear();
        self.plans.values_mut().for_each(Plan::forget);
    }

    /// The result of a round in which no service could be called.
    fn refused(&mut self, refusal: &Refusal) -> Resolution {
        self.plans.values_mut().for_each(|plan| plan.refuse_all(refusal));
        self.resolution(refusal)
    }

    fn resolution(&self, otherwise: &Refusal) -> Resolution {
        let mut errors = Vec::new();
        for ((service, _), plan) in &self.plans {
            errors.extend(plan.missing(otherwise).map(|(arn, refusal)| refusal.error(arn, *service)));
        }
        errors.sort_unstable_by(|one, other| one.arn.cmp(&other.arn));
        Resolution { values: self.values.clone(), errors }
    }
}

/// Fetches the secrets of all batches, in as many rounds as `budget` has room for.
pub async fn resolve(batches: Vec<Batch>, variables: &Variables, budget: Duration) -> Resolution {
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

    async fn ask(&self, arns: &[String]) -> Result<Answers, Refusal> {
        match self {
            Self::SecretsManager(store) => store.ask(arns).await,
            Self::ParameterStore(store) => store.ask(arns).await,
        }
    }
}

/// An ended call.
struct Call {
    /// The place of its store.
    at: usize,
    arns: Vec<String>,
    outcome: Result<Answers, Refusal>,
}

async fn call(at: usize, store: Store, arns: Vec<String>, deadline: Instant) -> Call {
    let (start, wall_start) = (clock::now(), clock::since_epoch());
    let outcome = timeout_at(deadline, store.ask(&arns)).await.unwrap_or_else(|_| Err(Refusal::timeout()));
    let wall_took = clock::since_epoch().saturating_sub(wall_start);
    let was_frozen = wall_took > clock::now().saturating_duration_since(start) + FREEZE_LEAST;
    let outcome = outcome
        .map_err(|refusal| if was_frozen && refusal.is_of_network() { Refusal::timeout() } else { refusal });
    Call { at, arns, outcome }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use rotel_core::config::secret_ref::Arn;

    /// The code of a secret's error, where each connection is closed at once and `on_connection` is called before.
    async fn code_of_closed_connections(on_connection: fn()) -> String {
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
        let mut fetcher = Fetcher::new(variables, vec![Batch { service, region, arns: vec![arn] }]);
        fetcher.round(Duration::from_mins(1)).await.errors.remove(0).code
    }

    #[tokio::test]
    async fn freeze_is_no_network_fault() {
        assert_eq!(code_of_closed_connections(|| {}).await, "ConnectionFailed");
        let freeze = || clock::tests::freeze(Duration::from_mins(1));
        assert_eq!(code_of_closed_connections(freeze).await, "Timeout");
    }
}
