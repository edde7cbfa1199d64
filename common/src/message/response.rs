//! A response, and how it is written (stage 4's lasting form).

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;

use crate::message::coding::{accepts_gzip, gzip, gzip_stream};
use crate::message::date::HttpDate;
use crate::message::digits::add_decimal;
use crate::message::events::Watch;
use crate::message::file::{FileContent, FilePart, FileState, OpenFile};
use crate::message::head::{Head, Version};
use crate::message::headers::Headers;
use crate::message::refused::Refused;
use crate::message::remainder::{Left, Remainder, WhenSent, Writer};
use crate::message::request_id::RequestId;
use crate::message::stream::Stream;
use crate::message::syntax::Class;

/// The most bytes of a body that are copied behind their head, to be written together with it.
const SMALL_BODY: usize = 32 * 1024;

/// The initial capacity for the fields of a response, in bytes: enough for those of a file.
const FIELDS: usize = 512;

/// A response: a status, fields and a body.
///
/// ```
/// use common::Response;
///
/// let response = Response::text("café").header("Vary", "Accept-Encoding");
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.get("content-type"), Some("text/plain; charset=utf-8"));
/// ```
///
/// The fields that say where the body ends are added when the response is written, and so is `Connection`.
pub struct Response {
    status: u16,
    /// The field lines as they will be sent.
    fields: Vec<u8>,
    body: Content,
    /// What few responses have. A response is handed on from function to function, so it should be small.
    rare: Option<Box<Rare>>,
    is_last: bool,
    /// Whether there is a `Content-Encoding`.
    is_encoded: bool,
}

#[derive(Default)]
struct Rare {
    /// The value of `Connection`, if it has been set. There is at most one such field.
    connection: Option<Cow<'static, str>>,
    /// The state of the file whose content is the body, compressed or not.
    file: Option<FileState>,
    note: Option<String>,
    /// Is called with the number of bytes of the body, or with what has gone wrong.
    when_sent: Option<Box<WhenSent>>,
    /// The name of a field that cannot be written: a control character in its value could end the field, and
    /// begin another one.
    broken_field: Option<&'static str>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fields = String::from_utf8_lossy(&self.fields);
        let note = self.rare.as_ref().and_then(|rare| rare.note.as_ref());
        write!(f, "{} {fields:?} {:?} {note:?}", self.status, self.body)
    }
}

/// The body of a response.
enum Content {
    Bytes(Vec<u8>),
    File(FilePart),
    /// All bytes of a stream. Their number is unknown.
    Stream(Box<dyn Read + Send>),
    /// A body that a function writes together with its framing.
    ByHand(Box<Writer>),
    /// Events, as they come.
    Events(Watch),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Content::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Content::File(part) => write!(f, "{part:?}"),
            Content::Stream(_) | Content::ByHand(_) | Content::Events(_) => f.write_str("a stream"),
        }
    }
}

/// What a response has to know about the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipient {
    /// The version that the client speaks.
    pub(crate) version: Version,
    /// Whether the method is HEAD, which is answered with the head alone (RFC 9110, section 9.3.2).
    pub(crate) wants_head_only: bool,
}

impl Recipient {
    /// Returns the recipient for a request with this head.
    pub(crate) fn of(head: &Head) -> Recipient {
        Recipient { version: head.version, wants_head_only: head.method == "HEAD" }
    }
}

