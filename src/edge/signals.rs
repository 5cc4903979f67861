//! Signals to the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, by which container platforms and some paths of Lambda end a process.
#[derive(Debug, Default)]
pub struct Termination(Handler);

#[derive(Debug, Default)]
enum Handler {
    #[default]
    NotInstalled,
    Installed(Signal),
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
                    self.0 = signal(SignalKind::terminate()).map_or(Handler::Spent, Handler::Installed);
                }
                Handler::Installed(signal) => {
                    // It ends with the runtime only.
                    let came = signal.recv().await.is_some();
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
