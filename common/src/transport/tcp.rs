//! A TCP connection as a transport (stage 12's lasting form).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use std::os::fd::AsFd;

#[cfg(unix)]
use {nix::libc, socket2::SockRef, std::mem::MaybeUninit};

use crate::message::file::FilePart;
use crate::message::stream::copy_exactly;
use crate::protocol::filter::{Authority, Filter, handshake_timeout};
use crate::protocol::limits::TimeBudget;
use crate::protocol::transport::{SLICE, Transfer, Transport};

/// How long a client may be silent in a lingering close before the connection is closed.
pub(crate) const LINGERING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a lingering close lasts for a client that does not stop sending.
pub(crate) const LINGERING_TIME: Duration = Duration::from_secs(30);

/// Whether connections inherit the options of the socket that accepted them.
pub(crate) const INHERITS: bool = cfg!(target_os = "linux");

/// The shortest timeout that a socket can be given.
const SHORTEST: Duration = Duration::from_millis(1);

/// A blocking TCP connection. It sets a timeout of the socket only when the timeout has changed: that is
/// a system call, which most requests can do without.
pub(crate) struct Tcp<'s> {
    stream: &'s TcpStream,
    /// What turns the bytes of the socket into those of the conversation.
    filter: Option<&'s mut dyn Filter>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl<'s> Tcp<'s> {
    /// Creates a connection whose timeouts are unknown.
    pub(crate) fn new(stream: &'s TcpStream) -> Tcp<'s> {
        Tcp { stream, filter: None, read_timeout: None, write_timeout: None }
    }

    /// Creates a connection from a listener that has been prepared. If the connection has inherited the timeouts
    /// of the listener, they are not set again. It has not if it was in the backlog before they were set.
    pub(crate) fn prepared(stream: &'s TcpStream) -> Tcp<'s> {
        match stream.read_timeout() {
            Ok(inherited @ Some(_)) if INHERITS => {
                Tcp { read_timeout: inherited, write_timeout: Some(SLICE), ..Tcp::new(stream) }
            }
            _ => Tcp::new(stream),
        }
    }

    /// Puts a filter between the socket and the conversation. From stage 22.
    pub(crate) fn through(self, filter: Option<&'s mut dyn Filter>) -> Tcp<'s> {
        Tcp { filter, ..self }
    }

    pub(crate) fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Does what the filter needs before the conversation can begin, which may take `time`. Returns whom the client has
    /// been shown that this server is.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the time is up, and those of [`Filter::open`].
    pub(crate) fn open(&mut self, time: Duration) -> io::Result<Option<Arc<dyn Authority>>> {
        let mut budget = TimeBudget::fixed(time);
        loop {
            let slice = budget.left().min(SLICE);
            self.limit_reads(slice)?;
            self.limit_writes(slice)?;
            let Some(filter) = &mut self.filter else { return Ok(None) };
            let mut is_open = false;
            let step = timed(|| {
                is_open = filter.open(&mut self.stream)?;
                Ok(0)
            })?;
            if is_open {
                return Ok(filter.authority());
            }
            budget.spend(step.waited);
            if budget.left().is_zero() {
                return Err(handshake_timeout());
            }
        }
    }

    /// Says goodbye, if there is a filter to do that.
    pub(crate) fn close(&mut self) {
        if self.filter.is_some() && self.limit_writes(SLICE).is_ok() {
            let Some(filter) = &mut self.filter else { return };
            filter.close(&mut self.stream);
        }
    }

    fn limit_reads(&mut self, time: Duration) -> io::Result<()> {
        if self.read_timeout != Some(time) {
            self.stream.set_read_timeout(Some(time.max(SHORTEST)))?;
            self.read_timeout = Some(time);
        }
        Ok(())
    }

    fn limit_writes(&mut self, time: Duration) -> io::Result<()> {
        if self.write_timeout != Some(time) {
            self.stream.set_write_timeout(Some(time.max(SHORTEST)))?;
            self.write_timeout = Some(time);
        }
        Ok(())
    }
}

impl Transport for Tcp<'_> {
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer> {
        self.limit_reads(time)?;
        match &mut self.filter {
            None => timed(|| self.stream.read(buffer)),
            Some(filter) => timed(|| filter.receive(&mut self.stream, buffer)),
        }
    }

    fn send(&mut self, bytes: &[u8], time: Duration) -> io::Result<Transfer> {
        self.limit_writes(time)?;
        match &mut self.filter {
            None => timed(|| self.stream.write(bytes)),
            Some(filter) => timed(|| filter.send(&mut self.stream, bytes)),
        }
    }

    fn flush(&mut self, time: Duration) -> io::Result<Transfer> {
        if self.filter.is_some() {
            self.limit_writes(time)?;
        }
        match &mut self.filter {
            None => Ok(Transfer { bytes: Some(0), waited: Duration::ZERO }),
            Some(filter) => timed(|| filter.flush(&mut self.stream).map(|()| 0)),
        }
    }

    fn send_file(&mut self, part: &FilePart, time: Duration) -> io::Result<Transfer> {
        if self.filter.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.limit_writes(time)?;
        timed(|| send_part(self.stream, part))
    }

    fn has_heard_the_end(&mut self) -> bool {
        if self.limit_reads(Duration::ZERO).is_err() {
            return true;
        }
        if let Some(filter) = &mut self.filter {
            return filter.has_heard_the_end(&mut self.stream);
        }
        match self.stream.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => !is_timeout(&error) && error.kind() != io::ErrorKind::Interrupted,
        }
    }
}

