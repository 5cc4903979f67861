//! Signals to the process.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use signal_hook::consts::SIGTERM;
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// SIGTERM, by which container platforms and some paths of Lambda end a process.
#[derive(Debug, Default)]
pub struct Termination(Handler);

#[derive(Debug, Default)]
enum Handler {
    #[default]
    NotInstalled,
    /// The signal writes a byte into the other end. tokio's own signals would make a channel for each signal there is at
    /// every cold start.
    Installed(UnixStream),
    /// The signal has come, or the system gives no handler.
    Spent,
}

impl Termination {
    /// Waits for the first SIGTERM; any further one is ignored. The first poll installs the handler, so that a start pays
    /// nothing for it; before that poll SIGTERM ends the process, as ever.
    pub async fn received(&mut self) {
        loop {
            match &mut self.0 {
                Handler::NotInstalled => {
                    self.0 = install().map_or(Handler::Spent, Handler::Installed);
                }
                Handler::Installed(signals) => {
                    let came = signals.read_u8().await.is_ok();
                    self.0 = Handler::Spent;
                    if came {
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
