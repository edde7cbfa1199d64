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
/// A read that waits longer than [`TIMEOUT`] is an error of the kind `TimedOut`, a write one of the
/// kind `ConnectionAborted`. A client that has been given an [`Allowance`] must do with that, in how
/// many pieces ever. When writing has failed, nothing more is written.
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
    /// What the client must do with to send, and to take what is sent to it.
    allowances: [Cell<Option<Allowance>>; 2],
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
    /// Whether writing has failed: nobody knows then how much has arrived, so nothing may follow.
    is_broken: Cell<bool>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, quiet: bool) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            peer,
            quiet,
            allowances: [Cell::default(), Cell::default()],
            waits: [Cell::default(), Cell::default()],
            holds: Cell::new(false),
            held: RefCell::default(),
            linger: Cell::new(LINGER_AT_MOST),
            answered: Cell::new(false),
            is_broken: Cell::new(false),
        })
    }

    /// Gives the client time to send all that is read from now on, taken together.
    pub fn allow_to_send(&self, allowance: Allowance) {
        self.allowances[Direction::Read as usize].set(Some(allowance));
    }

    /// Gives the client time to take all that is written from now on.
    pub fn allow_to_take(&self, allowance: Allowance) {
        self.allowances[Direction::Write as usize].set(Some(allowance));
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
        let mut held = self.held.take();
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
        if self.is_broken.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.answered.set(true);
        let written = self.within_time(Direction::Write, || (&self.stream).write(bytes));
        if written.is_err() {
            self.is_broken.set(true);
            self.linger.set(Duration::ZERO); // nothing can be lost any more
        }
        written
    }

    /// Spends no more than this time on closing the connection gently, instead of
    /// [`LINGER_AT_MOST`].
    pub(crate) fn linger_no_longer_than(&self, time: Duration) {
        self.linger.set(time.min(self.linger.get()));
    }

    /// Reads or writes until something has happened, or the client's time is up.
    fn within_time(
        &self,
        direction: Direction,
        mut transfer: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let allowance = &self.allowances[direction as usize];
        loop {
            let left = self.time_left(direction)?;
            // Somewhat less than what is left will do, and may be set already for the next time: what
            // is left is rarely the same to the microsecond.
            let (least, most) = left.map_or((TIMEOUT, TIMEOUT), |left| (left / 2, left));
            self.wait_between(least, most, direction)?;
            match transfer() {
                // A process that was stopped and goes on (Ctrl-Z, then `fg`) has missed nothing.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && left.is_some() => {}
                Err(error) if is_timeout(&error) => {
                    return Err(idle(direction, TIMEOUT));
                }
                Ok(count) => {
                    allowance.set(allowance.get().map(|it| it.after(count)));
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is left of the client's allowance, if it has one.
    fn time_left(&self, direction: Direction) -> io::Result<Option<Duration>> {
        let cell = &self.allowances[direction as usize];
        let Some(mut allowance) = cell.get() else { return Ok(None) };
        let left = allowance.left();
        cell.set(Some(allowance));
        match (left, direction) {
            (Some(left), _) => Ok(Some(left)),
            (None, Direction::Read) => Err(too_slow(allowance.time())),
            (None, Direction::Write) => Err(idle(direction, allowance.time())),
        }
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

/// A client that has had so much time to send all of something.
fn too_slow(time: Duration) -> io::Error {
    let sentence = format!("the client was too slow, it had {} s", time.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, sentence)
}

/// A client that has done nothing for so long. One that takes nothing cannot be told about it, so that
/// error is of another kind.
fn idle(direction: Direction, time: Duration) -> io::Error {
    let (kind, verb) = match direction {
        Direction::Read => (io::ErrorKind::TimedOut, "said"),
        Direction::Write => (io::ErrorKind::ConnectionAborted, "took"),
    };
    io::Error::new(kind, format!("the client {verb} nothing for {} s", time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    fn connected() -> (Client, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let peer = TcpStream::connect(address).expect("it listens");
        let (stream, address) = listener.accept().expect("somebody has connected");
        (Client::new(stream, address, false).expect("it is connected"), peer)
    }

    #[test]
    fn held_answers_go_out_together_and_in_order() {
        let (client, mut peer) = connected();
        client.hold(true);
        (&client).write_all(b"one").expect("it is held");
        (&client).write_all(&[b'-'; MOST_HELD]).expect("there is room in the socket");
        client.hold(false);
        (&client).write_all(b"two").expect("there is room in the socket");
        drop(peer.shutdown(Shutdown::Write));
        drop(client);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).expect("it ends");
        // Without `assert_eq!`, which would look for the differences for minutes.
        assert!(received == [&b"one"[..], &[b'-'; MOST_HELD], b"two"].concat());
    }

    #[test]
    fn nothing_follows_what_could_not_be_written() {
        let (client, mut peer) = connected();
        client.allow_to_take(Allowance::for_each_write(Duration::from_millis(50)));
        client.hold(true);
        let error = loop {
            if let Err(error) = (&client).write_all(&[b'-'; MOST_HELD / 2]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        client.allow_to_take(Allowance::new(Duration::from_secs(10)));
        assert!((&client).write_all(b"more").and_then(|()| (&client).flush()).is_err());
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).map(|_| received)
        });
        drop(client);
        let received = reader.join().expect("no panic").expect("it ends");
        assert!(received.iter().all(|&byte| byte == b'-'));
    }
}
