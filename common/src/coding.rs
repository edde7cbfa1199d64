//! Content codings: what a client can decode, and gzip (stage 9's lasting form).

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::headers::Headers;

/// Whether the client would rather have gzip than the bytes as they are (RFC 9110, section
/// 12.5.3). Without an `Accept-Encoding` it would not.
pub fn accepts_gzip(headers: Headers) -> bool {
    let mut gzip = None;
    let mut any = None;
    let mut identity = None;
    for element in headers.list("Accept-Encoding") {
        let (coding, weight) = weigh(element);
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = gzip.max(weight),
            "identity" => identity = identity.max(weight),
            "*" => any = any.max(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.or(any).unwrap_or(0)
}

/// Splits an element such as `gzip;q=0.8` into the coding and its weight in thousandths. A
/// weight that is malformed counts as "no": sending the bytes as they are is always safe.
fn weigh(element: &str) -> (&str, Option<u16>) {
    let (coding, parameter) = element.split_once(';').unwrap_or((element, "q=1"));
    let value = match parameter.trim_ascii().split_at_checked(2) {
        Some(("q=" | "Q=", value)) => thousandths(value),
        _ => None,
    };
    (coding.trim_ascii(), Some(value.unwrap_or(0)))
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3"0" ] )` (RFC 9110, section 12.4.2)
fn thousandths(qvalue: &str) -> Option<u16> {
    let (whole, fraction) = qvalue.split_once('.').unwrap_or((qvalue, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// Compresses `bytes` in the gzip format (RFC 1952).
///
/// # Errors
///
/// Only in theory: the bytes go to memory.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish() // without the trailer that this writes, nothing can be decoded
}

/// Compresses what `source` gives, while it is read.
pub fn gzip_stream(source: impl Read) -> impl Read {
    flate2::read::GzEncoder::new(source, Compression::fast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn accepts(value: &str) -> bool {
        accepts_gzip(Headers::new(format!("Accept-Encoding: {value}\r\n").as_bytes()))
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
            ("gzip;q=0.5, *", false), // the * stands for the bytes as they are, too
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
        assert!(!accepts_gzip(Headers::new(b"")));
        assert!(accepts_gzip(Headers::new(b"Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n")));
    }

    proptest! {
        #[test]
        fn what_is_compressed_can_be_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let compressed = gzip(&bytes).expect("memory takes it");
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
            prop_assert_eq!(accepts_gzip(Headers::new(lines.as_bytes())), whole);
            elements.reverse();
            prop_assert_eq!(accepts(&elements.join(",")), whole);
        }

        #[test]
        fn no_value_makes_it_panic(value in "[a-z*;=,.0-9 é]{0,40}") {
            accepts(&value);
        }
    }
}
