//! Standard output that never blocks the extension: a pipe that nobody reads costs lines, not `/next`.
//!
//! A thread writes the lines. It starts with the first line, because most cold starts write none. The caller of
//! each line waits briefly for the thread, so the line is out before the environment is frozen. These waits are
//! limited: a full pipe costs [`WAIT`] times [`MAX_WAITS`] in the whole life of the process. Lines that do not
//! fit in the queue are dropped and counted, and their number is logged once the pipe is read again.
//!
//! O_NONBLOCK would also change the pipe for the runtime if both share it. Polling the pipe before each write
//! would be simpler than a thread, but another process may fill the pipe between poll and write, and then the
//! write blocks.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, ThreadId};
use std::time::Duration;

/// The maximum number of queued lines and bytes.
const MAX_LINES: usize = 64;
const MAX_BYTES: usize = 64 << 10;
/// The maximum wait for a line to be written.
const WAIT: Duration = Duration::from_millis(20);
/// The number of waits that may time out. More than one, because a small function may be without CPU for as
/// long as one wait.
const MAX_WAITS: u32 = 5;
/// Enough to write lines, and to format the thread's own one.
const STACK_SIZE: usize = 64 << 10;

/// The process's standard output.
static STANDARD: Output = Output::new(|| Box::new(io::stdout()));

/// A queue of lines and the thread that writes them.
pub(super) struct Output {
    open: fn() -> Box<dyn Write>,
    state: Mutex<QueueState>,
    /// Signals that there is a line to write.
    pending: Condvar,
    /// Signals that all lines are written.
    written: Condvar,
}

struct QueueState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The writing thread, once it runs.
    writer: Option<ThreadId>,
    /// The thread is writing a line.
    is_writing: bool,
    /// A line was not written in time, and the queue has not been empty since.
    is_stalled: bool,
    waits_left: u32,
    dropped: u64,
}

impl QueueState {
    fn is_drained(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

/// Queues lines for standard output.
pub(super) struct LineWriter;

impl Write for LineWriter {
    /// Queues a whole line. It never fails: lost lines are counted.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STANDARD.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until all lines are written, for at most `limit`.
pub(super) fn drain(limit: Duration) {
    STANDARD.drain(limit);
}

impl Output {
    const fn new(open: fn() -> Box<dyn Write>) -> Self {
        let state = QueueState {
            lines: VecDeque::new(),
            bytes: 0,
            writer: None,
            is_writing: false,
            is_stalled: false,
            waits_left: MAX_WAITS,
            dropped: 0,
        };
        Self { open, state: Mutex::new(state), pending: Condvar::new(), written: Condvar::new() }
    }

    fn push(&'static self, line: &[u8]) {
        let mut state = self.lock();
        if state.writer.is_none() {
            let thread = Builder::new().name("log".to_owned()).stack_size(STACK_SIZE);
            let Ok(thread) = thread.spawn(move || self.write_all((self.open)())) else {
                // The system cannot start a thread now; the next line tries again.
                state.dropped += 1;
                return;
            };
            state.writer = Some(thread.thread().id());
        }
        if state.lines.len() == MAX_LINES || state.bytes + line.len() > MAX_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.pending.notify_one();
        if state.is_stalled || state.waits_left == 0 || state.writer == Some(thread::current().id()) {
            return;
        }
        let mut state = self.wait_until_drained(state, WAIT);
        if !state.is_drained() {
            state.is_stalled = true;
            state.waits_left -= 1;
        }
    }

    fn drain(&self, limit: Duration) {
        drop(self.wait_until_drained(self.lock(), limit));
    }

    fn wait_until_drained<'a>(
        &'a self,
        state: MutexGuard<'a, QueueState>,
        limit: Duration,
    ) -> MutexGuard<'a, QueueState> {
        let waited = self.written.wait_timeout_while(state, limit, |state| !state.is_drained());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread's loop: writes lines until the process ends.
    fn write_all(&self, mut out: Box<dyn Write>) {
        loop {
            let line = self.next_line();
            // If the output fails for good, so would a line about it.
            let _ = out.write_all(&line).and_then(|()| out.flush());
            if let Some(dropped) = self.mark_written() {
                let lines = if dropped == 1 { "line" } else { "lines" };
                tracing::warn!("dropped {dropped} log {lines}: standard output was not being read");
            }
        }
    }

    fn next_line(&self) -> Vec<u8> {
        let state = self.pending.wait_while(self.lock(), |state| state.lines.is_empty());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let line = state.lines.pop_front().unwrap_or_default();
        state.bytes -= line.len();
        state.is_writing = true;
        line
    }

    /// Marks a line as written. Returns the number of dropped lines, if there are any and the queue is empty.
    fn mark_written(&self) -> Option<u64> {
        let mut state = self.lock();
        state.is_writing = false;
        if !state.lines.is_empty() {
            return None;
        }
        state.is_stalled = false;
        let dropped = std::mem::take(&mut state.dropped);
        // Waiters that are woken before this would wait for the lock.
        drop(state);
        self.written.notify_all();
        (dropped > 0).then_some(dropped)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};

    use super::*;
    use crate::edge::logging::subscriber;
    use rotel_core::config::LogSettings;

    struct WriterTo(&'static Output);

    impl Write for WriterTo {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.push(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Blocks every writer forever.
    struct Blocked;

    impl Write for Blocked {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output whose thread writes to `out`.
    fn output(out: impl Write + Send + 'static) -> &'static Output {
        let output: &Output = Box::leak(Box::new(Output::new(|| Box::new(io::sink()))));
        let thread = thread::spawn(move || {
            let log = LogSettings { level: "info".to_owned(), json: false };
            let subscriber = subscriber(&log, || WriterTo(output));
            tracing::dispatcher::with_default(&subscriber, || output.write_all(Box::new(out)));
        });
        output.lock().writer = Some(thread.thread().id());
        output
    }

    #[test]
    fn line_is_written_before_push_returns() {
        let (mut reader, writer) = pipe().unwrap();
        let output = output(writer);
        output.push(b"a line\n");
        output.drain(Duration::from_mins(1));
        let mut bytes = [0; 7];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        assert_eq!(&bytes, b"a line\n");
    }

    #[test]
    fn dropped_lines_are_counted() {
        const LINES: usize = 200;
        let (reader, writer) = pipe().unwrap();
        let output = output(writer);
        let line = [[b'.'; 4095].as_slice(), b"\n"].concat();
        for _ in 0..LINES {
            output.push(&line);
        }
        let (mut whole, mut dropped) = (0, 0);
        let mut lines = BufReader::new(reader).lines();
        // The line about dropped lines is logged once all others are read.
        while whole + dropped < LINES || dropped == 0 {
            let read = lines.next().unwrap().unwrap();
            match read.strip_prefix(" WARN dropped ").and_then(|rest| rest.split_once(' ')) {
                Some((count, rest)) => {
                    assert!(rest.ends_with(": standard output was not being read"), "{read}");
                    dropped += count.parse::<usize>().unwrap();
                }
                None => whole += 1,
            }
        }
        assert_eq!(whole + dropped, LINES);
    }

    #[test]
    fn full_pipe_delays_only_a_few_lines() {
        let output = output(Blocked);
        for _ in 0..2 * MAX_LINES {
            output.push(b"a line\n");
            // As if all lines had been written meanwhile.
            output.lock().is_stalled = false;
        }
        output.drain(Duration::ZERO);
        let state = output.lock();
        assert_eq!((state.waits_left, state.lines.len()), (0, MAX_LINES));
    }
}
