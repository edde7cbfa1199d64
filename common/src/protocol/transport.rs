//! What carries a connection's bytes, as the protocol sees it (stage 12's lasting form).

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::message::refused::Refused;
use crate::message::stream::{Stream, became_shorter, copy_exactly};
use crate::protocol::limits::TimeBudget;

/// The longest single wait for a client. No more than this is charged to the client for one wait: if the
/// process or the machine stood still meanwhile, it is not the client that was slow.
pub(crate) const SLICE: Duration = Duration::from_secs(1);

/// The most bytes that wait to be sent together.
const MOST_PENDING: usize = 64 * 1024;

/// The most memory for such bytes that is kept when they have been sent.
const MOST_KEPT: usize = 4 * 1024;

/// What carries the bytes of one connection: TCP, TLS, or memory in a test. It waits, and says how
/// long; what that means is decided by the protocol.
///
/// A `time` of zero means: look whether it can be done at once. Interrupted waits may be reported as
/// waits in which nothing happened.
pub trait Transport {
    /// Reads what has come, waiting for `time` at most. No bytes: the client sends no more.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer>;

    /// Sends some of these bytes, waiting for `time` at most.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn send(&mut self, bytes: &[u8], time: Duration) -> io::Result<Transfer>;

    /// Sends some of a file, from where it stands, `length` bytes and `time` at most. No bytes: the
    /// file has no more.
    ///
    /// # Errors
    ///
    /// When the connection is broken, or the file cannot be read; `Unsupported` when this kind of
    /// file can only be read and sent.
    fn send_file(&mut self, file: &File, length: u64, time: Duration) -> io::Result<Transfer> {
        let _ = (file, length, time);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes responses that are ready, to send them after a moment while the next request is being
    /// answered, unless they are taken back before. Returns whether it has: otherwise they are sent
    /// right away.
    fn lend(&mut self, bytes: &mut Vec<u8>) -> bool {
        let _ = bytes;
        false
    }

    /// Gives back what was lent and has not been sent.
    ///
    /// # Errors
    ///
    /// When sending it has failed.
    fn take_back(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// What has happened in a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// How many bytes have passed; `None` if the time was up before.
    pub bytes: Option<usize>,
    /// How long that took.
    pub waited: Duration,
}

/// Waits in slices until bytes pass, or the budget is spent: `None`. When it is spent, one more look is
/// taken, for what has come while nobody looked.
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

/// As [`within`], in slices of a second.
fn within_slices(
    budget: &mut TimeBudget,
    transfer: impl FnMut(Duration) -> io::Result<Transfer>,
) -> io::Result<Option<usize>> {
    within(budget, SLICE, transfer)
}

/// Receives more of a head that has begun, in slices.
pub(crate) fn receive(
    transport: &mut dyn Transport,
    budget: &mut TimeBudget,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    within_slices(budget, |time| transport.receive(buffer, time))
}

/// The bytes that are to be sent, in their order.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// What is left of the time that the client has to take them.
    budget: TimeBudget,
    /// Whether the transport has them, and may send them at any moment.
    are_lent: bool,
    has_sent: bool,
    /// Whether sending has failed: nobody knows then how much has arrived, so nothing may follow.
    is_broken: bool,
}

impl Outbox {
    pub(crate) fn new(send_timeout: Duration) -> Outbox {
        let budget = TimeBudget::with_rate(send_timeout);
        Outbox { bytes: Vec::new(), budget, are_lent: false, has_sent: false, is_broken: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gets ready for another client. Memory is kept.
    pub(crate) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Outbox { bytes, ..Outbox::new(self.budget.full()) };
    }

    /// Gives the client all of its time again, for another response.
    pub(crate) fn renew(&mut self) {
        self.budget = TimeBudget::with_rate(self.budget.full());
    }

    /// Whether something has been sent that a careless end of the connection could destroy.
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent && !self.is_broken
    }

    /// Has what there is to be sent sent soon: what comes next may take long, and no client should wait for
    /// that with a response that is ready. Lent if the transport can do that, or else sent now.
    pub(crate) fn lend(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        if self.bytes.is_empty() || self.are_lent {
            return Ok(());
        }
        self.are_lent = transport.lend(&mut self.bytes);
        if !self.are_lent {
            return self.flush(transport);
        }
        self.has_sent = true; // perhaps
        Ok(())
    }

    /// Takes back what was lent: something is to be added to it, or must follow it.
    fn take_back(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        if std::mem::take(&mut self.are_lent) {
            let taken = transport.take_back(&mut self.bytes);
            self.is_broken |= taken.is_err();
            taken?;
        }
        Ok(())
    }

    /// Sends all of it.
    pub(crate) fn flush(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        self.take_back(transport)?;
        if self.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        self.send(&bytes, transport)?;
        bytes.clear();
        bytes.shrink_to(MOST_KEPT);
        self.bytes = bytes;
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

    /// Sends something within the client's time. After a failure nothing more is sent.
    fn attempt(
        &mut self,
        transfer: impl FnMut(Duration) -> io::Result<Transfer>,
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.has_sent = true;
        let outcome = within_slices(&mut self.budget, transfer);
        // A file that cannot be sent in this way has done no harm.
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

/// A transport together with what is to be sent, and with the time that the client has: what requests
/// are read from and responses are written to.
///
/// Before it waits for the client, it sends what is pending: the client may be waiting for that.
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
        if self.outbox.bytes.len() + bytes.len() > MOST_PENDING {
            self.flush()?;
        }
        if bytes.len() > MOST_PENDING {
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
        (self.outbox.bytes.len() < MOST_PENDING / 2).then_some(&mut self.outbox.bytes)
    }

    fn send_file(&mut self, file: &File, length: u64) -> io::Result<()> {
        self.flush()?;
        let mut left = length;
        while left > 0 {
            match self.outbox.attempt(|time| self.transport.send_file(file, left, time)) {
                Ok(0) => return Err(became_shorter(left, length)),
                Ok(count) => left -= count as u64,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return copy_exactly(file, left, self);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
