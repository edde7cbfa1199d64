//! An answer, read from a connection and parsed as strictly as RFC 9112 asks and no stricter.

use std::io;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::{Connection, Ending};
use crate::{show, text};

/// How long to wait for surplus bytes after an answer on a connection that stays open.
const SURPLUS: Duration = Duration::from_millis(10);

/// The longest body that a check takes into memory, in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// The chapter that explains how a client finds the end of a body.
pub(crate) const LENGTHS: &str = "docs/04-echo.md";

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The fields, in order.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The received bytes. If earlier requests were sent together with this one, their answers come first.
    pub raw: Vec<u8>,
    /// Whether it ended with the connection, or is an answer of HTTP/1.0.
    ends_connection: bool,
}

impl Answer {
    /// The value of the first field called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Whether it announces that the connection will close (RFC 9112, sections 9.3 and 9.6).
    pub fn is_last(&self) -> bool {
        self.connection_has("close") || self.ends_connection && !self.connection_has("keep-alive")
    }

    fn connection_has(&self, wanted: &str) -> bool {
        let connection =
            self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Connection"));
        let mut options = connection.flat_map(|(_, value)| value.split(','));
        options.any(|option| option.trim().eq_ignore_ascii_case(wanted))
    }
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
}

/// A status and fields, and the position in the bytes where they end.
struct Head {
    /// Whether it is a head of HTTP/1.0.
    is_old: bool,
    status: u16,
    headers: Vec<(String, String)>,
    end: usize,
}

/// Reads one answer. Returns it with its length in bytes.
pub(crate) fn read(connection: &mut Connection, method: &str) -> Result<(Answer, usize), Failure> {
    let begin = Instant::now();
    let mut start = 0;
    let head = loop {
        let head = read_head(connection, start, begin)?;
        start = head.end;
        match head.status {
            100..=199 => {} // an interim answer, such as 100 Continue
            _ => break head,
        }
    };
    let (body, end) = read_body(connection, &head, method, begin)?;
    let ends_connection =
        head.is_old || framing(&head, method).is_ok_and(|it| it == Framing::Close);
    let Head { status, headers, .. } = head;
    let raw = connection.shown_until(end).to_vec();
    Ok((Answer { status, headers, body, raw, ends_connection }, end))
}

/// Reads the head of an answer that goes on. Returns it as an answer without a body, and its length in bytes.
pub(crate) fn begin(connection: &mut Connection) -> Result<(Answer, usize), Failure> {
    let head = read_head(connection, 0, Instant::now())?;
    let raw = connection.shown_until(head.end).to_vec();
    let Head { is_old, status, headers, end } = head;
    let answer = Answer { status, headers, body: Vec::new(), raw, ends_connection: is_old };
    Ok((answer, end))
}

/// Reads one head, whatever its status. Returns the status and the length of the head in bytes.
pub(crate) fn read_interim(connection: &mut Connection) -> Result<(u16, usize), Failure> {
    let head = read_head(connection, 0, Instant::now())?;
    Ok((head.status, head.end))
}

fn read_head(connection: &mut Connection, start: usize, begin: Instant) -> Result<Head, Failure> {
    loop {
        let bytes = &connection.unread()[start..];
        if let Some(length) = find_bytes(bytes, b"\r\n\r\n") {
            let head = parse_head(&bytes[..length], start + length + 4);
            return head.map_err(|failure| with_bytes(failure, connection));
        }
        if let Err(ending) = connection.receive_more(begin) {
            return Err(with_bytes(no_head(&connection.unread()[start..], &ending), connection));
        }
    }
}

fn with_bytes(failure: Failure, connection: &Connection) -> Failure {
    failure.bytes(connection.sent(), connection.shown())
}

