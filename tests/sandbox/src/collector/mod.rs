//! A stand-in for the OTLP collector at the other end: takes gRPC on 4317 and HTTP on 4318 of an address of its own,
//! decodes and keeps everything, and misbehaves when told to.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use behaviour::{Behaviour, Refusal};
pub use received::{Counts, Item, Outcome, Protocol, Received, Request};
pub use tls::Identity;

use crate::address;
use crate::board::Board;
use crate::clock;
use crate::error::Error;
use crate::otlp::Signal;
use arrival::{Arrival, Connection};
use behaviour::Rules;

mod arrival;
mod behaviour;
mod grpc;
mod http_in;
mod received;
mod tls;

const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;

/// The collector. Dropped, it closes its ports and all connections.
#[derive(Debug)]
pub struct Collector {
    ip: Ipv4Addr,
    /// Keeps the address ours while the ports are closed.
    _lock: TcpListener,
    shared: Arc<Shared>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

/// How a [`Collector`] is made.
#[derive(Default)]
pub struct Builder {
    authorization: Option<String>,
    identity: Option<IdentityFor>,
}

type IdentityFor = Box<dyn FnOnce(Ipv4Addr) -> Identity + Send>;

/// What all connections need.
#[derive(Debug)]
struct Shared {
    received: Board<Received>,
    rules: Mutex<Rules>,
    authorization: Option<String>,
    tls: Option<Tls>,
    connections: AtomicU64,
    /// Changed, every open connection closes.
    cuts: watch::Sender<u64>,
    /// Connections are taken but nothing is read from them.
    deaf: watch::Sender<bool>,
}

struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Builder {
    /// Every request must have this `authorization` header or metadata, as it stands.
    #[must_use]
    pub fn authorization(mut self, value: impl Into<String>) -> Self {
        self.authorization = Some(value.into());
        self
    }

    /// Both ports speak TLS. The certificate has to name the address, which is known only here.
    #[must_use]
    pub fn tls(mut self, identity: impl FnOnce(Ipv4Addr) -> Identity + Send + 'static) -> Self {
        self.identity = Some(Box::new(identity));
        self
    }

    /// Takes an address and listens.
    pub async fn start(self) -> Result<Collector, Error> {
        let (ip, lock) = address::claim().await.map_err(Error::Listen)?;
        let tls = match self.identity {
            Some(identity) => Some(Tls(identity(ip).acceptor()?)),
            None => None,
        };
        let shared = Arc::new(Shared {
            received: Board::new(Received::default()),
            rules: Mutex::default(),
            authorization: self.authorization,
            tls,
            connections: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
            deaf: watch::Sender::new(false),
        });
        let collector = Collector { ip, _lock: lock, shared, listeners: Mutex::default() };
        collector.open().await?;
        Ok(collector)
    }
}

impl Collector {
    /// A collector that takes everything from everybody.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// A collector with more to say.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, with scheme: for `ROTEL_OTLP_EXPORTER_ENDPOINT`.
    pub fn url(&self, protocol: Protocol) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address(protocol))
    }

    /// Where it listens.
    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        let port = match protocol {
            Protocol::Grpc => GRPC_PORT,
            Protocol::Http => HTTP_PORT,
        };
        SocketAddrV4::new(self.ip, port).into()
    }

    /// All it was sent so far.
    pub fn received(&self) -> Received {
        self.shared.received.read(Clone::clone)
    }

    /// How many items it holds.
    pub fn counts(&self) -> Counts {
        self.shared.received.read(Received::counts)
    }

    /// Waits for a condition on what it was sent.
    pub async fn wait_until(
        &self,
        mut holds: impl FnMut(&Received) -> bool,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = clock::now() + timeout;
        let found =
            self.shared.received.wait_before(deadline, |received| holds(received).then_some(())).await;
        found.ok_or_else(|| {
            let received = self.received();
            Error::Timeout(
                timeout,
                format!(
                    "the collector has {:?} of {} requests",
                    received.counts(),
                    received.requests().count()
                ),
            )
        })
    }

    /// From now on, for all requests; clears what was said before.
    pub fn behave(&self, behaviour: Behaviour) {
        self.rules(|rules| rules.set(behaviour));
    }

    /// From now on, for the requests of one signal.
    pub fn behave_for(&self, signal: Signal, behaviour: Behaviour) {
        self.rules(|rules| rules.set_for(signal, behaviour));
    }

    /// For the next so many requests.
    pub fn behave_next(&self, requests: usize, behaviour: Behaviour) {
        self.rules(|rules| rules.set_next(requests, behaviour));
    }

    /// Closes every open connection, as a freeze or a load balancer does; new ones are welcome.
    pub fn close_connections(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections are refused from now on, the open ones closed.
    pub async fn refuse_connections(&self) {
        let listeners = std::mem::take(&mut *self.listeners());
        for listener in listeners {
            listener.abort();
            // Its end is the point where the port is closed.
            let _ = listener.await;
        }
    }

    /// Connections are taken, but nothing is read or answered, not even a TLS handshake: a black hole.
    pub fn go_deaf(&self) {
        self.shared.deaf.send_replace(true);
    }

    /// Ends [`Self::refuse_connections`] and [`Self::go_deaf`].
    pub async fn come_back(&self) -> Result<(), Error> {
        if self.shared.deaf.send_replace(false) {
            self.close_connections();
        }
        if self.listeners().is_empty() { self.open().await } else { Ok(()) }
    }

    pub(crate) fn watch(&self) -> Board<Received> {
        self.shared.received.clone()
    }

    async fn open(&self) -> Result<(), Error> {
        for protocol in [Protocol::Grpc, Protocol::Http] {
            let listener = TcpListener::bind(self.address(protocol)).await.map_err(Error::Listen)?;
            let task = tokio::spawn(accept(listener, protocol, Arc::clone(&self.shared)));
            self.listeners().push(task);
        }
        Ok(())
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        for listener in self.listeners().iter() {
            listener.abort();
        }
    }
}

