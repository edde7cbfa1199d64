//! A client of other servers (stage 24's lasting form).

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::message::answer::{AnswerHead, AnswerParser, Ending, ending, wrong};
use crate::message::body::{Decoder, Framing};
use crate::message::head::{MAX_HEAD, Version};
use crate::message::headers::Known;

/// How many connections are kept for the next calls, and for how long. A server closes them sooner or later, and a call
/// on one that is just being closed is a call whose outcome nobody knows.
const MAX_IDLE: usize = 32;
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// How many bytes are read at a time.
const BLOCK: usize = 16 * 1024;

/// How many interim answers (1xx) may come before the answer.
const MAX_INTERIM: usize = 8;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The method, such as `GET`.
    pub method: &'c str,
    /// The path, with its query.
    pub target: &'c str,
    /// Further fields. `Host`, `Content-Length` and `Connection` are added.
    pub fields: &'c [(&'c str, &'c str)],
    /// The body, which may be empty.
    pub body: &'c [u8],
}

/// An answer, whole. From stage 23.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer. What can be done about it depends on how far the call has come. From stage 23.
#[derive(Debug)]
pub enum NotAnswered {
    /// Nothing has been sent: it can be tried elsewhere, whatever it is.
    Unsent(io::Error),
    /// It may have been sent, and the server may have done what it asks for. To try again is right only for what may
    /// happen twice (RFC 9110, section 9.2.2).
    Unknown(io::Error),
}

impl fmt::Display for NotAnswered {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NotAnswered::Unsent(error) => write!(f, "cannot connect: {error}"),
            NotAnswered::Unknown(error) => write!(f, "no answer: {error}"),
        }
    }
}

/// How often a call may be tried. From stage 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Again only if nothing has been sent.
    IfUnsent,
    /// Again also if nobody knows what has become of it: it may happen twice without harm.
    Always,
}

/// A client of several servers that are as good as one another. It stays with one of them as long as that answers.
#[derive(Debug)]
pub struct Members {
    clients: Vec<HttpClient>,
    /// Which of them has answered last.
    current: AtomicUsize,
}

/// What one of several servers has answered. From stage 23.
#[derive(Debug)]
pub struct Told {
    /// The answer.
    pub answer: Answer,
    /// Whether another one may have done what was asked for before this one.
    pub may_be_second: bool,
}

impl Members {
    /// Creates a client of these servers: see [`HttpClient::new`].
    pub fn new(authorities: &[String], timeout: Duration, max_body: usize) -> Members {
        let client = |name: &String| HttpClient::new(name.clone(), timeout, max_body);
        Members { clients: authorities.iter().map(client).collect(), current: AtomicUsize::new(0) }
    }

    /// Asks one after another, each of them once, until one answers with something else than that it cannot: 408, 429, or
    /// 500 and more.
    ///
    /// # Errors
    ///
    /// Why the last one has not answered; `Unknown` also if one before it may have done what was asked for.
    pub fn call(&self, call: &Call, repeat: Repeat) -> Result<Told, NotAnswered> {
        let mut may_be_second = false;
        let told = self.each(|client| {
            match client.call(call) {
                Ok(answer) if !matches!(answer.status, 408 | 429 | 500..) => {
                    return Some(Ok(answer));
                }
                Ok(answer) if repeat == Repeat::IfUnsent => return Some(Ok(answer)),
                Err(NotAnswered::Unknown(error)) if repeat == Repeat::IfUnsent => {
                    return Some(Err(NotAnswered::Unknown(error)));
                }
                Err(NotAnswered::Unsent(_)) => {}
                Ok(_) | Err(NotAnswered::Unknown(_)) => may_be_second = true,
            }
            None
        });
        match told {
            Some(answer) => Ok(Told { answer: answer?, may_be_second }),
            None if may_be_second => Err(NotAnswered::Unknown(nobody())),
            None => Err(NotAnswered::Unsent(nobody())),
        }
    }

    /// Begins a call, whose answer is read as it comes, with the first of them that answers with 200.
    ///
    /// # Errors
    ///
    /// When none does.
    pub fn begin(&self, call: &Call) -> io::Result<Incoming> {
        self.each(|client| client.begin(call).ok().filter(|it| it.status == 200)).ok_or_else(nobody)
    }

    /// Goes on with the next one.
    pub fn turn_away(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Tries the one that has answered last, and then the others.
    fn each<T>(&self, mut attempt: impl FnMut(&HttpClient) -> Option<T>) -> Option<T> {
        let first = self.current.load(Ordering::Relaxed);
        (first..first + self.clients.len()).find_map(|number| {
            let done = attempt(&self.clients[number % self.clients.len()])?;
            self.current.store(number, Ordering::Relaxed);
            Some(done)
        })
    }
}

fn nobody() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "nobody answers")
}

