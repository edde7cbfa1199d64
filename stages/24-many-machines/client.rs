//! The server as a client: it asks the members of a cluster.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Ask, MAX_ANSWER};
use common::{Answer, Decoder, NotAnswered, Repeat, Told};

/// How long a member may take to answer.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a connection is kept that is not in use. The longer, the more likely is it that nobody is there any more.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// The most bytes that a head may have.
const MAX_HEAD: u64 = 16 * 1024;

/// The members, and connections to them that are open and not in use.
pub struct Members {
    addresses: Vec<String>,
    /// Which of them has answered last.
    current: AtomicUsize,
    idle: Mutex<Vec<(usize, TcpStream, Instant)>>,
}

impl Members {
    pub fn new(addresses: Vec<String>) -> Members {
        Members { addresses, current: AtomicUsize::new(0), idle: Mutex::default() }
    }

    /// The numbers of all members, beginning with the one that has answered last.
    fn order(&self) -> impl Iterator<Item = usize> {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.addresses.len());
        (0..count).map(move |step| (first + step) % count)
    }

    /// Sends a request to a member. The answer can be read then.
    fn send(&self, number: usize, path: &str, body: &[u8]) -> Result<Timed, NotAnswered> {
        let deadline = Instant::now() + TIMEOUT;
        let stream = match self.idle_stream(number) {
            Some(stream) => stream,
            None => connect(&self.addresses[number]).map_err(NotAnswered::Unsent)?,
        };
        let (host, length) = (&self.addresses[number], body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut timed = Timed { stream, deadline };
        let sent = timed.write_all(&[head.as_bytes(), body].concat());
        sent.map(|()| timed).map_err(NotAnswered::Unknown)
    }

    /// Asks one member, and keeps the connection if it can be used again.
    fn ask_one(&self, number: usize, path: &str, body: &[u8]) -> Result<Answer, NotAnswered> {
        let timed = self.send(number, path, body)?;
        let mut reader = BufReader::new(timed);
        let (answer, stays_open) = read_answer(&mut reader).map_err(NotAnswered::Unknown)?;
        if stays_open && reader.buffer().is_empty() {
            let stream = reader.into_inner().stream;
            self.idle.lock().expect("no thread panics").push((number, stream, Instant::now()));
        }
        Ok(answer)
    }

    /// Returns an open connection to a member. One that the member has closed meanwhile is dropped.
    fn idle_stream(&self, number: usize) -> Option<TcpStream> {
        let mut idle = self.idle.lock().expect("no thread panics");
        idle.retain(|(_, _, since)| since.elapsed() < MAX_IDLE_TIME);
        while let Some(at) = idle.iter().rposition(|(it, ..)| *it == number) {
            let (_, stream, _) = idle.remove(at);
            let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
            let is_open = matches!(looked, Err(error) if error.kind() == ErrorKind::WouldBlock);
            if is_open && stream.set_nonblocking(false).is_ok() {
                return Some(stream);
            }
        }
        None
    }
}

impl Ask for Members {
    fn ask(&self, path: &str, body: &[u8], repeat: Repeat) -> Result<Told, NotAnswered> {
        let mut may_be_second = false;
        for number in self.order() {
            match self.ask_one(number, path, body) {
                Ok(answer) if !should_ask_another(answer.status) || repeat == Repeat::IfUnsent => {
                    self.current.store(number, Ordering::Relaxed);
                    return Ok(Told { answer, may_be_second });
                }
                Err(NotAnswered::Unsent(_)) => {} // whatever it is, nothing has happened
                Err(unknown) if repeat == Repeat::IfUnsent => return Err(unknown),
                _ => may_be_second = true, // it may have happened, and may happen again
            }
        }
        let nobody = io::Error::new(ErrorKind::NotConnected, "no member answers");
        Err(match may_be_second {
            true => NotAnswered::Unknown(nobody),
            false => NotAnswered::Unsent(nobody),
        })
    }

    fn listen(&self, path: &str, body: &[u8], patience: Duration) -> io::Result<Box<dyn Read>> {
        for number in self.order() {
            let Ok(timed) = self.send(number, path, body) else { continue };
            let mut reader = BufReader::new(timed);
            if let Ok(head) = read_head(&mut reader) {
                if head.status == 200 && head.is_chunked {
                    return Ok(Box::new(Patient { chunks: Chunks::new(reader), patience }));
                }
            }
        }
        self.current.fetch_add(1, Ordering::Relaxed); // and with another one first the next time
        Err(io::Error::new(ErrorKind::NotConnected, "no member answers"))
    }
}

/// Whether an answer says that this member cannot do anything now: 408, 429, and 500 or more.
fn should_ask_another(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return stream.set_nodelay(true).map(|()| stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A connection on which all must be done by some time. A timeout for each read would not be enough: a byte now and then
/// keeps that away forever.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the head of an answer says.
struct Head {
    status: u16,
    is_chunked: bool,
    length: Option<usize>,
    stays_open: bool,
}

/// Reads a head: the mirror of what the server does in stages 3 and 5.
fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut text = Vec::new();
    let mut limited = reader.take(MAX_HEAD);
    while !text.ends_with(b"\r\n\r\n") {
        if limited.read_until(b'\n', &mut text)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    let mut lines = text.split("\r\n");
    let status =
        lines.next().and_then(|line| line.strip_prefix("http/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or(ErrorKind::InvalidData)?;
    let mut head = Head { status, is_chunked: false, length: None, stays_open: true };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match (name, value.trim()) {
            ("transfer-encoding", "chunked") => head.is_chunked = true,
            ("content-length", digits) => {
                head.length = Some(digits.parse().map_err(|_| ErrorKind::InvalidData)?);
            }
            ("connection", "close") => head.stays_open = false,
            _ => {}
        }
    }
    Ok(head)
}

/// Reads an answer. Returns it, and whether the connection can be used again.
fn read_answer(reader: &mut BufReader<Timed>) -> io::Result<(Answer, bool)> {
    let head = read_head(reader)?;
    let mut body = Vec::new();
    match head.length {
        _ if head.is_chunked => {
            let mut chunks = Chunks::new(reader);
            (&mut chunks).take(MAX_ANSWER as u64).read_to_end(&mut body)?;
            if !chunks.decoder.is_done() {
                return Err(ErrorKind::InvalidData.into()); // it is too large
            }
        }
        Some(length) if length <= MAX_ANSWER => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        _ => return Err(ErrorKind::InvalidData.into()), // where does it end?
    }
    Ok((Answer { status: head.status, body }, head.stays_open))
}

/// A body in chunks, decoded as the server decodes those of its clients since stage 13.
struct Chunks<R> {
    reader: R,
    decoder: Decoder,
}

impl<R: BufRead> Chunks<R> {
    fn new(reader: R) -> Chunks<R> {
        Chunks { reader, decoder: Decoder::new() }
    }
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while !self.decoder.is_done() {
            let arrived = self.reader.fill_buf()?;
            if arrived.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let (used, written) = self.decoder.decode(arrived, room)?;
            self.reader.consume(used);
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

/// A body that may take its time, as long as something comes now and then.
struct Patient {
    chunks: Chunks<BufReader<Timed>>,
    patience: Duration,
}

impl Read for Patient {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.chunks.reader.get_mut().deadline = Instant::now() + self.patience;
        self.chunks.read(room)
    }
}
