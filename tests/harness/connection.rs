//! A connection to the server under test. It sends bytes, in one piece or in many.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::answer::{self, Answer};
use crate::{Failure, TIMEOUT};

/// How long to wait after each part of a request, to see whether the server answers too early.
const EARLY_ANSWER: Duration = Duration::from_millis(1);

/// How long a whole answer may take, however many pieces it arrives in.
const WHOLE_ANSWER: Duration = Duration::from_secs(60);

/// An open connection to the server. It closes when this is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    sent: Vec<u8>,
    /// The position in `sent` of the first request that has not been answered.
    unanswered: usize,
    received: Vec<u8>,
    /// The position in `received` where the next answer begins.
    start: usize,
    /// The position in `received` where the answers to `sent[unanswered..]` begin.
    first_answer: usize,
    /// How many answers may follow the next one.
    later_answers: usize,
}

/// Why no more bytes arrive.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The server closed the connection.
    Closed,
    /// The connection failed, usually because the server reset it.
    Failed(io::Error),
    /// The server sent nothing for the given time.
    Silent,
}

impl Connection {
    /// Takes over a stream that is connected to a server.
    ///
    /// # Errors
    ///
    /// When the connection has failed already.
    pub fn new(stream: TcpStream) -> Result<Connection, Failure> {
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

    /// Sends bytes. It is not an error if the server has closed the connection, because it may have answered
    /// already.
    ///
    /// # Errors
    ///
    /// When the server reads nothing for 5 seconds.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sent.extend_from_slice(bytes);
        match self.stream.write_all(bytes) {
            Err(error) if is_timeout(&error) => {
                Err(self.failure("your server stopped reading in the middle of the request"))
            }
            _ => Ok(()),
        }
    }

