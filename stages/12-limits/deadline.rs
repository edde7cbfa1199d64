//! A time limit for a whole request, however many pieces it comes in.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use common::{Client, Refused, Stream};

/// A body may be as slow as 1,000 bytes in a second, and no slower.
const TIME_PER_BYTE: Duration = Duration::from_millis(1);

const TOO_SLOW: Refused = Refused { status: 408, why: "the request took too long to arrive" };

/// A client that has time up to a certain moment.
pub struct Deadline<'c> {
    client: &'c Client,
    time: Duration,
    /// How much longer the client has for each byte that comes.
    per_byte: Duration,
    at: Instant,
}

impl<'c> Deadline<'c> {
    /// Gives the client this time from now on.
    pub fn new(client: &'c Client, time: Duration) -> Deadline<'c> {
        Deadline { client, time, per_byte: Duration::ZERO, at: Instant::now() + time }
    }

    /// Gives the client this time, and a little more for each byte that comes.
    pub fn for_a_body(client: &'c Client, time: Duration) -> Deadline<'c> {
        Deadline { per_byte: TIME_PER_BYTE, ..Deadline::new(client, time) }
    }
}

impl Read for Deadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.at.saturating_duration_since(Instant::now());
        self.client.limit_reads(left)?; // for a millisecond at least: what is there is taken
        let count = match self.client.read(buffer) {
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(TOO_SLOW.into()),
            read => read?,
        };
        let earned = self.per_byte * u32::try_from(count).unwrap_or(u32::MAX);
        self.at = (self.at + earned).min(Instant::now() + self.time);
        Ok(count)
    }
}

// What is written, such as `100 Continue`, goes to the client as it is.
impl Write for Deadline<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.client.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.client.flush()
    }
}

impl Stream for Deadline<'_> {}
