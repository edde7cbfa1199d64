//! A client that speaks TLS to a server under test.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use harness::{Connection, Failure, Server, TIMEOUT};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, SupportedProtocolVersion};

use crate::identity::Identity;
use crate::tunnel::Tunnel;

/// What a client speaks, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: String,
}

/// A connection to a server, through TLS.
#[derive(Debug)]
pub struct Secured {
    /// What is sent and received inside.
    pub connection: Connection,
    /// The version that both have agreed on.
    pub version: Option<ProtocolVersion>,
    /// The protocol inside that both have agreed on, such as `http/1.1`.
    pub protocol: Option<Vec<u8>>,
}

impl Client {
    /// A client that trusts the authority of this certificate, and wants `localhost`. It offers both versions of TLS, and
    /// `http/1.1`.
    pub fn trusting(identity: &Identity) -> Client {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        Client::speaking(identity, &versions, &["http/1.1"])
    }

    /// A client that offers these versions of TLS, and these protocols inside.
    ///
    /// # Panics
    ///
    /// When there is no such version: a mistake in the check.
    pub fn speaking(
        identity: &Identity,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Client {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).expect("known versions");
        let mut config = builder.with_root_certificates(identity.roots()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Client { config: Arc::new(config), name: "localhost".to_owned() }
    }

    /// The same client, which wants a server of this name.
    #[must_use]
    pub fn wanting(self, name: &str) -> Client {
        Client { name: name.to_owned(), ..self }
    }

    /// What it speaks, and whom it trusts.
    pub fn config(&self) -> ClientConfig {
        (*self.config).clone()
    }

    /// Begins a session, without a connection.
    ///
    /// # Panics
    ///
    /// When the name is none: a mistake in the check.
    pub fn session(&self) -> ClientConnection {
        let name = ServerName::try_from(self.name.clone()).expect("a name");
        ClientConnection::new(Arc::clone(&self.config), name).expect("a sound configuration")
    }

    /// Connects, and lets both sides agree on their keys.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, when the handshake fails, and when it takes more than five seconds.
    pub fn connect(&self, server: &Server) -> Result<Secured, Failure> {
        self.connect_with(server, &[])
    }

    /// Connects, and sends these texts at once, each in a record of its own.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn connect_with(&self, server: &Server, records: &[&[u8]]) -> Result<Secured, Failure> {
        // With TLS 1.3, the last message of the handshake goes out together with the records.
        let (mut stream, mut session) = self.agree(server)?;
        send(&mut stream, &mut session, records).map_err(|error| cannot(&error))?;
        let (version, protocol) =
            (session.protocol_version(), session.alpn_protocol().map(<[u8]>::to_vec));
        let connection = join(stream, session).map_err(|error| cannot(&error))?;
        Ok(Secured { connection: Connection::new(connection)?, version, protocol })
    }

    /// Connects, sends this text, waits for an answer if the text is a whole request, and ends the connection without a
    /// goodbye.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], and when the server does not close the connection as well.
    pub fn connect_and_cut(&self, server: &Server, text: &[u8]) -> Result<(), Failure> {
        let (mut stream, mut session) = self.agree(server)?;
        let cut = send(&mut stream, &mut session, &[text])
            .and_then(|()| stream.shutdown(Shutdown::Write))
            .and_then(|()| io::copy(&mut stream, &mut io::sink()));
        match cut {
            Err(error) if is_timeout(&error) => {
                let failure = Failure::new("your server does not close a connection that was cut");
                Err(server.finish(failure))
            }
            _ => Ok(()),
        }
    }

    /// Connects, and lets both sides agree on their keys.
    fn agree(&self, server: &Server) -> Result<(TcpStream, ClientConnection), Failure> {
        let mut stream = server.connect()?.into_stream();
        let mut session = self.session();
        handshake(&mut stream, &mut session).map_err(|error| server.finish(explain(&error)))?;
        Ok((stream, session))
    }

    /// The first message of a client.
    pub fn hello(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.session().write_tls(&mut bytes).expect("there is room");
        bytes
    }
}

/// Lets both sides agree on their keys. The last message may still be unsent.
fn handshake(stream: &mut TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    while session.is_handshaking() {
        while session.wants_write() {
            session.write_tls(stream)?;
        }
        if session.read_tls(stream)? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection has ended"));
        }
        if let Err(error) = session.process_new_packets() {
            let _ = session.write_tls(stream); // the server is told why
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
    Ok(())
}

/// Sends these texts at once, each in a record of its own.
fn send(
    stream: &mut TcpStream,
    session: &mut ClientConnection,
    records: &[&[u8]],
) -> io::Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        session.writer().write_all(record)?;
    }
    while session.wants_write() {
        session.write_tls(&mut bytes)?;
    }
    stream.write_all(&bytes)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn cannot(error: &io::Error) -> Failure {
    Failure::new(format!("this check cannot connect: {error}"))
}

fn explain(error: &io::Error) -> Failure {
    let failure = match is_timeout(error) {
        true => Failure::new("the handshake of TLS does not end within 5 seconds"),
        false => Failure::new(format!("the handshake of TLS fails: {error}")),
    };
    match error.to_string().contains("InvalidContentType") {
        true => failure.cause("Your server has answered something that is not TLS."),
        false => failure,
    }
}

/// Returns a plain socket that leads through TLS.
fn join(secured: TcpStream, session: ClientConnection) -> io::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let plain = TcpStream::connect(listener.local_addr()?)?;
    let (inner, _) = listener.accept()?;
    for socket in [&secured, &plain, &inner] {
        socket.set_nodelay(true)?;
    }
    let tunnel = Tunnel::new(inner, secured, session)?;
    thread::spawn(move || tunnel.carry());
    Ok(plain)
}
