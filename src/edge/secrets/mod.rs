//! AWS Secrets Manager and the Parameter Store: ARNs in, values out.
//!
//! Promises: every ARN asked for has a value or a fault in the end, within the budget, and those that can be had are, be
//! the others denied, unknown or late; all calls are side by side; nothing of AWS is touched before the first one; no
//! value, and nothing that AWS writes but its error codes, is in a fault. Which ARNs there are, and which go together, is
//! left to `core::secret_ref`.
//!
//! Whatever the AWS SDK would read from the process environment comes from the [`Variables`], so that
//! `ROTEL_ENV_FILE` holds for it too. That is why credentials are found here and not by the crate aws-config, whose
//! providers read the environment of the process, and which would look into profile files and ask an instance metadata
//! service that Lambda does not have.

mod client;
mod credentials;
mod parameter_store;
mod refusal;
mod secrets_manager;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::client::Access;
use self::parameter_store::ParameterStore;
use self::refusal::Refusal;
use self::secrets_manager::SecretsManager;
use crate::core::config::Variables;
use crate::core::secret::Secret;
use crate::core::secret_ref::{Batch, Service};
use crate::edge::clock;

/// What became of the ARNs asked for.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The values, by the ARN as it was asked for.
    pub values: HashMap<String, Secret>,
    /// The others, in the order of their ARNs.
    pub faults: Vec<SecretFault>,
}

/// A secret that is not to be had: its ARN, the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{arn}: {code}; {remedy}")]
pub struct SecretFault {
    /// The ARN as it was asked for.
    pub arn: String,
    /// AWS's error code, or one of ours where AWS was not reached.
    pub code: String,
    /// What to do about it, for people.
    pub remedy: &'static str,
}

/// What is known of each of some ARNs. One that is missing was left out of AWS's answer.
type Answers = Vec<(String, Result<Secret, Refusal>)>;

/// Fetches the secrets of all batches, for at most `budget`.
///
/// A batch that is refused as a whole for what may be the matter with one of its secrets is asked for one by one:
/// BatchGetSecretValue is a permission of its own that few roles have, and GetParameters answers nothing if one of the
/// parameters is denied.
pub async fn resolve(batches: Vec<Batch>, variables: &Variables, budget: Duration) -> Resolution {
    let mut resolution = Resolution::default();
    let mut open: BTreeMap<String, Service> = BTreeMap::new();
    for batch in &batches {
        open.extend(batch.arns.iter().map(|arn| (arn.text.clone(), batch.service)));
    }
    let deadline = Instant::from_std(clock::now() + budget);
    let access = match timeout_at(deadline, Access::new(variables)).await {
        Ok(Ok(access)) => access,
        Ok(Err(refusal)) => return resolution.closed(open, &refusal),
        Err(_) => return resolution.closed(open, &Refusal::no_credentials_in_time()),
    };
    let mut stores = BTreeMap::new();
    let mut calls = JoinSet::new();
    for Batch { service, region, arns } in batches {
        let store = stores
            .entry((service, region))
            .or_insert_with_key(|(service, region)| Store::new(&access, *service, region));
        let arns = arns.into_iter().map(|arn| arn.text).collect();
        calls.spawn(call(store.clone(), arns, deadline));
    }
    while let Some(ended) = calls.join_next().await {
        // A panic in the SDK leaves its ARNs open.
        let Ok(Call { store, arns, outcome }) = ended else { continue };
        let answers = match outcome {
            Ok(answers) => answers,
            Err(refusal) if arns.len() > 1 && refusal.may_concern_one() => {
                for arn in arns {
                    calls.spawn(call(store.clone(), vec![arn], deadline));
                }
                continue;
            }
            Err(refusal) => arns.into_iter().map(|arn| (arn, Err(refusal.clone()))).collect(),
        };
        for (arn, answer) in answers {
            if let Some(service) = open.remove(&arn) {
                resolution.take(arn, service, answer);
            }
        }
    }
    resolution.closed(open, &Refusal::left_out())
}

impl Resolution {
    fn take(&mut self, arn: String, service: Service, answer: Result<Secret, Refusal>) {
        match answer {
            Ok(value) => drop(self.values.insert(arn, value)),
            Err(refusal) => {
                let remedy = refusal.remedy(service);
                self.faults.push(SecretFault { arn, code: refusal.into_code(), remedy });
            }
        }
    }

    /// Ends it: what is still open has the same fault.
    fn closed(mut self, open: BTreeMap<String, Service>, refusal: &Refusal) -> Self {
        for (arn, service) in open {
            self.take(arn, service, Err(refusal.clone()));
        }
        self.faults.sort_unstable_by(|one, other| one.arn.cmp(&other.arn));
        self
    }
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

/// An ended call, with what it takes to make it again in parts.
struct Call {
    store: Store,
    arns: Vec<String>,
    outcome: Result<Answers, Refusal>,
}

/// Calls until there is an answer to go by. At the deadline the fault is what came last, where anything did: that a
/// service throttles tells more than that time is up.
async fn call(store: Store, arns: Vec<String>, deadline: Instant) -> Call {
    let mut last = Refusal::timeout();
    let outcome = loop {
        match timeout_at(deadline, store.ask(&arns)).await {
            // The SDK has paused between its attempts already.
            Ok(Err(refusal)) if refusal.may_pass() => last = refusal,
            Ok(outcome) => break outcome,
            Err(_) => break Err(last),
        }
    };
    Call { store, arns, outcome }
}
