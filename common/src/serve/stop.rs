//! The signals by which a program is asked to end, which are not the lesson (from stage 1).

use std::io;

/// Calls `stop` in a thread of its own each time that somebody asks the program to end: with Ctrl-C, or
/// by one of the signals SIGTERM and SIGHUP. A signal that is ignored when the program starts stays
/// ignored, as `nohup` wants it.
///
/// # Errors
///
/// When the system refuses.
pub fn on_stop(stop: impl Fn() + Send + 'static) -> io::Result<()> {
    listen(stop)
}

#[cfg(unix)]
fn listen(stop: impl Fn() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    let mut signals = signal_hook::iterator::Signals::new(heeded)?;
    let wait = move || signals.forever().for_each(|_| stop());
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Whether a signal was ignored when the program was started.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Elsewhere there is no way to ask. What `nohup` ignores is left alone: it ends the program at once, or
/// not at all.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_ignored(signal: i32) -> bool {
    signal == signal_hook::consts::SIGHUP
}

#[cfg(windows)]
fn listen(stop: impl Fn() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(stop).map_err(io::Error::other)
}

/// Has a file that grows beyond what the user may store be an error, and not the end of the program.
#[cfg(unix)]
pub(crate) fn survive_large_files() {
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

#[cfg(not(unix))]
pub(crate) fn survive_large_files() {}
