//! A stand-in for the OTLP collector. It accepts gRPC on port 4317 and HTTP on port 4318 of its own address, and decodes and
//! keeps everything. It misbehaves on demand: per request with a [`Behaviour`], or as a whole, by refusing connections,
//! vanishing from the network or dropping TLS.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use tokio::task::JoinSet;
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
use port::Port;

mod arrival;
mod behaviour;
mod grpc;
mod http_in;
mod port;
mod received;
mod tls;

const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// The collector. When dropped, it closes its ports and all connections.
#[derive(Debug)]
pub struct Collector {
    ip: Ipv4Addr,
    /// Reserves the address while the ports are closed.
    _lock: TcpListener,
    shared: Arc<Shared>,
    /// None while connections are refused.
    ports: Mutex<Vec<Port>>,
}

/// The builder of a [`Collector`].
#[derive(Default)]
pub struct Builder {
    authorization: Option<String>,
    identity: Option<IdentityFor>,
}

type IdentityFor = Box<dyn FnOnce(Ipv4Addr) -> Identity + Send>;

/// The state shared by all connections.
#[derive(Debug)]
struct Shared {
    received: Board<Received>,
    rules: Mutex<Rules>,
    authorization: Mutex<Option<String>>,
    tls: Option<Tls>,
    /// The number of connections so far.
    numbered: AtomicU64,
    /// The open connections. They outlive their listener: a vanished collector does not close them.
    connections: Mutex<JoinSet<()>>,
    /// A change closes every open connection.
    cuts: watch::Sender<u64>,
    /// True while connections are accepted but nothing is read from them, nor from those already open.
    deaf: watch::Sender<bool>,
    /// Connections with lower numbers are no longer read or answered.
    forgotten: watch::Sender<u64>,
    /// True if the collector does not speak TLS, although its clients do.
    plaintext: AtomicBool,
}

struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Builder {
    /// Requires exactly this `authorization` header or metadata on every request.
    #[must_use]
    pub fn authorization(mut self, value: impl Into<String>) -> Self {
        self.authorization = Some(value.into());
        self
    }

    /// Enables TLS on both ports. The certificate must name the address, which the closure receives.
    #[must_use]
    pub fn tls(mut self, identity: impl FnOnce(Ipv4Addr) -> Identity + Send + 'static) -> Self {
        self.identity = Some(Box::new(identity));
        self
    }

    /// Claims an address and listens.
    pub async fn start(self) -> Result<Collector, Error> {
        let (ip, lock) = address::claim().await.map_err(Error::Listen)?;
        let tls = match self.identity {
            Some(identity) => Some(Tls(identity(ip).acceptor()?)),
            None => None,
        };
        let shared = Arc::new(Shared {
            received: Board::new(Received::default()),
            rules: Mutex::default(),
            authorization: Mutex::new(self.authorization),
            tls,
            numbered: AtomicU64::new(0),
            connections: Mutex::default(),
            cuts: watch::Sender::new(0),
            deaf: watch::Sender::new(false),
            forgotten: watch::Sender::new(0),
            plaintext: AtomicBool::new(false),
        });
        let collector = Collector { ip, _lock: lock, shared, ports: Mutex::default() };
        collector.open().await?;
        Ok(collector)
    }
}

