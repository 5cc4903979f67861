//! The HTTP client for backends: a connection pool over HTTP/1.1 and HTTP/2.
//!
//! It is built on hyper-util, not reqwest, because reqwest gives no access to its connections, and these must
//! yield (`connector`).

mod connector;
mod name;

use ::http::header::PROXY_AUTHORIZATION;
use ::http::uri::Scheme;
use ::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy;
pub use hyper_util::client::legacy::Error;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use self::connector::BackendConnector;
pub use self::name::NameError;
use crate::edge::body::WholeBody;
use rotel_core::config::ProxyTarget;

/// The maximum size of an HTTP/1.1 response head, and of one read, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// A client with its own connections. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    pool: legacy::Client<BackendConnector, WholeBody>,
    /// The credentials for a forwarding proxy.
    proxy_authorization: Option<HeaderValue>,
}

impl Client {
    /// Creates a client without connections. Unless `http2_only`, it uses HTTP/2 if TLS negotiates it, and
    /// HTTP/1.1 otherwise.
    pub fn new(tls: &ClientConfig, http2_only: bool, proxy: Option<ProxyTarget>) -> Self {
        let proxy_authorization = proxy.as_ref().and_then(|proxy| proxy.authorization.clone());
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_LIMIT)
            .http2_only(http2_only)
            .build(BackendConnector::new(tls, proxy));
        Self { pool, proxy_authorization }
    }

    /// Sends a request. Returns an error if there was no response.
    pub async fn send(&self, mut request: Request<WholeBody>) -> Result<Response<Incoming>, Error> {
        // For a tunnel, CONNECT has sent it to the proxy, and the backend must not see it.
        if let Some(authorization) = &self.proxy_authorization
            && request.uri().scheme() == Some(&Scheme::HTTP)
        {
            // A header set by the user wins.
            request.headers_mut().entry(PROXY_AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        self.pool.request(request).await
    }
}
