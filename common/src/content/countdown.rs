//! A countdown: a body that takes its time (stage 13's lasting form).

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

/// The largest number that a countdown begins with.
const MAX_COUNT: u32 = 60;

/// Numbers on lines, a second apart: 3, 2, 1.
#[derive(Debug)]
pub struct Countdown {
    from: u32,
    next: u32,
}

impl Countdown {
    /// A countdown from a number between 1 and 60; `None` for anything else.
    pub fn from(digits: &str) -> Option<Countdown> {
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let from =
            digits.parse().ok().filter(|from| is_number && (1..=MAX_COUNT).contains(from))?;
        Some(Countdown { from, next: from })
    }
}

impl Read for Countdown {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.next == 0 {
            return Ok(0);
        }
        if self.next < self.from {
            thread::sleep(Duration::from_secs(1));
        }
        let line = format!("{}\n", self.next);
        self.next -= 1;
        line.as_bytes().read(buffer)
    }
}
