//! A request whose body may still be arriving (stage 3's lasting form; the body is stage 8's).

use core::net::{IpAddr, SocketAddr}; // from `core`: an address needs no sockets
use std::cell::RefCell;
use std::io::{self, BufRead, Read};

use flate2::read::MultiGzDecoder;

use crate::message::body::{self, Decoder, Framing, TOO_LARGE};
use crate::message::coding::is_gzip;
use crate::message::head::{Head, Version};
use crate::message::headers::{Headers, Known};
use crate::message::query::query_pairs;
use crate::message::refused::{Refused, bad_request};
use crate::message::request_id::RequestId;
use crate::message::response::{Recipient, Response};
use crate::message::stream::Stream;
use crate::message::target::{Rest, Target, authority_of, host_of, location};
use crate::protocol::buffer::Window;

/// A request whose head has arrived and is valid. Its body may still be arriving.
#[derive(Clone)]
pub struct Request<'a> {
    message: &'a Message<'a>,
    /// What the parameters of the route's pattern stand for, such as `:id` in `/user/:id`.
    parameters: Vec<Parameter<'a>>,
    peer: Option<SocketAddr>,
    /// Who the request is from, and its name.
    origin: Option<Origin<'a>>,
}

/// Who a request is from, and its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The address of the client, which may not be that of the peer, if that is a proxy.
    pub(crate) client: IpAddr,
    /// The name of the request.
    pub(crate) id: RequestId<'a>,
}

/// The name of a parameter, and the part of the path that it stands for.
pub(crate) type Parameter<'a> = (&'static str, Rest<'a>);

/// The message of a request, as it arrives.
pub(crate) struct Message<'a> {
    head: Head<'a>,
    target: Target<'a>,
    framing: Framing,
    /// Whether a compressed body is unpacked when it is read.
    unpacks: bool,
    /// What comes after the head. Reading a body changes it, and each read borrows it until the read is
    /// done.
    incoming: RefCell<Incoming<'a>>,
}

/// The bytes after the head, and how far they have been read.
struct Incoming<'a> {
    /// Bytes that have been read and not used yet.
    window: Window<'a>,
    stream: &'a mut dyn Stream,
    decoder: Decoder,
    /// How many bytes of content have been read.
    read: u64,
    /// The most bytes of content that are accepted.
    limit: u64,
    /// Whether the client still waits for `100 Continue`.
    awaits_continue: bool,
    /// Whether reading has failed. What comes next is unknown then.
    has_failed: bool,
}

/// The rules for all requests. The stages add them one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// The rules of stage 10: the message must be sound, and its body must not come in chunks.
    Sound,
    /// The rules of stage 13: all rules, and bodies may come in chunks.
    All,
    /// The rules of stage 19: the same, and bodies may be compressed.
    Packed,
}

/// Returns what a head means: its target, and how its body ends.
pub(crate) fn interpret<'a>(
    head: &Head<'a>,
    rules: Rules,
    schemes: &[&str],
) -> Result<(Target<'a>, Framing), Refused> {
    let target = Target::parse_with(schemes, head.method, head.target)?;
    match body::framing(head)? {
        Framing::Chunked if rules == Rules::Sound => {
            Err(Refused { status: 501, why: "this server does not decode transfer codings" })
        }
        framing => Ok((target, framing)),
    }
}

/// Returns the host that a head is for, without its port.
pub(crate) fn host<'a>(head: &Head<'a>) -> Option<&'a str> {
    let field = head.headers.known(Known::Host).next();
    let field = field.and_then(|value| std::str::from_utf8(value).ok());
    authority_of(head.target).or(field).map(host_of)
}

impl<'a> Message<'a> {
    /// Creates a message with this head. Its body is read from `window` first, then from `stream`.
    pub(crate) fn new(
        head: Head<'a>,
        (target, framing): (Target<'a>, Framing),
        rules: Rules,
        window: Window<'a>,
        stream: &'a mut dyn Stream,
        limit: u64,
    ) -> Message<'a> {
        let has_content = !matches!(framing, Framing::None | Framing::Length(0));
        let awaits_continue = has_content && window.bytes().is_empty() && expects_continue(&head);
        let incoming = Incoming {
            window,
            stream,
            decoder: Decoder::new(framing),
            read: 0,
            limit,
            awaits_continue,
            has_failed: false,
        };
        let unpacks = rules == Rules::Packed;
        Message { head, target, framing, unpacks, incoming: RefCell::new(incoming) }
    }

