//! A server that speaks TLS, and clients for it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{App, Events, Limits, Listener, Response, Service};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;
use tls::{Certificates, Tls};

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A certificate that nobody else has signed, and its key.
pub struct Pair {
    folder: TempDir,
}

impl Pair {
    pub fn for_names(names: &[&str]) -> Pair {
        let pair = Pair { folder: tempfile::tempdir().expect("a folder") };
        pair.renew(names);
        pair
    }

    /// Puts another one into its place.
    pub fn renew(&self, names: &[&str]) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(self.key(), key.serialize_pem()).expect("writable");
        fs::write(self.certificate(), certificate.pem()).expect("writable");
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

/// A server that ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    pub certificates: Arc<Certificates>,
    pub events: Events,
    stop: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<bool>>,
}

impl Server {
    pub fn start(pairs: &[&Pair], limits: Limits, with_threads: bool) -> Server {
        let files: Vec<_> = pairs.iter().map(|pair| (pair.certificate(), pair.key())).collect();
        let certificates = Certificates::load(&files).expect("they match");
        let tls = Tls::new(Arc::clone(&certificates));
        let events = Events::new(1, Duration::from_secs(60));
        let mut app = app(&events);
        app.through(move || tls.session());
        let listener = Listener::bind_for_several(0).expect("a free port");
        let address = listener.address();
        let service = Service::new(listener, limits).expect("a service");
        let stop = Arc::new(service.stopper());
        let run = move || match with_threads {
            true => app.run(service).expect("the routes are right"),
            false => {
                event_loop::run(app.driven(service).expect("they are right"), 2).expect("it runs")
            }
        };
        Server { address, certificates, events, stop, thread: Some(thread::spawn(run)) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("not zero");
        stream.set_nodelay(true).expect("connected");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        (self.stop)();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(_))), "it has not ended well");
    }
}

fn app(events: &Events) -> App {
    let mut app = App::new();
    app.get("/", |_| Ok(Response::text("hello")));
    app.post("/", |request| {
        let mut text = Vec::new();
        request.body()?.read_to_end(&mut text)?;
        Ok(Response::text(text))
    });
    let watched = events.clone();
    app.get("/events", move |request| {
        let watch = watched.watch(request.header("Last-Event-ID"));
        Ok(watch.map_or_else(|| Response::new(503), Response::events))
    });
    let ended = events.clone();
    app.at_stop(move || ended.close());
    app
}

/// Clients that trust this certificate, and speak these versions.
pub fn config(pair: &Pair, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pair.certificate()).expect("PEM"))
        .expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("known versions");
    builder.with_root_certificates(roots).with_no_client_auth()
}

pub fn trusting(pair: &Pair) -> Arc<ClientConfig> {
    Arc::new(config(pair, rustls::ALL_VERSIONS))
}

/// A client that wants this name.
pub fn client(name: &str, config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a client")
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects, and agrees on keys.
pub fn begin(server: &Server, name: &str, config: &Arc<ClientConfig>) -> Stream {
    let (mut session, mut socket) = (client(name, config), server.connect());
    while session.is_handshaking() {
        session.complete_io(&mut socket).expect("they agree");
    }
    StreamOwned::new(session, socket)
}

/// Connects, and agrees on keys; but the last message of the client is still to be sent.
pub fn begin_without_last_message(
    server: &Server,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Stream {
    let (mut session, mut socket) = (client(name, config), server.connect());
    while session.is_handshaking() {
        while session.wants_write() {
            session.write_tls(&mut socket).expect("it reads");
        }
        session.read_tls(&mut socket).expect("it answers");
        session.process_new_packets().expect("they agree");
    }
    StreamOwned::new(session, socket)
}

/// Begins to watch; `None` if there is no place.
pub fn watch(server: &Server, config: &Arc<ClientConfig>) -> Option<Stream> {
    let mut stream = begin(server, "a.example", config);
    let request = b"GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n";
    stream.write_all(request).expect("it reads");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("it answers");
    (answer == *b"HTTP/1.1 200").then_some(stream)
}

/// Asks for `/` of this host, and returns the status.
pub fn ask(stream: &mut Stream, host: &str) -> u16 {
    let host = if host.contains("::") && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it reads");
    read_answer(stream).0
}

/// Reads an answer. Returns its status and its body.
pub fn read_answer(stream: &mut Stream) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it answers");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head[9..12].parse().expect("a number");
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut body = vec![0; length.and_then(|it| it.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).expect("all of it");
    (status, body)
}

/// Sends these bytes, and receives what comes meanwhile, until this number of bytes has come or nothing comes any more.
/// Returns how many bytes have come.
pub fn send_and_receive(stream: &mut Stream, mut bytes: &[u8], expected: usize) -> usize {
    let StreamOwned { conn: session, sock: socket } = stream;
    let start = Instant::now();
    let mut received = 0;
    while (received <= expected || !bytes.is_empty()) && start.elapsed() < TIMEOUT {
        let count = session.writer().write(bytes).expect("in memory");
        bytes = &bytes[count..];
        done(session.write_tls(socket));
        match done(session.read_tls(socket)) {
            Some(0) => break,
            Some(_) => {
                let state = session.process_new_packets().expect("sound records");
                let mut said = vec![0; state.plaintext_bytes_to_read()];
                session.reader().read_exact(&mut said).expect("it is there");
                received += said.len();
            }
            None => thread::yield_now(),
        }
    }
    received
}

fn done(outcome: io::Result<usize>) -> Option<usize> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        outcome => Some(outcome.expect("the connection is sound")),
    }
}

/// Whether something becomes true before long.
pub fn within_a_while(mut is_true: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < TIMEOUT {
        if is_true() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}
