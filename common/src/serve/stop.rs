//! The signals that ask a program to end, which are not part of the lesson (from stage 1).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Calls `stop` in a separate thread each time the program is asked to end: with Ctrl-C, or by the
/// signal SIGTERM or SIGHUP. A signal that was ignored when the program started stays ignored, as
/// `nohup` expects.
///
/// # Errors
///
/// When the system refuses the handlers or the thread.
pub fn on_stop(stop: impl Fn() + Send + 'static) -> io::Result<()> {
    on_signals(stop, None)
}

/// Whether a program is about to stop, and goes on until others know that. From stage 23.
#[derive(Debug, Clone, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Whether it has begun: no more requests should come here.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns a function that begins at its first call, and calls `stop` after this time; at its second call, `stop` is
    /// called at once, and at the third once more.
    pub(crate) fn before(
        &self,
        stop: impl Fn() + Send + Sync + 'static,
        time: Duration,
    ) -> impl Fn() + Send + Sync + 'static {
        let (draining, stop) = (Arc::clone(&self.0), Arc::new(stop));
        let has_stopped = Arc::new(AtomicBool::new(false));
        let is_second = AtomicBool::new(time.is_zero());
        move || {
            if draining.swap(true, Ordering::Relaxed) || time.is_zero() {
                // If the time was over just now, this signal is not one more.
                let is_first = !has_stopped.swap(true, Ordering::Relaxed);
                let is_urgent = is_second.swap(true, Ordering::Relaxed);
                if is_first || is_urgent {
                    stop();
                }
                return;
            }
            let (later, has_stopped) = (Arc::clone(&stop), Arc::clone(&has_stopped));
            let wait = move || {
                thread::sleep(time);
                if !has_stopped.swap(true, Ordering::Relaxed) {
                    later();
                }
            };
            if thread::Builder::new().spawn(wait).is_err() {
                stop();
            }
        }
    }
}

/// What is done at the signal SIGHUP.
pub(crate) type AtHangup = Box<dyn Fn() + Send + Sync>;

/// Calls `stop` as [`on_stop`] does, but if there is something else to do at SIGHUP, does that. From stage 23.
#[cfg(unix)]
pub(crate) fn on_signals(
    stop: impl Fn() + Send + 'static,
    at_hangup: Option<AtHangup>,
) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    let mut signals = signal_hook::iterator::Signals::new(heeded)?;
    let wait = move || {
        signals.forever().for_each(|signal| match &at_hangup {
            Some(call) if signal == SIGHUP => call(),
            _ => stop(),
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Whether a signal was ignored when the program was started.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// On other systems there is no way to ask. The signal that `nohup` ignores is left alone: it ends the
/// program at once, or not at all.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_ignored(signal: i32) -> bool {
    signal == signal_hook::consts::SIGHUP
}

#[cfg(windows)]
pub(crate) fn on_signals(stop: impl Fn() + Send + 'static, _: Option<AtHangup>) -> io::Result<()> {
    ctrlc::set_handler(stop).map_err(io::Error::other)
}

/// Lets a write fail with an error if a file grows beyond the user's limit. Otherwise the signal SIGXFSZ
/// would end the program.
#[cfg(unix)]
pub(crate) fn survive_large_files() {
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

#[cfg(not(unix))]
pub(crate) fn survive_large_files() {}
