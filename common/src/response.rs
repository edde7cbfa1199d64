//! A response, and how it is written (stage 4's lasting form).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};

use crate::refused::Refused;

/// How much of a file is in memory at a time while it is sent.
const BLOCK: usize = 64 * 1024;

/// A response: a status, fields and a body.
///
/// `Content-Length` is added when it is written, and `Connection: close` unless there is another
/// `Connection`.
#[derive(Debug)]
pub struct Response {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: Content,
    note: Option<String>,
    is_refusal: bool,
}

/// What a response carries.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// The first so many bytes of a file.
    File(File, u64),
}

impl Response {
    /// An empty response with this status code.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            fields: Vec::new(),
            body: Content::Bytes(Vec::new()),
            note: None,
            is_refusal: false,
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

    /// The status of a refusal, with its reason as the body.
    pub fn refused(refused: Refused) -> Response {
        let sentence = format!("{refused}\n").into_bytes();
        let response = Response { is_refusal: true, ..Response::new(refused.status) }.note(refused);
        response.body("text/plain", Content::Bytes(sentence))
    }

    /// The status for an error met while the response was made: 404 when a file is not there, 403
    /// when this server may not open it, 400 and 408 when a body ended or stopped too early, 500
    /// for all that is not the client's doing. The error itself is for the log, not for the client, unless it is a [`Refused`].
    pub fn failed(error: io::Error) -> Response {
        if let Some(&refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            return Response::refused(refused);
        }
        let status = match error.kind() {
            io::ErrorKind::NotFound => 404,
            io::ErrorKind::PermissionDenied => 403,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => 400,
            io::ErrorKind::TimedOut => 408,
            _ => 500,
        };
        Response::new(status).note(error)
    }

    /// Adds a field. `Content-Length` is not for the caller to set.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Response {
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

    /// Whether it says no to a request that breaks the rules: who knows what comes next.
    pub(crate) fn is_refusal(&self) -> bool {
        self.is_refusal
    }

    /// What the log says about it: the status, and the reason if it is not a success.
    pub(crate) fn summary(&self) -> String {
        match &self.note {
            Some(note) => format!("{} ({note})", self.status),
            None => self.status.to_string(),
        }
    }

    /// Writes the response: the head and a small body in one piece, a file block by block.
    ///
    /// # Errors
    ///
    /// When the client left or takes nothing, when a file turns out shorter than it was, and,
    /// before anything is written, when a field value contains a control character.
    pub fn write_to(self, mut client: impl Write) -> io::Result<()> {
        let mut bytes = self.head()?;
        match self.body {
            Content::Bytes(body) => {
                bytes.extend_from_slice(&body);
                client.write_all(&bytes)
            }
            Content::File(file, length) => {
                client.write_all(&bytes)?;
                copy(file, length, client)
            }
        }
    }

    /// Writes the response to a HEAD request: what [`Response::write_to`] would write, without
    /// the body (RFC 9110, section 9.3.2).
    ///
    /// # Errors
    ///
    /// As [`Response::write_to`].
    pub fn write_head_to(self, mut client: impl Write) -> io::Result<()> {
        client.write_all(&self.head()?)
    }

    /// `status-line`, then the fields, then the blank line (RFC 9112, section 4).
    fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.fields {
            if value.contains(|character: char| character.is_ascii_control()) {
                let sentence = format!("the value of {name} contains a control character");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
            }
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let length = match &self.body {
            Content::Bytes(body) => body.len() as u64,
            Content::File(_, length) => *length,
        };
        let _ = write!(head, "Content-Length: {length}\r\n");
        if !self.fields.iter().any(|(name, _)| *name == "Connection") {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        Ok(head.into_bytes())
    }
}

/// Copies exactly `length` bytes.
fn copy(file: File, length: u64, mut client: impl Write) -> io::Result<()> {
    let mut file = file.take(length);
    let mut block = vec![0; BLOCK];
    let mut left = length;
    while left > 0 {
        let count = file.read(&mut block)?;
        if count == 0 {
            let sentence = format!("the file became shorter: {left} of {length} bytes not sent");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, sentence));
        }
        client.write_all(&block[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// The reason phrase that RFC 9110, section 15, recommends for a status code.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
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
