//! Bytes from a plain socket, through TLS, and back, so that whoever speaks HTTP can be checked with all that TLS adds.
//!
//! An end stays an end in both directions, and a reset a reset. A server that ends without saying goodbye (`close_notify`)
//! has cut off something, for all that TLS knows: the plain side sees a reset, too.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConnection;

/// How many bytes may wait in each direction.
const MOST: usize = 64 * 1024;

const PLAIN: Token = Token(0);
const SECURED: Token = Token(1);

/// Two sockets, and the TLS between them.
pub struct Tunnel {
    plain: TcpStream,
    secured: TcpStream,
    session: ClientConnection,
    /// What goes to the plain side, and has not been taken.
    answers: Vec<u8>,
    /// What comes from the plain side, and TLS has not taken.
    requests: Vec<u8>,
    plain_has_ended: bool,
    secured_has_ended: bool,
    has_said_goodbye: bool,
    has_passed_on_the_end: bool,
}

impl Tunnel {
    /// Joins a plain socket and one to a server that speaks TLS.
    ///
    /// # Errors
    ///
    /// When the system refuses not to wait.
    pub fn new(
        plain: StdStream,
        secured: StdStream,
        session: ClientConnection,
    ) -> io::Result<Tunnel> {
        plain.set_nonblocking(true)?;
        secured.set_nonblocking(true)?;
        Ok(Tunnel {
            plain: TcpStream::from_std(plain),
            secured: TcpStream::from_std(secured),
            session,
            answers: Vec::new(),
            requests: Vec::new(),
            plain_has_ended: false,
            secured_has_ended: false,
            has_said_goodbye: false,
            has_passed_on_the_end: false,
        })
    }

    /// Carries bytes until both sides have ended, or one of them is broken.
    ///
    /// # Errors
    ///
    /// What has broken it. Both sides have been reset then.
    pub fn carry(mut self) -> io::Result<()> {
        let carried = self.carry_all();
        if carried.is_err() {
            for socket in [&self.plain, &self.secured] {
                let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
        }
        carried
    }

    fn carry_all(&mut self) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut self.plain, PLAIN, both)?;
        poll.registry().register(&mut self.secured, SECURED, both)?;
        let mut events = Events::with_capacity(8);
        loop {
            while self.step()? {}
            if self.plain_has_ended && self.has_passed_on_the_end {
                return Ok(());
            }
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// Does what can be done without waiting. Returns whether anything was done.
    fn step(&mut self) -> io::Result<bool> {
        let there = self.towards_server()?;
        let back = self.towards_client()?;
        Ok(there || back)
    }

    fn towards_server(&mut self) -> io::Result<bool> {
        let mut has_moved = false;
        if self.requests.is_empty() && !self.plain_has_ended {
            let mut block = vec![0; MOST];
            if let Some(count) = done(self.plain.read(&mut block))? {
                self.plain_has_ended = count == 0;
                self.requests.extend_from_slice(&block[..count]);
                has_moved = true;
            }
        }
        if !self.requests.is_empty() {
            let count = self.session.writer().write(&self.requests)?;
            self.requests.drain(..count);
            has_moved |= count > 0;
        }
        if self.plain_has_ended && self.requests.is_empty() && !self.has_said_goodbye {
            self.session.send_close_notify();
            self.has_said_goodbye = true;
            has_moved = true;
        }
        while self.session.wants_write() {
            if done(self.session.write_tls(&mut self.secured))?.is_none() {
                return Ok(has_moved);
            }
            has_moved = true;
        }
        if self.has_said_goodbye && has_moved {
            let _ = self.secured.shutdown(Shutdown::Write); // it may have gone
        }
        Ok(has_moved)
    }

    fn towards_client(&mut self) -> io::Result<bool> {
        let mut has_moved = false;
        if self.answers.is_empty() && !self.secured_has_ended {
            if let Some(count) = done(self.session.read_tls(&mut self.secured))? {
                let state = self.session.process_new_packets().map_err(io::Error::other)?;
                self.secured_has_ended = state.peer_has_closed();
                if count == 0 && !self.secured_has_ended {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the connection ends without a close_notify",
                    ));
                }
                let mut said = vec![0; state.plaintext_bytes_to_read()];
                self.session.reader().read_exact(&mut said)?;
                self.answers = said;
                has_moved = true;
            }
        }
        if !self.answers.is_empty() {
            if let Some(count) = done(self.plain.write(&self.answers))? {
                self.answers.drain(..count);
                has_moved = true;
            }
        }
        if self.secured_has_ended && self.answers.is_empty() && !self.has_passed_on_the_end {
            let _ = self.plain.shutdown(Shutdown::Write); // it may have gone
            self.has_passed_on_the_end = true;
            has_moved = true;
        }
        Ok(has_moved)
    }
}

/// `None` if a socket would have to wait.
fn done(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
