//! A request, read from a client (stage 3's lasting form; its body is stage 8's).

use std::borrow::Cow;
use std::fmt::Display;
use std::io;

use crate::body::{Body, Framing};
use crate::buffer::{Buffer, Unused};
use crate::head::{Head, Version};
use crate::headers::Headers;
use crate::input::Input;
use crate::refused::Refused;
use crate::response::Response;
use crate::{Client, target};

/// A request whose head has arrived and is valid. Its body may still be on its way.
#[derive(Debug)]
pub struct Request<'a> {
    head: Head<'a>,
    /// How many bytes the head has.
    length: usize,
    path: Cow<'a, str>,
    body: Body<'a>,
    client: &'a Client,
}

impl<'a> Request<'a> {
    /// Parses the request at the beginning of `bytes`; `None` if its head is not whole yet. The
    /// body is read from the rest of `bytes`, and then from `client`.
    ///
    /// # Errors
    ///
    /// Those of [`Head::parse`], 400 when it is not certain where the body ends, and 501 for a body
    /// that has a transfer coding.
    pub fn parse(bytes: &'a [u8], client: &'a Client) -> Result<Option<Request<'a>>, Refused> {
        match Request::parse_with_chunks(bytes, client) {
            Ok(Some(request)) if request.body.framing() == Framing::Chunked => {
                Err(Refused { status: 501, why: "this server does not decode transfer codings" })
            }
            parsed => parsed,
        }
    }

    /// As [`Request::parse`], but the body may also come in chunks (stage 12).
    ///
    /// # Errors
    ///
    /// As [`Request::parse`]; 501 for a transfer coding other than `chunked`.
    pub fn parse_with_chunks(
        bytes: &'a [u8],
        client: &'a Client,
    ) -> Result<Option<Request<'a>>, Refused> {
        let Some((head, length)) = Head::parse(bytes)? else { return Ok(None) };
        let path = target::path(head.method, head.target)?;
        let body = Body::new(&head, &bytes[length..], client)?;
        Ok(Some(Request { head, length, path, body, client }))
    }

    /// Whether more of what the client has sent is there already: a body, or the next request.
    pub(crate) fn is_followed(&self) -> bool {
        !self.body.input().rest().is_empty()
    }

    /// Whether it has no body, and nothing that comes after it has been read.
    pub(crate) fn is_bare(&self) -> bool {
        let has_body = !matches!(self.body.framing(), Framing::None | Framing::Length(0));
        !has_body && self.body.input().is_empty()
    }

    /// Reads what is left of the body, and forgets it.
    ///
    /// # Errors
    ///
    /// As reading the body.
    pub(crate) fn skip_body(&self) -> io::Result<()> {
        if self.unread() == Some(0) {
            return Ok(()); // without the large buffer that a copy takes
        }
        io::copy(&mut &self.body, &mut io::sink()).map(drop)
    }

    /// What is left over after this request, for [`Buffer::go_on`].
    pub fn into_unused(self) -> Unused {
        let (taken, ahead) = self.body.into_input().into_unused();
        Unused { taken: self.length + taken, ahead }
    }

    /// The method, such as `GET`.
    pub fn method(&self) -> &str {
        self.head.method
    }

    /// The path of the target, decoded and without its query: `/echo/a%20b?c` is `/echo/a b`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The request line, such as `GET / HTTP/1.1`: visible ASCII, as the client sent it.
    pub fn line(&self) -> &str {
        self.head.line
    }

    /// The version of the protocol that the client speaks.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The field lines as they came, each ending with CRLF.
    pub fn fields(&self) -> &'a [u8] {
        self.head.headers.as_bytes()
    }

    /// All fields of the request.
    pub fn headers(&self) -> Headers<'a> {
        self.head.headers
    }

    /// The value of the first field called `name`, in any case, without the white space around it.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.headers.get(name)
    }

    /// How long the body is, if the request says so.
    pub fn content_length(&self) -> Option<u64> {
        match self.body.framing() {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        }
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.body.framing() == Framing::Chunked
    }

    /// The client that sent the request.
    pub fn client(&self) -> &'a Client {
        self.client
    }

    /// The bytes after the head that have already been read: the body begins with them.
    pub fn rest(&self) -> &'a [u8] {
        self.body.input().rest()
    }

    /// A body in chunks as it comes, to be decoded by hand, exactly to its end. A client that waits
    /// for `100 Continue` is told to go on. Say [`Request::body_was_read`] when that is done.
    ///
    /// # Errors
    ///
    /// When the client left or takes nothing.
    pub fn input(&self) -> io::Result<&Input<'a>> {
        self.body.tell_to_go_on()?;
        Ok(self.body.input())
    }

    /// Says that [`Request::input`] was read to the end of the body, so that the next request can
    /// follow.
    pub fn body_was_read(&self) {
        self.body.set_read();
    }

    /// Takes no larger body than that, in chunks or not, instead of
    /// [`MAX_BODY`](crate::MAX_BODY).
    pub fn limit_body(&self, limit: u64) {
        self.body.set_limit(limit);
    }

    /// The body, to be read to its end and no further. See [`Body`].
    ///
    /// # Errors
    ///
    /// 411 when the request does not say how long its body is, 413 when that is more than
    /// [`MAX_BODY`](crate::MAX_BODY).
    pub fn body(&self) -> Result<&Body<'a>, Refused> {
        self.body.check()?;
        Ok(&self.body)
    }

    /// How many bytes of the body nobody has read yet; `None` if they may never come: the client
    /// waits for `100 Continue`, or reading has failed.
    pub fn unread(&self) -> Option<u64> {
        self.body.unread()
    }
}

