//! The backends, and what makes an exporter for each: during the function's init, once the secrets are there that it hangs
//! on, again while some are missing, anew after a restore, and where a backend refused the key. Each problem is logged once.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

use crate::app::faults::Faults;
use crate::app::pipeline::{Backend, SetupFn, SetupOutcome};
use crate::app::settings::{Resolved, SECRETS_BUDGET};
use crate::core::config::diagnosis::Way;
use crate::core::config::secret_ref::{self, SecretRef};
use crate::core::config::{Destination, Export, Exports, Places, Variables};
use crate::core::signal::{PerSignal, Signal};
use crate::edge::exporter::Exporter;
use crate::edge::secrets::Fetcher;

/// The backend of each destination. `hang_on_secrets` says of each whether its settings hold secret references.
pub(super) fn of(
    destinations: &[Destination],
    need_secrets: &[bool],
    resolver: &Arc<SecretResolver>,
) -> Vec<Backend<Exporter>> {
    let is_alone = destinations.len() == 1;
    let backend = |(index, destination): (usize, &Destination)| Backend {
        name: destination.exporter.name().filter(|_| !is_alone).cloned(),
        takes: destination.takes,
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

/// The settings, and the secrets that they refer to.
pub(super) struct SecretResolver {
    variables: Variables,
    places: Places,
    references: Vec<SecretRef>,
    /// Made by the first round, for most have no secrets to fetch.
    fetcher: tokio::sync::Mutex<Option<Fetcher>>,
    faults: Mutex<Faults>,
    /// The result for those that are set up at the same time.
    round: Mutex<Weak<OnceCell<FetchRound>>>,
}

/// The result of a round of fetching secrets.
struct FetchRound {
    destinations: Vec<Destination>,
    /// Set if a later round may fetch more secrets.
    may_improve: bool,
}

impl SecretResolver {
    /// Nothing is fetched yet. `places` are those of [`crate::app::settings::Settings`]; `faults` are logged already.
    pub(super) fn new(
        variables: Variables,
        places: Places,
        references: Vec<SecretRef>,
        faults: Faults,
    ) -> Self {
        Self {
            variables,
            places,
            references,
            fetcher: tokio::sync::Mutex::default(),
            faults: Mutex::new(faults),
            round: Mutex::default(),
        }
    }

    /// The cell of those that are set up at this time.
    fn shared_round(&self) -> Arc<OnceCell<FetchRound>> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.upgrade().unwrap_or_else(|| {
            let cell = Arc::default();
            *round = Arc::downgrade(&cell);
            cell
        })
    }

    /// Fetches what is missing, or everything again.
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
        // With all secrets there, what does not do is the value of one, which may be changed.
        let may_improve = resolution.faults.is_empty() || resolution.may_improve();
        let resolved = Resolved::new(&self.variables, &self.places, &self.references, resolution);
        let config = resolved.told(&mut self.faults());
        FetchRound { destinations: config.destinations, may_improve }
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the exporter of one destination.
#[derive(Clone)]
struct BackendSetup {
    /// Its place among the destinations.
    index: usize,
    /// The exports that are known without another call for secrets.
    known: Option<PerSignal<Option<Export>>>,
    has_secret: bool,
    last: Arc<Mutex<Option<KnownExports>>>,
    resolver: Arc<SecretResolver>,
}

/// The settings that the last exporter was made of, and whether what they lack may still come.
#[derive(PartialEq)]
struct KnownExports {
    exports: PerSignal<Option<Export>>,
    is_pending: bool,
}

impl BackendSetup {
    /// `None` where no signal has a way to the backend, and none will have.
    fn into_setup(self) -> Option<SetupFn<Exporter>> {
        let leads_nowhere = self.known.as_ref().is_some_and(|known| routes(known) == 0);
        if leads_nowhere && !self.has_secret {
            return None;
        }
        Some(Box::new(move |refresh| {
            let setup = self.clone();
            // Here and not in the future, so that all that are set up now have the same.
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
            // Where all secrets are there, and one does not do, only another value can.
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
            // A secret that cannot be fetched again is no reason to give up the one that is there.
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
            let SecretResolver { variables, places, .. } = &*resolver;
            let export = exports.of(signal).as_ref()?;
            Some(Way::new(signal, export, variables, places).explanation(failure))
        }));
        self.resolver.faults().tell(unusable);
        let result = result(Some(exporter));
        *self.last() = Some(outcome);
        result
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<KnownExports>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of signals that have a route to the backend.
fn routes(exports: &PerSignal<Option<Export>>) -> usize {
    Signal::ALL.iter().filter(|signal| exports.of(**signal).is_some()).count()
}
