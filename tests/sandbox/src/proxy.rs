//! A stand-in for an HTTP proxy: opens tunnels with CONNECT and forwards requests with an absolute URL, for clients with its
//! credentials. It records both.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::board::Board;
use crate::error::Error;
use crate::web;

/// The proxy. When dropped, it closes its port and all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    passages: Board<Vec<Passage>>,
    server: JoinHandle<()>,
}

/// A request that the proxy received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// A tunnel to this `host:port`.
    Tunnel(String),
    /// A request to this URL.
    Forward(String),
    /// Either of them, rejected because credentials are missing or wrong.
    Refused,
}

/// The proxy's own answer, or that of the server it asked.
type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// The state shared by all connections.
struct Shared {
    /// The required `Proxy-Authorization`, if any.
    authorization: Option<String>,
    passages: Board<Vec<Passage>>,
    client: Client<HttpConnector, Incoming>,
}

impl Proxy {
    /// Starts a proxy that serves every client.
    pub async fn start() -> Result<Self, Error> {
        Self::listen(None).await
    }

    /// Starts a proxy that requires this `Proxy-Authorization`.
    pub async fn start_with(authorization: impl Into<String>) -> Result<Self, Error> {
        Self::listen(Some(authorization.into())).await
    }

    async fn listen(authorization: Option<String>) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let passages = Board::new(Vec::new());
        let client = Client::builder(TokioExecutor::new()).build_http();
        let shared = Arc::new(Shared { authorization, passages: passages.clone(), client });
        let server = tokio::spawn(serve(listener, shared));
        Ok(Self { address, passages, server })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests received so far.
    pub fn passages(&self) -> Vec<Passage> {
        self.passages.read(Clone::clone)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    web::accept(listener, |stream| {
        let shared = Arc::clone(&shared);
        async move {
            // Tunnels end with their connection, which ends with the listener.
            let tunnels = Board::new(JoinSet::new());
            let service = service_fn(|request| {
                let (shared, tunnels) = (Arc::clone(&shared), tunnels.clone());
                async move { Ok::<_, Infallible>(respond(&shared, &tunnels, request).await) }
            });
            // The end of a connection is the client's concern.
            let _ =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            let mut tunnels = tunnels.write(std::mem::take);
            while tunnels.join_next().await.is_some() {}
        }
    })
    .await;
}

async fn respond(shared: &Shared, tunnels: &Board<JoinSet<()>>, request: Request<Incoming>) -> Answer {
    let given = request.headers().get(PROXY_AUTHORIZATION).map(http::HeaderValue::as_bytes);
    if shared.authorization.as_ref().is_some_and(|wanted| given != Some(wanted.as_bytes())) {
        shared.passages.write(|passages| passages.push(Passage::Refused));
        return empty(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    }
    if request.method() == Method::CONNECT {
        let to = request.uri().to_string();
        shared.passages.write(|passages| passages.push(Passage::Tunnel(to.clone())));
        let Ok(upstream) = TcpStream::connect(&to).await else { return empty(StatusCode::BAD_GATEWAY) };
        tunnels.write(|tunnels| tunnels.spawn(async move { drop(tunnel(request, upstream).await) }));
        return empty(StatusCode::OK);
    }
    let to = request.uri().to_string();
    shared.passages.write(|passages| passages.push(Passage::Forward(to)));
    let mut request = request;
    request.headers_mut().remove(PROXY_AUTHORIZATION);
    match shared.client.request(request).await {
        Ok(answer) => answer.map(BodyExt::boxed),
        Err(_) => empty(StatusCode::BAD_GATEWAY),
    }
}

async fn tunnel(request: Request<Incoming>, mut upstream: TcpStream) -> io::Result<()> {
    upstream.set_nodelay(true)?;
    let mut client = TokioIo::new(hyper::upgrade::on(request).await.map_err(io::Error::other)?);
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}

fn empty(status: StatusCode) -> Answer {
    let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
