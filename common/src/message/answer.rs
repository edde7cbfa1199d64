//! The head of an answer, as a client reads it, and where the body after it ends (stage 24's lasting form).

use crate::message::body::{self, Framing};
use crate::message::fields::FieldParser;
use crate::message::head::{MAX_HEAD, Version};
use crate::message::headers::Headers;
use crate::message::refused::Refused;
use crate::message::syntax::Class;

/// The part of an answer before its body: the status line and the fields (RFC 9112, section 2.1). Borrows from the bytes
/// that it was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct AnswerHead<'a> {
    /// The version that the server speaks.
    pub version: Version,
    /// The status code, from 100 to 999.
    pub status: u16,
    /// The fields.
    pub headers: Headers<'a>,
}

/// A parser for the head of an answer that may arrive in pieces. It continues with the next piece where it stopped.
///
/// ```
/// use common::AnswerParser;
///
/// let mut parser = AnswerParser::new();
/// assert_eq!(parser.advance(b"HTTP/1.1 200 O")?, None);
/// let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
/// assert_eq!(parser.advance(bytes)?, Some(38));
/// let head = parser.head(bytes);
/// assert_eq!((head.status, head.headers.get("content-length")), (200, Some(&b"2"[..])));
/// # Ok::<(), common::Refused>(())
/// ```
#[derive(Debug, Default)]
pub struct AnswerParser {
    /// What the status line says, when it has arrived.
    line: Option<(Version, u16)>,
    /// How many bytes have been looked at.
    at: usize,
    fields: FieldParser,
}

impl AnswerParser {
    /// Creates a parser for a head that begins with the first byte that it is given.
    pub fn new() -> AnswerParser {
        AnswerParser::default()
    }

    /// Parses the bytes that are new. `bytes` must begin with the first byte of the head each time. Returns the length of
    /// the head in bytes, once it is complete.
    ///
    /// # Errors
    ///
    /// 502 for what is no answer of HTTP/1.x, and for a head that is larger than 16 KiB or has more than 100 fields.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        let within = &bytes[..bytes.len().min(MAX_HEAD)];
        if self.line.is_none() {
            self.advance_line(within)?;
        }
        if self.line.is_some() {
            let advanced = self.fields.advance(within, self.at);
            self.at = advanced.map_err(|refused| wrong(refused.why))?;
        }
        match self.fields.is_done() {
            true => Ok(Some(self.at)),
            false if within.len() == MAX_HEAD => Err(wrong("the head is larger than 16 KiB")),
            false => Ok(None),
        }
    }

    /// Continues in the status line, to its end.
    fn advance_line(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.at += Class::TEXT.run(&bytes[self.at..]);
        match &bytes[self.at..] {
            [] | [b'\r'] => Ok(()),
            [b'\r', b'\n', ..] => {
                self.line = Some(status_line(&bytes[..self.at])?);
                self.at += 2;
                self.fields.begin(self.at);
                Ok(())
            }
            _ => Err(NO_STATUS_LINE),
        }
    }

    /// Returns the head. `bytes` must be those in which [`AnswerParser::advance`] has found all of it.
    ///
    /// # Panics
    ///
    /// When the head is not complete: a mistake of the caller.
    pub fn head<'a>(&'a self, bytes: &'a [u8]) -> AnswerHead<'a> {
        let (version, status) = self.line.expect("the head is complete");
        AnswerHead { version, status, headers: self.fields.headers(bytes) }
    }
}

/// Parses `status-line = HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112, section 4). Some servers leave out
/// the second space together with the reason.
fn status_line(line: &[u8]) -> Result<(Version, u16), Refused> {
    let version = match line.get(..9) {
        Some(b"HTTP/1.0 ") => Version::Http10,
        Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9', b' ']) => Version::Http11,
        _ => return Err(NO_STATUS_LINE),
    };
    let digits = line.get(9..12).filter(|code| code.iter().all(u8::is_ascii_digit));
    let number =
        digits.map(|code| code.iter().fold(0, |it, digit| it * 10 + u16::from(digit - b'0')));
    match (number, line.get(12)) {
        (Some(status @ 100..), None | Some(b' ')) => Ok((version, status)),
        _ => Err(NO_STATUS_LINE),
    }
}

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The length of the body, or its last chunk, says so.
    Framed(Framing),
    /// The body goes on to the end of the connection.
    Connection,
}