/// A client of one server. It keeps connections open, for any number of threads.
///
/// ```no_run
/// use common::{Call, HttpClient};
/// use std::time::Duration;
///
/// let client = HttpClient::new("127.0.0.1:4221", Duration::from_secs(2), 1_000_000);
/// let call = Call { method: "GET", target: "/echo/hello", fields: &[], body: b"" };
/// let answer = client.call(&call).expect("it listens");
/// assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
/// ```
#[derive(Debug)]
pub struct HttpClient {
    authority: String,
    timeout: Duration,
    max_body: usize,
    idle: Mutex<Vec<(TcpStream, Instant)>>,
}

impl HttpClient {
    /// Creates a client of a server: its name or address, and its port. A call takes at most this time, and its answer has
    /// a body of at most so many bytes.
    pub fn new(authority: impl Into<String>, timeout: Duration, max_body: usize) -> HttpClient {
        HttpClient { authority: authority.into(), timeout, max_body, idle: Mutex::default() }
    }

    /// Returns the name or address of the server, and its port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends a request, and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// When there is no answer in time, or none that is right.
    pub fn call(&self, call: &Call) -> Result<Answer, NotAnswered> {
        let mut incoming = self.begin(call)?;
        let mut body = Vec::new();
        let most = self.max_body as u64;
        let read = (&mut incoming).take(most + 1).read_to_end(&mut body);
        let error = match read {
            Ok(_) if body.len() <= self.max_body => None,
            Ok(_) => Some(wrong("the body of the answer is too large").into()),
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            return Err(NotAnswered::Unknown(error));
        }
        let status = incoming.status;
        if let Some(stream) = incoming.reusable() {
            self.keep(stream);
        }
        Ok(Answer { status, body })
    }

    /// Sends a request, and waits for the head of the answer. Its body is read as it comes.
    ///
    /// # Errors
    ///
    /// As [`HttpClient::call`].
    pub fn begin(&self, call: &Call) -> Result<Incoming, NotAnswered> {
        let deadline = Instant::now() + self.timeout;
        let stream = match self.kept() {
            Some(stream) => stream,
            None => self.connect(deadline).map_err(NotAnswered::Unsent)?,
        };
        let mut timed = Timed { stream, deadline };
        let begun = timed.write_all(&self.request(call));
        let begun = begun.and_then(|()| Incoming::begin(timed, call.method));
        begun.map_err(NotAnswered::Unknown)
    }

