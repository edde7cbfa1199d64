//! A connection to the server under test: bytes to it, in one piece or in many.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::answer::{self, Answer};
use crate::{Failure, TIMEOUT};

/// How long a server gets to answer too early, after each part of a request.
const TEMPTATION: Duration = Duration::from_millis(1);

/// How long an answer may take in all, however many pieces it comes in.
const WHOLE_ANSWER: Duration = Duration::from_secs(60);

/// An open connection to the server. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    sent: Vec<u8>,
    /// Where in `sent` the request begins that has not been answered.
    unanswered: usize,
    received: Vec<u8>,
    /// Where in `received` the answer that is waited for begins.
    start: usize,
    /// Where in `received` the answers to what is in `sent` begin, from `unanswered` on.
    first_answer: usize,
    /// How many answers are to come after the next one.
    later_answers: usize,
}

/// Why no more bytes come.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The server closed the connection.
    Closed,
    /// The connection failed: it was reset, as a rule.
    Failed(io::Error),
    /// The server said nothing for [`TIMEOUT`].
    Silent,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Result<Connection, Failure> {
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
            .map(|()| Connection {
                stream,
                sent: Vec::new(),
                unanswered: 0,
                received: Vec::new(),
                start: 0,
                first_answer: 0,
                later_answers: 0,
            });
        prepared.map_err(|error| Failure::new(format!("the connection failed at once: {error}")))
    }

    /// Sends bytes. It is no error if the server has closed the connection meanwhile: it may
    /// have answered before.
    ///
    /// # Errors
    ///
    /// When the server reads nothing for 5 seconds.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sent.extend_from_slice(bytes);
        match self.stream.write_all(bytes) {
            Err(error) if is_timeout(&error) => {
                Err(self.failure("your server has stopped reading in the middle of the request"))
            }
            _ => Ok(()),
        }
    }

    /// Sends several requests at once, without waiting for the answers.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`].
    pub fn send_requests(&mut self, requests: &[&[u8]]) -> Result<(), Failure> {
        self.expect_answers(requests.len());
        self.send(&requests.concat())
    }

    /// Takes so many answers for possible: bytes after the first may be the beginning of another.
    pub fn expect_answers(&mut self, count: usize) {
        self.later_answers = count.saturating_sub(1);
    }

    /// Sends each part on its own, and fails if the server answers before the last one.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`], and when an answer, or the end of the connection, comes too early.
    pub fn send_in_parts<'p>(
        &mut self,
        parts: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<(), Failure> {
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                self.expect_silence(TEMPTATION)?;
            }
            self.send(part)?;
        }
        Ok(())
    }

    /// Fails if the server says anything, or hangs up, within `time`.
    ///
    /// # Errors
    ///
    /// When it does.
    pub fn expect_silence(&mut self, time: Duration) -> Result<(), Failure> {
        match self.receive(time) {
            Err(Ending::Silent) => Ok(()),
            Ok(()) => Err(self.failure("your server answers before the request is complete").cause(
                "A request ends with its blank line, or with the last byte of its body. One read \
                 may return a part of it: read on until it is all there.",
            )),
            Err(_) => Err(self
                .failure("your server closes the connection before the request is complete")
                .cause(
                    "One read may return a part of a request: read on until the blank line, and \
                     until the last byte of the body if there is one.",
                )),
        }
    }

    /// Waits until something more of the answer comes, or for so long at most.
    ///
    /// # Errors
    ///
    /// When nothing comes.
    pub fn wait_for_more(&mut self, time: Duration) -> Result<(), Failure> {
        self.receive(time).map_err(|_| self.failure("nothing more came"))
    }

    /// Whether these bytes stand in what has come of the answer.
    pub fn has_received(&self, bytes: &[u8]) -> bool {
        self.unread().windows(bytes.len()).any(|window| window == bytes)
    }

    /// Stops in the middle, and waits until the server has noticed: until it hangs up too.
    ///
    /// # Errors
    ///
    /// When it does not hang up within 5 seconds.
    pub fn leave(self) -> Result<(), Failure> {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.expect_hang_up(TIMEOUT).map_err(|failure| {
            failure.cause(
                "The client has closed its side. A read returns 0 bytes then, now and for ever: \
                 a loop that waits for more must end.",
            )
        })
    }

    /// Takes no more than some kilobytes before they are read, as a client does that has hung.
    pub fn go_deaf(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_recv_buffer_size(4096);
    }

    /// Waits until the server closes the connection, whatever it says before.
    ///
    /// # Errors
    ///
    /// When it is silent for `time` and does not hang up.
    pub fn expect_hang_up(mut self, time: Duration) -> Result<(), Failure> {
        loop {
            match self.receive(time) {
                Ok(()) => {}
                Err(Ending::Silent) => {
                    let failure = Failure::new("your server does not hang up");
                    return Err(failure.bytes(&self.sent, &self.received));
                }
                Err(_) => return Ok(()),
            }
        }
    }

    /// Closes the connection by a reset, as a crashed client does.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Waits for the answer to a request that was sent.
    ///
    /// # Errors
    ///
    /// When there is none within 5 seconds, and when it is not one that HTTP allows.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        self.answer_to("GET")
    }

    /// Waits for the answer to a request with this method: one to HEAD has no body.
    ///
    /// # Errors
    ///
    /// As [`Connection::answer`].
    pub fn answer_to(&mut self, method: &str) -> Result<Answer, Failure> {
        let (answer, length) = answer::read(self, method)?;
        self.start += length;
        match self.later_answers.checked_sub(1) {
            Some(later) => self.later_answers = later,
            None => {
                self.unanswered = self.sent.len();
                self.first_answer = self.start;
            }
        }
        Ok(answer)
    }

    /// Waits for an interim answer, such as `100 Continue`, and expects this status code.
    ///
    /// # Errors
    ///
    /// When there is none within 5 seconds, and when another answer comes.
    pub fn expect_interim(&mut self, status: u16) -> Result<(), Failure> {
        let (found, length) = answer::read_interim(self)?;
        if found != status {
            return Err(self.failure(format!("the status is {found}, not {status}")));
        }
        self.start += length;
        Ok(())
    }

    /// Whether bytes after the next answer may be the beginning of another one.
    pub(crate) fn expects_more_answers(&self) -> bool {
        self.later_answers > 0
    }

    /// The bytes of the answer that have come so far.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.received[self.start..]
    }

    /// The same, after the answers to earlier requests that were sent with this one.
    pub(crate) fn shown(&self) -> &[u8] {
        &self.received[self.first_answer..]
    }

    /// The same, as far as the answer goes that is waited for, and has this length.
    pub(crate) fn shown_until(&self, length: usize) -> &[u8] {
        &self.received[self.first_answer..self.start + length]
    }

    /// Waits for more bytes of the answer, for [`TIMEOUT`] at most.
    pub(crate) fn receive_more(&mut self, start: Instant) -> Result<(), Ending> {
        if start.elapsed() > WHOLE_ANSWER { Err(Ending::Silent) } else { self.receive(TIMEOUT) }
    }

    /// Waits for more bytes for a given time.
    pub(crate) fn receive(&mut self, time: Duration) -> Result<(), Ending> {
        let mut piece = [0; 16 * 1024];
        self.stream.set_read_timeout(Some(time)).map_err(Ending::Failed)?;
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Ending::Closed),
                Ok(count) => {
                    self.received.extend_from_slice(&piece[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Ending::Silent),
                Err(error) => return Err(Ending::Failed(error)),
            }
        }
    }

    /// A failure that shows the bytes of this connection.
    pub fn failure(&self, problem: impl Into<String>) -> Failure {
        Failure::new(problem).bytes(self.sent(), self.shown())
    }

    /// As [`Connection::failure`], with all of the answer: what has come of it at this moment is
    /// a matter of chance.
    pub fn failure_with_all(&mut self, problem: impl Into<String>) -> Failure {
        // An answer that does not end well is shown as far as it came.
        let _ = answer::read(self, "GET");
        self.failure(problem)
    }

    /// What was sent since the last answer.
    pub(crate) fn sent(&self) -> &[u8] {
        &self.sent[self.unanswered..]
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
