//! The backends, and what makes an exporter for each: beside the function's init, once the secrets are there that it hangs
//! on, and anew after a restore. Tells what is wrong with them each time, but not what was told at the start.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

use crate::app::faults::Faults;
use crate::app::pipeline::{Backend, Setup};
use crate::app::settings;
use crate::core::config::{Destination, Export, Exports, Places, Variables};
use crate::core::secret_ref::SecretRef;
use crate::core::signal::{PerSignal, Signal};
use crate::edge::exporter::Exporter;

/// The backend of each destination.
pub(super) fn of(destinations: &[Destination], unresolved: &Arc<Unresolved>) -> Vec<Backend<Exporter>> {
    let is_alone = destinations.len() == 1;
    let backend = |(at, destination): (usize, &Destination)| Backend {
        name: destination.exporter.name().filter(|_| !is_alone).cloned(),
        takes: destination.takes,
        setup: set_up(at, destination.exports.clone(), Arc::clone(unresolved)),
    };
    destinations.iter().enumerate().map(backend).collect()
}

/// What is left to fetch once the first `/next` is out.
pub(super) struct Unresolved {
    variables: Variables,
    places: Places,
    references: Vec<SecretRef>,
    faults: Faults,
    /// What several exporters that are set up at the same time fetch together.
    now: Mutex<Weak<OnceCell<Vec<Destination>>>>,
}

impl Unresolved {
    /// Nothing is fetched yet. `places` are those of [`settings::Settings`], `faults` what was told already.
    pub(super) fn new(
        variables: Variables,
        places: Places,
        references: Vec<SecretRef>,
        faults: Faults,
    ) -> Self {
        Self { variables, places, references, faults, now: Mutex::default() }
    }

    /// The place of what those fetch that are set up at this time. A secret may have changed since the snapshot from which
    /// the environment was restored, so that the next time has another.
    fn now(&self) -> Arc<OnceCell<Vec<Destination>>> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.upgrade().unwrap_or_else(|| {
            let cell = Arc::default();
            *now = Arc::downgrade(&cell);
            cell
        })
    }

    /// The destinations with their secrets.
    async fn resolve(&self) -> Vec<Destination> {
        let resolved = settings::resolve(&self.variables, &self.places, &self.references).await;
        resolved.told(&mut self.faults.clone()).destinations
    }
}

/// What makes the exporter of the destination at this place, beside the function's init, once the secrets are there that it
/// hangs on; `None` where no signal has a way to the backend.
fn set_up(at: usize, exports: Exports, unresolved: Arc<Unresolved>) -> Option<Setup<Exporter>> {
    let has_way =
        |exports: &PerSignal<Option<Export>>| Signal::ALL.iter().any(|signal| exports.of(*signal).is_some());
    if let Exports::Known(exports) = &exports
        && !has_way(exports)
    {
        return None;
    }
    let mut known = Some(exports);
    Some(Box::new(move || {
        let unresolved = Arc::clone(&unresolved);
        let known = if unresolved.references.is_empty() { known.clone() } else { known.take() };
        // Here and not in the future, so that all that are set up now have the same.
        let now = unresolved.now();
        Box::pin(async move {
            let exports = match known {
                Some(Exports::Known(exports)) => exports,
                _ => match now.get_or_init(|| unresolved.resolve()).await.get(at)?.exports.clone() {
                    Exports::Known(exports) if has_way(&exports) => exports,
                    Exports::Known(_) | Exports::Awaited => return None,
                },
            };
            let (exporter, unusable) = Exporter::new(&exports);
            unresolved.faults.clone().tell(unusable);
            Signal::ALL.iter().any(|signal| exporter.way(*signal).is_some()).then_some(exporter)
        })
    }))
}
