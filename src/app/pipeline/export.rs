//! What the pipeline sends with.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::core::delivery::verdict::Verdict;
use crate::core::signal::Signal;
use crate::edge::exporter::{Exporter, Way};

/// What attempts are made with.
pub trait Export: Clone + Send + 'static {
    /// Sends the chunks as one request.
    fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> impl Future<Output = Verdict> + Send;
    /// Opens the connection.
    fn warm(&self) -> impl Future<Output = Verdict> + Send;
    /// The same without its connections.
    #[must_use]
    fn afresh(&self) -> Self;
    /// The signal's way to the backend. Without one it is received and dropped.
    fn way(&self, signal: Signal) -> Option<Way>;
}

impl Export for Exporter {
    async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        Self::attempt(self, signal, chunks).await
    }

    async fn warm(&self) -> Verdict {
        Self::warm(self).await
    }

    fn afresh(&self) -> Self {
        Self::afresh(self)
    }

    fn way(&self, signal: Signal) -> Option<Way> {
        Self::way(self, signal)
    }
}

/// What makes the exporter once the first `/next` is out, and again after the environment was restored from a snapshot;
/// `None` receives and drops.
pub type Setup<E> = Box<dyn FnMut() -> SettingUp<E> + Send>;

/// An exporter in the making.
pub type SettingUp<E> = Pin<Box<dyn Future<Output = Option<E>> + Send>>;
