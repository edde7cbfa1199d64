//! The log, which goes to stderr.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to stderr. Unlike `eprintln!` it does not panic when nobody reads stderr any
/// more, so a server outlives the terminal or the pipe that its log went to.
pub fn log(message: impl Display) {
    let _ = io::stderr().write_all(format!("{message}\n").as_bytes());
}