impl Collector {
    /// Starts a collector that accepts every request.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// A builder, to set the authorization or TLS.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The URL it listens on, with scheme: for `ROTEL_OTLP_EXPORTER_ENDPOINT`.
    pub fn url(&self, protocol: Protocol) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address(protocol))
    }

    /// The address it listens on.
    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        let port = match protocol {
            Protocol::Grpc => GRPC_PORT,
            Protocol::Http => HTTP_PORT,
        };
        SocketAddrV4::new(self.ip, port).into()
    }

    /// All requests received so far.
    pub fn received(&self) -> Received {
        self.shared.received.read(Clone::clone)
    }

    /// The number of items it holds.
    pub fn counts(&self) -> Counts {
        self.shared.received.read(Received::counts)
    }

    /// Waits for a condition on the received requests.
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

    /// Sets the behaviour for all requests from now on, and clears all earlier rules.
    pub fn behave(&self, behaviour: Behaviour) {
        self.rules(|rules| rules.set(behaviour));
    }

    /// Sets the behaviour for the requests of one signal from now on.
    pub fn behave_for(&self, signal: Signal, behaviour: Behaviour) {
        self.rules(|rules| rules.set_for(signal, behaviour));
    }

    /// Sets the behaviour for the next `requests` requests.
    pub fn behave_next(&self, requests: usize, behaviour: Behaviour) {
        self.rules(|rules| rules.set_next(requests, behaviour));
    }

    /// Closes every open connection, as a freeze or a load balancer does; new ones are accepted.
    pub fn close_connections(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Requires this `authorization` on every request from now on, as after a key rotation.
    pub fn authorize(&self, value: impl Into<String>) {
        *self.shared.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.into());
    }

    /// Stops reading and answering all open connections without their clients noticing, like a firewall that lost its state.
    /// New connections are accepted.
    pub fn forget_connections(&self) {
        self.shared.forgotten.send_replace(self.shared.numbered.load(Ordering::Relaxed));
    }

    /// Refuses connections from now on, and closes the open ones.
    pub async fn refuse_connections(&self) {
        for port in self.take_ports() {
            port.close().await;
        }
        let mut connections = std::mem::take(&mut *self.shared.connections());
        connections.shutdown().await;
    }

    /// Accepts connections but reads and answers nothing from now on, not even a TLS handshake, like a stopped process.
    pub fn go_deaf(&self) {
        self.shared.deaf.send_replace(true);
    }

    /// Answers no packet from now on, on open connections or new ones, which are never established: a black hole.
    pub async fn vanish(&self) -> Result<(), Error> {
        self.go_deaf();
        if self.ports().is_empty() {
            self.open().await?;
        }
        for mut port in self.take_ports() {
            port.plug().await.map_err(Error::Listen)?;
            self.ports().push(port);
        }
        Ok(())
    }

    /// Serves new connections without TLS, although their clients start with it, like a TLS proxy that is gone.
    pub fn forget_tls(&self) {
        self.shared.plaintext.store(true, Ordering::Relaxed);
        self.close_connections();
    }

    /// Ends [`Self::refuse_connections`], [`Self::go_deaf`], [`Self::vanish`] and [`Self::forget_tls`].
    pub async fn come_back(&self) -> Result<(), Error> {
        let forgetful = self.shared.plaintext.swap(false, Ordering::Relaxed);
        if self.shared.deaf.send_replace(false) || forgetful {
            self.close_connections();
        }
        for mut port in self.take_ports() {
            port.unplug(|listener, protocol| self.accepting(listener, protocol)).map_err(Error::Listen)?;
            self.ports().push(port);
        }
        if self.ports().is_empty() { self.open().await } else { Ok(()) }
    }

    pub(crate) fn watch(&self) -> Board<Received> {
        self.shared.received.clone()
    }

    async fn open(&self) -> Result<(), Error> {
        for protocol in PROTOCOLS {
            let port = Port::open(self.address(protocol), protocol, |listener, protocol| {
                self.accepting(listener, protocol)
            });
            let port = port.await.map_err(Error::Listen)?;
            self.ports().push(port);
        }
        Ok(())
    }

    fn accepting(
        &self,
        listener: Arc<TcpListener>,
        protocol: Protocol,
    ) -> impl Future<Output = ()> + Send + 'static {
        accept(listener, protocol, Arc::clone(&self.shared))
    }

    fn take_ports(&self) -> Vec<Port> {
        std::mem::take(&mut *self.ports())
    }

    fn ports(&self) -> MutexGuard<'_, Vec<Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.connections().abort_all();
    }
}

impl Shared {
    fn keep(&self, request: Request) {
        self.received.write(|received| received.push(request));
    }

    fn connections(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the head of a request: rejects the request, or chooses its behaviour.
    fn admit(&self, arrival: &mut Arrival) -> Result<(), Refusal> {
        let wanted = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wanted) = wanted {
            let given = arrival.headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
            if given != Some(wanted.as_bytes()) {
                let given = String::from_utf8_lossy(given.unwrap_or_default()).into_owned();
                // A real collector's answer can contain the token, too: it must not reach a log.
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

async fn accept(listener: Arc<TcpListener>, protocol: Protocol, shared: Arc<Shared>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let id = shared.numbered.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection { id, peer, cut: Notify::new() });
        let mut connections = shared.connections();
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, connection, protocol, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, connection: Arc<Connection>, protocol: Protocol, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let mut forgotten = shared.forgotten.subscribe();
    let mut conversation =
        pin!(while_heard(shared.deaf.subscribe(), converse(stream, &connection, protocol, &shared)));
    tokio::select! {
        biased;
        () = connection.cut.notified() => return,
        _ = cuts.changed() => return,
        _ = forgotten.wait_for(|forgotten| connection.id < *forgotten) => {}
        () = &mut conversation => return,
    }
    // The connection stays open, or its client would notice.
    tokio::select! {
        () = connection.cut.notified() => {}
        _ = cuts.changed() => {}
    }
}

/// Runs a conversation, except while the collector is deaf.
async fn while_heard(mut deaf: watch::Receiver<bool>, conversation: impl Future<Output = io::Result<()>>) {
    let mut conversation = pin!(conversation);
    loop {
        // The sender is in `Shared`, so the waits cannot fail.
        let _ = deaf.wait_for(|deaf| !deaf).await;
        tokio::select! {
            biased;
            () = async { let _ = deaf.wait_for(|deaf| *deaf).await; } => {}
            // The end of a connection is the client's concern; everything relevant was recorded per request.
            _ = &mut conversation => return,
        }
    }
}

async fn converse(
    stream: TcpStream,
    connection: &Arc<Connection>,
    protocol: Protocol,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    // Without it, Nagle's algorithm and delayed acknowledgements cause 40 ms pauses that no real peer shows.
    stream.set_nodelay(true)?;
    match &shared.tls {
        Some(Tls(acceptor)) if !shared.plaintext.load(Ordering::Relaxed) => {
            let stream = acceptor.accept(stream).await?;
            talk_http(stream, connection, protocol, shared).await
        }
        _ => talk_http(stream, connection, protocol, shared).await,
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
