//! Signals to the process.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use signal_hook::consts::SIGTERM;
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// SIGTERM, with which container platforms, and Lambda in some cases, end a process.
#[derive(Debug, Default)]
pub struct Termination(Handler);

#[derive(Debug, Default)]
enum Handler {
    #[default]
    NotInstalled,
    /// The signal handler writes a byte to the other end. tokio's signals would create a channel per signal at
    /// every cold start.
    Installed(UnixStream),
    /// The signal was received, or no handler could be installed.
    Spent,
}

impl Termination {
    /// Waits for the first SIGTERM; later ones are ignored. The first poll installs the handler, so startup
    /// does not pay for it. Until then, SIGTERM ends the process as usual.
    pub async fn received(&mut self) {
        loop {
            match &mut self.0 {
                Handler::NotInstalled => {
                    self.0 = install().map_or(Handler::Spent, Handler::Installed);
                }
                Handler::Installed(signals) => {
                    let was_received = signals.read_u8().await.is_ok();
                    self.0 = Handler::Spent;
                    if was_received {
                        return;
                    }
                }
                Handler::Spent => std::future::pending().await,
            }
        }
    }
}

fn install() -> io::Result<UnixStream> {
    let (signals, handler) = StdStream::pair()?;
    signals.set_nonblocking(true)?;
    let signals = UnixStream::from_std(signals)?;
    pipe::register(SIGTERM, handler)?;
    Ok(signals)
}
