//! What a client sends after a head (stage 8's lasting form): read ahead, but never lost.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};

use crate::{Buffer, Client};

/// The bytes that come after a head, to be read through `&Input`: first those that were read
/// together with it, then what the client still sends. What has been read ahead and is not needed
/// belongs to the next request.
#[derive(Debug)]
pub struct Input<'a> {
    /// What was read together with the head.
    rest: &'a [u8],
    /// How many bytes of it have been used.
    used: Cell<usize>,
    /// What was read ahead since.
    ahead: RefCell<Buffer>,
    client: &'a Client,
}

impl<'a> Input<'a> {
    pub(crate) fn new(rest: &'a [u8], client: &'a Client) -> Input<'a> {
        Input { rest, used: Cell::new(0), ahead: RefCell::new(Buffer::new()), client }
    }

    /// What was read together with the head, used or not.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Hands over some of the bytes that are next, reading more if there are none, and takes away
    /// as many as `use_some` says. Returns what else it says.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the client has left, `TimedOut` when it is too slow, and what
    /// `use_some` returns.
    pub fn with_next<T>(
        &self,
        use_some: impl FnOnce(&[u8]) -> io::Result<(usize, T)>,
    ) -> io::Result<T> {
        let rest = &self.rest[self.used.get()..];
        if !rest.is_empty() {
            let (count, outcome) = use_some(rest)?;
            self.used.set(self.used.get() + count);
            return Ok(outcome);
        }
        let mut ahead = self.ahead.borrow_mut();
        if ahead.is_empty() {
            ahead.fill(self.client).map_err(name_the_end)?;
        }
        let (count, outcome) = use_some(ahead.bytes())?;
        ahead.consume(count);
        Ok(outcome)
    }

    /// How many bytes of `rest` have been used, and what was read ahead after all of them.
    pub(crate) fn into_unused(self) -> (usize, Buffer) {
        (self.used.get(), self.ahead.into_inner())
    }

    /// Whether all that has been read is used.
    pub(crate) fn is_empty(&self) -> bool {
        self.used.get() == self.rest.len() && self.ahead.borrow().is_empty()
    }
}

/// A buffer expects requests. Here it was a body that was cut off.
fn name_the_end(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::UnexpectedEof => {
            io::Error::new(kind, "the client left before the end of the body")
        }
        _ => error,
    }
}

impl Read for &Input<'_> {
    /// Nothing is read ahead: a large body goes straight to where it is wanted.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_empty() {
            let mut client = self.client;
            return client.read(buffer);
        }
        self.with_next(|bytes| {
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            Ok((count, count))
        })
    }
}
