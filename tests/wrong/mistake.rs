//! Which mistake a wrong server makes.

use std::env;
use std::sync::OnceLock;

/// Whether this is the mistake that was chosen with `MISTAKE`.
pub fn is(name: &str) -> bool {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| env::var("MISTAKE").unwrap_or_default()) == name
}
