//! Names to addresses, as the C library finds them: in the layer musl's, by `/etc/hosts` and `/etc/resolv.conf` alone.
//!
//! The HTTP client would do the same by itself, but its error could not be told from others.

use std::io;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The C library's resolver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver;

/// A name has no address.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct NameError(#[from] io::Error);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts the port in.
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(NameError)?;
            // It is asked for more than once, and `lookup_host` borrows the name.
            let addresses: Vec<_> = addresses.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
