//! A client's connection: timed, and closed gently (stage 1's lasting form).

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{Allowance, log};

/// How long a client may say nothing, or take nothing, before it is given up.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may be silent after its response until the connection is closed; see
/// [`Client`].
pub const LINGER: Duration = Duration::from_secs(2);

/// How long the server goes on listening to a client that does not stop talking.
pub const LINGER_AT_MOST: Duration = Duration::from_secs(30);

/// The most bytes that are held back to be written together.
const MOST_HELD: usize = 64 * 1024;

/// The most memory for such bytes that is kept when they have been written.
const MOST_KEPT: usize = 4 * 1024;

/// A client's connection: to be read and written through `&Client`, as a `&TcpStream` is.
///
/// A read or a write that waits longer than [`TIMEOUT`] is an error of the kind `TimedOut`. A client
/// that has been given an [`Allowance`] must do with that, whatever it does and in how many pieces.
///
/// Dropping a client closes its connection gently if it has been answered. If bytes that nobody
/// has read were still in the socket, closing it would make the kernel send a reset, which
/// destroys a response that the client has not read yet (RFC 9112, section 9.6). So the server
/// says that it is done, then reads and forgets what still comes, until the client closes too,
/// is silent for [`LINGER`], or has talked for [`LINGER_AT_MOST`].
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    quiet: bool,
    allowance: Cell<Option<Allowance>>,
    /// How long the socket waits for a read and for a write, if it has been told: telling it is a call
    /// to the system, which most requests can do without.
    waits: [Cell<Option<Duration>>; 2],
    /// Whether writes are held back, to go out together; and what has been.
    holds: Cell<bool>,
    held: RefCell<Vec<u8>>,
    /// How long it may take to close the connection gently.
    linger: Cell<Duration>,
    /// Whether anything has been written that a reset could destroy.
    answered: Cell<bool>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, quiet: bool) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            peer,
            quiet,
            allowance: Cell::new(None),
            waits: [Cell::default(), Cell::default()],
            holds: Cell::new(false),
            held: RefCell::default(),
            linger: Cell::new(LINGER_AT_MOST),
            answered: Cell::new(false),
        })
    }

    /// Gives the client time for all that is read and written from now on, taken together.
    pub fn allow(&self, allowance: Allowance) {
        self.allowance.set(Some(allowance));
    }

    /// Reads something that nobody wants. Returns whether there may be more.
    fn discard(&self, buffer: &mut [u8]) -> bool {
        match (&self.stream).read(buffer) {
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
            Ok(count) => count > 0,
        }
    }

    /// Says whether what is written may be held back, up to 64 KiB, because more is to be written
    /// soon. It goes out before anything is read from the client, when it is flushed, and when the
    /// connection is closed.
    pub(crate) fn hold(&self, holds: bool) {
        self.holds.set(holds);
    }

    /// Writes what has been held back.
    fn let_go(&self) -> io::Result<()> {
        let mut held = self.held.take(); // if writing fails, nobody should try it again
        let mut rest = &held[..];
        while !rest.is_empty() {
            match self.write_now(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => rest = &rest[count..],
            }
        }
        held.clear();
        held.shrink_to(MOST_KEPT);
        self.held.replace(held);
        Ok(())
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.answered.set(true);
        let written = self.within_time(Direction::Write, || (&self.stream).write(bytes));
        if written.is_err() {
            self.linger.set(Duration::ZERO); // nothing can be lost any more
        }
        written
    }

    /// Spends no more than this time on closing the connection gently, instead of
    /// [`LINGER_AT_MOST`].
    pub(crate) fn linger_no_longer_than(&self, time: Duration) {
        self.linger.set(time);
    }

    /// Reads or writes until something has happened, or the client's time is up.
    fn within_time(
        &self,
        direction: Direction,
        mut transfer: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let left = self.time_left()?;
            // Somewhat less than what is left will do, and may be set already for the next time: what
            // is left is rarely the same to the microsecond.
            let (least, most) = left.map_or((TIMEOUT, TIMEOUT), |left| (left / 2, left));
            self.wait_between(least, most, direction)?;
            match transfer() {
                // A process that was stopped and goes on (Ctrl-Z, then `fg`) has missed nothing.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && left.is_some() => {}
                Err(error) if is_timeout(&error) => return Err(out_of_patience(direction)),
                Ok(count) => {
                    self.allowance.set(self.allowance.get().map(|it| it.after(count)));
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is left of the client's allowance, if it has one.
    fn time_left(&self) -> io::Result<Option<Duration>> {
        let mut allowance = self.allowance.get();
        let left = allowance.as_mut().map(Allowance::left).transpose();
        self.allowance.set(allowance);
        left
    }

    /// Sees to it that the socket waits for a time between these two.
    fn wait_between(
        &self,
        least: Duration,
        most: Duration,
        direction: Direction,
    ) -> io::Result<()> {
        let waits = &self.waits[direction as usize];
        if waits.get().is_some_and(|waits| (least..=most).contains(&waits)) {
            return Ok(());
        }
        let time = ((least + most) / 2).max(Duration::from_millis(1));
        match direction {
            Direction::Read => self.stream.set_read_timeout(Some(time))?,
            Direction::Write => self.stream.set_write_timeout(Some(time))?,
        }
        waits.set(Some(time));
        Ok(())
    }

    /// The client's address and port.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether only failures and refusals are to be logged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes a line to stderr that starts with the client's address.
    pub fn log(&self, message: impl Display) {
        log(format_args!("{} {message}", self.peer));
    }
}

impl Read for &Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.let_go()?; // the client may be waiting for that
        let count = self.within_time(Direction::Read, || (&self.stream).read(buffer))?;
        if count == 0 && !buffer.is_empty() {
            self.linger.set(Duration::ZERO); // the client will send nothing any more
        }
        Ok(count)
    }
}

impl Write for &Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = self.held.borrow().len();
        if (!self.holds.get() && held == 0) || held + bytes.len() > MOST_HELD {
            self.let_go()?;
            return self.write_now(bytes);
        }
        self.held.borrow_mut().extend_from_slice(bytes);
        if !self.holds.get() {
            self.let_go()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.let_go()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.let_go();
        if !self.answered.get() || self.linger.get().is_zero() {
            return;
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + self.linger.get();
        let mut discarded = [0; 8 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(LINGER);
            let can_wait = !left.is_zero() && self.stream.set_read_timeout(Some(left)).is_ok();
            if !can_wait || !self.discard(&mut discarded) {
                return;
            }
        }
    }
}

/// What is done with a client.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// A socket's timeout has another kind on each system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn out_of_patience(direction: Direction) -> io::Error {
    let verb = match direction {
        Direction::Read => "said",
        Direction::Write => "took",
    };
    let sentence = format!("the client {verb} nothing for {} s", TIMEOUT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, sentence)
}