impl Response {
    /// Creates an empty response with this status code.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            fields: Vec::with_capacity(FIELDS),
            body: Content::Bytes(Vec::new()),
            rare: None,
            is_last: false,
            is_encoded: false,
        }
    }

    /// Creates a 200 response without a body.
    pub fn ok() -> Response {
        Response::new(200)
    }

    /// Creates a 201 response: a resource was created (RFC 9110, section 15.3.2).
    pub fn created() -> Response {
        Response::new(201)
    }

    /// Creates a 404 response: there is no such resource (RFC 9110, section 15.5.5).
    pub fn not_found() -> Response {
        Response::new(404)
    }

    /// Creates a 200 response with text, or with any bytes to be shown as text. The type says `charset=utf-8`
    /// if the bytes are UTF-8, but not ASCII alone.
    pub fn text(body: impl Into<Vec<u8>>) -> Response {
        let body = body.into();
        let is_more_than_ascii = !body.is_ascii() && std::str::from_utf8(&body).is_ok();
        let content_type =
            if is_more_than_ascii { "text/plain; charset=utf-8" } else { "text/plain" };
        Response::ok().body(content_type, Content::Bytes(body))
    }

    /// Creates a 200 response with the bytes of a file, from its beginning to its present end. Some files,
    /// such as those below `/proc`, have more or fewer bytes than the system says. They are sent as they are.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn file(file: impl Into<OpenFile>) -> io::Result<Response> {
        Response::file_of_type("application/octet-stream", file)
    }

    /// Creates a 200 response with the content of a file, as [`Response::file`] does, but with this type. From
    /// stage 13.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn file_of_type(
        content_type: &'static str,
        file: impl Into<OpenFile>,
    ) -> io::Result<Response> {
        let file = file.into();
        let state = file.state()?;
        let content = match file.into_content()? {
            FileContent::Bytes(bytes) => Content::Bytes(bytes),
            FileContent::Part(part) => Content::File(part),
            FileContent::Stream(source) => Content::Stream(source),
        };
        let mut response = Response::ok().body(content_type, content);
        response.rare().file = Some(state);
        Ok(response)
    }

    /// Returns the length of the body in bytes; `None` if it is not known. From stage 15.
    pub fn length(&self) -> Option<u64> {
        match &self.body {
            Content::Bytes(body) => Some(body.len() as u64),
            Content::File(part) => Some(part.left()),
            Content::Stream(_) | Content::ByHand(_) | Content::Events(_) => None,
        }
    }

    /// Cuts the body to the bytes in this range, if its length is known. From stage 15.
    #[must_use]
    pub fn part(mut self, range: Range<u64>) -> Response {
        self.body = match self.body {
            Content::Bytes(body) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
                Content::Bytes(body[index(range.start)..index(range.end)].to_vec())
            }
            Content::File(part) => Content::File(part.cut(range)),
            stream => stream,
        };
        self
    }

    /// Returns the state of the file whose content is the body, compressed or not; `None` for other bodies. From
    /// stage 14.
    pub fn file_state(&self) -> Option<FileState> {
        self.rare.as_ref()?.file
    }

    /// Lets the file that this response carries, if it does, be of this time, in seconds since the beginning of 1970.
    pub(crate) fn changed_at(mut self, seconds: u64) -> Response {
        if let Some(state) = self.rare.as_mut().and_then(|rare| rare.file.as_mut()) {
            state.modified = Some(i128::from(seconds) * 1_000_000_000);
        }
        self
    }

    /// Creates a 200 response with a page of HTML in UTF-8. From stage 13.
    pub fn html(page: String) -> Response {
        Response::ok().body("text/html; charset=utf-8", Content::Bytes(page.into_bytes()))
    }

    /// Creates a 200 response with a body of this type. From stage 18.
    pub fn of_type(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response::ok().body(content_type, Content::Bytes(body.into()))
    }

    /// Creates a 200 response with JSON (RFC 8259), which is always UTF-8. From stage 16.
    pub fn json(text: impl Into<Vec<u8>>) -> Response {
        Response::ok().body("application/json", Content::Bytes(text.into()))
    }

    /// Changes the status code, such as for a page that accompanies a 404. From stage 13.
    #[must_use]
    pub fn with_status(self, status: u16) -> Response {
        Response { status, ..self }
    }

    /// Creates a 200 response with all bytes of `source`, each sent as soon as it has been read. Their number
    /// need not be known.
    pub fn stream(content_type: &'static str, source: impl Read + Send + 'static) -> Response {
        Response::ok().body(content_type, Content::Stream(Box::new(source)))
    }

    /// Creates a 200 response with a body that `write` writes together with its framing. The caller has to add
    /// the field that describes the framing, or to call [`Response::last`] for a body that ends with the
    /// connection.
    pub fn by_hand(
        content_type: &'static str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Response {
        Response::ok().body(content_type, Content::ByHand(Box::new(write)))
    }

    /// Creates a 200 response with server-sent events, which goes on until there are no more, or the client has left.
    /// From stage 21.
    pub fn events(watch: Watch) -> Response {
        let response = Response::ok().body("text/event-stream", Content::Events(watch));
        response.header("Cache-Control", "no-store")
    }

    /// Creates the response to a refused request, with the reason as its body. It is the last one on its
    /// connection.
    pub fn refused(refused: Refused) -> Response {
        let sentence = format!("{refused}\n").into_bytes();
        let response = Response::new(refused.status).note(refused).last();
        response.body("text/plain", Content::Bytes(sentence))
    }

    /// Creates the response for an error that occurred while a response was made. If there is a [`Refused`] in
    /// the error, the response is that refusal. Otherwise the status is 404 when a file does not exist, 403
    /// when this server may not open it, 507 when there is no room for it, 503 when the system has no more
    /// descriptors, and 500 for all other errors: none of them is the client's fault. The error itself is for
    /// the log, not for the client.
    pub fn failed(error: io::Error) -> Response {
        if let Some(refused) = Refused::inside(&error) {
            return Response::refused(refused);
        }
        let status = match error.kind() {
            io::ErrorKind::NotFound => 404,
            io::ErrorKind::PermissionDenied => 403,
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => 507,
            _ if has_no_descriptor(&error) => return Response::unavailable().note(error),
            _ => 500,
        };
        Response::new(status).note(error)
    }

    /// Creates a 503 response: the client may try again soon (RFC 9110, section 15.6.4).
    fn unavailable() -> Response {
        Response::new(503).header("Retry-After", "1")
    }

    /// Adds a field. The caller must not set `Content-Length`. A second `Connection` replaces the first. If a
    /// value was built at run time and contains a control character, the response becomes a 500: the character
    /// could end the field, and begin another one.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.add_header(name, value.into());
        self
    }

    fn add_header(&mut self, name: &'static str, value: Cow<'static, str>) {
        // A value from the program's source code was not sent by a client.
        let is_from_outside = matches!(value, Cow::Owned(_));
        if is_from_outside && Class::TEXT.run(value.as_bytes()) < value.len() {
            self.rare().broken_field = Some(name);
        } else if name.eq_ignore_ascii_case("Connection") {
            self.rare().connection = Some(value);
        } else {
            self.is_encoded |= name.eq_ignore_ascii_case("Content-Encoding");
            add_field(&mut self.fields, name, value.as_bytes());
        }
    }

    /// Replaces the body with the same body in this content coding (RFC 9110, section 8.4).
    #[must_use]
    pub fn encoded(mut self, coding: &'static str, body: Vec<u8>) -> Response {
        self.body = Content::Bytes(body);
        self.header("Content-Encoding", coding)
    }

    /// Compresses the body if the client accepts that, and tells caches that the response depends on
    /// `Accept-Encoding`. A file or a stream is compressed while it is sent. A body from [`Response::by_hand`]
    /// is left as it is.
    ///
    /// # Errors
    ///
    /// Only in theory: what is compressed here goes to memory.
    pub fn compressed_for(mut self, headers: Headers) -> io::Result<Response> {
        self = self.header("Vary", "Accept-Encoding");
        if !accepts_gzip(headers) {
            return Ok(self);
        }
        self.body = match self.body {
            Content::Bytes(body) => Content::Bytes(gzip(&body)?),
            Content::File(part) => Content::Stream(Box::new(gzip_stream(part))),
            Content::Stream(source) => Content::Stream(Box::new(gzip_stream(source))),
            as_it_is @ (Content::ByHand(_) | Content::Events(_)) => {
                self.body = as_it_is;
                return Ok(self);
            }
        };
        Ok(self.header("Content-Encoding", "gzip"))
    }

    /// Adds a body to an error that has none: the status and its reason phrase.
    #[must_use]
    pub fn explained(self) -> Response {
        match &self.body {
            Content::Bytes(body) if body.is_empty() && self.status >= 400 => {
                let sentence = format!("{} {}\n", self.status, reason(self.status));
                self.body("text/plain", Content::Bytes(sentence.into_bytes()))
            }
            _ => self,
        }
    }

    /// Adds the name of the request.
    #[must_use]
    pub(crate) fn named(mut self, id: RequestId) -> Response {
        self.fields.extend_from_slice(b"X-Request-Id: ");
        id.add_to(&mut self.fields);
        self.fields.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field whose value is a date, without the memory that a `String` takes.
    #[must_use]
    pub(crate) fn dated(mut self, name: &'static str, date: &HttpDate) -> Response {
        add_field(&mut self.fields, name, date.as_bytes());
        self
    }

    /// Replaces the body, and sets its type.
    fn body(mut self, content_type: &'static str, body: Content) -> Response {
        self.body = body;
        self.header("Content-Type", content_type)
    }

    fn note(mut self, note: impl ToString) -> Response {
        self.rare().note = Some(note.to_string());
        self
    }

    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the value of the first field called `name`, ignoring case, if it has been set. Neither
    /// `Connection` nor the fields that say where the body ends can be found here: they are added later.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.fields.split(|&byte| byte == b'\n');
        let value = lines.find_map(|line| {
            let (found, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b": ")?;
            found.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })?;
        std::str::from_utf8(value.trim_ascii_end()).ok()
    }

    /// Returns the content coding of the body, if it has one.
    pub(crate) fn coding(&self) -> Option<&str> {
        if self.is_encoded { self.get("Content-Encoding") } else { None }
    }

    /// Makes this the last response on its connection.
    #[must_use]
    pub fn last(self) -> Response {
        Response { is_last: true, ..self }
    }

    /// Whether the connection has to end after this response: because the response says so, or because nothing
    /// else marks the end of the body.
    pub(crate) fn is_last(&self, version: Version) -> bool {
        let says_close = |value: &str| {
            value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
        };
        self.is_last
            || self.connection().is_some_and(says_close)
            || version == Version::Http10
                && matches!(self.body, Content::Stream(_) | Content::Events(_))
    }

    /// Calls a function when the response has been written: with the number of bytes of its body, or with what has
    /// gone wrong. From stage 18.
    #[must_use]
    pub(crate) fn when_sent(
        mut self,
        when_sent: impl FnOnce(&io::Result<u64>) + Send + 'static,
    ) -> Response {
        self.rare().when_sent = Some(Box::new(when_sent));
        self
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Returns the value of `Connection`, if it has been set.
    fn connection(&self) -> Option<&str> {
        self.rare.as_ref()?.connection.as_deref()
    }

    /// Takes the reason for an error, which is for the log.
    pub(crate) fn take_note(&mut self) -> Option<String> {
        self.rare.as_mut()?.note.take()
    }

    /// Returns what the log says about the response: the status, and the reason if there is a note of one.
    pub(crate) fn summary(&self) -> String {
        match self.rare.as_ref().and_then(|rare| rare.note.as_ref()) {
            Some(note) => format!("{} ({note})", self.status),
            None => self.status.to_string(),
        }
    }

    /// Replaces a response that cannot be written with a 500.
    #[must_use]
    pub(crate) fn or_500(self) -> Response {
        match self.rare.as_ref().and_then(|rare| rare.broken_field) {
            Some(name) => {
                let sentence = format!("the value of {name} contains a control character");
                Response::failed(io::Error::other(sentence))
            }
            None => self,
        }
    }

    /// Writes the response. `connection` is the value of the field `Connection`, unless the response sets that
    /// itself.
    ///
    /// # Errors
    ///
    /// When the client has left, when a write times out, when a file turns out shorter than it was, and when a
    /// stream fails. A part of the response may have been written then, and nothing can follow it.
    pub(crate) fn write_to(
        self,
        recipient: Recipient,
        connection: &str,
        out: &mut dyn Stream,
    ) -> io::Result<()> {
        let is_small = !matches!(&self.body, Content::Bytes(body) if body.len() > SMALL_BODY);
        if let Some(pending) = out.pending().filter(|_| is_small) {
            return self.begin(recipient, connection, pending).write(out);
        }
        let mut head = Vec::with_capacity(512);
        let remainder = self.begin(recipient, connection, &mut head);
        match out.write_all(&head) {
            Ok(()) => remainder.write(out),
            Err(error) => remainder.end(Err(error)),
        }
    }

    /// Writes the head to memory, and the body if it is small. Returns what is left.
    pub(crate) fn begin(
        mut self,
        recipient: Recipient,
        connection: &str,
        out: &mut Vec<u8>,
    ) -> Remainder {
        let when_sent = self.rare.as_mut().and_then(|rare| rare.when_sent.take());
        let response = self.or_500();
        response.encode_head(recipient.version, connection, out);
        let has_body = !recipient.wants_head_only && !response.has_no_body();
        let length = response.length().filter(|_| has_body).unwrap_or_default();
        let left = match response.body {
            _ if !has_body => Left::Nothing,
            Content::Bytes(body) => {
                let begun = body.len().min(SMALL_BODY);
                out.extend_from_slice(&body[..begun]);
                if begun == body.len() { Left::Nothing } else { Left::Bytes(body, begun) }
            }
            Content::File(part) => Left::File(part),
            Content::Stream(source) => Left::Stream(source),
            Content::ByHand(write) => Left::ByHand(write),
            Content::Events(watch) => Left::Events(watch),
        };
        Remainder::new(left, length, recipient.version, when_sent)
    }

    /// Whether a status never has a body (RFC 9110, sections 8.6 and 15.4.5).
    fn has_no_body(&self) -> bool {
        self.status == 204 || self.status == 304
    }

    /// Writes the `status-line`, the fields, and the blank line (RFC 9112, section 4).
    fn encode_head(&self, version: Version, connection: &str, head: &mut Vec<u8>) {
        head.reserve(self.fields.len() + 128);
        head.extend_from_slice(b"HTTP/1.1 ");
        add_decimal(head, u64::from(self.status));
        head.extend_from_slice(b" ");
        head.extend_from_slice(reason(self.status).as_bytes());
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(&self.fields);
        self.encode_framing(version, head);
        head.extend_from_slice(b"Connection: ");
        head.extend_from_slice(self.connection().unwrap_or(connection).as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
    }

    /// Writes the field that says where the body ends (RFC 9112, section 6.3), if there is one.
    fn encode_framing(&self, version: Version, head: &mut Vec<u8>) {
        let length = match &self.body {
            _ if self.has_no_body() => return,
            Content::Bytes(body) => body.len() as u64,
            Content::File(part) => part.left(),
            Content::Stream(_) | Content::Events(_) if version == Version::Http11 => {
                return head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            Content::Stream(_) | Content::ByHand(_) | Content::Events(_) => return,
        };
        head.extend_from_slice(b"Content-Length: ");
        add_decimal(head, length);
        head.extend_from_slice(b"\r\n");
    }
}

/// Adds a field line. Its parts must not contain anything that could end it too early.
fn add_field(fields: &mut Vec<u8>, name: &str, value: &[u8]) {
    fields.extend_from_slice(name.as_bytes());
    fields.extend_from_slice(b": ");
    fields.extend_from_slice(value);
    fields.extend_from_slice(b"\r\n");
}

/// Whether the system refused because this program, or all programs together, have too many files and
/// connections open.
pub(crate) fn has_no_descriptor(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) { &[10_024, 4] } else { &[24, 23] }; // EMFILE, ENFILE
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Returns the reason phrase that RFC 9110, section 15, recommends for a status code.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "", // a phrase may be empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::fs::File;
    use std::io::Seek;

    impl Read for Memory {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }

    /// A stream that keeps what is written to it.
    #[derive(Default)]
    struct Memory(Vec<u8>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Memory {}

    fn write(response: Response, recipient: Recipient) -> io::Result<String> {
        let mut memory = Memory::default();
        response.write_to(recipient, "close", &mut memory)?;
        Ok(String::from_utf8(memory.0).expect("these responses are text"))
    }

    /// A client that speaks HTTP/1.1 and wants the body.
    const COMMON: Recipient = Recipient { version: Version::Http11, wants_head_only: false };

    fn written(response: Response) -> String {
        write(response, COMMON).expect("memory accepts it")
    }

    #[test]
    fn a_text_is_framed_by_its_bytes() {
        assert_eq!(
            written(Response::text("café").header("Vary", "Accept-Encoding")),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Vary: Accept-Encoding\r\nContent-Length: 5\r\nConnection: close\r\n\r\ncafé"
        );
    }

    #[test]
    fn the_charset_is_said_where_it_matters() {
        let content_type =
            |body: &[u8]| Response::text(body).get("Content-Type").map(str::to_owned);
        assert_eq!(content_type(b"cafe").as_deref(), Some("text/plain"));
        assert_eq!(content_type(b"caf\xe9").as_deref(), Some("text/plain"));
        assert_eq!(content_type(b"caf\xc3\xa9").as_deref(), Some("text/plain; charset=utf-8"));
    }

    #[test]
    fn an_empty_body_has_a_length_too() {
        assert_eq!(
            written(Response::not_found()),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn some_statuses_have_no_body_and_no_length() {
        for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
            let response = Response { status, ..Response::text("nobody sees this") };
            let expected =
                format!("HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");
            assert_eq!(written(response), expected);
        }
    }

    #[test]
    fn a_field_cannot_smuggle_in_another_one() {
        let response = Response::ok().header("X-Name", "a\r\nSet-Cookie: b".to_owned());
        assert!(written(response).starts_with("HTTP/1.1 500 "));
        assert!(
            written(Response::ok().header("X-Name", "a\tb".to_owned()))
                .contains("X-Name: a\tb\r\n")
        );
    }

    #[test]
    fn there_is_one_connection_field_whoever_sets_it() {
        let response =
            Response::ok().header("connection", "keep-alive").header("Connection", "Close");
        assert!(response.is_last(Version::Http11));
        let written = written(response);
        assert_eq!(written.to_lowercase().matches("connection:").count(), 1, "{written}");
        assert!(written.contains("Connection: Close\r\n"), "{written}");
    }

    #[test]
    fn to_head_goes_the_head_alone() {
        let to_head = Recipient { wants_head_only: true, ..COMMON };
        let written = write(Response::text("abc"), to_head).expect("memory accepts it");
        assert!(written.ends_with("Content-Length: 3\r\nConnection: close\r\n\r\n"));
    }

    /// Returns a file with this content, and a second handle to it.
    fn file(content: &[u8]) -> (File, File) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("the file can be written");
        file.rewind().expect("the file can be rewound");
        let other = file.try_clone().expect("a second handle");
        (file, other)
    }

    #[test]
    fn a_file_is_sent_as_long_as_it_was() {
        for size in [10, 100_000] {
            let (file, other) = file(&vec![b'x'; size]);
            let response = Response::file(file).expect("the file has a size");
            other.set_len(200_000).expect("the file can grow");
            let written = written(response);
            assert!(written.contains(&format!("Content-Length: {size}\r\n")));
            assert!(written.ends_with(&format!("\r\n\r\n{}", "x".repeat(size))));
        }
    }

    #[test]
    fn a_file_that_becomes_shorter_breaks_off() {
        let (file, other) = file(&[b'x'; 100_000]);
        let third = OpenFile::from(file.try_clone().expect("a third handle"));
        let mut source = third.into_whole().expect("the file has a size");
        let response = Response::file(file).expect("the file has a size");
        other.set_len(4).expect("the file can shrink");
        let error = write(response, COMMON).expect_err("some bytes are missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (mut again, mut bytes) = (other, Vec::new());
        again.rewind().expect("the file can be rewound");
        let error = source.read_to_end(&mut bytes).expect_err("some bytes are missing");
        assert_eq!((error.kind(), bytes.len()), (io::ErrorKind::UnexpectedEof, 4));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_of_the_system_are_sent_as_they_are_not_as_they_say() {
        for path in ["/proc/version", "/proc/sys/kernel/ostype"] {
            let content = std::fs::read_to_string(path).expect("the file can be read");
            let response = Response::file(File::open(path).expect("the file exists"));
            let written = written(response.expect("the file can be read"));
            let expected = format!("Content-Length: {}\r\n", content.len());
            assert!(written.contains(&expected) && content.len() > 3, "{path}: {written}");
        }
        let large = File::open("/proc/kallsyms").and_then(Response::file).expect("the file exists");
        assert!(matches!(large.body, Content::Stream(_)));
    }

    #[test]
    fn a_stream_comes_in_chunks_or_up_to_the_end() {
        let stream = || Response::stream("text/plain", &b"hello"[..]);
        assert!(written(stream()).ends_with(
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ));
        assert!(stream().is_last(Version::Http10) && !stream().is_last(Version::Http11));
        let to_old = Recipient { version: Version::Http10, ..COMMON };
        let written = write(stream(), to_old).expect("memory accepts it");
        assert!(written.ends_with("Connection: close\r\n\r\nhello"));
    }

    #[test]
    fn only_a_refusal_is_the_clients_fault() {
        let status = |kind: io::ErrorKind| Response::failed(kind.into()).status();
        assert_eq!(status(io::ErrorKind::NotFound), 404);
        assert_eq!(status(io::ErrorKind::PermissionDenied), 403);
        assert_eq!(status(io::ErrorKind::StorageFull), 507);
        assert_eq!(status(io::ErrorKind::FileTooLarge), 507);
        for kind in [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::InvalidData,
        ] {
            assert_eq!(status(kind), 500, "{kind:?}");
        }
        let refused = Refused { status: 413, why: "too large" };
        assert!(written(Response::failed(refused.into())).ends_with("\r\n\r\ntoo large\n"));
    }

    #[cfg(unix)]
    #[test]
    fn a_shortage_of_descriptors_is_503() {
        let response = Response::failed(io::Error::from_raw_os_error(24));
        assert_eq!((response.status(), response.get("Retry-After")), (503, Some("1")));
    }

    #[test]
    fn errors_stay_in_the_log() {
        let full = io::Error::new(io::ErrorKind::StorageFull, "/secret/path: disk full");
        let response = Response::failed(full);
        assert!(response.summary().contains("/secret/path"));
        assert!(!written(response).contains("secret"));
    }
}