    /// Returns the request that this message is.
    pub(crate) fn request(&'a self) -> Request<'a> {
        Request { message: self, parameters: Vec::new(), peer: None, origin: None }
    }
}

impl<'a> Request<'a> {
    /// Returns the method, such as `GET`.
    pub fn method(&self) -> &'a str {
        self.message.head.method
    }

    /// Returns the path in two parts: its first segment, decoded, and what follows the slash after it,
    /// if there is such a slash. `/` is `("", None)`, `/echo` is `("echo", None)`, and `/echo/a/b` is
    /// `("echo", Some(rest))`, where [`Rest::decode`] returns `a/b`. An escaped slash, `%2F`, does not
    /// separate segments.
    pub fn path(&self) -> (&str, Option<Rest<'a>>) {
        (self.message.target.first(), self.message.target.rest())
    }

    /// Returns the whole path without its first slash, such as `echo/a/b`; empty for `/`. From stage 13.
    pub fn full_path(&self) -> Rest<'a> {
        self.message.target.path()
    }

    /// Returns the target as the client sent it, such as `/echo/a%20b?c=d`, or `*`.
    pub fn target(&self) -> &'a str {
        self.message.head.target
    }

    /// Returns the host that the request is for, without its port, and without the brackets of an address: that of the target, if it is a URL, or else that of
    /// the `Host` field (RFC 9112, section 3.2.2). From stage 22.
    pub fn host(&self) -> Option<&'a str> {
        host(&self.message.head)
    }

    /// Returns the path and the query, as they stand in a URL. From stage 22.
    pub fn relative_url(&self) -> String {
        location(self.full_path().raw(), self.query_string())
    }

    /// Returns what follows the `?` of the target, as the client sent it.
    pub fn query_string(&self) -> Option<&'a str> {
        self.message.target.query()
    }

    /// Returns the first value that the query has under this name, decoded as [`query_pairs`] does: `None` if there is
    /// none, and an empty text if nothing follows the name. From stage 17.
    pub fn query(&self, name: &str) -> Option<String> {
        self.queries(name).next()
    }

    /// Returns all values that the query has under this name, in their order. From stage 17.
    pub fn queries(&self, name: &str) -> impl Iterator<Item = String> {
        let pairs = query_pairs(self.query_string().unwrap_or_default().as_bytes());
        pairs.filter(move |(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// Returns the part of the path that a parameter of the route's pattern stands for, decoded. From stage 17.
    ///
    /// # Errors
    ///
    /// 400 when the decoded bytes are not UTF-8. An error of the server when the pattern has no such parameter.
    pub fn param(&self, name: &str) -> io::Result<String> {
        Ok(self.raw_param(name)?.decode()?)
    }

    /// Returns the part of the path that a parameter of the route's pattern stands for, not decoded: for names of
    /// files, which are bytes. From stage 17.
    ///
    /// # Errors
    ///
    /// An error of the server when the pattern has no such parameter.
    pub fn raw_param(&self, name: &str) -> io::Result<Rest<'a>> {
        let parameter = self.parameters.iter().find(|(found, _)| *found == name);
        let missing = || io::Error::other(format!("the pattern of this route has no \"{name}\""));
        parameter.map(|(_, value)| *value).ok_or_else(missing)
    }

    /// Returns the same request, with these parameters.
    pub(crate) fn with_parameters(&self, parameters: Vec<Parameter<'a>>) -> Request<'a> {
        Request { message: self.message, parameters, peer: self.peer, origin: self.origin }
    }

    /// Returns the address from which the request came, if a [`crate::Service`] has received it. From stage 17.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the address of the client: that of the peer, or the one that a trusted proxy gives. From stage 18.
    pub fn client(&self) -> Option<IpAddr> {
        let origin = self.origin.as_ref().map(|origin| origin.client);
        origin.or_else(|| self.peer.map(|peer| peer.ip().to_canonical()))
    }

    /// Returns the name of the request, by which its line in the log can be found; empty without such a log. From
    /// stage 18.
    pub fn id(&self) -> String {
        self.origin.as_ref().map_or_else(String::new, |origin| origin.id.to_string())
    }

    /// Returns the same request, from this address, and from this client, if it is known.
    pub(crate) fn from(&self, peer: SocketAddr, origin: Option<Origin<'a>>) -> Request<'a> {
        let parameters = self.parameters.clone();
        Request { message: self.message, parameters, peer: Some(peer), origin }
    }

    /// Returns the request line, such as `GET / HTTP/1.1`, as the client sent it.
    pub fn line(&self) -> &'a str {
        self.message.head.line
    }

    /// Returns the version of the protocol that the client speaks.
    pub fn version(&self) -> Version {
        self.message.head.version
    }

    /// Returns the field lines as they arrived, each ending with CRLF.
    pub fn fields(&self) -> &'a [u8] {
        self.message.head.fields
    }

    /// Returns all fields of the request.
    pub fn headers(&self) -> Headers<'a> {
        self.message.head.headers
    }

    /// Returns the value of the first field called `name`, ignoring case, without the white space
    /// around it.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.message.head.headers.get(name)
    }

    pub(crate) fn head(&self) -> &Head<'a> {
        &self.message.head
    }

    pub(crate) fn recipient(&self) -> Recipient {
        Recipient::of(&self.message.head)
    }

    /// Returns the length of the body, if the request states it.
    pub fn content_length(&self) -> Option<u64> {
        match self.message.framing {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        }
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.message.framing == Framing::Chunked
    }

    /// Returns the bytes that were read together with the head and have not been used yet. The body
    /// begins with them.
    pub fn rest(&self) -> Vec<u8> {
        self.message.incoming.borrow().window.bytes().to_vec()
    }

    /// Returns a reader for the body, which stops at the end of the body.
    ///
    /// # Errors
    ///
    /// 411 when the request does not say how long its body is; 413 when it states a length above the
    /// limit.
    pub fn body(&self) -> Result<Body<'_, 'a>, Refused> {
        let limit = self.message.incoming.borrow().limit;
        match self.message.framing {
            Framing::None => Err(Refused { status: 411, why: "the request has no Content-Length" }),
            Framing::Length(length) if length > limit => Err(TOO_LARGE),
            _ => Ok(self.content(limit)),
        }
    }

    /// Returns a reader for the body, whatever its framing.
    fn content(&self, limit: u64) -> Body<'_, 'a> {
        let packed = Packed { request: self };
        let is_packed = || self.headers().list("Content-Encoding").any(is_gzip);
        match self.message.unpacks && is_packed() {
            true => Body(Content::Gzip(Box::new(MultiGzDecoder::new(packed)), limit)),
            false => Body(Content::Plain(packed)),
        }
    }

    /// Returns a reader for what follows the head, undecoded, for a body that is decoded by hand. The
    /// caller has to find the end of the body, and to report it with [`Raw::end`]. A client that waits
    /// for `100 Continue` gets it.
    ///
    /// # Errors
    ///
    /// When the client has left, when a write times out, and when another [`Raw`] of this request is in
    /// use.
    pub fn raw(&self) -> io::Result<Raw<'_, 'a>> {
        let in_use = |_| io::Error::other("what follows this head is being read already");
        let mut incoming = self.message.incoming.try_borrow_mut().map_err(in_use)?;
        incoming.tell_to_go_on()?;
        Ok(Raw { incoming })
    }

    /// Returns how many bytes of the body have not been read. Returns `None` if that is unknown, or if
    /// the bytes may never arrive: when the client waits for `100 Continue`, or when reading has
    /// failed.
    pub fn unread(&self) -> Option<u64> {
        self.message.incoming.borrow().unread()
    }

    /// Writes a response to this request. `connection` is the value of the field `Connection`, unless
    /// the response sets that itself.
    ///
    /// # Errors
    ///
    /// As [`Response::write_to`].
    pub(crate) fn respond(&self, response: Response, connection: &str) -> io::Result<()> {
        let incoming = &mut *self.message.incoming.borrow_mut();
        response.write_to(self.recipient(), connection, incoming.stream)
    }

    /// Reads and discards the rest of the body.
    ///
    /// # Errors
    ///
    /// As for reading the body.
    pub(crate) fn skip_body(&self) -> io::Result<()> {
        if self.unread() == Some(0) {
            return Ok(()); // saves the memory that a copy takes
        }
        io::copy(&mut Packed { request: self }, &mut io::sink()).map(drop)
    }
}

