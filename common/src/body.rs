//! A request's body: where it ends, and reading it no further (stage 8's lasting form; chunks are
//! stage 12's).

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};

use crate::Client;
use crate::chunked::Decoder;
use crate::head::{Head, Version};
use crate::input::Input;
use crate::refused::{Refused, bad_request};

/// The most bytes that a request's body may have, if nobody says otherwise: 8 GiB.
pub const MAX_BODY: u64 = 8 * 1024 * 1024 * 1024;

/// A request's body, to be read through `&Body`, like a file. It ends where `Content-Length` says,
/// or with its last chunk.
///
/// A client that sent `Expect: 100-continue` is told to go on when the body is first read.
/// If the client leaves too early, reading fails with the kind `UnexpectedEof`: a part is never
/// taken for the whole.
#[derive(Debug)]
pub struct Body<'a> {
    framing: Framing,
    input: Input<'a>,
    client: &'a Client,
    /// The most bytes that a body in chunks may have.
    limit: Cell<u64>,
    /// How many bytes of the content have been read.
    read: Cell<u64>,
    decoder: RefCell<Decoder>,
    /// Whether the client still waits for `100 Continue`.
    waits: Cell<bool>,
    /// Whether reading has failed: nobody knows then what comes next.
    failed: Cell<bool>,
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// It has so many bytes.
    Length(u64),
    /// It ends with a chunk of the size 0.
    Chunked,
}

impl<'a> Body<'a> {
    /// The body of a request with this head: first `rest`, then what `client` sends.
    ///
    /// # Errors
    ///
    /// As [`framing`].
    pub(crate) fn new(
        head: &Head,
        rest: &'a [u8],
        client: &'a Client,
    ) -> Result<Body<'a>, Refused> {
        let framing = framing(head)?;
        let has_content = !matches!(framing, Framing::None | Framing::Length(0));
        let waits = has_content && rest.is_empty() && expects_continue(head);
        Ok(Body {
            framing,
            input: Input::new(rest, client),
            client,
            limit: Cell::new(MAX_BODY),
            read: Cell::new(0),
            decoder: RefCell::default(),
            waits: Cell::new(waits),
            failed: Cell::new(false),
        })
    }

    /// Refuses a request whose handler wants a body, but which has none or one that is too large.
    ///
    /// # Errors
    ///
    /// 411 without a length, 413 above the limit.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        match self.framing {
            Framing::None => Err(Refused { status: 411, why: "the request has no Content-Length" }),
            Framing::Length(length) if length > self.limit.get() => Err(TOO_LARGE),
            _ => Ok(()),
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Takes no more bytes than that.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.set(limit);
    }

    /// The bytes as they come, for who decodes chunks by hand.
    pub(crate) fn input(&self) -> &Input<'a> {
        &self.input
    }

    pub(crate) fn into_input(self) -> Input<'a> {
        self.input
    }

    /// How many bytes of it have not been read; `None` if that is not known, or if they may never
    /// come: the client waits for `100 Continue`, or reading has failed.
    pub(crate) fn unread(&self) -> Option<u64> {
        if self.waits.get() || self.failed.get() {
            return None;
        }
        match self.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length - self.read.get()),
            Framing::Chunked => self.decoder.borrow().is_done().then_some(0),
        }
    }

    /// Says that a body in chunks was read to its end by somebody else.
    pub(crate) fn set_read(&self) {
        self.decoder.replace(Decoder::done());
    }

    /// Tells a client that waits for it to go on.
    pub(crate) fn tell_to_go_on(&self) -> io::Result<()> {
        let mut client = self.client;
        if self.waits.take() { client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n") } else { Ok(()) }
    }

    fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.framing {
            Framing::None => 0,
            Framing::Length(length) => self.read_of(length, buffer)?,
            Framing::Chunked => self.read_chunked(buffer)?,
        };
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }

    /// Reads some of a body that has so many bytes in all.
    fn read_of(&self, length: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = length - self.read.get();
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let mut input = &self.input;
        match input.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the client left {left} bytes before the end of the body"),
            )),
            count => Ok(count),
        }
    }

    fn read_chunked(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut decoder = self.decoder.borrow_mut();
        while !decoder.is_done() && !buffer.is_empty() {
            let count = self.input.with_next(|bytes| Ok(decoder.decode(bytes, buffer)?))?;
            let read = self.read.get() + count as u64;
            if read.saturating_add(decoder.announced()) > self.limit.get() {
                return Err(TOO_LARGE.into());
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }
}

impl Read for &Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.tell_to_go_on().and_then(|()| self.read_some(buffer));
        self.failed.set(self.failed.get() || result.is_err());
        result
    }
}

const TOO_LARGE: Refused =
    Refused { status: 413, why: "the body is larger than this server takes" };