/// Reads one request from `client` and lets `answer` answer it. For a client that is given up
/// after that: see [`next_request`] for one that may ask more.
pub fn with_request(client: &Client, answer: impl FnOnce(&Request, &Client) -> io::Result<()>) {
    next_request(client, &mut Buffer::new(), |request| answer(request, client));
}

/// Reads the next request from `client` and lets `answer` answer it. Returns what `answer` says;
/// `None` if the connection is of no more use.
///
/// `buffer` holds what has been read already, and afterwards what has been read too much: the
/// beginning of the request after this one. A body that `answer` does not read stays there, too.
///
/// A request that is not valid gets a response with the status of its refusal and never reaches
/// `answer`. Whatever goes wrong becomes a line on stderr.
pub fn next_request<T>(
    client: &Client,
    buffer: &mut Buffer,
    answer: impl FnOnce(&Request) -> io::Result<T>,
) -> Option<T> {
    let outcome = loop {
        match Request::parse(buffer.bytes(), client) {
            Ok(Some(request)) => {
                let outcome = answer(&request);
                let unused = request.into_unused();
                buffer.go_on(unused);
                break outcome.map(Some);
            }
            Ok(None) => {} // it is not whole yet
            Err(refused) => {
                let response = Response::refused(refused);
                break refuse(client, buffer.bytes(), response).map(|()| None);
            }
        }
        if let Err(error) = buffer.fill(client) {
            break Err(error);
        }
    };
    outcome.unwrap_or_else(|error| {
        client.log(error);
        None
    })
}

/// Answers a client whose request is refused before it is one, and writes a line about that to
/// stderr. `received` is what the client has sent.
///
/// # Errors
///
/// When the client left or takes nothing.
pub fn refuse(client: &Client, received: &[u8], response: Response) -> io::Result<()> {
    let summary = response.summary();
    let is_head = received.trim_ascii_start().starts_with(b"HEAD ");
    let written = if is_head { response.write_head_to(client) } else { response.write_to(client) };
    client.log(format_args!("\"{}\" {summary}", first_line(received)));
    written
}

/// The beginning of what a client sent, made safe to print: it may be anything.
fn first_line(received: &[u8]) -> impl Display {
    let line = received.split(|byte| b"\r\n".contains(byte)).find(|line| !line.is_empty());
    let line = line.unwrap_or_default();
    line[..line.len().min(LOGGED)].escape_ascii()
}

/// The most bytes of a refused request's first line that go to the log.
const LOGGED: usize = 80;
