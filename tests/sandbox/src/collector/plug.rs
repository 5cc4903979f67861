//! A port that exists and answers nobody.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Holds a port on which no connection is ever made.
///
/// Linux answers no SYN while the queue of connections to accept is full, and a queue of the length nought is full with one.
#[derive(Debug)]
pub(super) struct Plug {
    _listener: TcpListener,
    _filler: TcpStream,
}

impl Plug {
    pub(super) async fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // The collector's own connections of before may still be open on this port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(0)?;
        let filler = TcpStream::connect(address).await?;
        Ok(Self { _listener: listener, _filler: filler })
    }
}