fn find_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// What is wrong with an answer that ends or stops before its blank line.
fn no_head(received: &[u8], ending: &Ending) -> Failure {
    match ending {
        Ending::Failed(error) => broken(error).guess(
            "Your server probably closed the connection with bytes from the client still unread. Then the \
             system resets the connection, and the client loses the answer. Read the whole request, then \
             answer, then close.",
        ),
        Ending::Closed if received.is_empty() => {
            Failure::new("your server closed the connection without an answer")
                .guess("Every request must get an answer, even if it is only \"HTTP/1.1 404 Not Found\".")
        }
        Ending::Silent if received.is_empty() => Failure::new("no answer within 5 seconds").guess(
            "Your server may still be waiting: for the end of the connection, as read_to_end does, or for more \
             bytes than the client sends. Or the answer is in a buffer that you must flush. Or your server \
             never accepts this client, because it, or each of its threads, waits for another one.",
        ),
        _ if !received.starts_with(b"HTTP/") => status_line_failure(received, 0, "HTTP/1.1"),
        _ if has_bare_newline(received) => bare_newline(),
        _ => Failure::new("the head of the answer has no end").cause(
            "The last header must be followed by a blank line: one \"\\r\\n\" ends the header's line, and \
             another one is the blank line.",
        ),
    }
}

fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionReset => Failure::new("your server reset the connection"),
        _ => Failure::new(format!("the connection broke: {error}")),
    }
}

fn has_bare_newline(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\n") || bytes.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r')
}

fn bare_newline() -> Failure {
    Failure::new("a line of the answer ends with \\n alone").cause(
        "In HTTP every line of the head ends with two bytes, \\r and \\n (RFC 9112, section 2.1).",
    )
}

/// Parses the bytes before the blank line.
fn parse_head(bytes: &[u8], end: usize) -> Result<Head, Failure> {
    if has_bare_newline(bytes) {
        return Err(bare_newline());
    }
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| line.trim_ascii_end());
    let status_line = lines.next().unwrap_or_default();
    let status = parse_status_line(status_line)?;
    let headers = lines.map(parse_field).collect::<Result<_, _>>()?;
    Ok(Head { is_old: status_line.starts_with(b"HTTP/1.0"), status, headers, end })
}

/// `status-line = HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112, section 4)
fn parse_status_line(line: &[u8]) -> Result<u16, Failure> {
    let expect = |at: usize, what: &str, holds: bool| {
        if holds { Ok(()) } else { Err(status_line_failure(line, at, what)) }
    };
    let is_digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    expect(0, "HTTP/1.1", line.starts_with(b"HTTP/1.1") || line.starts_with(b"HTTP/1.0"))?;
    expect(8, "one space", line.get(8) == Some(&b' '))?;
    for at in 9..12 {
        expect(at, "a status code of three digits", is_digit(at))?;
    }
    // RFC 9112 wants this space even if no phrase follows. Many servers leave it out then, and all clients
    // accept that.
    expect(12, "a space after the status code", matches!(line.get(12), Some(b' ') | None))?;
    let digits = line[9..12].iter().map(|digit| u16::from(digit - b'0'));
    Ok(digits.fold(0, |code, digit| code * 10 + digit))
}

/// Points at the first byte of a status line that is not what was expected.
fn status_line_failure(received: &[u8], at: usize, expected: &str) -> Failure {
    let line = received.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let shown = show::message(&line[..line.len().min(60)]);
    let before = show::message(&line[..at.min(line.len())]).chars().count();
    let before = if at == 0 { 0 } else { before };
    Failure::new(format!("the answer does not begin with a status line: {expected} is expected"))
        .look(format!("{shown}\n{:before$}^ here", ""))
        .cause("An answer begins with the version, a code and a phrase, such as HTTP/1.1 200 OK.")
}

/// `field-line = field-name ":" OWS field-value OWS` (RFC 9112, section 5)
fn parse_field(line: &[u8]) -> Result<(String, String), Failure> {
    let shown = show::quoted(line);
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Err(Failure::new(format!("a header of the answer has no colon: {shown}")).cause(
            "A header is a line \"Name: value\". Did you forget the blank line before the body?",
        ));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(is_tchar) {
        return Err(Failure::new(format!("a header of the answer has an invalid name: {shown}"))
            .cause("A header name consists of letters, digits and hyphens, and the colon follows it without a \
                    space."));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
    Ok((text(name), text(value)))
}

/// How an answer's body ends (RFC 9112, section 6.3).
#[derive(PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

fn framing(head: &Head, method: &str) -> Result<Framing, Failure> {
    let lengths: Vec<_> = head
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("Content-Length"))
        .map(|(_, value)| value.as_str())
        .collect();
    let coding = find(&head.headers, "Transfer-Encoding").unwrap_or_default();
    if method == "HEAD" || matches!(head.status, 204 | 304) {
        return Ok(Framing::None);
    }
    match lengths[..] {
        _ if coding.to_ascii_lowercase().ends_with("chunked") && lengths.is_empty() => {
            Ok(Framing::Chunked)
        }
        _ if !coding.is_empty() && !lengths.is_empty() => Err(Failure::new(
            "the answer has both Content-Length and Transfer-Encoding",
        )
        .cause(
            "Each of them says where the body ends, and the two could disagree. Send only one of them.",
        )),
        [] => Ok(Framing::Close),
        [length] if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().ok();
            length.map(Framing::Length).ok_or(Failure::new("Content-Length is not a number"))
        }
        [length] => Err(Failure::new(format!("Content-Length is not a number: \"{length}\""))),
        _ => Err(Failure::new("the answer has more than one Content-Length")),
    }
}

