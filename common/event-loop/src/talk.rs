//! What can be said to a client without waiting.

use std::io::{self, ErrorKind, Read};

use common::{AtOnce, Connection, FilePart, Handler, Heard, Need, Ready, Remainder};
use mio::net::TcpStream;

/// How many bytes are collected before they are sent.
const MAX_PENDING: usize = 64 * 1024;

/// How many times a client is read from before others have their turn.
const MAX_READS: usize = 16;

/// How many bytes of a file are sent before others have their turn.
const MAX_SENT: u64 = 4 * 1024 * 1024;

/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What a client waits for when all has been said that could be.
pub(crate) enum Pause {
    /// For itself: it has more to send.
    Receive,
    /// For itself: it has to take what is sent.
    Send(Option<Remainder>),
    /// For events.
    Events(Remainder),
    /// For a worker, who waits for whatever it is.
    Worker(Option<Remainder>),
    /// For others to have their turn.
    Turn(Option<Remainder>),
    /// For nothing: the conversation is over.
    Nothing,
}

/// A connection that never waits: what cannot be done at once is `WouldBlock`.
pub(crate) trait Socket {
    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize>;

    /// Whether there may be more to receive, although the last time it did not fill the room.
    fn has_more(&self) -> bool {
        false
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends what has been taken and not sent yet.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Sends some of a file. `Unsupported` if it has to be read and sent block by block.
    fn send_part(&mut self, part: &FilePart) -> io::Result<usize>;
}

/// A client, as far as it can be talked to.
pub(crate) struct Talk<'t> {
    pub(crate) stream: &'t mut dyn Socket,
    pub(crate) connection: &'t mut Connection,
    /// Whether the client has closed its side: its end is behind what it has sent.
    pub(crate) has_ended: bool,
    /// How many bytes the client has taken.
    pub(crate) taken: u64,
}

/// Says what can be said. `remainder` is what is left of a response, and `may_read` is whether the client may have sent
/// something.
pub(crate) fn talk(
    talk: &mut Talk,
    handler: &dyn Handler,
    mut remainder: Option<Remainder>,
    mut may_read: bool,
) -> io::Result<Pause> {
    for _ in 0..MAX_READS {
        if let Some(left) = remainder.take() {
            if let Some(pause) = talk.finish(left)? {
                return Ok(pause);
            }
        }
        if let Some(pause) = talk.answer_all(handler)? {
            return Ok(pause);
        }
        if !talk.flush()? {
            return Ok(Pause::Send(None));
        }
        let connection = &mut *talk.connection;
        if connection.advance() == Need::Close {
            return Ok(Pause::Nothing);
        }
        if !may_read {
            return Ok(Pause::Receive);
        }
        let room = connection.room();
        let most = room.len();
        match talk.stream.receive(room) {
            Ok(count) => {
                connection.received(count)?;
                // After a short read there is only the end, if anything: the system tells when there is more.
                may_read = count == most || talk.has_ended || talk.stream.has_more();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Pause::Receive),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Pause::Turn(None))
}

/// How much has been sent.
enum Sent {
    All,
    /// As much as the client takes for now.
    Some,
    /// As much as it gets before others have their turn.
    Enough,
    /// What comes next may take long.
    Slow,
    /// What comes next are events.
    Events,
}

impl Talk<'_> {
    /// Answers all requests that have arrived. Returns what must be waited for, if anything must.
    fn answer_all(&mut self, handler: &dyn Handler) -> io::Result<Option<Pause>> {
        while self.connection.advance() == Need::Answer {
            match self.connection.answer_at_once(handler) {
                AtOnce::Whole => {
                    if self.connection.outbox().len() > MAX_PENDING && !self.flush()? {
                        return Ok(Some(Pause::Send(None)));
                    }
                }
                AtOnce::Begun(remainder) => {
                    if let Some(pause) = self.finish(remainder)? {
                        return Ok(Some(pause));
                    }
                }
                AtOnce::MustWait => return Ok(Some(Pause::Worker(None))),
            }
        }
        Ok(None)
    }

    /// Sends what is left of a response. Returns what must be waited for, if anything must.
    fn finish(&mut self, mut remainder: Remainder) -> io::Result<Option<Pause>> {
        match self.send(&mut remainder) {
            Ok(Sent::All) => {
                self.connection.conclude(remainder.end(Ok(())).is_ok());
                Ok(None)
            }
            Ok(Sent::Some) => Ok(Some(Pause::Send(Some(remainder)))),
            Ok(Sent::Enough) => Ok(Some(Pause::Turn(Some(remainder)))),
            Ok(Sent::Slow) => Ok(Some(Pause::Worker(Some(remainder)))),
            Ok(Sent::Events) => Ok(Some(Pause::Events(remainder))),
            Err(error) => {
                self.connection.conclude(false);
                let told = io::Error::new(error.kind(), error.to_string());
                Err(remainder.end(Err(told)).err().unwrap_or(error))
            }
        }
    }

    /// Sends the outbox, and then what is left of a response.
    fn send(&mut self, remainder: &mut Remainder) -> io::Result<Sent> {
        if !self.flush()? {
            return Ok(Sent::Some);
        }
        let mut left = MAX_SENT;
        loop {
            let sent = match remainder.ready() {
                Ready::Nothing => return Ok(Sent::All),
                Ready::Slow => return Ok(Sent::Slow),
                Ready::Events(_) => return Ok(Sent::Events),
                _ if left == 0 => return Ok(Sent::Enough),
                Ready::Bytes(bytes) => {
                    self.stream.send(bytes).inspect(|count| remainder.sent(*count))
                }
                Ready::File(part) => match self.stream.send_part(part) {
                    Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(Sent::Slow),
                    sent => sent.and_then(|count| part.advance(count).map(|()| count)),
                },
            };
            match sent {
                Ok(count) => {
                    self.taken += count as u64;
                    left = left.saturating_sub(count as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Sent::Some),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the outbox. Returns whether all of it has been sent.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.connection.outbox().is_empty() {
            match self.stream.send(self.connection.outbox()) {
                Ok(count) => {
                    self.taken += count as u64;
                    self.connection.sent(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match self.stream.flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            flushed => flushed.map(|()| true),
        }
    }

    /// Sends a watcher the events that there are.
    pub(crate) fn tell(&mut self, remainder: &mut Remainder) -> io::Result<Watched> {
        let has_chunks = remainder.has_chunks();
        loop {
            if !self.flush()? {
                return Ok(Watched::Room);
            }
            let Ready::Events(watch) = remainder.ready() else { return Ok(Watched::End) };
            match watch.take() {
                Heard::Piece(piece) => {
                    let bytes = if has_chunks { piece.chunk() } else { piece.text() };
                    let count = match self.stream.send(bytes) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                        Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                        sent => sent?,
                    };
                    self.taken += count as u64;
                    self.connection.send_later(&bytes[count..]);
                }
                Heard::Nothing => return Ok(Watched::Event),
                Heard::End => {
                    if has_chunks {
                        self.connection.send_later(LAST_CHUNK);
                    }
                    return Ok(if self.flush()? { Watched::End } else { Watched::Room });
                }
            }
        }
    }
}

/// What a watcher waits for.
pub(crate) enum Watched {
    /// For the next event.
    Event,
    /// To take what is sent.
    Room,
    /// For nothing: there will be no more events.
    End,
}

/// Reads and discards what a client still sends. Returns whether it has closed its side.
pub(crate) fn discard(mut stream: &TcpStream) -> bool {
    let mut discarded = [0; 16 * 1024];
    for _ in 0..MAX_READS {
        match stream.read(&mut discarded) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    false
}
