//! What carries a connection's bytes, as the protocol sees it, and the outbox (stage 12's lasting form).

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::message::file::FilePart;
use crate::message::refused::Refused;
use crate::message::stream::{Stream, copy_exactly};
use crate::protocol::limits::TimeBudget;

/// The longest single wait for a client, unless its connection is idle. A client is charged no more than
/// this for one wait: if the process or the machine stood still meanwhile, the client was not slow.
pub(crate) const SLICE: Duration = Duration::from_secs(1);

/// The most bytes that are collected to be sent together.
const MAX_PENDING: usize = 64 * 1024;

/// The most memory for such bytes that is kept after they have been sent, in bytes.
const MAX_KEPT: usize = 4 * 1024;

/// A carrier for the bytes of one connection: TCP, TLS, or memory in a test. It waits, and reports for how
/// long. The protocol decides what that means.
///
/// A `time` of zero asks for an attempt without waiting. An interrupted wait may be reported as one in
/// which nothing happened.
pub trait Transport {
    /// Reads bytes that have arrived, waiting up to `time`. 0 bytes mean that the client sends no more.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer>;

    /// Sends some of these bytes, waiting up to `time`.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn send(&mut self, bytes: &[u8], time: Duration) -> io::Result<Transfer>;

    /// Sends what has been taken and is still held back, waiting up to `time`. From stage 22.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn flush(&mut self, time: Duration) -> io::Result<Transfer> {
        let _ = time;
        Ok(Transfer { bytes: Some(0), waited: Duration::ZERO })
    }

    /// Sends some of the bytes that are left of a part of a file, waiting up to `time`. 0 bytes mean that the
    /// file has ended. The caller advances the part.
    ///
    /// # Errors
    ///
    /// When the connection is broken, or the file cannot be read; `Unsupported` when this kind of file has
    /// to be read and sent block by block.
    fn send_file(&mut self, part: &FilePart, time: Duration) -> io::Result<Transfer> {
        let _ = (part, time);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the client is known to send nothing more, without reading what it may have sent. From stage 21.
    fn has_heard_the_end(&mut self) -> bool {
        false
    }

    /// Borrows responses that are ready, to send them after a moment, while the next request is being
    /// answered, unless they are taken back first. Returns whether the transport has borrowed them. If not,
    /// the caller sends them right away.
    fn lend(&mut self, bytes: &mut Vec<u8>) -> bool {
        let _ = bytes;
        false
    }

    /// Gives back the lent bytes that have not been sent.
    ///
    /// # Errors
    ///
    /// When sending them has failed.
    fn take_back(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// The outcome of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// How many bytes have been transferred; `None` if the time was up first.
    pub bytes: Option<usize>,
    /// How long the wait took.
    pub waited: Duration,
}

/// Waits for bytes to be transferred, up to `longest` at a time, while the budget lasts. Then it tries once
/// more without waiting, for bytes that arrived in the meantime, and returns `None` if there are none.
pub(crate) fn within(
    budget: &mut TimeBudget,
    longest: Duration,
    mut transfer: impl FnMut(Duration) -> io::Result<Transfer>,
) -> io::Result<Option<usize>> {
    loop {
        let time = budget.left().min(longest);
        let Transfer { bytes, waited } = transfer(time)?;
        budget.spend(waited.min(time));
        if let Some(count) = bytes {
            budget.earn(count);
            return Ok(Some(count));
        }
        if time.is_zero() {
            return Ok(None);
        }
    }
}

/// Waits as [`within`] does, up to [`SLICE`] at a time.
fn within_slices(
    budget: &mut TimeBudget,
    transfer: impl FnMut(Duration) -> io::Result<Transfer>,
) -> io::Result<Option<usize>> {
    within(budget, SLICE, transfer)
}

/// Receives more of a head that has begun to arrive, in slices.
pub(crate) fn receive(
    transport: &mut dyn Transport,
    budget: &mut TimeBudget,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    within_slices(budget, |time| transport.receive(buffer, time))
}

/// The bytes to be sent, in their order.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// The time that the client has left to take them.
    budget: TimeBudget,
    /// Whether the transport has borrowed them, and may send them at any moment.
    are_lent: bool,
    has_sent: bool,
    /// Whether the transport may hold back some of what it has taken.
    is_held_back: bool,
    /// Whether sending has failed. How much has arrived is unknown then, so nothing may follow.
    is_broken: bool,
}