fn read_body(
    connection: &mut Connection,
    head: &Head,
    method: &str,
    begin: Instant,
) -> Result<(Vec<u8>, usize), Failure> {
    let result = match framing(head, method).map_err(|failure| with_bytes(failure, connection))? {
        Framing::None => read_nothing(connection, head.end, method),
        Framing::Length(length) => read_length(connection, head, length, begin),
        Framing::Chunked => read_chunks(connection, head.end, begin),
        Framing::Close => read_to_close(connection, head.end, begin),
    };
    result.map_err(|failure| with_bytes(failure, connection))
}

/// Makes sure that no bytes follow the head of an answer without a body.
fn read_nothing(
    connection: &mut Connection,
    end: usize,
    method: &str,
) -> Result<(Vec<u8>, usize), Failure> {
    let is_last = !connection.expects_more_answers();
    if is_last && (connection.unread().len() > end || connection.receive(SURPLUS).is_ok()) {
        return Err(Failure::new("the answer has a body").cause(if method == "HEAD" {
            "The answer to HEAD must end with its blank line, even if Content-Length is not 0. The client does \
             not expect a body after it."
        } else {
            "An answer with this status must have no body (RFC 9110, section 6.4.1)."
        }));
    }
    Ok((Vec::new(), end))
}

fn read_length(
    connection: &mut Connection,
    head: &Head,
    length: usize,
    begin: Instant,
) -> Result<(Vec<u8>, usize), Failure> {
    if length > MAX_BODY {
        let problem = format!(
            "the answer has {length} bytes, which is far more than this check has asked for"
        );
        return Err(Failure::new(problem));
    }
    let start = head.end;
    let end = start + length;
    while connection.unread().len() < end {
        if let Err(ending) = connection.receive_more(begin) {
            let found = connection.unread().len() - start;
            let stays_open = matches!(ending, Ending::Silent);
            let silence = if stays_open { ", and the connection stays open" } else { "" };
            let problem =
                format!("Content-Length is {length}, but the body has {found} bytes{silence}");
            let why = match find(&head.headers, "Content-Encoding") {
                Some(_) => {
                    "Content-Length must be the number of bytes that you send. Count the compressed bytes."
                }
                None if stays_open => "The client waits for bytes that never arrive.",
                None => {
                    "The answer is shorter than Content-Length says, so the client treats it as incomplete."
                }
            };
            return Err(Failure::new(problem).cause(why).read(LENGTHS));
        }
    }
    if connection.expects_more_answers() {
        return Ok((connection.unread()[start..end].to_vec(), end));
    }
    while connection.unread().len() == end && connection.receive(SURPLUS).is_ok() {}
    if connection.unread().len() > end {
        return Err(surplus(connection, start, length, begin));
    }
    Ok((connection.unread()[start..end].to_vec(), end))
}

