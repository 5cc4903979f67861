//! Resolves host names with the C library. In the layer that is musl, which reads `/etc/hosts` and
//! `/etc/resolv.conf`.
//!
//! The HTTP client's own resolver does the same, but its error has no type.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// The C library's resolver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver;

/// The host name does not resolve.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NameError(#[from] io::Error);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NameError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NameError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NameError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            // The client sets the port.
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            // `lookup_host` borrows the name.
            let addresses: Vec<_> = addresses.collect();
            Ok(addresses.into_iter())
        })
    }
}
