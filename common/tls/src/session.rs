//! The TLS of one client.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use common::{Authority, Filter, Refused, Wire};
use rustls::crypto::ring;
use rustls::{ServerConfig, ServerConnection};

use crate::certificates::Certificates;
use crate::identity::Shown;

/// How many bytes are read at a time: a record, and then some.
const BLOCK: usize = 18 * 1024;

/// TLS 1.2 and 1.3, for HTTP/1.1. Sessions are resumed with tickets. There is no early data: whoever records a request
/// could send it a second time (RFC 8470).
pub struct Tls {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Speaks TLS with these certificates.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers for the keys of the tickets.
    pub fn new(certificates: Arc<Certificates>) -> io::Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let resolver = Arc::clone(&certificates);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
        Ok(Tls { certificates, config: Arc::new(config) })
    }

    /// Returns the filter for a new connection: see [`App::through`](common::App::through).
    pub fn session(&self) -> Box<dyn Filter> {
        Box::new(Session {
            certificates: Arc::clone(&self.certificates),
            config: Arc::clone(&self.config),
            spoken: Spoken::Unknown,
        })
    }
}

/// One client's TLS.
struct Session {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
    spoken: Spoken,
}

/// What the client speaks.
enum Spoken {
    Unknown,
    Tls(Box<Talk>),
    Http,
}

struct Talk {
    session: ServerConnection,
    /// What has arrived, and cannot be decrypted before what has been decrypted is taken.
    waiting: Vec<u8>,
    /// How many bytes the client has said that nobody has taken yet.
    said: usize,
    /// Whether the last read has filled its block, so that there may be more.
    was_full: bool,
    has_left: bool,
    authority: Option<Arc<dyn Authority>>,
}

const NOT_TLS: Refused =
    Refused { status: 400, why: "this port speaks TLS: the address begins with https://" };

impl Session {
    /// Finds out what the client speaks: a request begins with a letter, and TLS with 22 (RFC 8446, section 5.1).
    fn begin(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let count = wire.read(&mut block)?;
        match block[..count].first() {
            None => Err(LEFT.into()),
            Some(first) if first.is_ascii_uppercase() => {
                self.spoken = Spoken::Http;
                Err(NOT_TLS.into())
            }
            Some(_) => {
                let config = Arc::clone(&self.config);
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                let mut talk = Box::new(Talk {
                    session,
                    waiting: Vec::new(),
                    said: 0,
                    was_full: count == BLOCK,
                    has_left: false,
                    authority: None,
                });
                let fed = talk.feed(&block[..count], wire);
                self.spoken = Spoken::Tls(talk);
                fed
            }
        }
    }
}

/// A client that has left before the conversation.
const LEFT: ErrorKind = ErrorKind::UnexpectedEof;

impl Talk {
    /// Reads once, and decrypts what is whole.
    fn pull(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            return self.feed(&waiting, wire);
        }
        let mut block = [0; BLOCK];
        let count = wire.read(&mut block)?;
        (self.was_full, self.has_left) = (count == BLOCK, count == 0);
        self.feed(&block[..count], wire)
    }

    /// Decrypts what has arrived, until the client has said something. What is left after that waits.
    fn feed(&mut self, mut arrived: &[u8], wire: &mut dyn Wire) -> io::Result<()> {
        while self.said == 0 && !arrived.is_empty() {
            self.session.read_tls(&mut arrived)?;
            match self.session.process_new_packets() {
                Ok(state) => {
                    self.said = state.plaintext_bytes_to_read();
                    self.has_left |= state.peer_has_closed();
                }
                Err(error) => {
                    let _ = self.flush(wire); // the client is told what is wrong, if it listens
                    return Err(io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}")));
                }
            }
        }
        self.waiting.extend_from_slice(arrived);
        Ok(())
    }

    /// Gives what the client has said, if it has said something.
    fn take(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        if self.said > 0 {
            let count = self.session.reader().read(room)?;
            self.said -= count.min(self.said);
            return Ok(Some(count));
        }
        // Whether it has said goodbye or not, nothing is cut off unnoticed: a request says how long it is.
        Ok(self.has_left.then_some(0))
    }

    fn open(&mut self, wire: &mut dyn Wire) -> io::Result<bool> {
        self.flush(wire)?;
        if self.session.is_handshaking() {
            self.pull(wire)?;
            if self.has_left {
                return Err(LEFT.into());
            }
            self.flush(wire)?;
        }
        Ok(!self.session.is_handshaking())
    }

    fn receive(&mut self, wire: &mut dyn Wire, room: &mut [u8]) -> io::Result<usize> {
        if let Some(count) = self.take(room)? {
            return Ok(count);
        }
        self.pull(wire)?;
        self.take(room)?.ok_or(ErrorKind::Interrupted.into())
    }

    fn send(&mut self, wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<usize> {
        self.flush(wire)?;
        let count = self.session.writer().write(bytes)?;
        match self.flush(wire) {
            Err(error) if !is_full(&error) => Err(error),
            _ => Ok(count), // the rest of them is sent later
        }
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(wire)?;
        }
        Ok(())
    }
}

/// Whether a socket takes nothing for now.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Filter for Session {
    fn open(&mut self, wire: &mut dyn Wire) -> io::Result<bool> {
        if let Spoken::Unknown = self.spoken {
            self.begin(wire)?;
        }
        let Spoken::Tls(talk) = &mut self.spoken else { return Err(NOT_TLS.into()) };
        let is_open = talk.open(wire)?;
        if is_open && talk.authority.is_none() {
            let identity = self.certificates.for_host(talk.session.server_name());
            talk.authority = identity.map(|it| Arc::new(Shown::new(it)) as Arc<dyn Authority>);
        }
        Ok(is_open)
    }

    fn receive(&mut self, wire: &mut dyn Wire, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.spoken {
            Spoken::Tls(talk) => talk.receive(wire, room),
            _ => wire.read(room),
        }
    }

    fn send(&mut self, wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.spoken {
            Spoken::Tls(talk) => talk.send(wire, bytes),
            _ => wire.write(bytes),
        }
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        match &mut self.spoken {
            Spoken::Tls(talk) => talk.flush(wire),
            _ => Ok(()),
        }
    }

    fn close(&mut self, wire: &mut dyn Wire) {
        if let Spoken::Tls(talk) = &mut self.spoken {
            talk.session.send_close_notify();
            let _ = talk.flush(wire); // it may have left
        }
    }

    fn has_more(&self) -> bool {
        match &self.spoken {
            Spoken::Tls(talk) => talk.said > 0 || talk.was_full || !talk.waiting.is_empty(),
            _ => false,
        }
    }

    fn has_heard_the_end(&mut self, wire: &mut dyn Wire) -> bool {
        let Spoken::Tls(talk) = &mut self.spoken else { return false };
        if talk.said == 0 && !talk.has_left {
            if let Err(error) = talk.pull(wire) {
                return !is_full(&error) && error.kind() != ErrorKind::Interrupted;
            }
        }
        talk.has_left
    }

    fn authority(&self) -> Option<Arc<dyn Authority>> {
        match &self.spoken {
            Spoken::Tls(talk) => talk.authority.clone(),
            _ => None,
        }
    }
}
