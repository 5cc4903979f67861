//! A server that is not a collector.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The server's behaviour on a connection.
#[derive(Clone, Copy)]
pub(crate) enum Server {
    /// Writes this once it has read something.
    Answers(&'static str),
    /// Writes this at once.
    Begins(&'static [u8]),
}

/// Starts the server for the rest of the test; returns its endpoint.
pub(crate) async fn serve(server: Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                match server {
                    Server::Answers(answer) => {
                        let _ = stream.read(&mut read).await?;
                        stream.write_all(answer.as_bytes()).await?;
                    }
                    Server::Begins(greeting) => stream.write_all(greeting).await?,
                }
                stream.shutdown().await?;
                // What is left unread would make the system cut the answer short.
                while stream.read(&mut read).await? > 0 {}
                Ok::<_, std::io::Error>(())
            });
        }
    });
    format!("http://{address}")
}
