//! The HTTP client for backends: a connection pool over HTTP/1.1 and HTTP/2.
//!
//! It is built on hyper-util, not reqwest, because reqwest gives no access to its connections, and these must
//! yield (`connector`).

mod connector;
mod name;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::PROXY_AUTHORIZATION;
use ::http::uri::Scheme;
use ::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy;
pub use hyper_util::client::legacy::Error;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use self::connector::BackendConnector;
pub use self::name::NameError;
use rotel_core::config::ProxyTarget;

/// The maximum size of an HTTP/1.1 response head, and of one read, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// A client with its own connections. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    pool: legacy::Client<BackendConnector, BodyParts>,
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
    pub async fn send(&self, mut request: Request<BodyParts>) -> Result<Response<Incoming>, Error> {
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

/// A request body in parts of known length.
#[derive(Debug)]
pub struct BodyParts(VecDeque<Bytes>);

impl FromIterator<Bytes> for BodyParts {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        Self(parts.into_iter().filter(|part| !part.is_empty()).collect())
    }
}

impl Body for BodyParts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}
