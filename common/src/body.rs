//! A request's body: where it ends, and reading it no further (stage 8's lasting form).

use std::io::{self, Read, Write};

use crate::Client;
use crate::head::{Head, Version};
use crate::headers::Headers;
use crate::refused::{Refused, bad_request};

/// The most bytes that a request's body may have: 8 GiB.
pub const MAX_BODY: u64 = 8 * 1024 * 1024 * 1024;

/// A request's body, to be read like a file. It ends where `Content-Length` says.
///
/// A client that sent `Expect: 100-continue` is told to go on when the body is first read.
/// If the client leaves too early, reading fails with the kind `UnexpectedEof`: a part is never
/// taken for the whole.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: Exactly<io::Chain<&'a [u8], &'a Client>>,
    /// The client, while it still waits for `100 Continue`.
    waiting: Option<&'a Client>,
}

impl<'a> Body<'a> {
    /// The body of a request with this head: first `rest`, then what `client` sends.
    ///
    /// # Errors
    ///
    /// 411 without a `length`, 413 above [`MAX_BODY`].
    pub(crate) fn new(
        head: &Head,
        length: Option<u64>,
        rest: &'a [u8],
        client: &'a Client,
    ) -> Result<Body<'a>, Refused> {
        let missing = Refused { status: 411, why: "the request has no Content-Length" };
        let length = length.ok_or(missing)?;
        if length > MAX_BODY {
            return Err(Refused { status: 413, why: "the body is larger than 8 GiB" });
        }
        let waits = expects_continue(head) && rest.is_empty() && length > 0;
        let waiting = waits.then_some(client);
        Ok(Body { bytes: Exactly { source: rest.chain(client), left: length }, waiting })
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(mut client) = self.waiting.take() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.bytes.read(buffer)
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