/// Waits on a connection that is usually driven without waiting: reads and writes of `talk` may take their time. From
/// stage 21.
///
/// # Errors
///
/// Those of `talk`, and when the system refuses to wait, or to stop waiting afterwards.
pub fn blocking<T>(
    stream: &TcpStream,
    talk: impl FnOnce(&mut dyn Transport) -> io::Result<T>,
) -> io::Result<T> {
    blocking_through(stream, None, talk)
}

/// Waits as [`blocking`] does, on a connection that may have a filter. From stage 22.
///
/// # Errors
///
/// As [`blocking`].
pub fn blocking_through<'s, T>(
    stream: &'s TcpStream,
    filter: Option<&'s mut dyn Filter>,
    talk: impl FnOnce(&mut dyn Transport) -> io::Result<T>,
) -> io::Result<T> {
    stream.set_nonblocking(false)?;
    let said = talk(&mut Tcp::new(stream).through(filter))?;
    stream.set_nonblocking(true)?;
    Ok(said)
}

/// Measures how long a transfer takes. A timeout is not an error, but a transfer whose `bytes` are
/// `None`.
fn timed(transfer: impl FnOnce() -> io::Result<usize>) -> io::Result<Transfer> {
    let start = Instant::now();
    let outcome = transfer();
    let waited = start.elapsed();
    match outcome {
        Ok(count) => Ok(Transfer { bytes: Some(count), waited }),
        // A process that was stopped and continues (Ctrl-Z, then `fg`) has missed nothing.
        Err(error) if error.kind() == io::ErrorKind::Interrupted || is_timeout(&error) => {
            Ok(Transfer { bytes: None, waited })
        }
        Err(error) => Err(error),
    }
}

/// Whether a single call can read or write a blocking socket without waiting.
pub(crate) const CAN_TRY_WITHOUT_WAITING: bool = cfg!(unix);

/// Reads and discards what has arrived, without waiting.
#[cfg(unix)]
pub(crate) fn discard_at_once(stream: &TcpStream) -> io::Result<usize> {
    let mut discarded = [MaybeUninit::uninit(); 8 * 1024];
    SockRef::from(stream).recv_with_flags(&mut discarded, libc::MSG_DONTWAIT)
}

#[cfg(not(unix))]
pub(crate) fn discard_at_once(_: &TcpStream) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Sends as many bytes as possible without waiting.
#[cfg(unix)]
pub(crate) fn send_at_once(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(stream).send_with_flags(bytes, libc::MSG_DONTWAIT) // Rust programs ignore SIGPIPE
}

#[cfg(not(unix))]
pub(crate) fn send_at_once(_: &TcpStream, _: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// The most bytes that the system is asked to send in one call, so that the call returns now and then.
#[cfg(target_os = "linux")]
const MAX_AT_ONCE: u64 = 1 << 20;

/// Asks the system to send some of a file, without a detour through this program. From stage 21.
///
/// # Errors
///
/// `Unsupported` when the system cannot do that; otherwise what it says.
#[cfg(target_os = "linux")]
pub fn send_part(stream: &impl AsFd, part: &FilePart) -> io::Result<usize> {
    use nix::errno::Errno;
    let count = usize::try_from(part.left().min(MAX_AT_ONCE)).unwrap_or(usize::MAX);
    let mut position = i64::try_from(part.position()).map_err(|_| io::ErrorKind::Unsupported)?;
    match nix::sys::sendfile::sendfile64(stream, part.file(), Some(&mut position), count) {
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(io::ErrorKind::Unsupported.into()),
        sent => Ok(sent?),
    }
}

/// The same, where there is no such call.
#[cfg(not(target_os = "linux"))]
pub fn send_part<T>(_: &T, _: &FilePart) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes a part of a file, as quickly as the system can.
pub(crate) fn send_file(mut stream: &TcpStream, mut part: FilePart) -> io::Result<()> {
    while part.left() > 0 {
        match uninterrupted(|| send_part(&stream, &part)) {
            Ok(count) => part.advance(count)?,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let left = part.left();
                return copy_exactly(part, left, &mut stream);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Repeats an attempt that was interrupted by a signal.
pub(crate) fn uninterrupted<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Whether an error is a socket's timeout, whose kind depends on the system.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Closes the sending side, then reads and discards what arrives, until the client closes as well, is
/// silent for 2 seconds, or has kept sending for `at_most`.
pub(crate) fn close_gently(mut stream: &TcpStream, at_most: Duration) {
    if stream.shutdown(Shutdown::Write).is_err() {
        return; // the connection is gone already
    }
    let deadline = Instant::now() + at_most;
    let mut discarded = [0; 8 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).min(LINGERING_TIMEOUT);
        let can_wait = !left.is_zero() && stream.set_read_timeout(Some(left)).is_ok();
        if !can_wait || !matches!(uninterrupted(|| stream.read(&mut discarded)), Ok(1..)) {
            return;
        }
    }
}

/// Makes a connection end with a reset when it is closed, so that the client sees that something is
/// missing. From stage 21.
pub fn reset<'s, S>(stream: &'s S)
where
    socket2::SockRef<'s>: From<&'s S>,
{
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)); // without it, the end is a quiet one
}
