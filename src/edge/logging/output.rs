//! Standard output that never holds the extension up: a pipe that nobody reads costs lines, not `/next`.
//!
//! A thread writes; it starts with the first line, since most cold starts write none. A line waits for it for a moment, so
//! that it is out before the environment is frozen, and those moments are counted: a pipe that is full costs
//! [`WAIT`] times [`WAITS_MOST`] in the whole life of the process. Beyond the queue lines are dropped, counted, and their
//! number is logged once the pipe is read again.
//!
//! O_NONBLOCK would change the pipe for the runtime as well if both share it. To poll the pipe before each write would be
//! simpler than a thread, but another process may fill the pipe between poll and write, and then the write blocks.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, ThreadId};
use std::time::Duration;

/// The most lines and bytes that wait for the thread.
const LINES_MOST: usize = 64;
const BYTES_MOST: usize = 64 << 10;
/// The time for a line to be written before the extension goes on.
const WAIT: Duration = Duration::from_millis(20);
/// The number of times that wait may pass in vain. More than one, since a small function's share of the CPU pauses for as
/// long.
const WAITS_MOST: u32 = 5;
/// Enough to write, and to format the one line of its own.
const STACK: usize = 64 << 10;

/// The process's standard output.
static STANDARD: Output = Output::new(|| Box::new(io::stdout()));

/// A queue of lines and the thread behind it.
pub(super) struct Output {
    open: fn() -> Box<dyn Write>,
    state: Mutex<State>,
    /// There is a line to write.
    pending: Condvar,
    /// All lines are written.
    written: Condvar,
}

struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread, once it runs.
    writer: Option<ThreadId>,
    /// The thread has a line in its hands.
    is_writing: bool,
    /// A line was not written in time, and the queue has not been empty since.
    is_stalled: bool,
    waits_left: u32,
    dropped: u64,
}

impl State {
    fn is_drained(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

/// Takes lines for standard output.
pub(super) struct Line;

impl Write for Line {
    /// Takes a whole line. It never fails: a line that is lost is counted.
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
        let state = State {
            lines: VecDeque::new(),
            bytes: 0,
            writer: None,
            is_writing: false,
            is_stalled: false,
            waits_left: WAITS_MOST,
            dropped: 0,
        };
        Self { open, state: Mutex::new(state), pending: Condvar::new(), written: Condvar::new() }
    }

    fn push(&'static self, line: &[u8]) {
        let mut state = self.lock();
        if state.writer.is_none() {
            let thread = Builder::new().name("log".to_owned()).stack_size(STACK);
            let Ok(thread) = thread.spawn(move || self.write_all((self.open)())) else {
                // The system has no thread to spare now; the next line tries again.
                state.dropped += 1;
                return;
            };
            state.writer = Some(thread.thread().id());
        }
        if state.lines.len() == LINES_MOST || state.bytes + line.len() > BYTES_MOST {
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
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.written.wait_timeout_while(state, limit, |state| !state.is_drained());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread: writes line after line to the end of the process.
    fn write_all(&self, mut out: Box<dyn Write>) {
        loop {
            let line = self.next_line();
            // An output that fails for good would fail for a line about it, too.
            let _ = out.write_all(&line).and_then(|()| out.flush());
            if let Some(dropped) = self.line_written() {
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

    /// Takes note of it; returns the number of dropped lines, if there are any and the queue is empty.
    fn line_written(&self) -> Option<u64> {
        let mut state = self.lock();
        state.is_writing = false;
        if !state.lines.is_empty() {
            return None;
        }
        state.is_stalled = false;
        let dropped = std::mem::take(&mut state.dropped);
        // Woken earlier, they would wait for the lock.
        drop(state);
        self.written.notify_all();
        (dropped > 0).then_some(dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};

    use super::*;
    use crate::core::config::Log;
    use crate::edge::logging::lines;

    struct LineOf(&'static Output);

    impl Write for LineOf {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.push(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Whoever writes to it waits for ever.
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

    /// An output with its thread, which writes there.
    fn output(out: impl Write + Send + 'static) -> &'static Output {
        let output: &Output = Box::leak(Box::new(Output::new(|| Box::new(io::sink()))));
        let thread = thread::spawn(move || {
            let log = Log { level: "info".to_owned(), json: false };
            let lines = lines(&log, || LineOf(output));
            tracing::dispatcher::with_default(&lines, || output.write_all(Box::new(out)));
        });
        output.lock().writer = Some(thread.thread().id());
        output
    }

    #[test]
    fn line_is_out_when_push_returns() {
        let (mut reader, writer) = pipe().unwrap();
        let output = output(writer);
        output.push(b"a line\n");
        output.drain(Duration::from_mins(1));
        let mut bytes = [0; 7];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        assert_eq!(&bytes, b"a line\n");
    }

    #[test]
    fn lines_that_find_no_room_are_counted() {
        const LINES: usize = 200;
        let (reader, writer) = pipe().unwrap();
        let output = output(writer);
        let line = [[b'.'; 4095].as_slice(), b"\n"].concat();
        for _ in 0..LINES {
            output.push(&line);
        }
        let (mut whole, mut dropped) = (0, 0);
        let mut lines = BufReader::new(reader).lines();
        // The last line is logged once all others are read.
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
    fn full_pipe_is_waited_for_a_few_times_only() {
        let output = output(Blocked);
        for _ in 0..2 * LINES_MOST {
            output.push(b"a line\n");
            // As if all had been written meanwhile.
            output.lock().is_stalled = false;
        }
        output.drain(Duration::ZERO);
        let state = output.lock();
        assert_eq!((state.waits_left, state.lines.len()), (0, LINES_MOST));
    }
}