    fn request(&self, call: &Call) -> Vec<u8> {
        let Call { method, target, fields, body } = call;
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.authority);
        for (name, value) in *fields {
            bytes += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || !matches!(*method, "GET" | "HEAD") {
            bytes += &format!("Content-Length: {}\r\n", body.len());
        }
        [bytes.as_bytes(), b"\r\n", body].concat()
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut error = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in self.authority.to_socket_addrs()? {
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            match TcpStream::connect_timeout(&address, time) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }

    /// Returns a connection that is still open, if there is one.
    fn kept(&self) -> Option<TcpStream> {
        loop {
            let (stream, since) = self.idle().pop()?;
            if since.elapsed() < MAX_IDLE_TIME && is_silent(&stream) {
                return Some(stream);
            }
        }
    }

    fn keep(&self, stream: TcpStream) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push((stream, Instant::now()));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(TcpStream, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a connection is open, and nothing has come that nobody has asked for.
fn is_silent(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let is_silent = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
    is_silent && stream.set_nonblocking(false).is_ok()
}

/// A connection on which all must be done by some time.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(too_late)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(too_late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A timeout has the same kind on all systems here.
fn too_late(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// An answer whose body is still on its way. Reading it gives the content. If it ends too early, that is an error.
#[derive(Debug)]
pub struct Incoming {
    /// The status code.
    pub status: u16,
    timed: Timed,
    body: Body,
    /// Whether the connection can be used again after the body.
    persists: bool,
}

impl Incoming {
    /// Reads the head of an answer to this method.
    fn begin(mut timed: Timed, method: &str) -> io::Result<Incoming> {
        let (status, body, persists) = read_head(&mut timed, method)?;
        Ok(Incoming { status, timed, body, persists })
    }

    /// Gives the rest of the body this time, from now on.
    pub fn within(&mut self, time: Duration) {
        self.timed.deadline = Instant::now() + time;
    }

    /// Returns a handle that ends the connection from another thread.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor for it.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.timed.stream.try_clone()
    }

    /// The connection, if all of the body has been read, and it can be used again.
    fn reusable(self) -> Option<TcpStream> {
        (self.persists && self.body.is_whole()).then_some(self.timed.stream)
    }
}

impl Read for Incoming {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.body.read(&mut self.timed, room)
    }
}

/// Reads heads up to that of the answer, which comes after the interim ones. Returns its status, its body, and whether the
/// connection stays open after that.
fn read_head(source: &mut impl Read, method: &str) -> io::Result<(u16, Body, bool)> {
    let mut bytes = Vec::new();
    let mut parser = AnswerParser::new();
    let mut interim = 0;
    loop {
        let Some(length) = parser.advance(&bytes)? else {
            let start = bytes.len();
            bytes.resize((start + BLOCK).min(MAX_HEAD + BLOCK), 0);
            let count = source.read(&mut bytes[start..]);
            bytes.truncate(start + count.as_ref().copied().unwrap_or(0));
            match count {
                Ok(0) => return Err(ended("the connection has ended before the answer")),
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => continue,
            }
        };
        let head = parser.head(&bytes);
        if (100..200).contains(&head.status) {
            interim += 1;
            if interim > MAX_INTERIM || head.status == 101 {
                return Err(wrong("there is no end of interim answers").into());
            }
            bytes.drain(..length);
            parser = AnswerParser::new();
            continue;
        }
        let ending = ending(&head, method)?;
        let (status, persists) = (head.status, persists(&head) && ending != Ending::Connection);
        let arrived = bytes.split_off(length);
        return Ok((status, Body::new(ending, arrived), persists));
    }
}

/// Whether the server keeps the connection open (RFC 9112, section 9.3).
fn persists(head: &AnswerHead) -> bool {
    let mut options = head.headers.known_list(Known::Connection);
    let says_close = options.any(|option| option.eq_ignore_ascii_case(b"close"));
    head.version == Version::Http11 && !says_close
}

fn ended(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, why)
}

/// The content of an answer.
#[derive(Debug)]
struct Body {
    /// `None` if it goes on to the end of the connection.
    decoder: Option<Decoder>,
    /// What has arrived and not been decoded: from `start` on.
    arrived: Vec<u8>,
    start: usize,
    has_ended: bool,
}

impl Body {
    fn new(ending: Ending, arrived: Vec<u8>) -> Body {
        let decoder = match ending {
            Ending::Framed(framing) => Some(Decoder::new(framing)),
            Ending::Connection => None,
        };
        let has_ended = ending == Ending::Framed(Framing::None);
        Body { decoder, arrived, start: 0, has_ended }
    }

    /// Whether all of it has been read, and nothing more has come.
    fn is_whole(&self) -> bool {
        self.decoder.as_ref().is_some_and(Decoder::is_done) && self.start == self.arrived.len()
    }

    fn read(&mut self, source: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.decoder else {
                return self.read_to_the_end(source, room);
            };
            let (used, written) = decoder
                .decode(&self.arrived[self.start..], room)
                .map_err(|refused| wrong(refused.why))?;
            self.start += used;
            if written > 0 || room.is_empty() || decoder.is_done() {
                return Ok(written);
            }
            if self.has_ended || self.fill(source)? == 0 {
                return Err(ended("the connection has ended in the middle of the answer"));
            }
        }
    }

    fn read_to_the_end(&mut self, source: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
        if self.start == self.arrived.len() && !self.has_ended {
            self.has_ended = self.fill(source)? == 0;
        }
        let count = room.len().min(self.arrived.len() - self.start);
        room[..count].copy_from_slice(&self.arrived[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }

    /// Reads more, when all that has arrived has been used.
    fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.arrived.resize(BLOCK, 0);
        self.start = 0;
        let read = source.read(&mut self.arrived);
        self.arrived.truncate(read.as_ref().copied().unwrap_or(0));
        read
    }
}

/// Reads an answer to this method from its bytes: its status, and its content. For tests.
///
/// # Errors
///
/// As [`HttpClient::call`].
pub fn read_answer(mut source: impl Read, method: &str) -> io::Result<Answer> {
    let (status, mut content, _) = read_head(&mut source, method)?;
    let mut body = Vec::new();
    let mut block = [0; BLOCK];
    loop {
        match content.read(&mut source, &mut block)? {
            0 => return Ok(Answer { status, body }),
            count => body.extend_from_slice(&block[..count]),
        }
    }
}
