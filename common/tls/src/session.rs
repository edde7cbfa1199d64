//! The TLS of one client.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use common::{Authority, Filter, Refused, Wire};
use rustls::ServerConnection;
use rustls::server::{Accepted, Acceptor};

use crate::certificates::Certificates;
use crate::identity::Shown;

/// How many bytes are read at a time: a record, and then some.
const BLOCK: usize = 18 * 1024;

/// TLS 1.2 and 1.3, with certificates that may be replaced at any time.
pub struct Tls {
    certificates: Arc<Certificates>,
}

impl Tls {
    /// Speaks TLS with these certificates.
    pub fn new(certificates: Arc<Certificates>) -> Tls {
        Tls { certificates }
    }

    /// Returns the filter for a new connection: see [`App::through`](common::App::through).
    pub fn session(&self) -> Box<dyn Filter> {
        let certificates = Arc::clone(&self.certificates);
        Box::new(Session { certificates, spoken: Spoken::Nothing })
    }
}

/// One client's TLS.
struct Session {
    certificates: Arc<Certificates>,
    spoken: Spoken,
}

/// What the client has said so far.
enum Spoken {
    Nothing,
    /// The beginning of its first message, which says whom it wants.
    Hello(Box<Acceptor>),
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
    authority: Arc<dyn Authority>,
}

const NOT_TLS: Refused =
    Refused { status: 400, why: "this port speaks TLS: the address begins with https://" };

impl Session {
    /// Reads what comes first: a request begins with a letter, and TLS with 22 (RFC 8446, section 5.1). When the first
    /// message is whole, it is known which certificate to show.
    fn begin(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let count = wire.read(&mut block)?;
        let mut arrived = &block[..count];
        match (&self.spoken, arrived.first()) {
            (_, None) => return Err(LEFT.into()),
            (Spoken::Nothing, Some(first)) if first.is_ascii_alphabetic() => {
                self.spoken = Spoken::Http;
                return Err(NOT_TLS.into());
            }
            (Spoken::Nothing, _) => self.spoken = Spoken::Hello(Box::default()),
            _ => {}
        }
        let Spoken::Hello(acceptor) = &mut self.spoken else { return Ok(()) };
        while !arrived.is_empty() {
            acceptor.read_tls(&mut arrived)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let mut talk = self.choose(accepted, wire)?;
                    talk.was_full = count == BLOCK;
                    let fed = talk.feed(arrived, wire);
                    self.spoken = Spoken::Tls(Box::new(talk));
                    return fed;
                }
                Err((error, mut alert)) => {
                    let _ = alert.write_all(&mut &mut *wire); // the client is told what is wrong, if it listens
                    return Err(failure(&error));
                }
            }
        }
        Ok(())
    }

    /// Goes on with the certificate that is for the host that the client wants.
    fn choose(&self, accepted: Accepted, wire: &mut dyn Wire) -> io::Result<Talk> {
        let identity = self.certificates.for_host(accepted.client_hello().server_name());
        let session = accepted.into_connection(Arc::clone(&identity.config));
        let session = session.map_err(|(error, mut alert)| {
            let _ = alert.write_all(&mut &mut *wire);
            failure(&error)
        })?;
        Ok(Talk {
            session,
            waiting: Vec::new(),
            said: 0,
            was_full: false,
            has_left: false,
            authority: Arc::new(Shown::new(identity)),
        })
    }
}

fn failure(error: &rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}"))
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

    /// Decrypts what has arrived, until the client has said something. What is left after that waits; what comes after its
    /// goodbye is nothing that it has said.
    fn feed(&mut self, mut arrived: &[u8], wire: &mut dyn Wire) -> io::Result<()> {
        loop {
            match self.session.process_new_packets() {
                Ok(state) => {
                    self.said = state.plaintext_bytes_to_read();
                    self.has_left |= state.peer_has_closed();
                }
                Err(error) => {
                    let _ = self.flush(wire); // the client is told what is wrong, if it listens
                    return Err(failure(&error));
                }
            }
            if self.said > 0 || self.has_left || arrived.is_empty() {
                break;
            }
            self.session.read_tls(&mut arrived)?;
        }
        if !self.has_left {
            self.waiting.extend_from_slice(arrived);
        }
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
            if self.has_left && self.session.is_handshaking() {
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
        let _ = self.flush(wire); // what is left is sent later, and what is wrong shows then
        Ok(count)
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(wire)?;
        }
        Ok(())
    }
}

