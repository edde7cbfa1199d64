//! A response, and how it is written (stage 4's lasting form).

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use crate::chunked::write_chunked;
use crate::head::Version;
use crate::refused::Refused;

/// How much of a file is in memory at a time while it is sent.
const BLOCK: usize = 128 * 1024;

/// What a head is written into at first: enough for most, with a small body.
const FIRST_SIZE: usize = 512;

/// How many fields a response has room for at first.
const FIELDS: usize = 6;

/// A response: a status, fields and a body.
///
/// What says where the body ends is added when it is written, and `Connection: close` unless there
/// is another `Connection`.
#[derive(Debug)]
pub struct Response {
    status: u16,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    body: Content,
    note: Option<String>,
    is_last: bool,
}

/// What a response carries.
enum Content {
    Bytes(Vec<u8>),
    /// The first so many bytes of a file.
    File(File, u64),
    /// As many bytes as there are.
    Stream(Box<dyn Read + Send>),
    /// What a function writes, with what says where it ends.
    ByHand(Box<Writer>),
}

type Writer = dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send;

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Content::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Content::File(file, length) => write!(f, "{length} bytes of {file:?}"),
            Content::Stream(_) | Content::ByHand(_) => f.write_str("a stream"),
        }
    }
}

impl Response {
    /// An empty response with this status code.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            fields: Vec::with_capacity(FIELDS),
            body: Content::Bytes(Vec::new()),
            note: None,
            is_last: false,
        }
    }

    /// 200, without a body.
    pub fn ok() -> Response {
        Response::new(200)
    }

    /// 201: a resource was created (RFC 9110, section 15.3.2).
    pub fn created() -> Response {
        Response::new(201)
    }

    /// 404: there is no such resource (RFC 9110, section 15.5.5).
    pub fn not_found() -> Response {
        Response::new(404)
    }

    /// 200, with a text or any bytes to be shown as text.
    pub fn text(body: impl Into<Vec<u8>>) -> Response {
        Response::ok().body("text/plain", Content::Bytes(body.into()))
    }

    /// 200, with the bytes of a file from its beginning to its present end.
    ///
    /// # Errors
    ///
    /// When the file's size cannot be found out.
    pub fn file(file: File) -> io::Result<Response> {
        let length = file.metadata()?.len();
        Ok(Response::ok().body("application/octet-stream", Content::File(file, length)))
    }

    /// 200, with all that `source` gives, as soon as it comes: nobody knows how much that is.
    pub fn stream(content_type: &'static str, source: impl Read + Send + 'static) -> Response {
        Response::ok().body(content_type, Content::Stream(Box::new(source)))
    }

    /// 200, with a body that `write` writes, together with what says where it ends: for who frames
    /// bodies by hand. The field that says how they are framed is for the caller to add, or
    /// [`Response::last`] for a body that ends with the connection.
    pub fn by_hand(
        content_type: &'static str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Response {
        Response::ok().body(content_type, Content::ByHand(Box::new(write)))
    }

    /// The status of a refusal, with its reason as the body. It is the last on its connection.
    pub fn refused(refused: Refused) -> Response {
        let sentence = format!("{refused}\n").into_bytes();
        let response = Response::new(refused.status).note(refused).last();
        response.body("text/plain", Content::Bytes(sentence))
    }

    /// The status for an error met while the response was made: 404 when a file is not there, 403
    /// when this server may not open it, 400 and 408 when a body ended or stopped too early, 500
    /// for all that is not the client's doing. The error itself is for the log, not for the client,
    /// unless it is a [`Refused`].
    pub fn failed(error: io::Error) -> Response {
        if let Some(&refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            return Response::refused(refused);
        }
        let status = match error.kind() {
            io::ErrorKind::NotFound => 404,
            io::ErrorKind::PermissionDenied => 403,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted => 400,
            io::ErrorKind::TimedOut => 408,
            _ => 500,
        };
        Response::new(status).note(error)
    }

    /// Adds a field. `Content-Length` is not for the caller to set.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    /// Gives an error that has no body one that says what it means.
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

    /// Replaces the body, and says of what kind it is.
    fn body(mut self, content_type: &'static str, body: Content) -> Response {
        self.body = body;
        self.header("Content-Type", content_type)
    }

    fn note(mut self, note: impl ToString) -> Response {
        self.note = Some(note.to_string());
        self
    }

    /// Whether its status is of the class 4xx or 5xx.
    pub(crate) fn is_error(&self) -> bool {
        self.status >= 400
    }

    /// Makes it the last one on its connection.
    #[must_use]
    pub fn last(self) -> Response {
        Response { is_last: true, ..self }
    }

    /// Whether its body comes bit by bit, and somebody may be watching.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.body, Content::Stream(_) | Content::ByHand(_))
    }

    /// Whether the connection has to end after it, if it goes to a client of this version: because
    /// somebody wants that, or because nothing else says where the body ends.
    pub(crate) fn is_last(&self, version: Version) -> bool {
        self.is_last || version == Version::Http10 && matches!(self.body, Content::Stream(_))
    }

    /// What the log says about it: the status, and the reason if it is not a success.
    pub(crate) fn summary(&self) -> String {
        match &self.note {
            Some(note) => format!("{} ({note})", self.status),
            None => self.status.to_string(),
        }
    }

    /// Writes the response: a small body together with the head, a large file block by block, a stream
    /// chunk by chunk.
    ///
    /// # Errors
    ///
    /// When the client left or takes nothing, when a file turns out shorter than it was, when a
    /// stream fails, and, before anything is written, when a field value contains a control
    /// character.
    pub fn write_to(self, client: impl Write) -> io::Result<()> {
        self.write_for(Version::Http11, client)
    }

    /// As [`Response::write_to`], for a client of this version.
    ///
    /// # Errors
    ///
    /// As [`Response::write_to`].
    pub(crate) fn write_for(self, version: Version, mut client: impl Write) -> io::Result<()> {
        let mut head = self.head(version)?;
        match self.body {
            Content::Bytes(body) => {
                head.extend_from_slice(&body);
                client.write_all(&head)
            }
            Content::File(file, length) => send(head, &file, length, client),
            Content::Stream(mut source) => {
                client.write_all(&head)?;
                match version {
                    Version::Http11 => write_chunked(source, client),
                    Version::Http10 => io::copy(&mut source, &mut client).map(drop),
                }
            }
            Content::ByHand(write) => {
                client.write_all(&head)?;
                write(&mut client)
            }
        }
    }

    /// Writes the response to a HEAD request: what [`Response::write_to`] would write, without
    /// the body (RFC 9110, section 9.3.2).
    ///
    /// # Errors
    ///
    /// As [`Response::write_to`].
    pub fn write_head_to(self, client: impl Write) -> io::Result<()> {
        self.write_head_for(Version::Http11, client)
    }

    /// As [`Response::write_head_to`], for a client of this version.
    ///
    /// # Errors
    ///
    /// As [`Response::write_to`].
    pub(crate) fn write_head_for(self, version: Version, mut client: impl Write) -> io::Result<()> {
        client.write_all(&self.head(version)?)
    }

    /// The field that says where the body ends (RFC 9112, section 6.3), if one does.
    fn framing(&self, version: Version) -> Option<(&'static str, Cow<'static, str>)> {
        match &self.body {
            _ if self.status == 204 => None, // it never has a body (RFC 9110, section 8.6)
            Content::Bytes(body) => Some(("Content-Length", body.len().to_string().into())),
            Content::File(_, length) => Some(("Content-Length", length.to_string().into())),
            Content::Stream(_) if version == Version::Http11 => {
                Some(("Transfer-Encoding", "chunked".into()))
            }
            Content::Stream(_) | Content::ByHand(_) => None,
        }
    }

    /// `status-line`, then the fields, then the blank line (RFC 9112, section 4).
    fn head(&self, version: Version) -> io::Result<Vec<u8>> {
        let mut head = Vec::with_capacity(FIRST_SIZE);
        add(&mut head, &["HTTP/1.1 ", &self.status.to_string(), " ", reason(self.status), "\r\n"]);
        for (name, value) in &self.fields {
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                let sentence = format!("the value of {name} contains a control character");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
            }
            add(&mut head, &[name, ": ", value, "\r\n"]);
        }
        if let Some((name, value)) = self.framing(version) {
            add(&mut head, &[name, ": ", &value, "\r\n"]);
        }
        if !self.fields.iter().any(|(name, _)| *name == "Connection") {
            add(&mut head, &["Connection: close\r\n"]);
        }
        add(&mut head, &["\r\n"]);
        Ok(head)
    }
}

