//! Connections to the backend: direct, via a forwarding proxy, or through a tunnel; plaintext or TLS.
//!
//! Promises that no peer can occupy the thread: a connection yields after a few reads in a row, and a peer that
//! sends far more than a response gets an error. hyper skips `100 Continue` in a loop of its own, so a peer
//! that repeats it would otherwise be read for seconds.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Uri;
use ::http::uri::Scheme;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::name::Resolver;
use rotel_core::config::ProxyTarget;

/// Reads in a row before the connection yields to other tasks and to timers.
const READS_IN_A_ROW: usize = 8;
/// The maximum number of bytes read since the last write.
const READ_LIMIT: usize = 1024 * 1024;

/// The time before and between TCP keepalive probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The number of unanswered keepalive probes after which a connection is closed.
const KEEPALIVE_RETRIES: u32 = 3;
/// The time that sent data may stay unacknowledged.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, BoxError>> + Send>>;

/// Opens connections.
#[derive(Clone)]
pub(super) struct BackendConnector {
    direct: DirectConnector,
    tls: Arc<ClientConfig>,
    proxy: Option<ProxyTarget>,
}

/// Opens connections to the first hop: the backend, or its proxy.
#[derive(Clone)]
struct DirectConnector {
    tcp: HttpConnector<Resolver>,
    tls: Arc<ClientConfig>,
}

/// The peer sent more than [`READ_LIMIT`] without a response.
#[derive(Debug, thiserror::Error)]
#[error("the backend sent 1 MiB without a response")]
struct Flood;

/// The host of a URL is not a valid name in a certificate.
#[derive(Debug, thiserror::Error)]
#[error("the host is not a valid TLS server name")]
struct InvalidServerName(#[source] InvalidDnsNameError);

impl BackendConnector {
    pub(super) fn new(tls: &ClientConfig, proxy: Option<ProxyTarget>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // A freeze kills connections unnoticed. The kernel finds out earlier than the request timeout of a slow backend.
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
        // A proxy responds to CONNECT with HTTP/1.1.
        let mut proxy_tls = tls.clone();
        proxy_tls.alpn_protocols.clear();
        let tls = Arc::new(tls.clone());
        let first_hop_tls = if proxy.is_some() { Arc::new(proxy_tls) } else { Arc::clone(&tls) };
        Self { direct: DirectConnector { tcp, tls: first_hop_tls }, tls, proxy }
    }
}

impl Service<Uri> for BackendConnector {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let Some(ProxyTarget { uri: proxy, authorization }) = self.proxy.clone() else {
            return self.direct.call(uri);
        };
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let connecting = self.direct.call(proxy);
            return Box::pin(async move {
                let stream = connecting.await?.into_inner();
                Ok(TokioIo::new(Stream { uses_forward_proxy: true, ..stream }))
            });
        }
        let mut tunnel = Tunnel::new(proxy, self.direct.clone());
        if let Some(authorization) = authorization {
            tunnel = tunnel.with_auth(authorization);
        }
        let tls = Arc::clone(&self.tls);
        Box::pin(async move {
            let stream = tunnel.call(uri.clone()).await?.into_inner();
            Ok(TokioIo::new(stream.with_tls(&uri, tls).await?))
        })
    }
}

impl Service<Uri> for DirectConnector {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let connecting = self.tcp.call(uri.clone());
        let tls = (uri.scheme() == Some(&Scheme::HTTPS)).then(|| Arc::clone(&self.tls));
        Box::pin(async move {
            let stream = Stream::new(Box::new(connecting.await?.into_inner()));
            Ok(TokioIo::new(match tls {
                Some(tls) => stream.with_tls(&uri, tls).await?,
                None => stream,
            }))
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open connection. It yields after a few reads and fails on a flood.
pub(super) struct Stream {
    io: Box<dyn Io>,
    /// The peer is a proxy that forwards requests.
    uses_forward_proxy: bool,
    /// HTTP/2 was negotiated.
    is_http2: bool,
    reads_in_a_row: usize,
    /// Bytes since the last write.
    read: usize,
}

impl Stream {
    fn new(io: Box<dyn Io>) -> Self {
        Self { io, uses_forward_proxy: false, is_http2: false, reads_in_a_row: 0, read: 0 }
    }

    async fn with_tls(self, uri: &Uri, tls: Arc<ClientConfig>) -> Result<Self, BoxError> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(InvalidServerName)?;
        // Only plaintext is counted.
        let stream = TlsConnector::from(tls).connect(name, self.io).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Self { is_http2, ..Self::new(Box::new(stream)) })
    }

    fn reset_after_write(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.read = 0;
        }
        written
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.uses_forward_proxy);
        if self.is_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads_in_a_row == READS_IN_A_ROW {
            self.reads_in_a_row = 0;
            // Wakes this task after the runtime has polled timers and sockets.
            return pin!(tokio::task::yield_now()).poll(context).map(Ok);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_pending() {
            self.reads_in_a_row = 0;
            return read;
        }
        self.reads_in_a_row += 1;
        self.read = self.read.saturating_add(buffer.filled().len() - before);
        if self.read > READ_LIMIT { Poll::Ready(Err(io::Error::other(Flood))) } else { read }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.reset_after_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.reset_after_write(written)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A connection that always has something to read.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(&vec![0; buffer.remaining()]);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn read(stream: &mut Stream, length: usize) -> Poll<io::Result<()>> {
        let mut bytes = vec![0; length];
        poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut bytes);
            Poll::Ready(Pin::new(&mut *stream).poll_read(context, &mut buffer))
        })
        .await
    }

    #[tokio::test]
    async fn endless_reads_yield() {
        let mut stream = Stream::new(Box::new(Endless));
        for _ in 0..3 {
            for _ in 0..READS_IN_A_ROW {
                assert!(matches!(read(&mut stream, 1).await, Poll::Ready(Ok(()))));
            }
            assert!(read(&mut stream, 1).await.is_pending());
        }
    }

    #[tokio::test]
    async fn flood_without_write_is_an_error() {
        let mut stream = Stream::new(Box::new(Endless));
        assert!(matches!(read(&mut stream, READ_LIMIT).await, Poll::Ready(Ok(()))));
        poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"request"))
            .await
            .expect("it is written");
        assert!(matches!(read(&mut stream, READ_LIMIT).await, Poll::Ready(Ok(()))));
        assert!(matches!(read(&mut stream, 1).await, Poll::Ready(Err(_))));
    }
}
