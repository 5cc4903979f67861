//! Shared HTTP server code: listeners, the accept loop, and bodies with a limit.
//!
//! Promises that no connection can harm another one, whatever is sent over it: a panic ends only its task, a
//! silent client is disconnected in time, and a body never exceeds its limit, nor all of them together the
//! budget. A set of listeners never has more than [`MAX_CONNECTIONS`] connections: above that, a new connection
//! waits until the oldest one has finished its request and is closed. So a flooded port leaves file descriptors
//! for the others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use rotel_core::body_budget::{BodyBudget, HeldBytes, NoRoom};

/// The maximum number of connections of a set of listeners.
///
/// Platform: a process may have 1,024 file descriptors, and exports and the Telemetry API need some of them.
pub const MAX_CONNECTIONS: usize = 256;

/// The maximum number of concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;

/// The bytes of one HTTP/2 request that a client may send before they are read.
const STREAM_WINDOW: u32 = 256 << 10;

/// The maximum size of a request head, and of the read buffer of a connection, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// The time allowed for the head of a request, including the wait for the next request on a connection.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// The time allowed for the body of a request. All clients are in this environment.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum time between two pieces of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time allowed for a connection without an active request to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// The wait for a connection to close before the next one is asked to close.
const EVICTION_PAUSE: Duration = Duration::from_secs(1);

/// The maximum size of a refused body that is read, in bytes, so that the client is ready to read the response.
const DISCARD_LIMIT: usize = 64 << 20;

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time allowed for the system's resolver to resolve the host to listen on.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of attempts to find a port that is free on both IPv4 and IPv6.
const PORT_ATTEMPTS: usize = 16;

/// The reason that a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than the limit.
    #[error("the body is larger than the limit of {limit} bytes; send smaller batches")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {} s, or stalled for {} s", BODY_TIMEOUT.as_secs(), PIECE_TIMEOUT.as_secs())]
    TooSlow,
    /// Other bodies use all of the shared budget.
    #[error(
        "other requests use the whole receive budget; retry in a second; if this persists, increase the function's memory"
    )]
    NoRoom,
    /// The connection was lost, or the body is not valid HTTP.
    #[error("the body ended early")]
    Broken,
}

/// Listens on a host and a port, or on any free port if `port` is 0. A host name other than `localhost` is
/// resolved, for at most `LOOKUP_TIMEOUT`.
///
/// For `localhost` it listens on the IPv4 loopback and, on the same port, on the IPv6 loopback, because clients
/// differ in which one they use. A machine without IPv6 is fine.
pub async fn bind(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![TcpListener::bind((ip, port)).await?]);
    }
    if host != "localhost" {
        return bind_resolved(tokio::net::lookup_host((host, port))).await;
    }
    let mut attempts = 0;
    loop {
        attempts += 1;
        let ipv4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        match TcpListener::bind((Ipv6Addr::LOCALHOST, ipv4.local_addr()?.port())).await {
            Ok(ipv6) => return Ok(vec![ipv4, ipv6]),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Ok(vec![ipv4]),
            Err(error) if port != 0 || attempts == PORT_ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}

/// Returns true if [`bind`] must resolve the host name, which may take the system's resolver any amount of
/// time.
pub fn needs_lookup(host: &str) -> bool {
    host != "localhost" && host.parse::<IpAddr>().is_err()
}

/// Listens on the first resolved address that belongs to this machine.
async fn bind_resolved<A>(lookup: impl Future<Output = io::Result<A>>) -> io::Result<Vec<TcpListener>>
where
    A: Iterator<Item = SocketAddr>,
{
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await;
    let addresses: Vec<_> =
        found.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "host name lookup timed out"))??.collect();
    Ok(vec![TcpListener::bind(addresses.as_slice()).await?])
}

/// Serves HTTP/1.1 on all listeners for as long as the future is polled. Every connection has its own task.
pub async fn serve_http1<H, F, B>(listeners: Vec<TcpListener>, handler: H) -> Infallible
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    accept(listeners, |stream, evicted| {
        let (handler, activity) = (handler.clone(), Arc::new(Activity::default()));
        let requests = Arc::clone(&activity);
        let service = service_fn(move |request| {
            let (active, response) = (ActiveRequest::begin(&requests), handler(request));
            async move {
                let response = response.await;
                drop(active);
                Ok::<_, Infallible>(response)
            }
        });
        drive(http.serve_connection(TokioIo::new(stream), service), activity, evicted)
    })
    .await
}

