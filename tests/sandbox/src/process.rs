//! A child process: it can be started, stopped, continued and killed, and its output is read line by line.
//!
//! One task owns the child and is the only one to signal it, so a signal never reaches another process that reuses the id of a
//! reaped child. The child leads its own process group, and signals are sent to the group: a command may be a shell that runs
//! the function.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock;
use crate::extension::Stdout;

/// The maximum wait for output after the exit: a grandchild may hold the pipe forever.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A running child. When dropped, it is killed with its group.
#[derive(Debug)]
pub(crate) struct Process {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

/// A handle to a process, for code that does not own it. The process may have ended.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pid: Pid,
    orders: mpsc::Sender<Order>,
}

type Order = (Signal, oneshot::Sender<()>);

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its status.
    pub status: ExitStatus,
    /// The time its end was noticed.
    pub at: Instant,
}

impl Exit {
    /// The text for humans: `exit status: 1`, `signal 9`.
    pub fn text(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => self.status.to_string(),
        }
    }
}

impl Process {
    /// Starts a command. `on_line` gets each line of output, `on_exit` is called once, after the last line.
    pub(crate) fn spawn(
        mut command: Command,
        stdout: Stdout,
        on_line: impl Fn(String) + Clone + Send + 'static,
        on_exit: impl FnOnce(Exit) + Send + 'static,
    ) -> io::Result<Self> {
        let (piped, unread) = match stdout {
            Stdout::Read => (Stdio::piped(), None),
            Stdout::Unread => {
                let (pipe, reader) = full_pipe()?;
                (pipe.into(), Some(reader))
            }
        };
        command.stdin(Stdio::null()).stdout(piped).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = Pid::from_raw(id.ok_or_else(|| io::Error::other("the child has no process id"))?);
        let mut readers = JoinSet::new();
        // Our copy would keep the pipe open.
        drop(command);
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(read_lines(stdout, on_line.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(read_lines(stderr, on_line));
        }
        let (orders, inbox) = mpsc::channel(8);
        let owned = own(Group(pid), child, inbox, readers, on_exit);
        let task = tokio::spawn(async move {
            owned.await;
            drop(unread);
        });
        Ok(Self { handle: Handle { pid, orders }, task })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Handle {
    /// Sends a signal to the group. Does nothing if the child has ended.
    pub(crate) async fn signal(&self, signal: Signal) {
        let (done, sent) = oneshot::channel();
        if self.orders.send((signal, done)).await.is_ok() {
            let _ = sent.await;
        }
    }

    /// Stops the group, and returns once the child is stopped.
    pub(crate) async fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP).await;
        let pid = self.pid;
        let stands = tokio::task::spawn_blocking(move || {
            let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(pid), flags) {
                // No such child: it has ended and was reaped, so nothing is left to stop.
                Ok(_) | Err(Errno::ECHILD) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        stands.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Continues the group.
    pub(crate) async fn thaw(&self) {
        self.signal(Signal::SIGCONT).await;
    }

    /// Waits until the child has ended and its output was passed on or given up.
    pub(crate) async fn ended(&self) {
        self.orders.closed().await;
    }

    /// The resident memory of the child, in bytes. None once it has ended.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The peak resident memory of the child, in bytes. None once it has ended.
    pub(crate) fn peak_resident_bytes(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    /// The CPU time of all its threads, including ended ones, to the nanosecond. None once it has ended.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let time = clock_gettime(clock_getcpuclockid(self.pid).ok()?).ok()?;
        Some(Duration::from(time))
    }

    fn memory(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A process group that does not outlive its owner.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // The group may be gone already, as intended.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

async fn own(
    group: Group,
    mut child: Child,
    mut inbox: mpsc::Receiver<Order>,
    mut readers: JoinSet<()>,
    on_exit: impl FnOnce(Exit),
) {
    let status = loop {
        tokio::select! {
            biased;
            Some((signal, done)) = inbox.recv() => {
                let _ = killpg(group.0, signal);
                let _ = done.send(());
            }
            status = child.wait() => break status,
        }
    };
    let at = clock::now();
    drop(group);
    // The pipes close with the last process that holds them; then every line has been passed on.
    let _ = tokio::time::timeout(LAST_OUTPUT, async { while readers.join_next().await.is_some() {} }).await;
    if let Ok(status) = status {
        on_exit(Exit { status, at });
    }
}

/// A full pipe, and its read end.
fn full_pipe() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (sender, receiver) = pipe::pipe()?;
    while sender.try_write(&[b'.'; 4096]).is_ok() {}
    Ok((sender.into_blocking_fd()?, receiver))
}

async fn read_lines(pipe: impl AsyncRead + Unpin, on_line: impl Fn(String)) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    // Bytes, not `lines()`: a line that is not UTF-8 must not end the loop.
    while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        on_line(text.trim_end_matches(['\n', '\r']).to_owned());
        line.clear();
    }
}
