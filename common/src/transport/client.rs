//! A client's connection, with timeouts and a lingering close (stage 1's lasting form).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::message::file::FilePart;
use crate::message::refused::Refused;
use crate::message::stream::Stream;
use crate::transport::tcp;

/// How long a read or a write may take by default, before the server gives up on the client.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// A client's connection. It is read and written through `&Client`, as a `&TcpStream` is.
///
/// A read or a write that waits for longer than 10 seconds, or than `--timeout` says, fails: with the [`Refused`] 408
/// when the client sends nothing, with `ConnectionAborted` when it takes nothing.
///
/// Dropping a client that has been answered closes its connection with a lingering close. If the socket still held
/// unread bytes, closing it would make the kernel send a reset, which destroys a response that the client has not
/// read yet (RFC 9112, section 9.6). So the server closes its own side first, then reads and discards what still
/// arrives, until the client closes as well, is silent for 2 seconds, or has kept sending for 30.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    timeout: Duration,
    /// Whether anything has been written that a reset could destroy.
    is_answered: AtomicBool,
}

impl Client {
    pub(crate) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        timeout: Duration,
    ) -> io::Result<Client> {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Client { stream, peer, timeout, is_answered: AtomicBool::new(false) })
    }

    /// Returns the client's address and port.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns how long a read or a write may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Lets the next reads wait up to `time`. Less than a millisecond counts as one.
    ///
    /// # Errors
    ///
    /// When the system refuses the timeout.
    pub fn limit_reads(&self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time.max(Duration::from_millis(1))))
    }

    /// Lets the next writes wait up to `time`. Less than a millisecond counts as one.
    ///
    /// # Errors
    ///
    /// When the system refuses the timeout.
    pub fn limit_writes(&self, time: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(time.max(Duration::from_millis(1))))
    }

    /// Returns the socket for writing. From now on the client counts as answered.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.is_answered.store(true, Ordering::Relaxed);
        &self.stream
    }
}

const SILENT: Refused = Refused { status: 408, why: "the client said nothing for too long" };

impl Read for &Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        tcp::uninterrupted(|| (&self.stream).read(buffer))
            .map_err(|error| if tcp::is_timeout(&error) { SILENT.into() } else { error })
    }
}

impl Write for &Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        tcp::uninterrupted(|| self.stream().write(bytes)).map_err(write_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for &Client {
    fn send_file(&mut self, part: FilePart) -> io::Result<()> {
        tcp::send_file(self.stream(), part).map_err(write_error)
    }
}

/// Turns a timeout into the error for a client that takes nothing.
fn write_error(error: io::Error) -> io::Error {
    if tcp::is_timeout(&error) {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the client took nothing for too long")
    } else {
        error
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_answered.load(Ordering::Relaxed) {
            tcp::close_gently(&self.stream, tcp::LINGERING_TIME);
        }
    }
}
