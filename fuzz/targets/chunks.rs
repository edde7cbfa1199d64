//! Bodies in chunks: the first two bytes say into how large pieces they are cut, and how much room
//! there is for what comes out.

#![no_main]

use common::Decoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[size, room], bytes)) = bytes.split_first_chunk() else { return };
    let (size, room) = (usize::from(size) + 1, usize::from(room) + 1);
    let whole = decode(bytes, usize::MAX, bytes.len() + 1);
    assert_eq!(decode(bytes, size, room), whole, "in pieces of {size} bytes, into {room}");
    if let Some(ours) = whole {
        assert_eq!(second_opinion(bytes), Some(ours));
    }
});

/// The content, and what comes after the body.
fn decode(bytes: &[u8], size: usize, room: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut decoder = Decoder::new();
    let (mut content, mut rest) = (Vec::new(), Vec::new());
    let mut output = vec![0; room];
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() && !decoder.is_done() {
            let (used, written) = decoder.decode(piece, &mut output).ok()?;
            assert!(used + written > 0, "it does not come any further");
            content.extend_from_slice(&output[..written]);
            piece = &piece[used..];
        }
        rest.extend_from_slice(piece);
    }
    decoder.is_done().then_some((content, rest))
}

fn second_opinion(mut bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut content = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes)
        else {
            return None;
        };
        bytes = &bytes[start..];
        if size == 0 {
            break;
        }
        let (chunk, rest) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
        content.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
    let mut trailers = [httparse::EMPTY_HEADER; common::MAX_FIELDS];
    match httparse::parse_headers(bytes, &mut trailers) {
        Ok(httparse::Status::Complete((end, _))) => Some((content, bytes[end..].to_vec())),
        _ => None,
    }
}