    /// Gives away the stream, for who needs nothing else of this.
    pub fn into_stream(self) -> TcpStream {
        self.stream
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

    /// Allows `count` answers: bytes after the first answer may be the beginning of another one.
    pub fn expect_answers(&mut self, count: usize) {
        self.later_answers = count.saturating_sub(1);
    }

    /// Sends each part on its own, and fails if the server answers before the last part.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`], and when the server answers or closes the connection too early.
    pub fn send_in_parts<'p>(
        &mut self,
        parts: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<(), Failure> {
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                self.expect_silence(EARLY_ANSWER)?;
            }
            self.send(part)?;
        }
        Ok(())
    }

    /// Waits for `time`, during which the server should do nothing.
    ///
    /// # Errors
    ///
    /// When the server sends something or closes the connection.
    pub fn expect_silence(&mut self, time: Duration) -> Result<(), Failure> {
        match self.receive(time) {
            Err(Ending::Silent) => Ok(()),
            Ok(()) => Err(self.failure("your server answers before the request is complete").cause(
                "A request ends with its blank line, or with the last byte of its body if it has one. One read \
                 may return only a part of it. Read on until the request is complete.",
            )),
            Err(_) => Err(self
                .failure("your server closes the connection before the request is complete")
                .cause(
                    "One read may return only a part of a request. Read on until the blank line, and until the \
                     last byte of the body if there is one.",
                )),
        }
    }

    /// Waits for `time` between two requests, during which the server should keep the connection open.
    ///
    /// # Errors
    ///
    /// When the server sends something or closes the connection.
    pub fn expect_idle(&mut self, time: Duration) -> Result<(), Failure> {
        match self.receive(time) {
            Err(Ending::Silent) => Ok(()),
            Ok(()) => Err(self.failure("your server sends something that no request asked for")),
            Err(_) => Err(self.failure("your server closes the connection between two requests")),
        }
    }

    /// Waits for more bytes of the answer, but no longer than `time`.
    ///
    /// # Errors
    ///
    /// When none arrive.
    pub fn wait_for_more(&mut self, time: Duration) -> Result<(), Failure> {
        self.receive(time).map_err(|_| self.failure("no more bytes arrived"))
    }

    /// Whether the part of the answer that has arrived contains these bytes.
    pub fn has_received(&self, bytes: &[u8]) -> bool {
        self.unread().windows(bytes.len()).any(|window| window == bytes)
    }

    /// Closes the client's side in the middle of a request, and waits until the server closes its side, too.
    /// Returns what the server has sent meanwhile.
    ///
    /// # Errors
    ///
    /// When the server does not close the connection within 5 seconds.
    pub fn leave(self) -> Result<Vec<u8>, Failure> {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.receive_to_the_end(TIMEOUT).map_err(|failure| {
            failure.cause(
                "The client has closed its side of the connection, so every read returns 0 bytes at once. A \
                 loop that waits for more bytes must end then.",
            )
        })
    }

    /// Makes the receive buffer small, so that the connection accepts only some kilobytes that the check does
    /// not read. A client that hangs behaves like this.
    pub fn shrink_receive_buffer(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_recv_buffer_size(4096);
    }

    /// Waits until the server closes the connection, whatever it sends before.
    ///
    /// # Errors
    ///
    /// When it sends nothing for `time` and does not close the connection.
    pub fn expect_close(self, time: Duration) -> Result<(), Failure> {
        self.receive_to_the_end(time).map(drop)
    }

    /// Waits until the server closes the connection. Returns what it sends before.
    ///
    /// # Errors
    ///
    /// When it sends nothing for `time` and does not close the connection.
    fn receive_to_the_end(mut self, time: Duration) -> Result<Vec<u8>, Failure> {
        loop {
            match self.receive(time) {
                Ok(()) => {}
                Err(Ending::Silent) => {
                    let failure = Failure::new("your server does not close the connection");
                    return Err(failure.bytes(&self.sent, &self.received));
                }
                Err(_) => return Ok(self.unread().to_vec()),
            }
        }
    }

    /// Reads to the end of the connection, and counts the bytes without keeping them.
    ///
    /// # Errors
    ///
    /// When the server sends nothing for 5 seconds and does not close the connection.
    pub fn count_to_the_end(&mut self) -> Result<u64, Failure> {
        let mut block = vec![0; 1 << 20];
        let mut received = 0;
        loop {
            match self.stream.read(&mut block) {
                Ok(0) => return Ok(received),
                Ok(count) => received += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    let problem = format!("the answer does not end; {received} bytes have arrived");
                    return Err(Failure::new(problem).bytes(&self.sent, &self.received));
                }
            }
        }
    }

    /// Closes the connection with a reset, as a client does when it crashes.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Waits for the answer to a request that was sent.
    ///
    /// # Errors
    ///
    /// When there is no answer within 5 seconds, and when HTTP does not allow the answer.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        self.answer_to("GET")
    }

    /// Waits for the answer to a request with this method. An answer to HEAD has no body.
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
    /// When there is no answer within 5 seconds, and when it has another status.
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

    /// The bytes of the answer that have arrived so far.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.received[self.start..]
    }

    /// The same bytes, after the answers to earlier requests that were sent together with this one.
    pub(crate) fn shown(&self) -> &[u8] {
        &self.received[self.first_answer..]
    }

    /// The same bytes, up to the end of the next answer, which has this length.
    pub(crate) fn shown_until(&self, length: usize) -> &[u8] {
        &self.received[self.first_answer..self.start + length]
    }

    /// Waits for more bytes of the answer, for [`TIMEOUT`] at most.
    pub(crate) fn receive_more(&mut self, start: Instant) -> Result<(), Ending> {
        if start.elapsed() > WHOLE_ANSWER { Err(Ending::Silent) } else { self.receive(TIMEOUT) }
    }

    /// Waits for more bytes, but no longer than `time`.
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

    /// As [`Connection::failure`], but with the whole answer. How much of it has arrived at this moment depends
    /// on chance.
    pub fn failure_with_all(&mut self, problem: impl Into<String>) -> Failure {
        // If the answer cannot be read to its end, the report shows the part that has arrived.
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