/// Whether the client waits for `100 Continue` before it sends the body. HTTP/1.0 knows nothing
/// of it and would take it for the response (RFC 9110, section 10.1.1).
fn expects_continue(head: &Head) -> bool {
    head.version == Version::Http11
        && head.headers.list("Expect").any(|it| it.eq_ignore_ascii_case("100-continue"))
}

/// How the end of the body of a request with this head is found (RFC 9112, section 6.3).
///
/// # Errors
///
/// 400 when a length is no number, when there is more than one, when there is one beside
/// `Transfer-Encoding`, and when that is not understood by HTTP/1.0 or does not end with `chunked`:
/// two programs could disagree about where such a body ends. 501 for other transfer codings.
fn framing(head: &Head) -> Result<Framing, Refused> {
    let mut lengths = head.headers.all("Content-Length");
    let is_encoded = head.headers.get("Transfer-Encoding").is_some();
    match (lengths.next(), lengths.next()) {
        (Some(_), _) if is_encoded => {
            Err(bad_request("a request has either a Content-Length or a Transfer-Encoding"))
        }
        (None, _) if is_encoded => transfer_coding(head),
        (Some(_), Some(_)) => Err(bad_request("there is more than one Content-Length")),
        (Some(digits), None) => number(digits).map(Framing::Length),
        (None, _) => Ok(Framing::None),
    }
}

fn transfer_coding(head: &Head) -> Result<Framing, Refused> {
    if head.version == Version::Http10 {
        return Err(bad_request("HTTP/1.0 has no Transfer-Encoding"));
    }
    let mut fields = head.headers.all("Transfer-Encoding");
    let is_chunked_alone = fields.next().is_some_and(|it| it.eq_ignore_ascii_case(b"chunked"))
        && fields.next().is_none();
    match head.headers.list("Transfer-Encoding").next() {
        None => Err(bad_request("the Transfer-Encoding is empty")),
        Some(first) if !first.eq_ignore_ascii_case("chunked") => {
            Err(Refused { status: 501, why: "this server decodes no transfer coding but chunked" })
        }
        Some(_) if is_chunked_alone => Ok(Framing::Chunked),
        // Not even the empty elements that lists may have: others read them in other ways.
        Some(_) => Err(bad_request("the Transfer-Encoding is chunked and something else")),
    }
}

/// `Content-Length = 1*DIGIT` (RFC 9110, section 8.6): no sign, no space, no comma. A number that
/// does not fit counts as the largest that does: it is above any limit.
fn number(digits: &[u8]) -> Result<u64, Refused> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad_request("Content-Length is not a number"));
    }
    Ok(digits.iter().fold(0u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn framing_of(lines: &str) -> Result<Framing, u16> {
        framing_in("HTTP/1.1", lines)
    }

    fn framing_in(version: &str, lines: &str) -> Result<Framing, u16> {
        let bytes = format!("POST / {version}\r\n{lines}\r\n");
        let (head, _) = Head::parse(bytes.as_bytes()).expect("valid").expect("whole");
        framing(&head).map_err(|refused| refused.status)
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        assert_eq!(framing_of("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing_of("content-length:  007 \r\n"), Ok(Framing::Length(7)));
        for value in ["", "+1", "-1", "1 2", "1,1", "0x10", "1.0", "\u{661}"] {
            assert_eq!(framing_of(&format!("Content-Length: {value}\r\n")), Err(400), "{value}");
        }
    }

    #[test]
    fn two_ways_to_find_the_end_are_one_too_many() {
        assert_eq!(framing_of("Content-Length: 1\r\nContent-Length: 1\r\n"), Err(400));
        assert_eq!(framing_of("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), Err(400));
        assert_eq!(framing_of("Host: a\r\n"), Ok(Framing::None));
    }

    #[test]
    fn chunked_is_the_only_transfer_coding() {
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for (codings, status) in
            [("gzip", 501), ("gzip, chunked", 501), ("identity", 501), ("xchunked", 501)]
        {
            assert_eq!(framing_of(&format!("Transfer-Encoding: {codings}\r\n")), Err(status));
        }
        for codings in [
            "chunked, gzip",
            "chunked, chunked",
            "",
            ",",
            "chunked;a=b, chunked",
            ", chunked",
            "chunked,",
        ] {
            let status = framing_of(&format!("Transfer-Encoding: {codings}\r\n"));
            assert!(matches!(status, Err(400 | 501)), "{codings:?}: {status:?}");
        }
        for second in ["chunked", "", "identity"] {
            let twice = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {second}\r\n");
            assert_eq!(framing_of(&twice), Err(400));
        }
        assert_eq!(framing_in("HTTP/1.0", "Transfer-Encoding: chunked\r\n"), Err(400));
    }

    #[test]
    fn a_number_that_does_not_fit_is_large() {
        let many = "9".repeat(40);
        let framing = framing_of(&format!("Content-Length: {many}\r\n"));
        assert_eq!(framing, Ok(Framing::Length(u64::MAX)));
    }
}