/// Serves HTTP/1.1, and HTTP/2 with prior knowledge, without TLS on all listeners for as long as the future is
/// polled. The handler also gets the port. Every connection has its own task, and so has every HTTP/2 request.
pub async fn serve<H, F, B>(listeners: Vec<TcpListener>, handler: H) -> Infallible
where
    H: Fn(Request<Incoming>, u16) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW);
    accept(listeners, |stream, evicted| {
        let (handler, activity) = (handler.clone(), Arc::new(Activity::default()));
        let requests = Arc::clone(&activity);
        let port = stream.local_addr().map_or(0, |address| address.port());
        let service = service_fn(move |request| {
            let (active, response) = (ActiveRequest::begin(&requests), handler(request, port));
            async move {
                let response = response.await;
                drop(active);
                Ok::<_, Infallible>(response)
            }
        });
        drive(http.serve_connection(TokioIo::new(stream), service).into_owned(), activity, evicted)
    })
    .await
}

/// The requests of a connection.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    active: AtomicUsize,
}

/// A request being handled.
struct ActiveRequest(Arc<Activity>);

impl ActiveRequest {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that can be asked to close after its active requests.
trait Closable: Future {
    fn close(self: Pin<&mut Self>);
}

impl<S, B> Closable for http1::Connection<TokioIo<TcpStream>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Error = Infallible> + 'static,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, F, B> Closable for auto::Connection<'static, TokioIo<TcpStream>, S, TokioExecutor>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives a connection until the client closes it, it is idle for too long, or it is evicted. Its errors
/// concern only the client.
async fn drive<C: Closable>(connection: C, activity: Arc<Activity>, evicted: Arc<Notify>) {
    let mut connection = pin!(connection);
    // HTTP/1.1 has its own timeout. An HTTP/2 client could be silent forever, and so could a client that has
    // not yet shown which of the two it speaks.
    let mut begun = activity.begun.load(Ordering::Relaxed);
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = evicted.notified() => break,
            () = tokio::time::sleep(HEAD_TIMEOUT) => {
                let before = std::mem::replace(&mut begun, activity.begun.load(Ordering::Relaxed));
                if before == begun && activity.active.load(Ordering::Relaxed) == 0 {
                    break;
                }
            }
        }
    }
    connection.as_mut().close();
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = tokio::time::sleep(CLOSE_TIMEOUT) => {
                // Bodies have their own timeout.
                if activity.active.load(Ordering::Relaxed) == 0 {
                    return;
                }
            }
        }
    }
}

/// Accepts connections and spawns `serve` for each.
async fn accept<S, F>(listeners: Vec<TcpListener>, serve: S) -> Infallible
where
    S: Fn(TcpStream, Arc<Notify>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    // Oldest first, including some that have ended.
    let mut evictions: VecDeque<Weak<Notify>> = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            // Ended ones first: there are never more of them than there were connections. Their result, even a
            // panic, concerns nobody else.
            Some(_) = connections.join_next() => {}
            accepted = accept_any(&listeners) => match accepted {
                Ok(stream) => {
                    make_room(&mut connections, &mut evictions).await;
                    // Without it a response can wait 40 ms for the client's acknowledgement. It fails only on a
                    // dead socket.
                    let _ = stream.set_nodelay(true);
                    let evicted = Arc::new(Notify::new());
                    evictions.push_back(Arc::downgrade(&evicted));
                    connections.spawn(serve(stream, evicted));
                }
                // Most likely out of file descriptors: the connection is still pending and the next attempt
                // would fail at once. A loop without a pause would take the CPU from tasks that could free
                // some.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Waits until there is room for another connection; evicts the oldest one if there is none.
async fn make_room(connections: &mut JoinSet<()>, evictions: &mut VecDeque<Weak<Notify>>) {
    while connections.len() >= MAX_CONNECTIONS {
        if let Some(oldest) = std::iter::from_fn(|| evictions.pop_front()).find_map(|oldest| oldest.upgrade())
        {
            oldest.notify_one();
        }
        let _ = tokio::time::timeout(EVICTION_PAUSE, connections.join_next()).await;
    }
    if evictions.len() >= 2 * MAX_CONNECTIONS {
        evictions.retain(|connection| connection.strong_count() > 0);
    }
}

async fn accept_any(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    std::future::poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

/// A received body.
#[derive(Debug)]
pub struct ReceivedBody {
    /// The whole body.
    pub bytes: Bytes,
    /// Its share of the budget.
    pub held: HeldBytes,
}

impl AsRef<[u8]> for ReceivedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a whole body of at most `limit` bytes. A body that announces a larger size is not read at all.
pub async fn read_body<B>(body: &mut B, limit: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    read(body, limit, |_| Ok(())).await
}

/// Reads a whole body within a shared budget.
pub async fn receive_body<B>(
    body: &mut B,
    limit: usize,
    budget: &BodyBudget,
) -> Result<ReceivedBody, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut held = budget.hold();
    let bytes = read(body, limit.min(budget.limit()), |more| Ok(held.try_grow(more)?)).await?;
    Ok(ReceivedBody { bytes: Bytes::from(bytes), held })
}

/// Reads a body. Reserves room first: for all of it, or piece by piece if its length is not announced.
async fn read<B>(
    body: &mut B,
    limit: usize,
    mut reserve: impl FnMut(usize) -> Result<(), BodyError>,
) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    // Room for the whole announced length at once: a started body must not fail because of later ones, and
    // memory that was allocated for failed bodies stays with the allocator.
    let announced = hint.exact().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    reserve(announced)?;
    let read = async {
        let mut pieces = Pieces::new(announced);
        loop {
            let frame = tokio::time::timeout(PIECE_TIMEOUT, body.frame());
            let Some(frame) = frame.await.map_err(|_| BodyError::TooSlow)? else { break };
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if data.len() > limit - pieces.len {
                return Err(BodyError::TooLarge { limit });
            }
            if pieces.len + data.len() > announced {
                reserve(data.len())?;
            }
            pieces.push(&data);
        }
        Ok(pieces.into_body())
    };
    tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(BodyError::TooSlow))
}

