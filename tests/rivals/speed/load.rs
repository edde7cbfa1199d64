//! The clients. Two threads act as all of them: each writes requests to all of its connections, then reads all the answers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::servers::Contestant;

const THREADS: usize = 2;

/// The pause between two clients that connect. If all connect at the same time, tiny_http never answers some of them.
const ARRIVAL: Duration = Duration::from_micros(100);

/// Longer than any answer takes to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The requests of one measurement, and how they are sent.
#[derive(Clone)]
pub struct Scenario {
    pub name: String,
    pub connections: usize,
    /// How many requests are sent before the first answer is read.
    pub depth: usize,
    /// Whether a connection stays open for more than one round of requests.
    pub persists: bool,
    pub request: Vec<u8>,
    /// Whether a client with TLS comes back with a ticket.
    pub resumes: bool,
    /// Who can take part.
    pub kind: Kind,
}

/// What a measurement asks of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection for each request, which stages before 10 know as well.
    Closing,
    /// Connections that stay open.
    Persistent,
    /// The same, and a route with a parameter, which is answered with JSON.
    Routed,
}

impl Scenario {
    /// Requests for this path on connections that stay open.
    pub fn get(name: impl Into<String>, path: &str, connections: usize) -> Scenario {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        Scenario {
            name: name.into(),
            connections,
            depth: 1,
            persists: true,
            request,
            resumes: false,
            kind: Kind::Persistent,
        }
    }

    pub fn has_files(&self) -> bool {
        self.request.windows(7).any(|it| it == b"/files/")
    }
}

/// What a measurement has found.
#[derive(Clone, Copy)]
pub struct Found {
    /// Requests per second.
    pub rate: f64,
    /// The time of the processors for each of them in the server, in microseconds, if the system says so.
    pub processor: Option<f64>,
}

/// Measures a server for at least this time.
///
/// # Errors
///
/// When the server refuses a connection, or ends one.
pub fn measure(server: &Contestant, scenario: &Scenario, time: Duration) -> io::Result<Found> {
    let clients = Clients::of(server, scenario.resumes);
    let length = length_of_answer(&clients, scenario)?;
    let threads = THREADS.min(scenario.connections);
    let all_are_there = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let client = |number| {
            let share = (scenario.connections + number) / threads;
            let (clients, all_are_there) = (&clients, &all_are_there);
            scope.spawn(move || {
                let streams = clients.connect_all(share).and_then(|mut streams| {
                    // Some servers take a client only when it has asked for something.
                    play(clients, &mut streams, scenario, length, Duration::ZERO)?;
                    Ok(streams)
                });
                all_are_there.wait();
                play(clients, &mut streams?, scenario, length, time)
            })
        };
        let playing: Vec<_> = (0..threads).map(client).collect();
        all_are_there.wait();
        let (before, start) = (server.processor_time(), Instant::now());
        let counts = playing.into_iter().map(|client| client.join().expect("no client panics"));
        let count = counts.sum::<io::Result<usize>>()? as f64;
        let (after, seconds) = (server.processor_time(), start.elapsed().as_secs_f64());
        let processor = after.zip(before).map(|(after, before)| (after - before) / count);
        Ok(Found { rate: count / seconds, processor })
    })
}

/// How much memory a server takes while so many clients stay who have got an answer, in KiB.
///
/// # Errors
///
/// When the server refuses a connection, or ends one.
pub fn memory_with(server: &Contestant, count: usize) -> io::Result<Option<f64>> {
    let scenario = Scenario::get("", "/echo/hello", count);
    let clients = Clients::of(server, false);
    let length = length_of_answer(&clients, &scenario)?;
    let mut streams = clients.connect_all(count)?;
    for client in &mut streams {
        client.write_all(&scenario.request)?;
        discard(client, length, &mut [0; 1024])?;
    }
    Ok(server.memory())
}

/// Where clients connect, and what they speak.
struct Clients {
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

/// A client, with or without TLS.
enum Stream {
    Plain(TcpStream),
    Secured(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Clients {
    fn of(server: &Contestant, resumes: bool) -> Clients {
        let tls = server.tls.clone().map(|mut config| {
            let tickets = if resumes {
                Resumption::in_memory_sessions(1_000)
            } else {
                Resumption::disabled()
            };
            config.resumption = tickets;
            Arc::new(config)
        });
        Clients { port: server.port, tls }
    }

    fn connect_all(&self, count: usize) -> io::Result<Vec<Stream>> {
        let connected = (0..count).map(|_| {
            thread::sleep(ARRIVAL);
            self.connect()
        });
        connected.collect()
    }

    fn connect(&self) -> io::Result<Stream> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let Some(config) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut session =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Stream::Secured(Box::new(StreamOwned::new(session, stream))))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Secured(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Secured(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Secured(stream) => stream.flush(),
        }
    }
}

/// Acts as some of the clients, once at least. Returns how many answers there were.
fn play(
    clients: &Clients,
    streams: &mut [Stream],
    scenario: &Scenario,
    length: usize,
    time: Duration,
) -> io::Result<usize> {
    let requests = scenario.request.repeat(scenario.depth);
    let mut buffer = vec![0; 64 * 1024];
    let mut count = 0;
    let start = Instant::now();
    loop {
        for stream in &mut *streams {
            stream.write_all(&requests)?;
        }
        for stream in &mut *streams {
            discard(stream, length * scenario.depth, &mut buffer)?;
            count += scenario.depth;
            if !scenario.persists {
                *stream = clients.connect()?;
            }
        }
        if start.elapsed() >= time {
            return Ok(count);
        }
    }
}

/// The length of an answer in bytes, which is the same for all answers of a scenario.
fn length_of_answer(clients: &Clients, scenario: &Scenario) -> io::Result<usize> {
    let mut stream = clients.connect()?;
    stream.write_all(&scenario.request)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    assert!(text.starts_with("http/1.1 20"), "{text}");
    let (_, rest) = text.split_once("content-length: ").unwrap_or(("", "0\r"));
    let digits = rest.split('\r').next().unwrap_or_default();
    Ok(head.len() + digits.parse::<usize>().expect("a length"))
}

/// Reads `length` bytes and discards them.
fn discard(stream: &mut Stream, mut length: usize, buffer: &mut [u8]) -> io::Result<()> {
    while length > 0 {
        let most = length.min(buffer.len());
        match stream.read(&mut buffer[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length -= count,
        }
    }
    Ok(())
}
