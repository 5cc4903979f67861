//! The exporters that send the senders' requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::edge::exporter::Exporter;
use rotel_core::delivery::event::{Route, RouteState, SetupResult};
use rotel_core::delivery::verdict::{Failure, Verdict};
use rotel_core::signal::{PerSignal, Signal};

/// Sends requests to one backend.
pub trait BackendExporter: Clone + Send + 'static {
    /// Sends the chunks as one request.
    fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> impl Future<Output = Verdict> + Send;
    /// Opens the connection.
    fn warm(&self) -> impl Future<Output = Verdict> + Send;
    /// Returns the same exporter without its connections.
    #[must_use]
    fn with_new_connections(&self) -> Self;
    /// The signal's route to the backend, if it has one.
    fn route(&self, signal: Signal) -> Option<Route>;
    /// Explains a failure and its remedy with the help of the settings; `None` if they do not help.
    fn explain(&self, _: Signal, _: &Failure) -> Option<String> {
        None
    }
}

impl BackendExporter for Exporter {
    async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        Self::attempt(self, signal, chunks).await
    }

    async fn warm(&self) -> Verdict {
        Self::warm(self).await
    }

    fn with_new_connections(&self) -> Self {
        Self::with_new_connections(self)
    }

    fn route(&self, signal: Signal) -> Option<Route> {
        Self::route(self, signal)
    }

    fn explain(&self, signal: Signal, failure: &Failure) -> Option<String> {
        Self::explain(self, signal, failure)
    }
}

/// A backend and its setup.
pub struct Backend<E> {
    /// The user's name for the backend, if there are several.
    pub name: Option<Arc<str>>,
    /// The signals that go to the backend.
    pub takes: PerSignal<bool>,
    /// The setup. Without one, telemetry is received and dropped.
    pub setup: Option<SetupFn<E>>,
}

/// Creates the exporter. Runs after the first `/next`, again if that failed, after a restore from a snapshot, and when the
/// backend refused the key. In the last two cases the argument is true: known secrets must be fetched again.
pub type SetupFn<E> = Box<dyn FnMut(bool) -> SetupFuture<E> + Send>;

/// A running setup.
pub type SetupFuture<E> = Pin<Box<dyn Future<Output = SetupOutcome<E>> + Send>>;

/// The result of a setup.
#[derive(Clone, Debug)]
pub struct SetupOutcome<E> {
    /// The new exporter; `None` if the old one stays, or there is none yet.
    pub exporter: Option<E>,
    /// True if the settings hold secret references.
    pub has_secret: bool,
    /// True if a signal without a route may still get one.
    pub is_pending: bool,
}

impl<E: BackendExporter> SetupOutcome<E> {
    /// Converts the outcome for the sender.
    pub(super) fn to_result(&self) -> SetupResult {
        let state = |exporter: &E, signal| match exporter.route(signal) {
            Some(route) => RouteState::Route(route),
            None if self.is_pending => RouteState::Pending,
            None => RouteState::NoRoute,
        };
        let routes = self.exporter.as_ref();
        let routes = routes.map(|exporter| PerSignal::from_fn(|signal| state(exporter, signal)));
        SetupResult { routes, has_secret: self.has_secret }
    }
}