/// A body being received: one piece if its length is announced, otherwise pieces of equal size. A buffer that
/// doubles would leave gaps of all sizes, which an allocator keeps: after a hundred bodies, several times the
/// budget.
struct Pieces {
    list: Vec<Vec<u8>>,
    first_len: usize,
    len: usize,
}

/// The size of a piece, in bytes.
const PIECE: usize = 64 << 10;

impl Pieces {
    fn new(length: usize) -> Self {
        Self { list: vec![Vec::with_capacity(length)], first_len: length.max(PIECE), len: 0 }
    }

    fn push(&mut self, mut data: &[u8]) {
        self.len += data.len();
        while !data.is_empty() {
            let most = if self.list.len() == 1 { self.first_len } else { PIECE };
            let Some(piece) = self.list.last_mut().filter(|piece| piece.len() < most) else {
                self.list.push(Vec::with_capacity(PIECE));
                continue;
            };
            let (now, rest) = data.split_at(data.len().min(most - piece.len()));
            piece.extend_from_slice(now);
            data = rest;
        }
    }

    /// Returns the whole body without spare capacity: it is counted by its length.
    fn into_body(mut self) -> Vec<u8> {
        match self.list.as_mut_slice() {
            [only] => {
                only.shrink_to_fit();
                std::mem::take(only)
            }
            pieces => pieces.concat(),
        }
    }
}

impl From<NoRoom> for BodyError {
    fn from(no_room: NoRoom) -> Self {
        match no_room {
            NoRoom::Full => Self::NoRoom,
            NoRoom::TooLarge(limit) => Self::TooLarge { limit },
        }
    }
}

