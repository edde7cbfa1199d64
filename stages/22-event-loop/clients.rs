//! A client of the loop, and what can be said to it without waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use common::{AtOnce, Closing, Connection, Driven, Limits, Need, Ready, Remainder};
use mio::Interest;
use mio::net::TcpStream;

/// How many times a client has its turn before the others have theirs.
const TURNS: usize = 16;

/// How long a client may take to close its side, when all has been said.
const LINGERING_TIME: Duration = Duration::from_secs(2);

pub struct Client {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub connection: Connection,
    /// What is left of a response, when its beginning has been sent.
    pub remainder: Option<Remainder>,
    /// When the client has been waited for long enough.
    pub deadline: Instant,
    /// Whether all has been said, and only the end of the connection is left.
    is_ending: bool,
    /// Whether it has to take something before anything else can happen.
    pub is_full: bool,
    /// Whether it has closed its side. Then its end is behind what it has sent, and is read as well.
    pub has_ended: bool,
    /// What the system has been asked to tell.
    pub registered: Option<Interest>,
}

/// What comes next.
pub enum Next {
    /// The client: it has to send something, or to take something.
    Client,
    /// The others: this client could go on, but it has had its turn.
    Others,
    /// A thread, which waits for whatever it is.
    Thread,
    /// Nothing.
    End,
}

impl Client {
    pub fn new(stream: TcpStream, peer: SocketAddr, driven: &Driven) -> Client {
        Client {
            stream,
            peer,
            connection: driven.connection(),
            remainder: None,
            deadline: Instant::now() + driven.limits().idle_timeout,
            is_ending: false,
            is_full: false,
            has_ended: false,
            registered: None,
        }
    }

    /// Whether nothing is lost when the connection is closed.
    pub fn is_idle(&self) -> bool {
        self.connection.is_blank() && self.remainder.is_none() && !self.is_ending
    }

    /// Whether no whole request has arrived that is not answered yet.
    pub fn is_without_request(&self) -> bool {
        self.is_ending || self.remainder.is_none() && self.connection.outbox().is_empty()
    }

    /// Says what can be said: sends, answers and reads, until one of them would have to wait.
    pub fn go_on(&mut self, driven: &Driven, now: Instant) -> io::Result<Next> {
        let (mut may_have_more, mut has_answered) = (true, self.is_full);
        for _ in 0..TURNS {
            if self.is_ending {
                return self.discard();
            }
            match self.send(&driven.limits(), now)? {
                Sent::All => {}
                Sent::Some => return Ok(Next::Client),
                Sent::Slow => return Ok(Next::Thread),
            }
            match self.connection.advance() {
                Need::Answer => {
                    has_answered = true;
                    let connection = &mut self.connection;
                    match driven.with_handler(self.peer, |it| connection.answer_at_once(it)) {
                        AtOnce::Whole => {}
                        AtOnce::Begun(remainder) => self.remainder = Some(remainder),
                        AtOnce::MustWait => return Ok(Next::Thread),
                    }
                }
                Need::Bytes if may_have_more => may_have_more = self.read(&driven.limits(), now)?,
                Need::Bytes if has_answered && driven.is_stopping() => return Ok(Next::End),
                Need::Bytes => {
                    if has_answered {
                        self.deadline = now + self.connection.patience();
                    }
                    return Ok(Next::Client);
                }
                Need::Close => match self.connection.closing() {
                    Closing::Immediate => return Ok(Next::End),
                    Closing::Lingering => self.begin_to_end(now),
                },
            }
        }
        Ok(Next::Others)
    }

    /// Reads what has arrived. Returns whether there may be more: after a short read there is only the end, if anything,
    /// and the system tells when there is more.
    fn read(&mut self, limits: &Limits, now: Instant) -> io::Result<bool> {
        let was_idle = self.connection.is_idle();
        let room = self.connection.room();
        let most = room.len();
        let count = match self.stream.read(room) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.connection.received(count)?;
        // The time of a head begins with its first byte, and no further byte makes it longer.
        if was_idle {
            self.deadline = now + limits.head_timeout;
        }
        Ok(count == most || self.has_ended)
    }

    /// Sends the outbox, and then what is left of a response.
    fn send(&mut self, limits: &Limits, now: Instant) -> io::Result<Sent> {
        loop {
            let from_outbox = !self.connection.outbox().is_empty();
            let sent = match self.remainder.as_mut().map(Remainder::ready) {
                _ if from_outbox => self.stream.write(self.connection.outbox()),
                None => return Ok(Sent::All),
                Some(Ready::Nothing) => {
                    let sent = self.remainder.take().map_or(Ok(()), |it| it.end(Ok(())));
                    self.connection.conclude(sent.is_ok());
                    continue;
                }
                Some(Ready::Bytes(bytes)) => self.stream.write(bytes),
                Some(Ready::File(part)) => match common::send_part(&self.stream, part) {
                    Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(Sent::Slow),
                    sent => sent.and_then(|count| part.advance(count).map(|()| count)),
                },
                Some(Ready::Events(_) | Ready::Slow) => return Ok(Sent::Slow),
            };
            match sent {
                Ok(count) if from_outbox => self.connection.sent(count),
                Ok(count) => drop(self.remainder.as_mut().map(|remainder| remainder.sent(count))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_full = true;
                    return Ok(Sent::Some);
                }
                Err(error) => return Err(error),
            }
            self.is_full = false;
            self.deadline = now + limits.send_timeout;
        }
    }

    /// Sends what is in the outbox, as far as there is room for it, and ends.
    pub fn say_goodbye(&mut self, now: Instant) {
        if let Ok(count) = self.stream.write(self.connection.outbox()) {
            self.connection.sent(count);
        }
        self.begin_to_end(now);
    }

    /// Closes our side. What the client still sends would destroy the last response if we closed both.
    fn begin_to_end(&mut self, now: Instant) {
        self.is_ending = true;
        self.deadline = now + LINGERING_TIME;
        let _ = self.stream.shutdown(Shutdown::Write); // if it has left already, reading says so
    }

    fn discard(&mut self) -> io::Result<Next> {
        let mut discarded = [0; 16 * 1024];
        match self.stream.read(&mut discarded) {
            Ok(0) => Ok(Next::End),
            Ok(_) => Ok(Next::Others),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Next::Client),
            Err(error) => Err(error),
        }
    }

    /// Handles the end of the client's time. What has arrived in the meantime has been looked at.
    pub fn time_is_up(&mut self, driven: &Driven, now: Instant) -> io::Result<Next> {
        if self.is_ending {
            return Ok(Next::End);
        }
        if self.is_full {
            let why = "the client was too slow to take the response";
            return Err(io::Error::new(ErrorKind::ConnectionAborted, why));
        }
        self.connection.time_is_up();
        self.go_on(driven, now)
    }
}

/// How much has been sent.
enum Sent {
    All,
    /// As much as the client takes for now.
    Some,
    /// What comes next may take long.
    Slow,
}
