//! The exporters that the senders' requests are made with.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::delivery::event::{Route, RouteState, SetupResult};
use crate::core::delivery::verdict::{Failure, Verdict};
use crate::core::signal::{PerSignal, Signal};
use crate::edge::exporter::Exporter;

/// Makes requests to one backend.
pub trait BackendExporter: Clone + Send + 'static {
    /// Sends the chunks as one request.
    fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> impl Future<Output = Verdict> + Send;
    /// Opens the connection.
    fn warm(&self) -> impl Future<Output = Verdict> + Send;
    /// The same without its connections.
    #[must_use]
    fn with_new_connections(&self) -> Self;
    /// The signal's way to the backend, if it has one.
    fn route(&self, signal: Signal) -> Option<Route>;
    /// Explains a failure by the settings and names the remedy, if they show it.
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

/// A backend, and how its exporter is made.
pub struct Backend<E> {
    /// The user's name for it, where there are several.
    pub name: Option<Arc<str>>,
    /// The signals that it is to get.
    pub takes: PerSignal<bool>,
    /// Without it telemetry is received and dropped.
    pub setup: Option<SetupFn<E>>,
}

/// Makes the exporter: once the first `/next` is out, again where that failed, after a restore from a snapshot, and where
/// the backend refused the key; then secrets are to be fetched again that are known.
pub type SetupFn<E> = Box<dyn FnMut(bool) -> SetupFuture<E> + Send>;

/// An exporter in the making.
pub type SetupFuture<E> = Pin<Box<dyn Future<Output = SetupOutcome<E>> + Send>>;

/// The result of a setup.
#[derive(Clone, Debug)]
pub struct SetupOutcome<E> {
    /// The exporter; `None` where it is the same as before, or there is none yet.
    pub exporter: Option<E>,
    /// Set if the settings hold secret references.
    pub has_secret: bool,
    /// Set if a signal without a route may still get one.
    pub is_pending: bool,
}

impl<E: BackendExporter> SetupOutcome<E> {
    /// The result of the setup, as the sender takes it.
    pub(super) fn set_up(&self) -> SetupResult {
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