impl Shared {
    fn keep(&self, request: Request) {
        self.received.write(|received| received.push(request));
    }

    /// Looks at the head of a request: whether it may come in at all, and what shall become of it.
    fn admit(&self, arrival: &mut Arrival) -> Result<(), Refusal> {
        if let Some(wanted) = &self.authorization {
            let given = arrival.headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
            if given != Some(wanted.as_bytes()) {
                let given = String::from_utf8_lossy(given.unwrap_or_default()).into_owned();
                // The real one's answer can hold the token, too: it must not end up in a log.
                let message = format!("scheme or token does not match: {given}");
                return Err(arrival.refuse(self, Refusal::status(401).message(message)));
            }
        }
        let behaviour = self.rules.lock().unwrap_or_else(PoisonError::into_inner).choose(arrival.signal);
        match behaviour {
            Behaviour::Refuse(refusal) => Err(arrival.refuse(self, refusal)),
            other => {
                arrival.behaviour = other;
                Ok(())
            }
        }
    }
}

async fn accept(listener: TcpListener, protocol: Protocol, shared: Arc<Shared>) {
    // The connections end with their listener.
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else { continue };
        let id = shared.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection { id, peer, cut: Notify::new() });
        connections.spawn(serve(stream, connection, protocol, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, connection: Arc<Connection>, protocol: Protocol, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    tokio::select! {
        biased;
        () = connection.cut.notified() => {}
        _ = cuts.changed() => {}
        // How a connection ends is the client's affair; what matters was recorded per request.
        _ = converse(stream, &connection, protocol, &shared) => {}
    }
}

async fn converse(
    stream: TcpStream,
    connection: &Arc<Connection>,
    protocol: Protocol,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    // Without it, Nagle's algorithm and delayed acknowledgements make pauses of 40 ms that no real peer shows.
    stream.set_nodelay(true)?;
    let mut deaf = shared.deaf.subscribe();
    // The sender is in `shared`, so the wait cannot fail.
    let _ = deaf.wait_for(|deaf| !deaf).await;
    match &shared.tls {
        Some(Tls(acceptor)) => {
            let stream = acceptor.accept(stream).await?;
            talk_http(stream, connection, protocol, shared).await
        }
        None => talk_http(stream, connection, protocol, shared).await,
    }
}

async fn talk_http<S>(
    stream: S,
    connection: &Arc<Connection>,
    protocol: Protocol,
    shared: &Arc<Shared>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (connection, shared) = (Arc::clone(connection), Arc::clone(shared));
        async move { Ok::<_, Infallible>(respond(&shared, connection, protocol, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    if protocol == Protocol::Grpc {
        server = server.http2_only();
    }
    server.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

async fn respond(
    shared: &Arc<Shared>,
    connection: Arc<Connection>,
    protocol: Protocol,
    request: http::Request<Incoming>,
) -> Response<tonic::body::Body> {
    let signal = match protocol {
        Protocol::Grpc => grpc::signal(request.uri().path()),
        Protocol::Http => http_in::signal(request.uri().path()),
    };
    let encoding = http_in::Encoding::of(request.headers());
    let Some(signal) = signal else { return unknown(protocol) };
    if protocol == Protocol::Http && request.method() != http::Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut arrival = Arrival {
        connection,
        signal,
        protocol,
        at: clock::now(),
        time: clock::wall(),
        headers: request.headers().clone(),
        behaviour: Behaviour::Accept,
        wire_bytes: Arc::default(),
    };
    let admitted = shared.admit(&mut arrival);
    match (protocol, encoding, admitted) {
        (Protocol::Grpc, _, Ok(())) => grpc::respond(shared, arrival, request).await,
        (Protocol::Grpc, _, Err(refusal)) => refusal.grpc().into_http(),
        (Protocol::Http, None, _) => plain(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Protocol::Http, Some(encoding), Ok(())) => {
            http_in::respond(shared, arrival, encoding, request.into_body()).await
        }
        (Protocol::Http, Some(encoding), Err(refusal)) => http_in::refuse(&refusal, encoding),
    }
}

fn unknown(protocol: Protocol) -> Response<tonic::body::Body> {
    match protocol {
        Protocol::Grpc => tonic::Status::unimplemented("no such method").into_http(),
        Protocol::Http => plain(StatusCode::NOT_FOUND),
    }
}

fn plain(status: StatusCode) -> Response<tonic::body::Body> {
    let mut response = Response::new(tonic::body::Body::empty());
    *response.status_mut() = status;
    response
}
