//! A conversation without a socket: a client whose bytes come, and who takes ours, in the rhythm that somebody gives. For
//! tests, which compare what it hears with what it would hear if somebody waited for it.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use common::{
    Connection, FilePart, Handler, Limits, Need, Refused, Request, Response, Transfer, Transport,
};

use crate::talk::{Pause, Socket, Talk, talk};

/// After so many turns, a conversation is one that has no end: each third turn moves something.
const MAX_TURNS: usize = 2_000_000;

/// What a client hears that sends these bytes, and then no more. Each read and each write is as long as the next byte of
/// the rhythm says; 0 stands for one that has to wait. `None` if the conversation does not come to an end.
pub fn on_a_loop(
    sent: &[u8],
    rhythm: &[u8],
    handler: &dyn Handler,
    limits: Limits,
) -> Option<Vec<u8>> {
    let client = Client::new(sent, rhythm);
    let mut connection = Connection::new(limits);
    let mut remainder = None;
    for _ in 0..MAX_TURNS {
        let (stream, connection) = (&mut &client, &mut connection);
        let mut once = Talk { stream, connection, has_ended: false, taken: 0 };
        match talk(&mut once, handler, remainder.take(), true) {
            Err(_) | Ok(Pause::Nothing | Pause::Events(_)) => return Some(client.heard()),
            // Whoever has nothing to remember goes on with another conversation.
            Ok(Pause::Receive) if connection.is_blank() => connection.restart(),
            Ok(Pause::Receive) => {}
            Ok(Pause::Send(left) | Pause::Turn(left)) => remainder = left,
            Ok(Pause::Worker(left)) => {
                let mut waiting = Waiting(&client);
                let served = match left {
                    Some(left) => connection.write_remainder(left, &mut waiting),
                    None => connection.answer(handler, &mut waiting),
                };
                if served.and_then(|()| connection.flush(&mut waiting)).is_err() {
                    return Some(client.heard());
                }
            }
        }
    }
    None
}

/// What the same client hears if somebody waits for it all the time.
pub fn on_a_thread(sent: &[u8], handler: &dyn Handler, limits: Limits) -> Vec<u8> {
    let client = Client::new(sent, &[]);
    let mut waiting = Waiting(&client);
    let mut connection = Connection::new(limits);
    loop {
        let step = match connection.advance() {
            Need::Bytes => connection.receive(&mut waiting),
            Need::Answer => connection.answer(handler, &mut waiting),
            Need::Close => connection.finish(&mut waiting).map(drop),
        };
        if step.is_err() || connection.advance() == Need::Close && connection.outbox().is_empty() {
            return client.heard();
        }
    }
}

/// Answers in all the ways that a loop treats differently.
pub struct Ways;

impl Handler for Ways {
    fn answer(&self, request: &Request) -> Response {
        match request.path().0 {
            "large" => Response::text(vec![b'x'; 70_000]),
            "stream" => Response::stream("text/plain", io::repeat(b'y').take(1_000)),
            "last" => Response::text("last").last(),
            "body" | "slow" => {
                let mut body = String::new();
                let read = request.body().map_err(io::Error::from);
                match read.and_then(|mut it| it.read_to_string(&mut body)) {
                    Ok(_) => Response::text(body),
                    Err(error) => Response::failed(error),
                }
            }
            _ => Response::text(request.target()),
        }
    }

    fn refuse(&self, refused: Refused, _: &[u8]) -> Response {
        Response::refused(refused)
    }

    fn may_wait(&self, request: &Request) -> bool {
        request.path().0 == "slow"
    }
}

struct Client<'c> {
    rhythm: &'c [u8],
    state: RefCell<State<'c>>,
}

#[derive(Default)]
struct State<'c> {
    /// What has not arrived yet.
    sent: &'c [u8],
    heard: Vec<u8>,
    /// How many reads and writes there have been.
    count: usize,
}

