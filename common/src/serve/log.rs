//! The log, which goes to stderr and never blocks the service (stage 0).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::panic;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::message::quoted::quoted;
use crate::message::timestamp::rfc3339;
use crate::serve::clock::milliseconds;
use crate::transport::client::Client;

/// The most bytes that wait to be written. While there are more, new lines are dropped and counted.
const MAX_WAITING: usize = 256 * 1024;

/// How long the log waits for more lines after a write, to write all of them together.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the program waits for the log when it ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The format of the lines in the log. From stage 17.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, address, request line and status.
    #[default]
    Plain,
    /// The format of Apache and nginx, which many programs read.
    Combined,
    /// A JSON object in each line.
    Json,
    /// `name=value` for each field.
    Logfmt,
    /// No lines about requests.
    Off,
}

/// The format of lines that are not about a request. Without one, they have no time.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// From now on, lines that are not about a request have a time, and this format.
pub(crate) fn set_format(format: LogFormat) {
    let _ = FORMAT.set(format); // whoever comes first
}

/// A line that is not about a request, in a format.
fn line(format: LogFormat, message: &str) -> String {
    let time = rfc3339(milliseconds());
    match format {
        LogFormat::Json => format!("{{\"time\":\"{time}\",\"message\":{}}}", quoted(message)),
        LogFormat::Logfmt => format!("time=\"{time}\" message={}", quoted(message)),
        LogFormat::Plain | LogFormat::Combined | LogFormat::Off => format!("{time} {message}"),
    }
}

/// The lines to be written, and the state of the thread that writes them.
struct Log {
    state: Mutex<State>,
    /// Signalled when there are lines to write.
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
    /// The thread has not been started.
    Missing,
    /// The thread waits for lines.
    Waiting,
    /// The thread writes, or will look for lines again soon.
    Working,
}

static LOG: Log = Log {
    state: Mutex::new(State { lines: String::new(), dropped: 0, writer: Writer::Missing }),
    has_lines: Condvar::new(),
    is_written: Condvar::new(),
};

/// Writes a line to stderr soon, and never blocks its caller: a separate thread does the writing. If
/// stderr is not read, lines are dropped and counted. Their number is logged once stderr is read again.
///
/// ```
/// common::log(format_args!("{} clients", 3));
/// ```
pub fn log(message: impl Display) {
    match FORMAT.get() {
        None => write(message),
        Some(format) => write(line(*format, &message.to_string())),
    }
}

/// Writes a line as it is, as [`log`] does.
pub(crate) fn write(line: impl Display) {
    let mut state = LOG.lock();
    if state.lines.len() > MAX_WAITING {
        state.dropped += 1;
        return;
    }
    let _ = writeln!(state.lines, "{line}"); // to memory, so it does not fail
    match state.writer {
        Writer::Working => {}
        Writer::Waiting => LOG.has_lines.notify_one(),
        Writer::Missing => state.start_writer(),
    }
}

/// Writes the messages of panics to the log as well: written straight to stderr, they could block
/// forever.
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
            flush(); // the program may end here
        }
    }));
}

/// Waits until all lines have been written, for up to [`FLUSH_TIMEOUT`]: for the end of the program.
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
            Err(_) => self.drop_all(), // the next line tries again to start a thread
        }
    }

    fn drop_all(&mut self) {
        self.dropped += self.lines.lines().count();
        self.lines.clear();
    }

    /// Takes the lines to be written now, and the number of dropped ones.
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

    /// Waits for lines to write, and takes them.
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

/// Writes lines as they come, while the program runs. Errors of stderr are ignored: a server outlives
/// the terminal or the pipe that its log went to.
fn write_lines() {
    loop {
        let lines = LOG.next_lines();
        if !cfg!(test) {
            let _ = io::stderr().write_all(lines.as_bytes()); // unit tests print enough themselves
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