/// Reports a body that is longer than `Content-Length`.
fn surplus(connection: &mut Connection, start: usize, length: usize, begin: Instant) -> Failure {
    while begin.elapsed() < super::TIMEOUT && connection.receive(SURPLUS).is_ok() {}
    let body = &connection.unread()[start..];
    let found = body.len();
    if body.get(length..).is_some_and(|surplus| surplus.starts_with(b"HTTP/1.")) {
        return Failure::new("your server sent two answers to one request").cause(
            "Your server probably read a part of the request as a second request: a part of the body, or what \
             follows the body. Read every body to its end.",
        );
    }
    let problem = format!("Content-Length is {length}, but the body has {found} bytes");
    let failure = Failure::new(problem).read(LENGTHS);
    if let Some(cause) = text::explain_latin_1(body) {
        return failure.cause(cause);
    }
    let text = String::from_utf8_lossy(body);
    match text.chars().find(|character| character.len_utf8() > 1) {
        Some(character) if text.chars().count() == length && !text.ends_with('\n') => {
            let bytes: Vec<_> =
                character.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
            failure.cause(format!(
                "Content-Length counts bytes. \"{character}\" is one character but {} bytes ({}). The client \
                 stops reading too early.",
                bytes.len(),
                bytes.join(" ")
            ))
        }
        _ if found > length && [&b"\r\n"[..], b"\n"].contains(&&body[length..]) => {
            failure.cause(format!(
                "The body ends with {}, which Content-Length does not count. There must be no line end after \
                 the body. Did you print the body as a line?",
                show::quoted(&body[length..])
            ))
        }
        _ => failure.cause(
            "The client stops reading after Content-Length bytes. If the connection stays open, it reads the \
             rest as the beginning of the next answer.",
        ),
    }
}

fn read_to_close(
    connection: &mut Connection,
    start: usize,
    begin: Instant,
) -> Result<(Vec<u8>, usize), Failure> {
    loop {
        match connection.receive_more(begin) {
            Ok(()) => {}
            Err(Ending::Closed) => {
                let bytes = connection.unread();
                return Ok((bytes[start..].to_vec(), bytes.len()));
            }
            Err(Ending::Failed(error)) => {
                return Err(no_head(&[], &Ending::Failed(error)));
            }
            Err(Ending::Silent) => {
                return Err(Failure::new("the answer does not end").cause(
                    "The answer has no Content-Length, so it ends when the connection closes. Your server does \
                     not close it, so the client waits. Send Content-Length, or close the connection after the \
                     answer.",
                ));
            }
        }
    }
}

/// `chunked-body = *chunk last-chunk trailer-section CRLF` (RFC 9112, section 7.1)
fn read_chunks(
    connection: &mut Connection,
    start: usize,
    begin: Instant,
) -> Result<(Vec<u8>, usize), Failure> {
    let mut body = Vec::new();
    let mut at = start;
    loop {
        let (line, next) = read_line(connection, at, begin)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| Failure::new(format!("a chunk has an invalid size: \"{line}\"")))?;
        if size == 0 {
            at = next;
            break;
        }
        while connection.unread().len() < next + size + 2 {
            wait_for_chunk(connection, begin)?;
        }
        body.extend_from_slice(&connection.unread()[next..next + size]);
        if &connection.unread()[next + size..next + size + 2] != b"\r\n" {
            return Err(Failure::new(format!(
                "a chunk of {size} bytes does not end where its size says"
            ))
            .cause(
                "The bytes of a chunk must be followed by \\r\\n. Is the size in hexadecimal?",
            ));
        }
        at = next + size + 2;
    }
    loop {
        let (line, next) = read_line(connection, at, begin)?;
        at = next;
        if line.is_empty() {
            return no_chunk_after_the_last(connection, at).map(|()| (body, at));
        }
    }
}

/// Makes sure that the chunk of size 0 was the last.
fn no_chunk_after_the_last(connection: &mut Connection, end: usize) -> Result<(), Failure> {
    let is_last = !connection.expects_more_answers();
    if is_last && (connection.unread().len() > end || connection.receive(SURPLUS).is_ok()) {
        return Err(Failure::new("bytes follow the last chunk, which has size 0").cause(
            "A chunk of size 0 ends the body. When you have nothing to send, send no chunk at all.",
        ));
    }
    Ok(())
}

fn read_line(
    connection: &mut Connection,
    start: usize,
    begin: Instant,
) -> Result<(String, usize), Failure> {
    loop {
        let bytes = &connection.unread()[start..];
        if let Some(length) = find_bytes(bytes, b"\r\n") {
            return Ok((
                String::from_utf8_lossy(&bytes[..length]).into_owned(),
                start + length + 2,
            ));
        }
        wait_for_chunk(connection, begin)?;
    }
}

fn wait_for_chunk(connection: &mut Connection, begin: Instant) -> Result<(), Failure> {
    connection.receive_more(begin).map_err(|_| {
        Failure::new("the chunked body does not end")
            .cause("The body must end with a chunk of size 0 and an empty line: \"0\\r\\n\\r\\n\".")
    })
}