/// Returns where the body of an answer to this method ends (RFC 9112, section 6.3).
///
/// # Errors
///
/// 502 if two programs could disagree about it: see [`body::framing`].
pub(crate) fn ending(head: &AnswerHead, method: &str) -> Result<Ending, Refused> {
    if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Ending::Framed(Framing::None));
    }
    let framing = body::framing_of(&head.headers, head.version);
    match framing.map_err(|refused| wrong(refused.why))? {
        Framing::None => Ok(Ending::Connection),
        framing => Ok(Ending::Framed(framing)),
    }
}

/// The refusal of an answer that is wrong (RFC 9110, section 15.6.3).
pub(crate) const fn wrong(why: &'static str) -> Refused {
    Refused { status: 502, why }
}

const NO_STATUS_LINE: Refused = wrong("the answer does not begin with a status line of HTTP/1.x");

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Option<(u16, Ending)>, u16> {
        let mut parser = AnswerParser::new();
        let status = |refused: Refused| refused.status;
        if parser.advance(text.as_bytes()).map_err(status)?.is_none() {
            return Ok(None);
        }
        let head = parser.head(text.as_bytes());
        Ok(Some((head.status, ending(&head, "GET").map_err(status)?)))
    }

    #[test]
    fn a_status_line_has_a_version_and_three_digits() {
        for good in ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 a\tb\u{e9}"]
        {
            let text = format!("{good}\r\nContent-Length: 1\r\n\r\n");
            let expected = Some((200, Ending::Framed(Framing::Length(1))));
            assert_eq!(parsed(&text), Ok(expected), "{good}");
        }
        for bad in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 20",
            "HTTP/1.1 2000",
            "HTTP/1.1 099 a",
            "HTTP/1.1  200 OK",
            "HTTP/2.0 200 OK",
            "http/1.1 200 OK",
            " HTTP/1.1 200 OK",
            "HTTP/1.1 200 OK\0",
            "HTTP/1.1 200-OK",
        ] {
            assert_eq!(parsed(&format!("{bad}\r\n\r\n")), Err(502), "{bad}");
        }
        assert_eq!(parsed("HTTP/1.1 200 OK\n\n"), Err(502));
        assert_eq!(parsed("HTTP/1.1 200 OK\r\nA: b\r\n"), Ok(None));
    }

    #[test]
    fn the_body_ends_where_nobody_can_doubt_it() {
        let length = |length| Ok(Ending::Framed(Framing::Length(length)));
        for (status, fields, expected) in [
            (200, "Content-Length: 5\r\n", length(5)),
            (200, "Transfer-Encoding: chunked\r\n", Ok(Ending::Framed(Framing::Chunked))),
            (200, "", Ok(Ending::Connection)),
            (204, "Content-Length: 5\r\n", Ok(Ending::Framed(Framing::None))),
            (304, "Content-Length: 5\r\n", Ok(Ending::Framed(Framing::None))),
            (100, "", Ok(Ending::Framed(Framing::None))),
            (200, "Content-Length: 5\r\nContent-Length: 5\r\n", Err(502)),
            (200, "Content-Length: 5, 5\r\n", Err(502)),
            (200, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(502)),
            (200, "Transfer-Encoding: gzip, chunked\r\n", Err(502)),
            (200, "Transfer-Encoding: identity\r\n", Err(502)),
        ] {
            let text = format!("HTTP/1.1 {status} a\r\n{fields}\r\n");
            let found = parsed(&text).map(|it| it.expect("complete").1);
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "HTTP/1.1 20[0-9] ?[A-Z]{0,3}\r\n(a: b\r\n){0,3}\r?\n?x", cut in 0..40usize) {
            let bytes = text.as_bytes();
            let at_once = AnswerParser::new().advance(bytes);
            let mut parser = AnswerParser::new();
            let first = parser.advance(&bytes[..cut.min(bytes.len())]);
            let in_pieces = match first {
                Ok(None) => parser.advance(bytes),
                ended => ended,
            };
            prop_assert_eq!(in_pieces, at_once);
        }
    }
}
