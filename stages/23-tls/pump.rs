//! TLS, between a socket and a conversation.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use common::{Filter, Refused, Wire};
use rustls::{ServerConfig, ServerConnection};

/// The TLS of one client. The session has four sides, and no socket: `read_tls` takes what has arrived, `reader` gives
/// what the client says with it, `writer` takes what we say, and `write_tls` gives what is to be sent.
pub struct Tls {
    session: ServerConnection,
    spoken: Spoken,
}

/// What the client speaks.
#[derive(PartialEq, Eq)]
enum Spoken {
    Unknown,
    Tls,
    Http,
}

const NOT_TLS: Refused =
    Refused { status: 400, why: "this port speaks TLS: the address begins with https://" };

impl Tls {
    pub fn new(config: &Arc<ServerConfig>) -> Tls {
        let session =
            ServerConnection::new(Arc::clone(config)).expect("the configuration is sound");
        Tls { session, spoken: Spoken::Unknown }
    }

    /// Looks at the first byte: a request begins with a letter, and TLS with 22. All else is left to rustls, which refuses it.
    fn begin(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        let mut first = [0];
        if wire.read(&mut first)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if first[0].is_ascii_alphabetic() {
            self.spoken = Spoken::Http;
            return Err(NOT_TLS.into());
        }
        self.spoken = Spoken::Tls;
        self.session.read_tls(&mut &first[..]).map(drop)
    }

    /// Reads once, and decrypts what is whole. Returns how many bytes it has read.
    fn pull(&mut self, wire: &mut dyn Wire) -> io::Result<usize> {
        let count = self.session.read_tls(wire)?;
        if let Err(error) = self.session.process_new_packets() {
            let _ = self.flush(wire); // the client is told what is wrong, if it listens
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }

    /// What the client has said, if it has said something.
    fn said(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.session.reader().read(room) {
            // It has left without a goodbye. Nothing can be cut off by that: a request says how long it is.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            said => said,
        }
    }
}

impl Filter for Tls {
    fn open(&mut self, wire: &mut dyn Wire) -> io::Result<bool> {
        if self.spoken == Spoken::Unknown {
            return self.begin(wire).map(|()| false);
        }
        self.flush(wire)?;
        if self.session.is_handshaking() {
            if self.pull(wire)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.flush(wire)?;
        }
        Ok(!self.session.is_handshaking())
    }

    fn receive(&mut self, wire: &mut dyn Wire, room: &mut [u8]) -> io::Result<usize> {
        match self.said(room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            said => return said, // before anything else is read
        }
        self.pull(wire)?;
        match self.said(room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(ErrorKind::Interrupted.into())
            }
            said => said,
        }
    }

    fn send(&mut self, wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<usize> {
        if self.spoken == Spoken::Http {
            return wire.write(bytes);
        }
        self.flush(wire)?; // a session that is full takes 0 bytes, which would mean that nothing more can be sent
        let count = self.session.writer().write(bytes)?;
        let _ = self.flush(wire); // what is left is sent later, and what is wrong shows then
        Ok(count)
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(wire)?;
        }
        Ok(())
    }

    fn close(&mut self, wire: &mut dyn Wire) {
        if self.spoken == Spoken::Http {
            return;
        }
        self.session.send_close_notify();
        let _ = self.flush(wire); // it may have left
    }
}
