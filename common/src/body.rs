//! A request's body: where it ends, and reading it no further (stage 8's lasting form).

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};

use crate::Client;
use crate::head::{Head, Version};
use crate::headers::Headers;
use crate::refused::{Refused, bad_request};

/// The most bytes that a request's body may have: 8 GiB.
pub const MAX_BODY: u64 = 8 * 1024 * 1024 * 1024;

/// A request's body, to be read through `&Body`, like a file. It ends where `Content-Length` says.
///
/// A client that sent `Expect: 100-continue` is told to go on when the body is first read.
/// If the client leaves too early, reading fails with the kind `UnexpectedEof`: a part is never
/// taken for the whole.
#[derive(Debug)]
pub struct Body<'a> {
    /// Unknown without a `Content-Length`. Then there is no body (RFC 9112, section 6.3).
    length: Option<u64>,
    bytes: RefCell<Exactly<io::Chain<&'a [u8], &'a Client>>>,
    client: &'a Client,
    /// Whether the client still waits for `100 Continue`.
    waits: Cell<bool>,
    /// Whether reading has failed: nobody knows then what comes next.
    failed: Cell<bool>,
}

impl<'a> Body<'a> {
    /// The body of a request with this head: first `rest`, then what `client` sends.
    ///
    /// # Errors
    ///
    /// As [`content_length`].
    pub(crate) fn new(
        head: &Head,
        rest: &'a [u8],
        client: &'a Client,
    ) -> Result<Body<'a>, Refused> {
        let length = content_length(head.headers)?;
        let left = length.unwrap_or(0);
        let waits = expects_continue(head) && rest.is_empty() && left > 0;
        let bytes = Exactly { source: rest.chain(client), left };
        let (waits, failed) = (Cell::new(waits), Cell::new(false));
        Ok(Body { length, bytes: RefCell::new(bytes), client, waits, failed })
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Refuses a request whose handler wants a body, but which has none or one that is too large.
    ///
    /// # Errors
    ///
    /// 411 without a length, 413 above [`MAX_BODY`].
    pub(crate) fn check(&self) -> Result<(), Refused> {
        match self.length {
            None => Err(Refused { status: 411, why: "the request has no Content-Length" }),
            Some(length) if length > MAX_BODY => {
                Err(Refused { status: 413, why: "the body is larger than 8 GiB" })
            }
            Some(_) => Ok(()),
        }
    }

    /// How many bytes of it have been read.
    pub(crate) fn read_so_far(&self) -> u64 {
        self.length.unwrap_or(0) - self.bytes.borrow().left
    }

    /// How many bytes of it have not been read; `None` if they may never come: the client waits
    /// for `100 Continue`, or reading has failed.
    pub(crate) fn unread(&self) -> Option<u64> {
        let may_come = !self.waits.get() && !self.failed.get();
        may_come.then(|| self.bytes.borrow().left)
    }
}

impl Read for &Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.waits.take() {
            let mut client = self.client;
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let result = self.bytes.borrow_mut().read(buffer);
        self.failed.set(result.is_err());
        result
    }
}

/// Whether the client waits for `100 Continue` before it sends the body. HTTP/1.0 knows nothing
/// of it and would take it for the response (RFC 9110, section 10.1.1).
fn expects_continue(head: &Head) -> bool {
    head.version == Version::Http11
        && head.headers.list("Expect").any(|it| it.eq_ignore_ascii_case("100-continue"))
}

/// How long the body of a request with these fields is (RFC 9112, section 6.3), if they say so.
///
/// # Errors
///
/// 400 when a length is no number, when there is more than one, and when there is one beside
/// `Transfer-Encoding`: two programs could disagree about where such a body ends. 501 for
/// `Transfer-Encoding` alone.
pub(crate) fn content_length(headers: Headers) -> Result<Option<u64>, Refused> {
    let mut lengths = headers.all("Content-Length");
    let encoded = headers.get("Transfer-Encoding").is_some();
    match (lengths.next(), lengths.next()) {
        (Some(_), _) if encoded => {
            Err(bad_request("a request has either a Content-Length or a Transfer-Encoding"))
        }
        (None, _) if encoded => {
            Err(Refused { status: 501, why: "this server does not decode transfer codings" })
        }
        (Some(_), Some(_)) => Err(bad_request("there is more than one Content-Length")),
        (Some(digits), None) => number(digits).map(Some),
        (None, _) => Ok(None),
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

/// Reads `left` bytes of `source` and then ends, whether or not `source` has more.
#[derive(Debug)]
struct Exactly<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    /// # Errors
    ///
    /// `UnexpectedEof` when `source` ends before it has given all that it should.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.source.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the client left {} bytes before the end of the body", self.left),
            )),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn length_of(lines: &str) -> Result<Option<u64>, u16> {
        content_length(Headers::new(lines.as_bytes())).map_err(|refused| refused.status)
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        assert_eq!(length_of("Content-Length: 0\r\n"), Ok(Some(0)));
        assert_eq!(length_of("content-length:  007 \r\n"), Ok(Some(7)));
        for value in ["", "+1", "-1", "1 2", "1,1", "0x10", "1.0", "\u{661}"] {
            assert_eq!(length_of(&format!("Content-Length: {value}\r\n")), Err(400), "{value}");
        }
    }

    #[test]
    fn two_ways_to_find_the_end_are_one_too_many() {
        assert_eq!(length_of("Content-Length: 1\r\nContent-Length: 1\r\n"), Err(400));
        assert_eq!(length_of("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), Err(400));
        assert_eq!(length_of("Transfer-Encoding: chunked\r\n"), Err(501));
        assert_eq!(length_of("Host: a\r\n"), Ok(None));
    }

    #[test]
    fn a_number_that_does_not_fit_is_large() {
        let many = "9".repeat(40);
        assert_eq!(length_of(&format!("Content-Length: {many}\r\n")), Ok(Some(u64::MAX)));
    }

    proptest! {
        #[test]
        fn reads_as_many_bytes_as_it_should(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            cut in any::<prop::sample::Index>(),
            length in 0..120u64,
        ) {
            let (rest, later) = body.split_at(cut.index(body.len() + 1));
            let mut read = Vec::new();
            let result = Exactly { source: rest.chain(later), left: length }.read_to_end(&mut read);
            let available = body.len().min(usize::try_from(length).expect("small"));
            prop_assert_eq!(&read, &body[..available]);
            prop_assert_eq!(result.is_ok(), available as u64 == length);
        }
    }
}