impl<'c> Client<'c> {
    fn new(sent: &'c [u8], rhythm: &'c [u8]) -> Client<'c> {
        Client { rhythm, state: RefCell::new(State { sent, heard: Vec::new(), count: 0 }) }
    }

    fn heard(&self) -> Vec<u8> {
        self.state.take().heard
    }

    /// How many bytes may be read or written now.
    fn most(&self) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.count += 1;
        // A client that always waited would never come to an end, so it goes on each third time.
        match self.rhythm.get(state.count % self.rhythm.len().max(1)) {
            Some(0) if state.count % 3 > 0 => Err(ErrorKind::WouldBlock.into()),
            Some(0) => Ok(1_000),
            Some(255) | None => Ok(usize::MAX),
            Some(most) => Ok(usize::from(*most)),
        }
    }

    fn take(&self, room: &mut [u8], most: usize) -> usize {
        let mut state = self.state.borrow_mut();
        let count = most.min(room.len()).min(state.sent.len());
        let (now, later) = state.sent.split_at(count);
        room[..count].copy_from_slice(now);
        state.sent = later;
        count
    }

    fn hear(&self, bytes: &[u8], most: usize) -> usize {
        let count = most.min(bytes.len());
        self.state.borrow_mut().heard.extend_from_slice(&bytes[..count]);
        count
    }
}

impl Socket for &Client<'_> {
    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = self.most()?;
        Ok(self.take(room, most))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.most()?;
        Ok(self.hear(bytes, most))
    }

    fn send_part(&mut self, _: &FilePart) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// The same client, for somebody who waits.
struct Waiting<'c>(&'c Client<'c>);

impl Transport for Waiting<'_> {
    fn receive(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<Transfer> {
        let most = self.0.most().unwrap_or(1);
        let bytes = Some(self.0.take(buffer, most));
        Ok(Transfer { bytes, waited: Duration::ZERO })
    }

    fn send(&mut self, bytes: &[u8], _: Duration) -> io::Result<Transfer> {
        let most = self.0.most().unwrap_or(1);
        Ok(Transfer { bytes: Some(self.0.hear(bytes, most)), waited: Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Requests of all kinds, each of them named, and some that are none.
    fn request() -> impl Strategy<Value = String> {
        let path =
            prop_oneof![Just("small"), Just("large"), Just("stream"), Just("slow"), Just("body")];
        let rest = prop_oneof![
            4 => Just("\r\n".to_owned()),
            2 => "[a-z]{0,40}".prop_map(|it| format!("Content-Length: {}\r\n\r\n{it}", it.len())),
            2 => "[a-z]{1,40}".prop_map(|it| {
                format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{it}\r\n0\r\n\r\n", it.len())
            }),
            1 => Just("Connection: close\r\n\r\n".to_owned()),
            1 => Just("Broken\r\n\r\n".to_owned()),
        ];
        let method = prop_oneof![4 => Just("GET"), 2 => Just("POST"), 1 => Just("HEAD")];
        (method, path, any::<u8>(), rest).prop_map(|(method, path, number, rest)| {
            format!("{method} /{path}?{number} HTTP/1.1\r\nHost: a\r\n{rest}")
        })
    }

    proptest! {
        #[test]
        fn in_whatever_rhythm_a_client_hears_the_same(
            requests in prop::collection::vec(request(), 1..8),
            cut in 0..200usize,
            rhythm in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..12),
        ) {
            let all = requests.concat().into_bytes();
            let sent = &all[..all.len().saturating_sub(cut.saturating_sub(100))];
            let heard = on_a_loop(sent, &rhythm, &Ways, Limits::default());
            let expected = on_a_thread(sent, &Ways, Limits::default());
            prop_assert!(heard.is_some(), "it has no end");
            let (heard, expected) = (heard.unwrap_or_default(), expected);
            prop_assert!(heard == expected, "{} is not {}", heard.escape_ascii(), expected.escape_ascii());
        }
    }
}
