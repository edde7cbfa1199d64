//! Everything that a client sends in one connection, in pieces and with pauses: no sockets, no waiting. The first
//! byte says in which rhythm.

#![no_main]

use std::io::{self, Read};
use std::time::Duration;

use common::{
    Connection, Decoder, Handler, Limits, Need, Refused, Request, Response, Transfer, Transport,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&rhythm, sent)) = bytes.split_first() else { return };
    let mut client = Client { sent, rhythm, answers: Vec::new(), waited: Duration::ZERO };
    let limits = Limits { max_body: 1000, ..Limits::default() };
    let mut connection = Connection::new(limits);
    let ended = loop {
        let step = match connection.advance() {
            Need::Bytes => connection.receive(&mut client),
            Need::Answer => connection.answer(&Lengths, &mut client),
            Need::Close => break connection.finish(&mut client).map(drop),
        };
        if step.is_err() {
            break step;
        }
    };
    assert!(client.waited < Duration::from_secs(60 * 60), "it waits for ever");
    if ended.is_ok() {
        check(&client.answers, sent.windows(5).any(|it| it == b"HEAD "));
    }
});

/// A client that sends its bytes in pieces, some of them late, and then no more.
struct Client<'a> {
    sent: &'a [u8],
    rhythm: u8,
    answers: Vec<u8>,
    waited: Duration,
}

impl Transport for Client<'_> {
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer> {
        self.rhythm = self.rhythm.rotate_left(1).wrapping_add(self.sent.len() as u8);
        let late = Duration::from_millis(u64::from(self.rhythm) * 8);
        let waited = late.min(time);
        self.waited += waited;
        if late > time && !time.is_zero() {
            return Ok(Transfer { bytes: None, waited });
        }
        let piece = usize::from(self.rhythm % 32) + 1;
        let count = piece.min(self.sent.len()).min(buffer.len());
        let (now, later) = self.sent.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.sent = later;
        Ok(Transfer { bytes: Some(count), waited })
    }

    fn send(&mut self, bytes: &[u8], _time: Duration) -> io::Result<Transfer> {
        self.answers.extend_from_slice(bytes);
        Ok(Transfer { bytes: Some(bytes.len()), waited: Duration::ZERO })
    }
}

/// Reads bodies and tells how long they are, or does not, if the path says so.
struct Lengths;

impl Handler for Lengths {
    fn answer(&self, request: &Request) -> Response {
        route(request).unwrap_or_else(Response::failed)
    }

    fn refuse(&self, refused: Refused, _received: &[u8]) -> Response {
        Response::refused(refused)
    }
}

fn route(request: &Request) -> io::Result<Response> {
    if request.path().0 == "unread" {
        return Ok(Response::text("unread"));
    }
    let length = match request.body() {
        Ok(mut body) => io::copy(&mut body, &mut io::sink())?,
        Err(_) => 0, // it has none
    };
    if request.path().0 == "stream" {
        return Ok(Response::stream("text/plain", io::repeat(b'x').take(length)));
    }
    Ok(Response::text(length.to_string()))
}

/// Goes from answer to answer, by what they say about their length. An answer to HEAD says it, too, but
/// has no content.
fn check(mut answers: &[u8], asks_for_heads: bool) {
    let all = answers.escape_ascii();
    while !answers.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 20];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(answers);
        let Ok(httparse::Status::Complete(start)) = parsed else { panic!("{parsed:?} in {all}") };
        assert_ne!(response.code, Some(500), "{all}");
        answers = &answers[start..];
        let is_head = asks_for_heads && (answers.is_empty() || answers.starts_with(b"HTTP/1.1 "));
        let field = |name: &str| {
            let mut fields = response.headers.iter();
            fields.find(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
        };
        if response.code == Some(100) || is_head {
            continue;
        }
        if field("Transfer-Encoding").is_some() {
            let (mut decoder, mut content) = (Decoder::new(), [0; 64 * 1024]);
            let decoded = decoder.decode(answers, &mut content);
            let (used, _) = decoded.unwrap_or_else(|refused| panic!("{refused} in {all}"));
            assert!(decoder.is_done(), "{all}");
            answers = &answers[used..];
        } else if let Some(length) = field("Content-Length") {
            let length = String::from_utf8_lossy(length).parse::<usize>().expect("a number");
            assert!(length <= answers.len(), "{all}");
            answers = &answers[length..];
        } else {
            return; // up to the end of the connection
        }
    }
}
