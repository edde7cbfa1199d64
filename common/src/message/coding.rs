//! Content codings: what a client accepts, and gzip (stage 9's lasting form).

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::message::headers::Headers;

/// How many compressors are kept for reuse. Each takes some 300 KiB.
const KEPT: usize = 8;

/// How much effort is made to find repetitions, from 1 to 9: a quarter smaller than with 1, for twice the time; above it, a
/// few per cent for half as much again.
const LEVEL: Compression = Compression::new(2);

/// The size of the window in which repetitions are found: 32 KiB, as a power of two.
const WINDOW_BITS: u8 = 15;

/// Whether the client accepts gzip, and does not prefer the bytes as they are (RFC 9110,
/// section 12.5.3). Without an `Accept-Encoding` it does not accept gzip.
pub fn accepts_gzip(headers: Headers) -> bool {
    let mut gzip = None;
    let mut any = None;
    let mut identity = None;
    for element in headers.list("Accept-Encoding") {
        let (coding, weight) = weigh(element);
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        if is(b"gzip") || is(b"x-gzip") {
            gzip = gzip.max(Some(weight));
        } else if is(b"identity") {
            identity = identity.max(Some(weight));
        } else if is(b"*") {
            any = any.max(Some(weight));
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.or(any).unwrap_or(0)
}

/// Splits an element such as `gzip;q=0.8` into the coding and its weight in thousandths. A
/// malformed weight counts as 0: sending the bytes as they are is always safe.
fn weigh(element: &[u8]) -> (&[u8], u16) {
    let Some(semicolon) = element.iter().position(|&byte| byte == b';') else {
        return (element, 1000);
    };
    let (coding, parameter) = (&element[..semicolon], element[semicolon + 1..].trim_ascii());
    let weight = match parameter {
        [b'q' | b'Q', b'=', value @ ..] => thousandths(value),
        _ => None,
    };
    (coding.trim_ascii(), weight.unwrap_or(0))
}

/// Parses `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3"0" ] )` (RFC 9110, section 12.4.2).
fn thousandths(qvalue: &[u8]) -> Option<u16> {
    let (&whole @ (b'0' | b'1'), fraction) = qvalue.split_first()? else { return None };
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| u16::from(digits.get(place).unwrap_or(&b'0') - b'0');
    let weight = u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (weight <= 1000).then_some(weight)
}

/// Whether a content coding is gzip, by either of its names (RFC 9110, section 8.4.1.3).
pub(crate) fn is_gzip(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

/// Compresses `bytes` in the gzip format (RFC 1952), favouring speed over size.
///
/// # Errors
///
/// Only in theory: the bytes go to memory.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = take_compressor();
    let mut output = Vec::with_capacity(bytes.len() / 2 + 64);
    loop {
        let used = usize::try_from(compressor.total_in()).unwrap_or(usize::MAX);
        // The bytes that `Finish` writes at the end are needed for decoding.
        let status = compressor.compress_vec(&bytes[used..], &mut output, FlushCompress::Finish)?;
        if status == Status::StreamEnd {
            keep_compressor(compressor);
            return Ok(output);
        }
        output.reserve(output.capacity());
    }
}

/// Compressors that can be reused. Making a new one takes as long as compressing some kilobytes.
static COMPRESSORS: Mutex<Vec<Compress>> = Mutex::new(Vec::new());

fn take_compressor() -> Compress {
    let kept = COMPRESSORS.lock().unwrap_or_else(PoisonError::into_inner).pop();
    kept.unwrap_or_else(|| Compress::new_gzip(LEVEL, WINDOW_BITS))
}

fn keep_compressor(mut compressor: Compress) {
    compressor.reset();
    let mut kept = COMPRESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT {
        kept.push(compressor);
    }
}

/// Returns a reader that compresses the bytes of `source` while it is read.
pub fn gzip_stream(source: impl Read) -> impl Read {
    flate2::read::GzEncoder::new(source, LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::HeadParser;
    use flate2::read::GzDecoder;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    /// Whether a request with these field lines accepts gzip.
    fn accepts_lines(lines: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let mut parser = HeadParser::new();
        parser.advance(head.as_bytes()).expect("valid").expect("complete");
        accepts_gzip(parser.head(head.as_bytes()).headers)
    }

    fn accepts(value: &str) -> bool {
        accepts_lines(&format!("Accept-Encoding: {value}\r\n"))
    }

    #[test]
    fn follows_what_the_client_accepts() {
        for (value, expected) in [
            ("gzip", true),
            ("GZip", true),
            ("x-gzip", true),
            ("br, gzip", true),
            ("br,gzip;q=0.5 , deflate", true),
            ("gzip ; q=0.001", true),
            ("gzip;Q=1.000", true),
            ("*", true),
            ("br, *;q=0.1", true),
            ("identity;q=0.5, gzip;q=0.5", true),
            ("identity, gzip;q=0.5", false),
            ("gzip;q=0.5, *", false), // the * stands for the bytes as they are as well
            ("*;q=0.1, identity;q=0.9", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*;q=0", false),
            ("gzip;q=2", false),
            ("gzip;q=1.1", false),
            ("gzip;q=0.0001", false),
            ("gzip;q=", false),
            ("gzip;level=9", false),
            ("gzipped", false),
            ("not-gzip", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts(value), expected, "{value:?}");
        }
        assert!(!accepts_lines(""));
        assert!(accepts_lines("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n"));
    }

    proptest! {
        #[test]
        fn what_is_compressed_can_be_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let compressed = gzip(&bytes).expect("memory accepts it");
            let mut decoded = Vec::new();
            GzDecoder::new(&compressed[..]).read_to_end(&mut decoded).expect("valid gzip");
            prop_assert_eq!(decoded, bytes);
        }

        #[test]
        fn neither_order_nor_lines_matter(
            mut elements in proptest::collection::vec(
                "(gzip|GZIP|identity|\\*|br|)( ?;q=(0|1|0\\.[0-9]{1,3}))?", 0..5
            ),
        ) {
            let whole = accepts(&elements.join(", "));
            let line = |element: &String| format!("Accept-Encoding:{element}\r\n");
            let lines = elements.iter().map(line).collect::<String>();
            prop_assert_eq!(accepts_lines(&lines), whole);
            elements.reverse();
            prop_assert_eq!(accepts(&elements.join(",")), whole);
        }

        #[test]
        fn no_value_makes_it_panic(value in "[a-z*;=,.0-9 é]{0,40}") {
            accepts(&value);
        }
    }
}