/// Whether the client waits for `100 Continue` before it sends the body. HTTP/1.0 does not have this
/// status: such a client would mistake it for the response (RFC 9110, section 10.1.1).
fn expects_continue(head: &Head) -> bool {
    let mut expectations = head.headers.known_list(Known::Expect);
    head.version == Version::Http11
        && expectations.any(|it| it.eq_ignore_ascii_case(b"100-continue"))
}

/// A request's body, which is read like a file. It ends where `Content-Length` says, or with its last
/// chunk.
///
/// A client that sent `Expect: 100-continue` gets `100 Continue` when the body is first read. If the
/// client leaves too early, or is too slow, reading fails with a [`Refused`]: a part is never mistaken
/// for the whole.
pub struct Body<'r, 'a>(Content<'r, 'a>);

enum Content<'r, 'a> {
    Plain(Packed<'r, 'a>),
    /// What is unpacked, and how many bytes of it are accepted yet.
    Gzip(Box<MultiGzDecoder<Packed<'r, 'a>>>, u64),
}

/// The body as it was sent, perhaps compressed.
struct Packed<'r, 'a> {
    request: &'r Request<'a>,
}

impl Body<'_, '_> {
    /// Returns how many bytes the body has, if the request states it.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Content::Plain(body) => body.request.content_length(),
            Content::Gzip(..) => None,
        }
    }
}

