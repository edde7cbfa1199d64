//! Heads: the first byte says into how large pieces the others are cut.

#![no_main]

use common::{Head, HeadParser, MAX_FIELDS, Refused};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let mut parser = HeadParser::new();
    let whole = parser.advance(bytes);
    let in_pieces = parse_in_pieces(bytes, usize::from(size) + 1);
    assert_eq!(in_pieces, whole, "in pieces of {} bytes", usize::from(size) + 1);
    if let Ok(Some(length)) = whole {
        compare(bytes, &parser.head(bytes), length);
    }
});

/// What a server finds that looks at what has come after each piece.
fn parse_in_pieces(bytes: &[u8], size: usize) -> Result<Option<usize>, Refused> {
    let ends = (0..bytes.len()).step_by(size).chain([bytes.len()]);
    let mut parser = HeadParser::new();
    let mut parsed = ends.map(|end| parser.advance(&bytes[..end]));
    parsed.find(|it| !matches!(it, Ok(None))).unwrap_or(Ok(None))
}

fn compare(bytes: &[u8], head: &Head, length: usize) {
    if !head.line.ends_with("HTTP/1.0") && !head.line.ends_with("HTTP/1.1") {
        return; // we answer HTTP/1.2 to 1.9 as 1.1, and httparse does not know them
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(bytes).expect("httparse accepts it");
    assert_eq!(status, httparse::Status::Complete(length));
    assert_eq!((request.method, request.path), (Some(head.method), Some(head.target)));
    let theirs = request.headers.iter().map(|it| (it.name.as_bytes(), it.value.trim_ascii()));
    assert!(theirs.eq(head.headers.iter()));
}
