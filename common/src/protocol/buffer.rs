//! The bytes that a client has sent so far (stage 2's lasting form).

use std::io::{self, Read};

use crate::message::head::MAX_HEAD;

/// The initial size of a [`Buffer`] that holds something, in bytes: enough for the head of nearly
/// every request.
const FIRST_SIZE: usize = 4 * 1024;

/// The least room behind a head, in bytes, for what comes after it.
const LEAST_WINDOW: usize = 2 * 1024;

/// Bytes that a client has sent and that have not been used yet: a request's head, perhaps the
/// beginning of its body, perhaps further requests. Grows as needed, up to [`MAX_HEAD`] bytes.
///
/// ```
/// let mut buffer = common::Buffer::new();
/// buffer.fill(&b"GET / HTTP/1.1\r\n"[..])?;
/// buffer.fill(&b"Host: a\r\n\r\n"[..])?;
/// assert_eq!(buffer.bytes(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Buffer {
    storage: Vec<u8>,
    /// Where in the storage the bytes begin and end.
    start: usize,
    end: usize,
}

impl Buffer {
    /// Creates an empty buffer, which takes no memory yet.
    pub fn new() -> Buffer {
        Buffer::default()
    }

    /// Returns the bytes that have not been used yet.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether the buffer holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the buffer holds anything but empty lines. Some clients send an empty line after a
    /// body. A server should ignore it (RFC 9112, section 2.2).
    pub fn holds_a_request(&self) -> bool {
        let is_empty_line = |(index, &byte): (usize, &u8)| byte == b"\r\n"[index % 2];
        !self.bytes().iter().enumerate().all(is_empty_line)
    }

    /// Discards all bytes. Memory is kept, unless it has grown.
    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        self.shrink();
    }

    /// Frees the memory of an empty buffer if it has grown for earlier bytes.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.storage.len() > FIRST_SIZE {
            *self = Buffer::new();
        }
    }

    /// Waits until `source` has more bytes, and appends them: a single read, of one or more bytes.
    ///
    /// # Errors
    ///
    /// When `source` has ended or fails, and when the buffer already holds [`MAX_HEAD`] bytes.
    pub fn fill(&mut self, mut source: impl Read) -> io::Result<()> {
        if self.room().is_empty() {
            let sentence = format!("the head of the request is longer than {MAX_HEAD} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        match source.read(self.room())? {
            0 if self.is_empty() => Err(ended("the client left without a request")),
            0 => Err(ended("the client left before its request was whole")),
            count => {
                self.add(count);
                Ok(())
            }
        }
    }

    /// Returns the room for more bytes. It is empty if the buffer already holds [`MAX_HEAD`] bytes.
    /// Bytes in it do not count until they have been added with [`Buffer::add`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.storage.len() {
            self.storage.resize((self.end * 2).clamp(FIRST_SIZE, MAX_HEAD.max(self.end)), 0);
        }
        let most = self.storage.len().min(MAX_HEAD).max(self.end);
        &mut self.storage[self.end..most]
    }

    /// Adds the first `count` bytes of the room.
    pub(crate) fn add(&mut self, count: usize) {
        self.end = self.storage.len().min(self.end + count);
    }

    /// Takes back a head that was removed, when nothing after it has been used.
    pub(crate) fn restore(&mut self, head: usize) {
        self.start = self.start.saturating_sub(head);
    }

    /// Removes a head of the given length, and lends it out, together with a window on what comes
    /// after it. When both are no longer borrowed, the buffer continues with what is left in the
    /// window.
    pub(crate) fn split(&mut self, head: usize) -> (&[u8], Window<'_>) {
        let least = self.start + head + LEAST_WINDOW;
        if self.storage.len() < least {
            self.storage.resize(least, 0);
        }
        let base = self.start + head;
        let (before, space) = self.storage.split_at_mut(base);
        let head = &before[self.start..];
        self.start = base;
        (head, Window { space, base, start: &mut self.start, end: &mut self.end })
    }
}

/// The part of a [`Buffer`] behind a head: bytes that arrived together with the head, and room for
/// more.
#[derive(Debug)]
pub(crate) struct Window<'b> {
    space: &'b mut [u8],
    /// Where in the buffer the space begins.
    base: usize,
    start: &'b mut usize,
    end: &'b mut usize,
}

impl Window<'_> {
    /// Returns the bytes that have not been used yet.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.space[*self.start - self.base..*self.end - self.base]
    }

    /// Removes the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        *self.start = (*self.end).min(*self.start + count);
    }

    /// Reads more bytes; all earlier ones must have been used. Returns how many bytes have been read:
    /// 0 at the end.
    pub(crate) fn fill(&mut self, source: &mut (impl Read + ?Sized)) -> io::Result<usize> {
        debug_assert!(self.bytes().is_empty(), "unused bytes would be lost");
        let count = source.read(self.space)?;
        (*self.start, *self.end) = (self.base, self.base + count);
        Ok(count)
    }
}

fn ended(sentence: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, sentence)
}

/// Reads a request's head, which ends with a blank line, as text. Bytes after it are dropped. Bytes
/// that are not UTF-8 become U+FFFD.
///
/// # Errors
///
/// When the client leaves or stops sending before the blank line, or sends more than [`MAX_HEAD`]
/// bytes without one.
pub fn read_head(mut client: impl Read) -> io::Result<String> {
    let mut buffer = Buffer::new();
    loop {
        buffer.fill(&mut client)?;
        if let Some(end) = end_of_head(buffer.bytes()) {
            return Ok(String::from_utf8_lossy(&buffer.bytes()[..end]).into_owned());
        }
    }
}

/// Returns where the head ends, just after its blank line, if `bytes` contain that.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
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
    fn used_bytes_make_room() {
        let mut buffer = Buffer::new();
        for round in 0..100 {
            buffer.fill(&[round; MAX_HEAD / 2][..]).expect("there is room");
            buffer.fill(&b"next"[..]).expect("there is room");
            buffer.split(buffer.bytes().len() - 4);
            assert_eq!(buffer.bytes(), b"next");
            buffer.split(4);
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn empty_lines_are_no_request() {
        for (bytes, is_request) in
            [("", false), ("\r", false), ("\r\n\r\n\r", false), ("\n", true), ("\r\nG", true)]
        {
            let buffer = Buffer { storage: bytes.into(), start: 0, end: bytes.len() };
            assert_eq!(buffer.holds_a_request(), is_request, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_behind_a_head_can_be_used_and_filled_again() {
        let mut buffer = Buffer::new();
        buffer.fill(&b"head|body|ne"[..]).expect("there is room");
        let (head, mut window) = buffer.split(5);
        assert_eq!((head, window.bytes()), (&b"head|"[..], &b"body|ne"[..]));
        window.consume(7);
        assert_eq!(window.fill(&mut &b"more|next"[..]).expect("memory can be read"), 9);
        window.consume(5);
        assert_eq!(head, b"head|");
        assert_eq!(buffer.bytes(), b"next");
    }

    #[test]
    fn there_is_room_behind_the_largest_head() {
        let mut buffer = Buffer::new();
        while buffer.bytes().len() < MAX_HEAD {
            buffer.fill(io::repeat(b'a')).expect("there is room");
        }
        let (_, mut window) = buffer.split(MAX_HEAD);
        let count = window.fill(&mut io::repeat(b'b')).expect("the source is endless");
        assert!(count >= LEAST_WINDOW);
        buffer.split(count);
        assert!(buffer.is_empty());
        buffer.shrink();
        assert!(buffer.storage.is_empty());
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
