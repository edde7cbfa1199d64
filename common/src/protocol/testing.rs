//! A client that follows a script, for tests without sockets, clocks, or waiting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::message::refused::Refused;
use crate::message::response::Response;
use crate::protocol::connection::{Connection, Handler, Need};
use crate::protocol::limits::Limits;
use crate::protocol::request::Request;
use crate::protocol::transport::{Transfer, Transport};

/// What a client does after a given time.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Sends(Vec<u8>),
    Leaves,
    Resets,
}

/// A client that sends what its script says, each piece after a given time, and takes everything that it
/// is sent.
#[derive(Debug, Default)]
pub(crate) struct Script {
    moves: VecDeque<(Duration, Move)>,
    /// The bytes that it has been sent.
    pub(crate) received: Vec<u8>,
    /// In how many pieces they were sent.
    pub(crate) sends: usize,
    /// The most bytes that it takes at a time, and how long it takes for them. `None` means no limit and
    /// no time.
    pub(crate) takes: Option<(usize, Duration)>,
    /// How long this machine stands still, once, during the next wait.
    pub(crate) standstill: Duration,
    /// The bytes that were lent. They are not sent until they are taken back.
    lent: Vec<u8>,
    /// How long the server has waited in total.
    pub(crate) waited: Duration,
}

impl Script {
    pub(crate) fn new(moves: &[(u64, &[u8])]) -> Script {
        let moves = moves
            .iter()
            .map(|(millis, bytes)| (Duration::from_millis(*millis), Move::Sends(bytes.to_vec())));
        Script { moves: moves.collect(), ..Script::default() }
    }

    pub(crate) fn then(mut self, millis: u64, what: Move) -> Script {
        self.moves.push_back((Duration::from_millis(millis), what));
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    fn wait(&mut self, time: Duration) -> Duration {
        self.waited += time;
        time + std::mem::take(&mut self.standstill)
    }
}

/// Shows a request to a function, as a handler would see it, and returns what the function returns.
pub(crate) fn see<T>(request: &str, look: impl Fn(&Request) -> T) -> T {
    struct Handle<F, T>(F, RefCell<Option<T>>);
    impl<T, F: Fn(&Request) -> T> Handler for Handle<F, T> {
        fn answer(&self, request: &Request) -> Response {
            self.1.replace(Some(self.0(request)));
            Response::ok()
        }

        fn refuse(&self, refused: Refused, _: &[u8]) -> Response {
            panic!("{refused}")
        }
    }
    let handler = Handle(look, RefCell::new(None));
    let mut script = Script::new(&[(0, request.as_bytes())]);
    let mut connection = Connection::new(Limits::default());
    loop {
        match connection.advance() {
            Need::Bytes => connection.receive(&mut script).expect("the script goes on"),
            Need::Answer => {
                connection.answer(&handler, &mut script).expect("the script takes it");
                return handler.1.into_inner().expect("there was a request");
            }
            Need::Close => panic!("there was no request"),
        }
    }
}

impl Transport for Script {
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer> {
        // A client without a move is silent forever.
        let (delay, what) = self.moves.pop_front().unwrap_or((Duration::MAX, Move::Leaves));
        if delay > time {
            self.moves.push_front((delay - time, what));
            return Ok(Transfer { bytes: None, waited: self.wait(time) });
        }
        let waited = self.wait(delay);
        let bytes = match what {
            Move::Leaves => 0,
            Move::Resets => return Err(io::ErrorKind::ConnectionReset.into()),
            Move::Sends(mut bytes) => {
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                let rest = bytes.split_off(count);
                if !rest.is_empty() {
                    self.moves.push_front((Duration::ZERO, Move::Sends(rest)));
                }
                count
            }
        };
        Ok(Transfer { bytes: Some(bytes), waited })
    }

    fn send(&mut self, bytes: &[u8], time: Duration) -> io::Result<Transfer> {
        let (most, delay) = self.takes.unwrap_or((usize::MAX, Duration::ZERO));
        if delay > time {
            self.takes = Some((most, delay - time));
            return Ok(Transfer { bytes: None, waited: self.wait(time) });
        }
        let count = bytes.len().min(most);
        self.received.extend_from_slice(&bytes[..count]);
        self.sends += 1;
        Ok(Transfer { bytes: Some(count), waited: self.wait(delay) })
    }

    fn lend(&mut self, bytes: &mut Vec<u8>) -> bool {
        std::mem::swap(&mut self.lent, bytes);
        true
    }

    fn take_back(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        std::mem::swap(&mut self.lent, bytes);
        Ok(())
    }
}
