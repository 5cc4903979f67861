//! A port that can be made to answer no packets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Protocol;

/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Longer than a connection to an address of this machine takes.
const FILL_TIMEOUT: Duration = Duration::from_millis(100);

/// A listener and the task that accepts from it. When dropped, it is closed.
#[derive(Debug)]
pub(super) struct Port {
    protocol: Protocol,
    listener: Arc<TcpListener>,
    accepting: JoinHandle<()>,
    /// The connection that fills the accept queue while the port is plugged.
    filler: Option<TcpStream>,
}

impl Port {
    /// Listens, and runs `accept` with the listener.
    pub(super) async fn open<F>(
        address: SocketAddr,
        protocol: Protocol,
        accept: impl FnOnce(Arc<TcpListener>, Protocol) -> F,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = Arc::new(TcpListener::bind(address).await?);
        let accepting = tokio::spawn(accept(Arc::clone(&listener), protocol));
        Ok(Self { protocol, listener, accepting, filler: None })
    }

    /// Closes the port; connections are refused from then on.
    pub(super) async fn close(mut self) {
        self.stop_accepting().await;
    }

    /// Prevents new connections from now on. Linux answers no SYN while the accept queue is full, and a queue of length zero is
    /// full with one connection.
    pub(super) async fn plug(&mut self) -> io::Result<()> {
        self.stop_accepting().await;
        SockRef::from(&*self.listener).listen(0)?;
        let filler = tokio::time::timeout(FILL_TIMEOUT, TcpStream::connect(self.listener.local_addr()?));
        // If there is no answer, another client's connection has filled the queue.
        self.filler = filler.await.ok().transpose()?;
        Ok(())
    }

    /// Accepts connections again, including those already waiting.
    pub(super) fn unplug<F>(&mut self, accept: impl FnOnce(Arc<TcpListener>, Protocol) -> F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.accepting.is_finished() {
            SockRef::from(&*self.listener).listen(BACKLOG)?;
            self.filler = None;
            self.accepting = tokio::spawn(accept(Arc::clone(&self.listener), self.protocol));
        }
        Ok(())
    }

    async fn stop_accepting(&mut self) {
        self.accepting.abort();
        // The task holds the listener until it ends.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