impl Outbox {
    pub(crate) fn new(send_timeout: Duration) -> Outbox {
        let budget = TimeBudget::with_rate(send_timeout);
        Outbox {
            bytes: Vec::new(),
            budget,
            are_lent: false,
            has_sent: false,
            is_held_back: false,
            is_broken: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes. They must not be lent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the room for more bytes, at the end.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes note of bytes that somebody else has sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.has_sent = true;
        if count == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..count.min(self.bytes.len()));
        }
    }

    /// Prepares for another client. Memory is kept.
    pub(crate) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Outbox { bytes, ..Outbox::new(self.budget.full()) };
    }

    /// Gives the client its full time budget again, for another response.
    pub(crate) fn renew(&mut self) {
        self.budget = TimeBudget::with_rate(self.budget.full());
    }

    /// Whether bytes have been sent that an abrupt end of the connection could destroy.
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent && !self.is_broken
    }

    /// Makes sure that the pending bytes are sent soon: the next request may take long, and a response that
    /// is ready should not wait for it. Lends the bytes to the transport, or sends them now if the
    /// transport does not borrow.
    pub(crate) fn lend(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        if self.bytes.is_empty() || self.are_lent {
            return Ok(());
        }
        self.are_lent = transport.lend(&mut self.bytes);
        if !self.are_lent {
            return self.flush(transport);
        }
        self.has_sent = true; // the transport may have sent some
        Ok(())
    }

    /// Takes back the lent bytes, before others are added to them or must follow them.
    fn take_back(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        if std::mem::take(&mut self.are_lent) {
            let taken = transport.take_back(&mut self.bytes);
            self.is_broken |= taken.is_err();
            taken?;
        }
        Ok(())
    }

    /// Sends all pending bytes.
    pub(crate) fn flush(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        self.take_back(transport)?;
        if !self.is_empty() {
            let mut bytes = std::mem::take(&mut self.bytes);
            self.send(&bytes, transport)?;
            bytes.clear();
            bytes.shrink_to(MAX_KEPT);
            self.bytes = bytes;
        }
        if self.is_held_back {
            self.attempt(|time| transport.flush(time))?;
            self.is_held_back = false;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8], transport: &mut dyn Transport) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.attempt(|time| transport.send(rest, time))?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Sends something within the client's time budget. After a failure, nothing more is sent.
    fn attempt(
        &mut self,
        transfer: impl FnMut(Duration) -> io::Result<Transfer>,
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        (self.has_sent, self.is_held_back) = (true, true);
        let outcome = within_slices(&mut self.budget, transfer);
        // If a file cannot be sent in this way, none of it has been sent.
        let is_harmless = |error: &io::Error| error.kind() == io::ErrorKind::Unsupported;
        self.is_broken =
            !matches!(&outcome, Ok(Some(_))) && !outcome.as_ref().is_err_and(is_harmless);
        outcome?.ok_or_else(|| {
            let time = self.budget.full().as_secs();
            let sentence = format!("the client was too slow to take the response: {time} s");
            io::Error::new(io::ErrorKind::ConnectionAborted, sentence)
        })
    }
}

/// A transport together with its outbox, and with the time that the client has. Requests are read from it,
/// and responses are written to it.
///
/// Before it waits for the client, it sends the pending bytes: the client may be waiting for them.
pub(crate) struct Line<'c> {
    pub(crate) transport: &'c mut dyn Transport,
    pub(crate) outbox: &'c mut Outbox,
    /// The time that the client has for the body.
    pub(crate) budget: TimeBudget,
}

const TOO_SLOW: Refused = Refused { status: 408, why: "the body took too long to arrive" };

impl Read for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        let count = within_slices(&mut self.budget, |time| self.transport.receive(buffer, time))?;
        Ok(count.ok_or(TOO_SLOW)?)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.take_back(self.transport)?;
        if self.outbox.bytes.len() + bytes.len() > MAX_PENDING {
            self.flush()?;
        }
        if bytes.len() > MAX_PENDING {
            return self.outbox.attempt(|time| self.transport.send(bytes, time));
        }
        self.outbox.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.outbox.flush(self.transport)
    }
}

impl Stream for Line<'_> {
    fn pending(&mut self) -> Option<&mut Vec<u8>> {
        self.outbox.take_back(self.transport).ok()?;
        (self.outbox.bytes.len() < MAX_PENDING / 2).then_some(&mut self.outbox.bytes)
    }

    fn has_heard_the_end(&mut self) -> bool {
        self.transport.has_heard_the_end()
    }

    fn send_file(&mut self, mut part: FilePart) -> io::Result<()> {
        self.flush()?;
        while part.left() > 0 {
            match self.outbox.attempt(|time| self.transport.send_file(&part, time)) {
                Ok(count) => part.advance(count)?,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    let left = part.left();
                    return copy_exactly(part, left, self);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