/// Whether a socket takes nothing for now. A signal may have come, such as at Ctrl-Z.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Filter for Session {
    fn open(&mut self, wire: &mut dyn Wire) -> io::Result<bool> {
        match &mut self.spoken {
            Spoken::Nothing | Spoken::Hello(_) => self.begin(wire).map(|()| false),
            Spoken::Tls(talk) => talk.open(wire),
            Spoken::Http => Err(NOT_TLS.into()),
        }
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
            Spoken::Tls(talk) => {
                talk.said > 0 || talk.was_full || talk.has_left || !talk.waiting.is_empty()
            }
            _ => false,
        }
    }

    fn has_heard_the_end(&mut self, wire: &mut dyn Wire) -> bool {
        let Spoken::Tls(talk) = &mut self.spoken else { return false };
        if talk.said == 0 && !talk.has_left {
            if let Err(error) = talk.pull(wire) {
                return !is_full(&error);
            }
        }
        talk.has_left
    }

    fn authority(&self) -> Option<Arc<dyn Authority>> {
        match &self.spoken {
            Spoken::Tls(talk) => Some(Arc::clone(&talk.authority)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_signed::self_signed;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    /// A socket in memory, into which signals may come.
    #[derive(Default)]
    struct Memory {
        to_server: Vec<u8>,
        to_client: Vec<u8>,
        is_interrupted: bool,
    }

    impl Read for Memory {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let count = room.len().min(self.to_server.len());
            room[..count].copy_from_slice(&self.to_server[..count]);
            self.to_server.drain(..count);
            if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::take(&mut self.is_interrupted) {
                return Err(ErrorKind::Interrupted.into());
            }
            self.to_client.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A session, and its client, who have agreed on keys.
    fn agreed() -> (Box<dyn Filter>, ClientConnection, Memory) {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = self_signed(folder.path()).expect("it can be written");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&pair.0).expect("PEM")).expect("a certificate");
        let mut server = Tls::new(Certificates::load(&[pair]).expect("they match")).session();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("there are some");
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut wire = Memory::default();
        loop {
            while client.wants_write() {
                client.write_tls(&mut wire.to_server).expect("in memory");
            }
            let is_open = server.open(&mut wire).unwrap_or(false);
            receive(&mut client, &mut wire);
            if is_open {
                return (server, client, wire);
            }
        }
    }

    /// Lets a client take what has come. Returns what has been said to it.
    fn receive(client: &mut ClientConnection, wire: &mut Memory) -> Vec<u8> {
        let arrived = std::mem::take(&mut wire.to_client);
        let mut said = Vec::new();
        let mut arrived = &arrived[..];
        while !arrived.is_empty() {
            client.read_tls(&mut arrived).expect("in memory");
            let state = client.process_new_packets().expect("sound records");
            let mut more = vec![0; state.plaintext_bytes_to_read()];
            client.reader().read_exact(&mut more).expect("it is there");
            said.extend_from_slice(&more);
        }
        said
    }

    #[test]
    fn a_signal_makes_nothing_come_twice() {
        let (mut server, mut client, mut wire) = agreed();
        let mut said = Vec::new();
        for _ in 0..3 {
            wire.is_interrupted = true;
            let mut rest = &b"once"[..];
            while !rest.is_empty() {
                match server.send(&mut wire, rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
                }
            }
            while server.flush(&mut wire).is_err() {}
            said.extend_from_slice(&receive(&mut client, &mut wire));
        }
        assert_eq!(said, b"onceonceonce");
    }

    #[test]
    fn what_does_not_fit_is_taken_when_there_is_room_again() {
        let (mut server, mut client, mut wire) = agreed();
        client.writer().write_all(&[b'x'; 50_000]).expect("in memory");
        while client.wants_write() {
            client.write_tls(&mut wire.to_server).expect("in memory");
        }
        let (mut room, mut said) = ([0; 777], Vec::new());
        while said.len() < 50_000 {
            match server.receive(&mut wire, &mut room) {
                Ok(count) => said.extend_from_slice(&room[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
            }
        }
        assert!(said.iter().all(|byte| *byte == b'x') && said.len() == 50_000);
    }
}
