//! A socket that listens (stage 1's lasting form).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::{Client, log};

/// How long to wait before the next try when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections, as an endless iterator of [`Client`]s.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    quiet: bool,
}

impl Listener {
    /// Binds `port` of 127.0.0.1, or a free port if it is 0.
    ///
    /// # Errors
    ///
    /// When the port is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Listener> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        Ok(Listener { socket, quiet: false })
    }

    /// Says whether its clients' requests are logged only when they are refused or fail.
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Listener {
        Listener { quiet, ..self }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for the next client, or returns `None` if `is_over` says so, which is asked after each
    /// wait. A connection that fails before it is accepted is logged and skipped; so is a shortage of
    /// file descriptors, after a pause.
    pub(crate) fn next_unless(&mut self, is_over: impl Fn() -> bool) -> Option<Client> {
        loop {
            let accepted = self.socket.accept();
            if is_over() {
                return None;
            }
            match accepted {
                Ok((stream, peer)) => match Client::new(stream, peer, self.quiet) {
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

impl Iterator for Listener {
    type Item = Client;

    /// Waits for the next client, as long as it takes.
    fn next(&mut self) -> Option<Client> {
        self.next_unless(|| false)
    }
}
