//! What the files that speak HTTP share: listeners, the accept loop, and bodies with a limit.
//!
//! Promises that one connection costs no other one anything, whatever is sent over it: a panic ends its task only, a
//! client that says nothing is dropped in time, and a body is never held beyond its limit.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long a client may take for the head of a request, the wait for the next one on its connection included.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a client may take for the body of a request. All clients are in this environment.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes of a refused body are read, so that the client is ready to read the answer.
const DISCARD_LIMIT: usize = 64 << 20;

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time for the system's resolver to find the address of a host to listen on.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to look for a port that is free on IPv4 and on IPv6.
const PORT_ATTEMPTS: usize = 16;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than this.
    #[error("the body is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It did not come in time.
    #[error("the body did not come within {} seconds", BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// The connection broke, or what came is no HTTP body.
    #[error("the body broke off")]
    Broken,
}

/// Listens on a host and a port; on any free port if that is 0. A host name other than `localhost` is looked up, for
/// [`LOOKUP_TIMEOUT`] at most.
///
/// `localhost` is the loopback of IPv4 and, on the same port, that of IPv6, since which of them a client means by it is
/// the client's choice. A machine without IPv6 is fine.
pub async fn bind(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![TcpListener::bind((ip, port)).await?]);
    }
    if host != "localhost" {
        return bind_found(tokio::net::lookup_host((host, port))).await;
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

/// Whether [`bind`] has to look a host up, which takes as long as the system's resolver likes.
pub fn needs_lookup(host: &str) -> bool {
    host != "localhost" && host.parse::<IpAddr>().is_err()
}

/// Listens on the first address found that is this machine's.
async fn bind_found<A>(lookup: impl Future<Output = io::Result<A>>) -> io::Result<Vec<TcpListener>>
where
    A: Iterator<Item = SocketAddr>,
{
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await;
    let addresses: Vec<_> = found
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the host name was not resolved in time"))??
        .collect();
    Ok(vec![TcpListener::bind(addresses.as_slice()).await?])
}

/// Serves HTTP/1.1 on all the listeners, for as long as the future is polled. Every connection has a task of its own.
pub async fn serve_http1<H, F, B>(listeners: Vec<TcpListener>, handler: H) -> Infallible
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    accept(listeners, |stream| {
        let handler = handler.clone();
        let service = service_fn(move |request| {
            let response = handler(request);
            async { Ok::<_, Infallible>(response.await) }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        // That a connection breaks is its client's business.
        async { drop(connection.await) }
    })
    .await
}

/// Serves HTTP/2 without TLS, by prior knowledge, on all the listeners, for as long as the future is polled. Every
/// request has a task of its own.
pub async fn serve_http2<H, F, B>(listeners: Vec<TcpListener>, handler: H) -> Infallible
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new());
    accept(listeners, |stream| {
        let (http, handler) = (http.clone(), handler.clone());
        async move {
            // A client of HTTP/2 speaks first. Hyper would wait for one that does not for ever.
            if tokio::time::timeout(HEAD_TIMEOUT, stream.readable()).await.is_err() {
                return;
            }
            let service = service_fn(move |request| {
                let response = handler(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        }
    })
    .await
}

/// Accepts connections and gives each to a task that `serve` makes.
async fn accept<S, F>(listeners: Vec<TcpListener>, serve: S) -> Infallible
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // Ended ones first: there are never more of them than there were connections. How they ended, and be it by
            // a panic, is nobody else's business.
            Some(_) = connections.join_next() => {}
            accepted = accept_any(&listeners) => match accepted {
                Ok(stream) => {
                    // Without it an answer can wait 40 ms for the client's acknowledgement. It fails only on a socket
                    // that is dead already.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream));
                }
                // Out of file descriptors, most likely: the connection is still there and the next attempt would fail
                // at once, so a loop without a pause would take the CPU from those that could free some.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
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

/// Reads a whole body of at most `limit` bytes. One that says beforehand that it is larger is not read at all.
pub async fn read_body<B>(body: &mut B, limit: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    let read = async {
        let announced = announced.exact().and_then(|len| usize::try_from(len).ok());
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if data.len() > limit - bytes.len() {
                return Err(BodyError::TooLarge { limit });
            }
            bytes.extend_from_slice(&data);
        }
        // What is kept of it is accounted for by its length.
        bytes.shrink_to_fit();
        Ok(bytes)
    };
    tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(BodyError::TooSlow))
}

/// Reads the rest of the body of an HTTP/1.1 request that is to be refused, and forgets it.
///
/// Most clients read nothing before they have sent everything. Answered with the rest unread, they find a connection
/// that is closed and never see why. A client that waits to be told `100 Continue` has not sent anything yet.
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
    // Too slow or too large, the client is answered all the same.
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

    /// A body of a length that is not known before.
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
    async fn a_host_that_is_no_localhost_is_bound_as_it_is() {
        let listeners = bind("127.0.0.1", 0).await.unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_lookup_is_given_up() {
        let lookup = std::future::pending::<io::Result<std::vec::IntoIter<SocketAddr>>>();
        assert_eq!(bind_found(lookup).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn first_address_of_this_machine_is_bound() {
        // The first one is kept for documentation, and no machine has it.
        let found = [SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let listeners = bind_found(async { Ok(found.into_iter()) }).await.unwrap();
        assert_eq!(listeners[0].local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        assert!(needs_lookup("collector") && !needs_lookup("localhost") && !needs_lookup("::1"));
    }

    #[tokio::test]
    async fn a_panic_costs_only_its_connection() {
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
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read_body(&mut Full::new(Bytes::from_static(b"12345")), 5).await.unwrap(), b"12345");
        let too_large = Err(BodyError::TooLarge { limit: 4 });
        assert_eq!(read_body(&mut Full::new(Bytes::from_static(b"12345")), 4).await, too_large);

        let chunks =
            |chunks: Vec<Result<&'static [u8], ()>>| Chunks { chunks: chunks.into_iter(), ends: true };
        assert_eq!(read_body(&mut chunks(vec![Ok(b"123"), Ok(b"45")]), 5).await.unwrap(), b"12345");
        assert_eq!(read_body(&mut chunks(vec![Ok(b"123"), Ok(b"45")]), 4).await, too_large);
        assert_eq!(read_body(&mut chunks(vec![Ok(b"123"), Err(())]), 5).await, Err(BodyError::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let mut body = Chunks { chunks: vec![Ok(&b"123"[..])].into_iter(), ends: false };
        assert_eq!(read_body(&mut body, 5).await, Err(BodyError::TooSlow));
    }
}
