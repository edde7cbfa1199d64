//! How many connections the system can bear (stage 12's lasting form).

use crate::serve::log::log;

/// So many connections, or as many as the system can bear, if that is fewer: then the log says so.
pub(crate) fn fitting(wanted: usize) -> usize {
    let fitting = wanted.min(by_descriptors()).min(by_threads()).max(1);
    if fitting < wanted {
        log(format_args!(
            "serving {fitting} connections at most, not {wanted}: the system has no more descriptors \
             or threads for this program (see ulimit -n)"
        ));
    }
    fitting
}

/// A connection takes a descriptor, and a file that is sent or stored another one. Some are left for the
/// listener, the log, the directory, and the like.
#[cfg(unix)]
fn by_descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
    usize::try_from(most.saturating_sub(24) / 2).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
fn by_descriptors() -> usize {
    usize::MAX
}

/// A thread takes four areas of memory, for its stack and for that of its signals, each with a guard. One
/// that finds none left ends the whole program.
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
