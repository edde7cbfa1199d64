//! Shows what `cargo next` is doing while something takes a long time.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Work that takes less time than this is not shown.
const SHORT: Duration = Duration::from_secs(1);

/// The time between two updates of the line.
const PAUSE: Duration = Duration::from_millis(250);

/// Does some work. In a terminal, a line shows what the work is and how long it has taken, until it is done.
pub(crate) fn show<T: Send>(what: impl Fn() -> String, work: impl FnOnce() -> T + Send) -> T {
    let is_watched = io::stdout().is_terminal();
    let start = Instant::now();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || sender.send(work()));
        loop {
            match receiver.recv_timeout(PAUSE) {
                Ok(done) => {
                    if is_watched && start.elapsed() > SHORT {
                        print("");
                    }
                    return done;
                }
                Err(RecvTimeoutError::Timeout) if is_watched && start.elapsed() > SHORT => {
                    print(&format!("  ..  {} ({} s)", what(), start.elapsed().as_secs()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the work has panicked"),
            }
        }
    })
}

/// Replaces the line of the cursor.
fn print(line: &str) {
    let mut out = io::stdout();
    let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
}