/// Reads and discards the rest of the body of a refused HTTP/1.1 request.
///
/// Most clients read nothing before they have sent everything. If the rest were left unread, they would find a
/// closed connection and never see the reason. A client that waits for `100 Continue` has not sent anything
/// yet.
pub async fn discard_body<B>(head: &HeaderMap, body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
{
    if head.contains_key(header::EXPECT) {
        return;
    }
    let discard = async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARD_LIMIT {
                return;
            }
        }
    };
    // If it is too slow or too large, the client gets the response anyway.
    let _ = tokio::time::timeout(BODY_TIMEOUT, discard).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::Context;

    use http_body::Frame;
    use http_body_util::{Empty, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;

    use super::*;

    /// A body of unknown length.
    struct Chunks {
        chunks: std::vec::IntoIter<Result<&'static [u8], ()>>,
        ends: bool,
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = ();

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
            match self.chunks.next() {
                Some(chunk) => Poll::Ready(Some(chunk.map(|chunk| Frame::data(Bytes::from_static(chunk))))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    #[tokio::test]
    async fn localhost_is_both_loopbacks_on_one_port() {
        let listeners = bind("localhost", 0).await.unwrap();
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let port = addresses[0].port();
        let mut expected = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            expected.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        }
        assert_eq!(addresses, expected);
        assert_eq!(bind("localhost", port).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn other_hosts_are_bound_to_one_address() {
        let listeners = bind("127.0.0.1", 0).await.unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_lookup_times_out() {
        let lookup = std::future::pending::<io::Result<std::vec::IntoIter<SocketAddr>>>();
        assert_eq!(bind_resolved(lookup).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn first_address_of_this_machine_is_bound() {
        // The first address is reserved for documentation, so no machine has it.
        let found = [SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let listeners = bind_resolved(async { Ok(found.into_iter()) }).await.unwrap();
        assert_eq!(listeners[0].local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        assert!(needs_lookup("collector") && !needs_lookup("localhost") && !needs_lookup("::1"));
    }

    #[tokio::test]
    async fn panic_ends_only_its_connection() {
        let listeners = bind("127.0.0.1", 0).await.unwrap();
        let address = listeners[0].local_addr().unwrap();
        tokio::spawn(serve_http1(listeners, |request| async move {
            assert_ne!(request.uri().path(), "/panic", "as asked for");
            Response::new(Empty::<Bytes>::new())
        }));
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let uri = |path: &str| format!("http://{address}{path}").parse().unwrap();
        client.get(uri("/")).await.unwrap();
        client.get(uri("/panic")).await.unwrap_err();
        client.get(uri("/")).await.unwrap();
    }

    #[tokio::test]
    async fn body_is_read_up_to_its_limit() {
        let body = || Full::new(Bytes::from_static(b"12345"));
        assert_eq!(read_body(&mut body(), 5).await.unwrap(), b"12345");
        let too_large = Err(BodyError::TooLarge { limit: 4 });
        assert_eq!(read_body(&mut body(), 4).await, too_large);

        let chunks =
            |chunks: Vec<Result<&'static [u8], ()>>| Chunks { chunks: chunks.into_iter(), ends: true };
        assert_eq!(read_body(&mut chunks(vec![Ok(b"123"), Ok(b"45")]), 5).await.unwrap(), b"12345");
        assert_eq!(read_body(&mut chunks(vec![Ok(b"123"), Ok(b"45")]), 4).await, too_large);
        assert_eq!(read_body(&mut chunks(vec![Ok(b"123"), Err(())]), 5).await, Err(BodyError::Broken));
    }

    #[tokio::test]
    async fn bodies_share_one_budget() {
        let budget = BodyBudget::new(100_000);
        let body = |len| Full::new(Bytes::from(vec![0; len]));
        let first = receive_body(&mut body(70_000), 100_000, &budget).await.unwrap();
        let refused = receive_body(&mut body(70_000), 100_000, &budget).await;
        assert_eq!(refused.unwrap_err(), BodyError::NoRoom);
        let small = receive_body(&mut body(1_000), 100_000, &budget).await.unwrap();
        drop(first);
        let second = receive_body(&mut body(100_000), 1 << 20, &budget).await.unwrap();
        let refused = receive_body(&mut body(100_001), 1 << 20, &budget).await;
        assert_eq!(refused.unwrap_err(), BodyError::TooLarge { limit: 100_000 });
        drop((small, second));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_body_times_out() {
        let mut body = Chunks { chunks: vec![Ok(&b"123"[..])].into_iter(), ends: false };
        assert_eq!(read_body(&mut body, 5).await, Err(BodyError::TooSlow));
    }

    #[tokio::test]
    async fn oldest_connection_is_evicted() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listeners = bind("127.0.0.1", 0).await.unwrap();
        let address = listeners[0].local_addr().unwrap();
        tokio::spawn(serve(listeners, |_, _| async { Response::new(Empty::<Bytes>::new()) }));
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 15]).await.unwrap();
            idle.push(stream);
        }
        // Two more connections, so exactly two are closed.
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            idle.push(stream);
        }
        for mut stream in idle.drain(..2) {
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
        let third = &mut idle[0];
        third.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut rest = vec![0; 200];
        assert!(third.read(&mut rest).await.unwrap() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_are_closed() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listeners = bind("127.0.0.1", 0).await.unwrap();
        let address = listeners[0].local_addr().unwrap();
        tokio::spawn(serve(listeners, |_, _| async { Response::new(Empty::<Bytes>::new()) }));
        for opening in
            [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"POST / HTTP/1.1\r\n"]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(opening).await.unwrap();
            let read = tokio::time::timeout(3 * HEAD_TIMEOUT, stream.read_to_end(&mut Vec::new())).await;
            assert!(read.is_ok(), "{opening:?}");
        }
    }
}
