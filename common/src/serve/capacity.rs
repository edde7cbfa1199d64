//! How many connections the system can support (stage 12's lasting form).

use crate::content::recent::{descriptors, most_open};
use crate::serve::log::log;

/// Returns the wanted number of connections, or the number that the system can support, if that is lower.
/// In that case the log says so.
pub(crate) fn fitting(wanted: usize) -> usize {
    raise_descriptors(EACH * wanted + others());
    let fitting = by_descriptors(others(), EACH).min(by_threads());
    told(wanted, fitting)
}

/// Returns the same for connections that have no threads of their own. Only a few of them store files at the same time.
pub(crate) fn fitting_without_threads(wanted: usize) -> usize {
    raise_descriptors(wanted + others() + BUSY);
    told(wanted, by_descriptors(others() + BUSY, 1))
}

/// Returns the smaller number. If fewer fit than are wanted, the log says so.
fn told(wanted: usize, fitting: usize) -> usize {
    let fitting = wanted.min(fitting).max(1);
    if fitting < wanted {
        log(format_args!(
            "serving {fitting} connections at most, not {wanted}: the system has no more descriptors \
             or threads for this program (see ulimit -n)"
        ));
    }
    fitting
}

/// How many descriptors a connection can take: its own, and two more while a file is stored in a folder.
const EACH: usize = 3;

/// How many descriptors are for files that are stored, and the like, when few connections do that at the same time.
const BUSY: usize = 600;

/// How many descriptors are for the listener, the log, two directories and the files that they keep open, and the like.
fn others() -> usize {
    24 + 2 * most_open()
}

/// Returns how many connections the limit on descriptors allows, if each takes so many.
fn by_descriptors(others: usize, each: usize) -> usize {
    descriptors().saturating_sub(others) / each
}

/// Asks the system for this many descriptors. Many systems allow a program more than it has at first.
#[cfg(unix)]
fn raise_descriptors(wanted: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = wanted as u64;
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        if now < wanted {
            // If it fails, there are fewer, as at first.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(most), most);
        }
    }
}

#[cfg(not(unix))]
fn raise_descriptors(_: usize) {}

/// Returns how many connections the limit on memory mappings allows, with a thread for each. A thread
/// takes four mappings: its stack, the stack for its signals, and a guard for each. If a new thread finds
/// none left, the whole program ends.
#[cfg(target_os = "linux")]
fn by_threads() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let most = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(65_530_usize);
    most.saturating_sub(1_000) / 4
}

#[cfg(not(target_os = "linux"))]
fn by_threads() -> usize {
    usize::MAX
}
