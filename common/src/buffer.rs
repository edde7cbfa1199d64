//! The bytes that a client has sent so far (stage 2's lasting form).

use std::io::{self, Read};

use crate::Client;

/// The most bytes that a request's head may have, the blank line included.
pub const MAX_HEAD: usize = 16 * 1024;

/// What a [`Buffer`] starts with: enough for the head of nearly every request.
const FIRST_SIZE: usize = 4 * 1024;

/// Bytes that a client has sent and nobody has taken yet: a request's head, perhaps the beginning
/// of its body, perhaps requests after it. Grows as needed, up to [`MAX_HEAD`] bytes.
#[derive(Debug, Default)]
pub struct Buffer {
    storage: Vec<u8>,
    /// Where in the storage the bytes begin and end.
    start: usize,
    end: usize,
}

/// What is left over when a request has been answered: how many bytes of its buffer belonged to
/// it, and what has been read ahead after the last of them.
#[derive(Debug)]
pub struct Unused {
    pub(crate) taken: usize,
    pub(crate) ahead: Buffer,
}

impl Buffer {
    /// An empty buffer, which takes no memory yet.
    pub fn new() -> Buffer {
        Buffer::default()
    }

    /// The bytes that nobody has taken yet.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes away empty lines at the beginning, which some clients send after a body, and which are
    /// to be ignored (RFC 9112, section 2.2). Returns whether nothing else is there.
    pub fn has_no_request(&mut self) -> bool {
        while self.bytes().starts_with(b"\r\n") {
            self.consume(2);
        }
        self.is_empty() || self.bytes() == b"\r"
    }

    /// Takes away the first `length` bytes: they have been dealt with.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start = self.end.min(self.start + length);
    }

    /// Goes on with what comes after a request that was parsed from these bytes.
    pub fn go_on(&mut self, unused: Unused) {
        self.consume(unused.taken);
        if !unused.ahead.is_empty() {
            *self = unused.ahead;
        }
    }

    /// Gives memory back if there are no bytes and it has grown for earlier ones.
    pub fn give_back(&mut self) {
        if self.is_empty() && self.storage.len() > FIRST_SIZE {
            *self = Buffer::new();
        }
    }

    /// Waits until `source` has more bytes, and appends them: one read, one to many bytes.
    ///
    /// # Errors
    ///
    /// When `source` has ended or fails, and when the buffer already holds [`MAX_HEAD`] bytes.
    pub fn fill(&mut self, mut source: impl Read) -> io::Result<()> {
        self.make_room()?;
        match source.read(&mut self.storage[self.end..])? {
            0 if self.is_empty() => Err(ended("the client left without a request")),
            0 => Err(ended("the client left before its request was whole")),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    /// Moves the bytes to the beginning if that is free, and grows if it is not.
    fn make_room(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == MAX_HEAD {
            let sentence = format!("the head of the request is longer than {MAX_HEAD} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        if self.end == self.storage.len() {
            self.storage.resize((self.end * 2).clamp(FIRST_SIZE, MAX_HEAD), 0);
        }
        Ok(())
    }
}

fn ended(sentence: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, sentence)
}

/// Reads a request's head, which ends with a blank line, as text. What comes after it is
/// dropped; bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
///
/// When the client leaves or falls silent before the blank line, or sends more than [`MAX_HEAD`]
/// bytes without one.
pub fn read_head(client: &Client) -> io::Result<String> {
    let mut buffer = Buffer::new();
    loop {
        buffer.fill(client)?;
        if let Some(end) = end_of_head(buffer.bytes()) {
            return Ok(String::from_utf8_lossy(&buffer.bytes()[..end]).into_owned());
        }
    }
}

/// Where the head ends, just after its blank line, if `bytes` reach that far.
pub(crate) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn collects_what_arrives_in_pieces() {
        let mut buffer = Buffer::new();
        for piece in [&b"GET"[..], b" / ", b"HTTP/1.1\r\n\r\n"] {
            buffer.fill(piece).expect("there is room");
        }
        assert_eq!(buffer.bytes(), b"GET / HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn holds_no_more_than_the_limit() {
        let mut buffer = Buffer::new();
        let error = loop {
            if let Err(error) = buffer.fill(io::repeat(b'a')) {
                break error;
            }
        };
        assert_eq!(buffer.bytes().len(), MAX_HEAD);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_was_dealt_with_makes_room() {
        let mut buffer = Buffer::new();
        for round in 0..100 {
            buffer.fill(&[round; MAX_HEAD / 2][..]).expect("there is room");
            buffer.fill(&b"next"[..]).expect("there is room");
            buffer.consume(buffer.bytes().len() - 4);
            assert_eq!(buffer.bytes(), b"next");
            buffer.consume(4);
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn tells_a_client_that_left_from_one_that_never_spoke() {
        let mut buffer = Buffer::new();
        assert!(buffer.fill(io::empty()).is_err_and(|error| error.to_string().contains("without")));
        buffer.fill(&b"GET"[..]).expect("there is room");
        assert!(buffer.fill(io::empty()).is_err_and(|error| error.to_string().contains("whole")));
    }

    #[test]
    fn the_head_ends_after_the_blank_line() {
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r\nbody"), Some(18));
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r"), None);
        assert_eq!(end_of_head(b"GET / HTTP/1.1\n\n"), None);
    }
}
