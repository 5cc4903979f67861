//! The backends and their setup. An exporter is created during the function's init, once its secrets are available, again
//! while some are missing, after a restore, and when the backend refused the key. Each problem is logged once.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

use crate::app::pipeline::{Backend, SetupFn, SetupOutcome};
use crate::app::reported_errors::ReportedErrors;
use crate::app::settings::{Resolved, SECRETS_BUDGET};
use crate::edge::exporter::Exporter;
use crate::edge::secrets::Fetcher;
use rotel_core::config::diagnosis::ConfiguredRoute;
use rotel_core::config::secret_ref::{self, SecretRef};
use rotel_core::config::{Destination, Export, Exports, SourceLocations, Variables};
use rotel_core::signal::{PerSignal, Signal};

/// Returns the backend of each destination. `need_secrets` is true for destinations whose settings hold secret references.
pub(super) fn of(
    destinations: &[Destination],
    need_secrets: &[bool],
    resolver: &Arc<SecretResolver>,
) -> Vec<Backend<Exporter>> {
    let is_alone = destinations.len() == 1;
    let backend = |(index, destination): (usize, &Destination)| Backend {
        name: destination.exporter.name().filter(|_| !is_alone).cloned(),
        takes: destination.signals,
        setup: BackendSetup {
            index,
            known: match &destination.exports {
                Exports::Known(exports) => Some((**exports).clone()),
                Exports::Pending => None,
            },
            has_secret: need_secrets.get(index).copied().unwrap_or(false),
            last: Arc::default(),
            resolver: Arc::clone(resolver),
        }
        .into_setup(),
    };
    destinations.iter().enumerate().map(backend).collect()
}

/// The settings and their secrets, which setups fetch.
pub(super) struct SecretResolver {
    variables: Variables,
    locations: SourceLocations,
    references: Vec<SecretRef>,
    /// Created by the first round, because most functions have no secrets.
    fetcher: tokio::sync::Mutex<Option<Fetcher>>,
    errors: Mutex<ReportedErrors>,
    /// The result shared by setups that run at the same time.
    round: Mutex<Weak<OnceCell<FetchRound>>>,
}

/// The result of one round of fetching secrets.
struct FetchRound {
    destinations: Vec<Destination>,
    /// True if a later round may give other settings.
    may_improve: bool,
}

impl SecretResolver {
    /// Returns a resolver that has fetched nothing. `locations` come from [`crate::app::settings::Settings`]. `errors` are logged
    /// already.
    pub(super) fn new(
        variables: Variables,
        locations: SourceLocations,
        references: Vec<SecretRef>,
        errors: ReportedErrors,
    ) -> Self {
        Self {
            variables,
            locations,
            references,
            fetcher: tokio::sync::Mutex::default(),
            errors: Mutex::new(errors),
            round: Mutex::default(),
        }
    }

    /// The cell shared by the setups that run now.
    fn shared_round(&self) -> Arc<OnceCell<FetchRound>> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.upgrade().unwrap_or_else(|| {
            let cell = Arc::default();
            *round = Arc::downgrade(&cell);
            cell
        })
    }

    /// Fetches missing secrets, or all of them on `refresh`.
    async fn fetch(&self, refresh: bool) -> FetchRound {
        let resolution = {
            let mut fetcher = self.fetcher.lock().await;
            let fetcher = fetcher.get_or_insert_with(|| {
                Fetcher::new(self.variables.clone(), secret_ref::batches(&self.references))
            });
            if refresh {
                fetcher.forget();
            }
            fetcher.round(SECRETS_BUDGET).await
        };
        // If all secrets were fetched and a signal still has no export, the value of one is invalid and may be changed.
        let may_improve = resolution.errors.is_empty() || resolution.may_improve();
        let resolved = Resolved::new(&self.variables, &self.locations, &self.references, resolution);
        let config = resolved.into_config(&mut self.errors());
        FetchRound { destinations: config.destinations, may_improve }
    }

    fn errors(&self) -> std::sync::MutexGuard<'_, ReportedErrors> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The setup of one destination.
#[derive(Clone)]
struct BackendSetup {
    /// The index of the destination.
    index: usize,
    /// The exports, if known without fetching secrets again.
    known: Option<PerSignal<Option<Export>>>,
    has_secret: bool,
    last: Arc<Mutex<Option<KnownExports>>>,
    resolver: Arc<SecretResolver>,
}

/// The settings of the last exporter.
#[derive(PartialEq)]
struct KnownExports {
    exports: PerSignal<Option<Export>>,
    /// Another round may give other exports.
    is_pending: bool,
}

impl BackendSetup {
    /// Returns `None` if no signal has a route to the backend or can get one.
    fn into_setup(self) -> Option<SetupFn<Exporter>> {
        let leads_nowhere = self.known.as_ref().is_some_and(|known| routes(known) == 0);
        if leads_nowhere && !self.has_secret {
            return None;
        }
        Some(Box::new(move |refresh| {
            let setup = self.clone();
            // Taken outside the async block, so that all setups that start now share one round.
            let round = self.resolver.shared_round();
            Box::pin(async move { setup.make(refresh, &round).await })
        }))
    }

    async fn make(self, refresh: bool, round: &OnceCell<FetchRound>) -> SetupOutcome<Exporter> {
        let has_secret = self.has_secret;
        let is_first = self.last().is_none();
        let known =
            self.known.clone().filter(|known| !has_secret || is_first && !refresh && routes(known) > 0);
        let outcome = if let Some(exports) = known {
            KnownExports { exports, is_pending: false }
        } else {
            // If all secrets were fetched but one is invalid, only a new value helps.
            let refresh = refresh || self.last().as_ref().is_some_and(|last| last.is_pending);
            let round = round.get_or_init(|| self.resolver.fetch(refresh)).await;
            let destination = round.destinations.get(self.index);
            let exports = match destination.map(|destination| &destination.exports) {
                Some(Exports::Known(exports)) => (**exports).clone(),
                Some(Exports::Pending) | None => PerSignal::default(),
            };
            KnownExports { exports, is_pending: round.may_improve }
        };
        let is_news = match &*self.last() {
            // If a secret cannot be fetched again, the old one stays.
            Some(last) => routes(&outcome.exports) >= routes(&last.exports) && outcome != *last,
            None => true,
        };
        let result = |exporter| SetupOutcome { exporter, has_secret, is_pending: outcome.is_pending };
        if !is_news {
            return result(None);
        }
        let (exporter, unusable) = Exporter::new(&outcome.exports);
        let (exports, resolver) = (outcome.exports.clone(), Arc::clone(&self.resolver));
        let exporter = exporter.explained_by(Arc::new(move |signal, failure| {
            let SecretResolver { variables, locations, .. } = &*resolver;
            let export = exports.of(signal).as_ref()?;
            Some(ConfiguredRoute::new(signal, export, variables, locations).explanation(failure))
        }));
        self.resolver.errors().log_new(unusable);
        let result = result(Some(exporter));
        *self.last() = Some(outcome);
        result
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<KnownExports>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of signals with a route to the backend.
fn routes(exports: &PerSignal<Option<Export>>) -> usize {
    Signal::ALL.iter().filter(|signal| exports.of(**signal).is_some()).count()
}
