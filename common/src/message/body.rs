//! A request's body: where it ends (stage 8's lasting form; chunks are stage 13's).

use crate::message::chunked;
use crate::message::head::{Head, Version};
use crate::message::headers::{Headers, Known};
use crate::message::refused::{Refused, bad_request};

/// The most bytes that a request's body may have by default: 1 GiB.
pub const MAX_BODY: u64 = 1024 * 1024 * 1024;

/// The refusal of a body above the limit.
pub(crate) const TOO_LARGE: Refused =
    Refused { status: 413, why: "the body is larger than this server takes" };

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// The body has this many bytes.
    Length(u64),
    /// The body ends with a chunk of size 0.
    Chunked,
}

/// A decoder that extracts the content from the bytes after a head, and finds its end.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// This many bytes are still to come, and all of them are content.
    Length(u64),
    Chunked(Box<chunked::Decoder>),
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Decoder {
        match framing {
            Framing::None => Decoder::Length(0),
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Box::default()),
        }
    }

    /// Decodes as much of `input` as possible into `output`: see [`chunked::Decoder::decode`].
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(usize, usize), Refused> {
        match self {
            Decoder::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = most.min(input.len()).min(output.len());
                output[..count].copy_from_slice(&input[..count]);
                *left -= count as u64;
                Ok((count, count))
            }
            Decoder::Chunked(decoder) => decoder.decode(input, output),
        }
    }

    /// Returns how many of the next bytes are content and nothing else, as far as that is known.
    pub(crate) fn content_ahead(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(decoder) => decoder.content_ahead(),
        }
    }

    /// Accounts for `count` bytes of content that did not pass through [`Decoder::decode`]. They
    /// must not be more than [`Decoder::content_ahead`] returns.
    pub(crate) fn pass(&mut self, count: u64) {
        match self {
            Decoder::Length(left) => *left -= count,
            Decoder::Chunked(decoder) => decoder.pass(count),
        }
    }

    /// Whether the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Decoder::Length(left) => *left == 0,
            Decoder::Chunked(decoder) => decoder.is_done(),
        }
    }
}

/// Returns how the end of the body is found for a request with this head (RFC 9112, section 6.3).
///
/// # Errors
///
/// 400 when a length is not a number, when there is more than one, and when there is a
/// `Transfer-Encoding` as well. 400 also for a `Transfer-Encoding` in HTTP/1.0, for an empty one,
/// and for one that begins with `chunked` but does not end there. In all these cases, two programs
/// could disagree about where the body ends. 501 for other transfer codings.
pub(crate) fn framing(head: &Head) -> Result<Framing, Refused> {
    framing_of(&head.headers, head.version)
}

/// The same, for a message with these fields.
pub(crate) fn framing_of(headers: &Headers, version: Version) -> Result<Framing, Refused> {
    let mut lengths = headers.known(Known::ContentLength);
    let is_encoded = headers.known(Known::TransferEncoding).next().is_some();
    match (lengths.next(), lengths.next()) {
        (Some(_), _) if is_encoded => {
            Err(bad_request("a message has either a Content-Length or a Transfer-Encoding"))
        }
        (None, _) if is_encoded => transfer_coding(headers, version),
        (Some(_), Some(_)) => Err(bad_request("there is more than one Content-Length")),
        (Some(digits), None) => number(digits).map(Framing::Length),
        (None, _) => Ok(Framing::None),
    }
}

fn transfer_coding(headers: &Headers, version: Version) -> Result<Framing, Refused> {
    if version == Version::Http10 {
        return Err(bad_request("HTTP/1.0 has no Transfer-Encoding"));
    }
    let is_chunked = |value: &[u8]| value.eq_ignore_ascii_case(b"chunked");
    let mut fields = headers.known(Known::TransferEncoding);
    if fields.next().is_some_and(is_chunked) && fields.next().is_none() {
        return Ok(Framing::Chunked);
    }
    match headers.known_list(Known::TransferEncoding).next() {
        None => Err(bad_request("the Transfer-Encoding is empty")),
        // Not even empty elements are allowed, which other lists may have: programs read them in
        // different ways.
        Some(first) if is_chunked(first) => {
            Err(bad_request("chunked must stand alone in the Transfer-Encoding"))
        }
        Some(_) => {
            Err(Refused { status: 501, why: "this server decodes no transfer coding but chunked" })
        }
    }
}

/// Parses `Content-Length = 1*DIGIT` (RFC 9110, section 8.6): no sign, no space, no comma. A number
/// that does not fit becomes the largest that does, which is above any limit.
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
    use crate::message::head::HeadParser;
    use pretty_assertions::assert_eq;

    fn framing_of(lines: &str) -> Result<Framing, u16> {
        framing_in("HTTP/1.1", lines)
    }

    fn framing_in(version: &str, lines: &str) -> Result<Framing, u16> {
        let bytes = format!("POST / {version}\r\n{lines}\r\n");
        let mut parser = HeadParser::new();
        parser.advance(bytes.as_bytes()).expect("valid").expect("complete");
        framing(&parser.head(bytes.as_bytes())).map_err(|refused| refused.status)
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