/// Adds texts to a head. `write!` would do that, too, but several times as slowly.
fn add(head: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        head.extend_from_slice(part.as_bytes());
    }
}

/// Writes a head and exactly `length` bytes of a file: both in one write, if they are not too many.
fn send(head: Vec<u8>, file: &File, length: u64, mut client: impl Write) -> io::Result<()> {
    let mut start = head.len();
    let mut block = head;
    let room = usize::try_from(length).unwrap_or(BLOCK).min(BLOCK);
    block.resize(start + room, 0);
    let mut file = file.take(length);
    let mut left = length;
    loop {
        let count = match file.read(&mut block[start..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 && left > 0 {
            let sentence = format!("the file became shorter: {left} of {length} bytes not sent");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, sentence));
        }
        client.write_all(&block[..start + count])?;
        left -= count as u64;
        if left == 0 {
            return Ok(());
        }
        start = 0; // the head is gone
    }
}

/// The reason phrase that RFC 9110, section 15, recommends for a status code.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "", // a phrase may be empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::io::Seek;

    fn written(response: Response) -> String {
        let mut bytes = Vec::new();
        response.write_to(&mut bytes).expect("memory takes it");
        String::from_utf8(bytes).expect("these responses are text")
    }

    #[test]
    fn a_text_is_framed_by_its_bytes() {
        assert_eq!(
            written(Response::text("café").header("Vary", "Accept-Encoding")),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nVary: Accept-Encoding\r\n\
             Content-Length: 5\r\nConnection: close\r\n\r\ncafé"
        );
    }

    #[test]
    fn an_empty_body_has_a_length_too() {
        assert_eq!(
            written(Response::not_found()),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_204_has_no_body_and_no_length() {
        assert_eq!(
            written(Response::new(204)),
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_field_cannot_smuggle_in_another_one() {
        let response = Response::ok().header("X-Name", "a\r\nSet-Cookie: b");
        let mut bytes = Vec::new();
        assert!(response.write_to(&mut bytes).is_err());
        assert!(bytes.is_empty());
    }

    #[test]
    fn to_head_goes_the_head_alone() {
        let mut bytes = Vec::new();
        Response::text("abc").write_head_to(&mut bytes).expect("memory takes it");
        assert!(bytes.ends_with(b"Content-Length: 3\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn a_file_is_sent_as_long_as_it_was() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"0123456789").expect("it can be written");
        file.rewind().expect("it can be read again");
        let other = file.try_clone().expect("a second handle");
        let response = Response::file(file).expect("it has a size");
        other.set_len(12).expect("it can grow");
        assert!(
            written(response)
                .ends_with("Content-Length: 10\r\nConnection: close\r\n\r\n0123456789")
        );
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(10).expect("it can grow");
        let other = file.try_clone().expect("a second handle");
        let response = Response::file(file).expect("it has a size");
        other.set_len(4).expect("it can shrink");
        let error = response.write_to(io::sink()).expect_err("six bytes are missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_stream_comes_in_chunks_or_up_to_the_end() {
        let stream = || Response::stream("text/plain", &b"hello"[..]).header("Connection", "x");
        assert!(
            written(stream())
                .ends_with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        );
        assert!(stream().is_last(Version::Http10) && !stream().is_last(Version::Http11));
        let mut bytes = Vec::new();
        stream().write_for(Version::Http10, &mut bytes).expect("memory takes it");
        assert!(bytes.ends_with(b"Connection: x\r\n\r\nhello"));
    }

    #[test]
    fn errors_become_statuses_and_stay_in_the_log() {
        let status = |kind: io::ErrorKind| Response::failed(kind.into()).status;
        assert_eq!(status(io::ErrorKind::NotFound), 404);
        assert_eq!(status(io::ErrorKind::PermissionDenied), 403);
        assert_eq!(status(io::ErrorKind::UnexpectedEof), 400);
        assert_eq!(status(io::ErrorKind::TimedOut), 408);
        assert_eq!(status(io::ErrorKind::StorageFull), 500);
        let full = io::Error::new(io::ErrorKind::StorageFull, "/secret/path: disk full");
        let response = Response::failed(full);
        assert!(response.summary().contains("/secret/path"));
        assert!(!written(response).contains("secret"));
        let refused = Refused { status: 413, why: "too large" };
        assert!(written(Response::failed(refused.into())).ends_with("\r\n\r\ntoo large\n"));
    }
}
