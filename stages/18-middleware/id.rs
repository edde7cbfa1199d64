//! A name for each request, by which its line in the log can be found.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of this run of the program, which is random, and the number of the request in it.
pub fn new() -> String {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    format!("{:x}-{:x}", *RUN, REQUESTS.fetch_add(1, Ordering::Relaxed))
}