impl Read for Body<'_, '_> {
    /// A compressed body is unpacked. What counts for the limit is its length after that, so that a small body that
    /// becomes very large does no harm.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (source, left) = match &mut self.0 {
            Content::Plain(body) => return body.read(buffer),
            Content::Gzip(source, left) => (source, left),
        };
        let count = source.read(buffer).map_err(unpacking_failed)?;
        *left = left.checked_sub(count as u64).ok_or(TOO_LARGE)?;
        Ok(count)
    }
}

/// Turns an error of the decoder into a refusal: the client has sent something else than it said.
fn unpacking_failed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            if Refused::inside(&error).is_none() =>
        {
            bad_request("the body is not compressed as its Content-Encoding says").into()
        }
        _ => error,
    }
}

impl Read for Packed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let in_use = |_| io::Error::other("what follows this head is being read already");
        self.request.message.incoming.try_borrow_mut().map_err(in_use)?.read(buffer)
    }
}

/// A reader for what follows a head, undecoded: see [`Request::raw`].
pub struct Raw<'r, 'a> {
    incoming: std::cell::RefMut<'r, Incoming<'a>>,
}

impl Raw<'_, '_> {
    /// Reports that the body has been read to its end, so that the next request can follow.
    pub fn end(mut self) {
        self.incoming.decoder = Decoder::new(Framing::None);
    }
}

impl Read for Raw<'_, '_> {
    /// First reads the bytes that have already arrived. After that, nothing is read ahead: a large body
    /// goes straight to the caller's buffer.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Incoming { window, stream, .. } = &mut *self.incoming;
        let count = window.bytes().len().min(buffer.len());
        if count == 0 {
            return stream.read(buffer);
        }
        buffer[..count].copy_from_slice(&window.bytes()[..count]);
        window.consume(count);
        Ok(count)
    }
}

impl BufRead for Raw<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Incoming { window, stream, .. } = &mut *self.incoming;
        if window.bytes().is_empty() {
            window.fill(*stream)?;
        }
        Ok(window.bytes())
    }

    fn consume(&mut self, count: usize) {
        self.incoming.window.consume(count);
    }
}

impl Incoming<'_> {
    fn unread(&self) -> Option<u64> {
        match &self.decoder {
            _ if self.awaits_continue || self.has_failed => None,
            Decoder::Length(left) => Some(*left),
            Decoder::Chunked(decoder) => decoder.is_done().then_some(0),
        }
    }

    fn tell_to_go_on(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.awaits_continue) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.stream.flush()?;
        }
        Ok(())
    }

    /// Reads some of the content, and remembers a failure.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.read_some(buffer);
        self.has_failed |= result.is_err();
        result
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tell_to_go_on()?;
        while !self.decoder.is_done() && !buffer.is_empty() {
            let count = self.step(buffer)?;
            self.read += count as u64;
            if self.read.saturating_add(self.decoder.content_ahead()) > self.limit {
                return Err(TOO_LARGE.into());
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }

    /// Decodes some of the bytes in the window, or reads more. Bytes that can only be content go
    /// straight to the caller's buffer.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.window.bytes().is_empty() {
            let (used, written) = self.decoder.decode(self.window.bytes(), buffer)?;
            self.window.consume(used);
            return Ok(written);
        }
        let ahead = usize::try_from(self.decoder.content_ahead()).unwrap_or(usize::MAX);
        let most = ahead.min(buffer.len());
        let count = match most {
            0 => self.window.fill(self.stream),
            _ => self.stream.read(&mut buffer[..most]),
        };
        match count {
            Ok(0) => Err(LEFT.into()),
            Ok(count) if most > 0 => {
                self.decoder.pass(count as u64);
                Ok(count)
            }
            Ok(_) => Ok(0),
            Err(error) => Err(client_fault(error)),
        }
    }
}

const LEFT: Refused = bad_request("the client left before the end of the body");

/// Turns the error of a broken connection into a refusal: the client caused it, and the body is
/// incomplete.
fn client_fault(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
            if Refused::inside(&error).is_none() =>
        {
            LEFT.into()
        }
        _ => error,
    }
}
