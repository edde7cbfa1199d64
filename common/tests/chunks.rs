//! The chunk decoder that stage 13 writes by hand, compared with the one in `common`: they accept and
//! refuse the same bodies, and find the same content and the same end in them.

#[path = "../../stages/13-chunked/chunks.rs"]
#[allow(dead_code)] // it writes chunks as well
mod chunks;

use std::cell::RefCell;
use std::io::{self, Read};
use std::time::Duration;

use chunks::Chunks;
use common::{Connection, Handler, Limits, Need, Refused, Request, Response, Transfer, Transport};
use pretty_assertions::assert_eq;
use proptest::prelude::*;

/// The most bytes of content that are accepted.
const LIMIT: u64 = 100_000;

/// A client that sends its bytes in pieces of the given size, and then leaves.
struct Client<'a> {
    sent: &'a [u8],
    piece: usize,
}

impl Transport for Client<'_> {
    fn receive(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<Transfer> {
        let count = self.piece.min(self.sent.len()).min(buffer.len());
        let (now, later) = self.sent.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.sent = later;
        Ok(Transfer { bytes: Some(count), waited: Duration::ZERO })
    }

    fn send(&mut self, bytes: &[u8], _: Duration) -> io::Result<Transfer> {
        Ok(Transfer { bytes: Some(bytes.len()), waited: Duration::ZERO })
    }
}

/// The outcome of a body: its content, or the status of its refusal; and the requests that came after it.
type Outcome = (Result<Vec<u8>, u16>, Vec<String>);

/// A handler that reads the first body in one of two ways, and notes the targets of all later requests.
struct Reader {
    is_by_hand: bool,
    outcome: RefCell<Option<Result<Vec<u8>, u16>>>,
    later: RefCell<Vec<String>>,
}

impl Reader {
    fn read(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        if self.is_by_hand {
            Chunks::new(request, LIMIT).read_to_end(&mut content)?;
        } else {
            request.body()?.read_to_end(&mut content)?;
        }
        Ok(content)
    }
}

impl Handler for Reader {
    fn answer(&self, request: &Request) -> Response {
        if self.outcome.borrow().is_some() {
            self.later.borrow_mut().push(request.target().to_owned());
            return Response::ok();
        }
        let read = self.read(request);
        let status =
            |error: &io::Error| Refused::inside(error).map_or(500, |refused| refused.status);
        *self.outcome.borrow_mut() = Some(read.as_ref().map(Vec::clone).map_err(status));
        read.map_or_else(Response::failed, |_| Response::ok())
    }

    fn refuse(&self, refused: Refused, _: &[u8]) -> Response {
        self.later.borrow_mut().push(refused.status.to_string());
        Response::refused(refused)
    }
}

fn decode(is_by_hand: bool, body: &[u8], piece: usize) -> Outcome {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sent = [&head[..], body].concat();
    let mut client = Client { sent: &sent, piece };
    let reader = Reader { is_by_hand, outcome: RefCell::default(), later: RefCell::default() };
    let mut connection = Connection::new(Limits { max_body: LIMIT, ..Limits::default() });
    loop {
        let step = match connection.advance() {
            Need::Bytes => connection.receive(&mut client),
            Need::Answer => connection.answer(&reader, &mut client),
            Need::Close => break,
        };
        if step.is_err() {
            break;
        }
    }
    (reader.outcome.into_inner().expect("the head is valid"), reader.later.into_inner())
}

/// Checks that both decoders find the same in a body. If both refuse it, their statuses may differ: each
/// may find another mistake first.
fn compare(body: &[u8], piece: usize) -> Outcome {
    let (by_hand, library) = (decode(true, body, piece), decode(false, body, piece));
    match (&by_hand.0, &library.0) {
        (Err(hand), Err(good)) => {
            assert!(![*hand, *good].contains(&500), "{}: {hand} and {good}", body.escape_ascii());
            assert_eq!(by_hand.1, library.1, "{}", body.escape_ascii());
        }
        _ => assert_eq!(by_hand, library, "{}", body.escape_ascii()),
    }
    library
}

#[test]
fn the_same_limits() {
    let many = "1;abcdefghij\r\nx\r\n".repeat(400) + "0\r\n\r\n";
    let too_many = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(17) + "0\r\n\r\n";
    let paid_for = format!("3e8;{}\r\n{}\r\n", "a".repeat(1000), "x".repeat(1000)).repeat(50);
    let long_line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length));
    let trailers = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    let large = |length: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(length));
    let content = |length: usize| format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
    for (body, accepted) in [
        (many, true),
        (too_many, false),
        (paid_for + "0\r\n\r\n", true),
        (long_line(1020), true),
        (long_line(1021), false),
        (trailers(100), true),
        (trailers(101), false),
        (large(16 * 1024 - 7), true),
        (large(16 * 1024 - 6), false),
        (content(100_000), true),
        (content(100_001), false),
    ] {
        for piece in [7, 4096] {
            let (outcome, _) = compare(body.as_bytes(), piece);
            assert_eq!(outcome.is_ok(), accepted, "{} bytes: {}", body.len(), &body[..30]);
        }
    }
}

#[test]
fn the_same_bytes_that_only_their_readers_understand() {
    for (body, accepted) in [
        (&b"1;\xff=\xfe\r\nx\r\n0\r\n\r\n"[..], true),
        (b"1\r\nx\r\n0\r\nX: caf\xe9\r\n\r\n", true),
        (b"1\r\nx\r\n0\r\ncaf\xe9: x\r\n\r\n", false),
        (b"1;\x01\r\nx\r\n0\r\n\r\n", false),
        (b"1;\t \r\nx\r\n0\r\n\r\n", true),
        (b"1 \t;a\r\nx\r\n0\r\n\r\n", true),
        (b"1 \r\nx\r\n0\r\n\r\n", false),
    ] {
        let (outcome, _) = compare(body, 3);
        assert_eq!(outcome.is_ok(), accepted, "{}", body.escape_ascii());
    }
}

/// Generates bodies that are valid or nearly valid: one byte may be replaced by another, or missing.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let chunk = ("0{0,3}", "( ?;[a-z]{0,3}(=[a-z]{0,3}|=\"[a-z ]{0,3}\")?)?", "[a-f0-9\r\n]{1,20}")
        .prop_map(|(zeros, extension, content)| {
            format!("{zeros}{:X}{extension}\r\n{content}\r\n", content.len())
        });
    let trailers = "([A-Z][a-z]{0,4}: ?[a-z]{0,5}\r\n){0,2}";
    let mistake = prop::option::of((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()));
    (proptest::collection::vec(chunk, 0..4), trailers, mistake).prop_map(
        |(chunks, trailers, mistake)| {
            let mut bytes = format!("{}0\r\n{trailers}\r\n", chunks.concat()).into_bytes();
            if let Some((index, byte, is_missing)) = mistake {
                let at = index.index(bytes.len());
                if is_missing {
                    bytes.remove(at);
                } else {
                    bytes[at] = byte;
                }
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn the_same_of_whatever_comes(mut body in bodies(), piece in 1..50usize) {
        body.extend_from_slice(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        let _ = compare(&body, piece);
    }
}
