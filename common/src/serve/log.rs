//! The log, which goes to stderr and never stops the service (stage 0).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::panic;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::transport::client::Client;

/// The most bytes that wait to be written. What comes when there are more is dropped, and counted.
const MOST_WAITING: usize = 256 * 1024;

/// After it has written something, the log waits so long for more, to write all of that together.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the end of the program waits for the log.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The lines that are to be written, and the thread that does it.
struct Log {
    state: Mutex<State>,
    /// Signalled when there is something to write.
    has_lines: Condvar,
    /// Signalled when everything has been written.
    is_written: Condvar,
}

struct State {
    lines: String,
    dropped: usize,
    writer: Writer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// There is no such thread yet.
    Missing,
    /// It waits until there is something to write.
    Waiting,
    /// It writes, or will look again soon.
    Working,
}

static LOG: Log = Log {
    state: Mutex::new(State { lines: String::new(), dropped: 0, writer: Writer::Missing }),
    has_lines: Condvar::new(),
    is_written: Condvar::new(),
};

/// Writes a line to stderr, soon. It waits for nobody: a thread of its own does the writing, and if
/// nobody reads stderr, lines are dropped, counted, and the number is said when somebody does.
///
/// ```
/// common::log(format_args!("{} clients", 3));
/// ```
pub fn log(message: impl Display) {
    let mut state = LOG.lock();
    if state.lines.len() > MOST_WAITING {
        state.dropped += 1;
        return;
    }
    let _ = writeln!(state.lines, "{message}");
    match state.writer {
        Writer::Working => {}
        Writer::Waiting => LOG.has_lines.notify_one(),
        Writer::Missing => state.start_writer(),
    }
}

/// Writes what is said about panics to the log, too: written straight to stderr, it could wait for ever.
pub(crate) fn panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        log(format_args!("{panic}{backtrace}"));
        if thread.name() == Some("main") {
            flush(); // it may be the end of the program
        }
    }));
}

/// Waits until all lines have been written, but not for long: for the end of the program.
pub(crate) fn flush() {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    let mut state = LOG.lock();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_done = state.lines.is_empty() && state.writer != Writer::Working;
        if is_done || left.is_zero() {
            return;
        }
        let waited = LOG.is_written.wait_timeout(state, left);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    }
}

impl State {
    fn start_writer(&mut self) {
        let thread = thread::Builder::new().name("log".to_owned());
        match thread.spawn(write_lines) {
            Ok(_) => self.writer = Writer::Working,
            Err(_) => self.drop_all(), // perhaps there is a thread for the next line
        }
    }

    fn drop_all(&mut self) {
        self.dropped += self.lines.lines().count();
        self.lines.clear();
    }

    /// All that is to be written now.
    fn take(&mut self) -> String {
        let mut lines = std::mem::take(&mut self.lines);
        if self.dropped > 0 {
            let _ = writeln!(lines, "{} lines of this log were dropped", self.dropped);
            self.dropped = 0;
        }
        lines
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to write.
    fn next_lines(&self) -> String {
        let mut state = self.lock();
        while state.lines.is_empty() {
            state.writer = Writer::Waiting;
            self.is_written.notify_all();
            state = self.has_lines.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer = Writer::Working;
        state.take()
    }
}

/// Writes lines as they come, as long as the program runs. If nobody can read stderr any more, so be it:
/// a server outlives the terminal or the pipe that its log went to.
fn write_lines() {
    loop {
        let lines = LOG.next_lines();
        if !cfg!(test) {
            let _ = io::stderr().write_all(lines.as_bytes()); // unit tests say enough themselves
        }
        thread::sleep(PAUSE);
    }
}

impl Client {
    /// Writes a line to stderr that starts with the client's address. See [`log`].
    pub fn log(&self, message: impl Display) {
        log(format_args!("{} {message}", self.peer()));
    }
}
