//! A socket that listens, and the clients it accepts (stage 1's lasting form).

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::log;

/// How long a client may say nothing, or take nothing, before it is given up.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may be silent after its response until the connection is closed; see
/// [`Client`].
pub const LINGER: Duration = Duration::from_secs(2);

/// How long the server goes on listening to a client that does not stop talking.
pub const LINGER_AT_MOST: Duration = Duration::from_secs(30);

/// How long to wait before the next try when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections, as an endless iterator of [`Client`]s.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Binds `port` of 127.0.0.1, or a free port if it is 0, and says which on stdout.
    ///
    /// # Errors
    ///
    /// When the port is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Listener> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        writeln!(io::stdout(), "listening on http://{}", socket.local_addr()?)?;
        Ok(Listener { socket })
    }
}

impl Iterator for Listener {
    type Item = Client;

    /// Waits for the next client. A connection that fails before it is accepted is logged and
    /// skipped; so is a shortage of file descriptors, after a pause.
    fn next(&mut self) -> Option<Client> {
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => match Client::new(stream, peer) {
                    Ok(client) => return Some(client),
                    Err(error) => log(format_args!("{peer} left at once: {error}")),
                },
                Err(error) => {
                    log(format_args!("cannot accept a connection: {error}"));
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        thread::sleep(PAUSE);
                    }
                }
            }
        }
    }
}

/// A client's connection: to be read and written through `&Client`, as a `&TcpStream` is.
///
/// A read or a write that waits longer than [`TIMEOUT`] is an error of the kind `TimedOut`.
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
    /// Whether anything has been written that a reset could destroy.
    answered: AtomicBool,
}

impl Client {
    fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Client> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, peer, answered: AtomicBool::new(false) })
    }

    /// The client's address and port.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Writes a line to stderr that starts with the client's address.
    pub fn log(&self, message: impl Display) {
        log(format_args!("{} {message}", self.peer));
    }
}

impl Read for &Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.stream).read(buffer) {
                // A process that was stopped and goes on (Ctrl-Z, then `fg`) has missed nothing.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| name_timeout(error, "said")),
            }
        }
    }
}

impl Write for &Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answered.store(true, Ordering::Relaxed);
        (&self.stream).write(bytes).map_err(|error| name_timeout(error, "took"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        if !self.answered.load(Ordering::Relaxed)
            || self.stream.set_read_timeout(Some(LINGER)).is_err()
        {
            return;
        }
        let deadline = Instant::now() + LINGER_AT_MOST;
        let mut forgotten = [0; 8 * 1024];
        let mut client = &*self;
        while Instant::now() < deadline && matches!(client.read(&mut forgotten), Ok(1..)) {}
    }
}

/// A socket's timeout has another kind on each system, and a text that does not say what happened.
fn name_timeout(error: io::Error, verb: &str) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client {verb} nothing for {} s", TIMEOUT.as_secs()),
        ),
        _ => error,
    }
}
