//! A port that can be made to answer nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Protocol;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// More than a connection to an address of this machine takes.
const FILL_TIMEOUT: Duration = Duration::from_millis(100);

/// A listener and the task that accepts from it. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Port {
    protocol: Protocol,
    listener: Arc<TcpListener>,
    accepting: JoinHandle<()>,
    /// While it is plugged.
    filler: Option<TcpStream>,
}

impl Port {
    /// Listens. `accept` is what is done with the listener.
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

    /// Closes it; connections are refused from then on.
    pub(super) async fn close(mut self) {
        self.stop_accepting().await;
    }

    /// From now on no connection is made. Linux answers no SYN while the queue of connections to accept is full, and
    /// one of the length nought is full with one.
    pub(super) async fn plug(&mut self) -> io::Result<()> {
        self.stop_accepting().await;
        SockRef::from(&*self.listener).listen(0)?;
        let filler = tokio::time::timeout(FILL_TIMEOUT, TcpStream::connect(self.listener.local_addr()?));
        // If there is no answer, somebody else's connection has filled the queue.
        self.filler = filler.await.ok().transpose()?;
        Ok(())
    }

    /// Accepts again, also what has come before.
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
        // Its end is the point where it lets go of the listener.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
