//! The conversation with one client, without its socket (stage 12's lasting form).

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::message::body::Framing;
use crate::message::head::{Head, HeadParser, Version};
use crate::message::refused::Refused;
use crate::message::remainder::{Ready, Remainder};
use crate::message::response::{Recipient, Response};
use crate::message::stream::Stream;
use crate::message::target::{HTTP, HTTP_AND_HTTPS, Target};
use crate::protocol::buffer::Buffer;
use crate::protocol::filter::Authority;
use crate::protocol::limits::{Limits, TimeBudget};
use crate::protocol::persistence::{self, Then};
use crate::protocol::request::{Message, Request, Rules, interpret};
use crate::protocol::rules;
use crate::protocol::transport::{self, Line, Outbox, Transport};

/// What a connection needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// More bytes from the client: [`Connection::receive`].
    Bytes,
    /// An answer, to a valid request or to a refused one: [`Connection::answer`].
    Answer,
    /// Nothing more: [`Connection::finish`], then close it.
    Close,
}

/// The code that answers requests, valid or refused.
pub trait Handler {
    /// Returns the response to a request.
    fn answer(&self, request: &Request) -> Response;

    /// Returns the response to a request that was refused before it reached [`Handler::answer`].
    /// `received` is how it begins.
    fn refuse(&self, refused: Refused, received: &[u8]) -> Response;

    /// Whether the response to a request may have to be waited for, such as for a disk. From stage 21.
    fn may_wait(&self, request: &Request) -> bool {
        let _ = request;
        false
    }
}

/// The conversation with one client. It decides what is a request, what is refused, how long the
/// client may take, whether the connection stays open, and what is sent when. It has no socket and no
/// clock: a [`Transport`] carries its bytes, and its caller asks it what it needs next.
///
/// ```
/// use common::{Connection, Handler, Limits, Need, Refused, Request, Response, Transport};
///
/// fn talk(transport: &mut dyn Transport, handler: &dyn Handler) -> std::io::Result<()> {
///     let mut connection = Connection::new(Limits::default());
///     loop {
///         match connection.advance() {
///             Need::Bytes => connection.receive(transport)?,
///             Need::Answer => connection.answer(handler, transport)?,
///             Need::Close => return connection.finish(transport).map(drop),
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    rules: Rules,
    /// Bytes that have been received and not used yet.
    buffer: Buffer,
    /// How far the head in the buffer has been parsed.
    parser: HeadParser,
    outbox: Outbox,
    phase: Phase,
    /// The time that the client has left in this phase.
    budget: TimeBudget,
    /// Whether the client sends no more: it has closed its side of the connection, or it has asked for its end with a
    /// request that had a small response, and all that it sent before has been read.
    client_has_ended: bool,
    /// Whether it goes through a filter, and is private.
    is_private: bool,
    /// Whom the client has been shown that this server is.
    authority: Option<Arc<dyn Authority>>,
}

/// The phase of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No request has begun to arrive since the last one.
    Idle,
    /// A head has begun to arrive.
    Head,
    /// A head of this many bytes has arrived.
    Request(usize),
    /// What arrived is not a valid request.
    Refused(Refused),
    /// The head of a response has been written, and the rest is being sent.
    Answering(Then),
    Ended,
}

/// What has become of an attempt to answer at once. From stage 21.
pub enum AtOnce {
    /// The response is in the outbox.
    Whole,
    /// The response begins in the outbox. What is left of it follows, and then [`Connection::conclude`].
    Begun(Remainder),
    /// Nobody can answer without waiting: the body has not arrived, or the handler may take long. Nothing has changed:
    /// [`Connection::answer`] waits.
    MustWait,
}

impl Connection {
    /// Creates a conversation that begins now.
    pub fn new(limits: Limits) -> Connection {
        Connection::with_rules(limits, Rules::All)
    }

    /// Creates a connection to a client that may send compressed bodies. They are unpacked when they are read. From
    /// stage 18.
    pub fn unpacking(limits: Limits) -> Connection {
        Connection::with_rules(limits, Rules::Packed)
    }

    pub(crate) fn with_rules(limits: Limits, rules: Rules) -> Connection {
        Connection {
            limits,
            rules,
            buffer: Buffer::new(),
            parser: HeadParser::new(),
            outbox: Outbox::new(limits.send_timeout),
            phase: Phase::Idle,
            budget: TimeBudget::fixed(limits.idle_timeout),
            client_has_ended: false,
            is_private: false,
            authority: None,
        }
    }

    /// Prepares for a conversation with another client. Memory is kept.
    pub fn restart(&mut self) {
        self.parser.reset();
        self.buffer.clear();
        self.outbox.clear();
        self.phase = Phase::Idle;
        self.budget = TimeBudget::fixed(self.limits.idle_timeout);
        self.client_has_ended = false;
        (self.is_private, self.authority) = (false, None);
    }

    /// Takes note of a filter, through which this conversation goes. If it is known whom the client has been shown, requests
    /// for others are refused with 421. From stage 22.
    pub fn answer_for(&mut self, authority: Option<Arc<dyn Authority>>) {
        (self.is_private, self.authority) = (true, authority);
    }

    /// Returns what is needed next. Asking again changes nothing.
    pub fn advance(&mut self) -> Need {
        if matches!(self.phase, Phase::Idle | Phase::Head) && !self.buffer.is_empty() {
            self.phase = self.parse();
        }
        match self.phase {
            Phase::Idle | Phase::Head => Need::Bytes,
            Phase::Request(_) | Phase::Refused(_) => Need::Answer,
            Phase::Answering(_) | Phase::Ended => Need::Close,
        }
    }

    fn parse(&mut self) -> Phase {
        match self.parser.advance(self.buffer.bytes()) {
            Ok(Some(length)) => Phase::Request(length),
            Ok(None) if self.parser.is_blank_so_far() => Phase::Idle,
            Ok(None) => {
                if self.phase == Phase::Idle {
                    self.budget = TimeBudget::fixed(self.limits.head_timeout);
                }
                Phase::Head
            }
            Err(refused) => Phase::Refused(refused),
        }
    }

    /// Whether the connection waits between two requests, and has received nothing of the next one.
    /// Once the pending bytes have been sent, nothing is lost when it is closed.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.buffer.is_empty()
    }

    /// Sends the pending bytes.
    ///
    /// # Errors
    ///
    /// When the connection is broken, or the client is too slow to take the bytes.
    pub fn flush(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        self.outbox.flush(transport)
    }

    /// Sends the pending bytes, then waits for more bytes from the client, while its time budget
    /// lasts.
    ///
    /// # Errors
    ///
    /// When the connection is broken, and when the client is too slow to take the pending bytes.
    /// `UnexpectedEof` when the client has left in the middle of a head.
    pub fn receive(&mut self, transport: &mut dyn Transport) -> io::Result<()> {
        self.outbox.flush(transport)?;
        let Connection { buffer, budget, phase, .. } = self;
        let count = match phase {
            // An idle connection is closed when its time is up, even if the server was slow: one wait
            // is enough.
            Phase::Idle => transport::within(budget, Duration::MAX, |time| {
                transport.receive(buffer.room(), time)
            })?,
            _ => transport::receive(transport, budget, buffer.room())?,
        };
        match count {
            None => self.expire(),
            Some(0) => return self.end(),
            Some(count) => self.buffer.add(count),
        }
        Ok(())
    }

    /// Handles the end of the client's time: refuses the request with 408 if one has begun, or else
    /// ends without a response.
    fn expire(&mut self) {
        self.phase = match self.phase {
            Phase::Head => Phase::Refused(TOO_SLOW),
            _ => Phase::Ended,
        };
    }

    fn end(&mut self) -> io::Result<()> {
        self.client_has_ended = true;
        let was_idle = self.phase == Phase::Idle;
        self.phase = Phase::Ended;
        if was_idle {
            return Ok(());
        }
        let sentence = "the client left before its request was whole";
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, sentence))
    }

    /// Answers what [`Connection::advance`] has found.
    ///
    /// # Errors
    ///
    /// When the connection is broken, when the client is too slow to take the response or to send a
    /// body that is skipped, and when the response fails after its beginning has been written. The
    /// connection ends then.
    pub fn answer(
        &mut self,
        handler: &dyn Handler,
        transport: &mut dyn Transport,
    ) -> io::Result<()> {
        self.outbox.renew();
        let then = match self.phase {
            Phase::Request(length) => self.answer_request(length, handler, transport),
            Phase::Refused(refused) => self.answer_refusal(refused, handler, transport),
            _ => Ok(Then::Close),
        };
        match then {
            Ok(Then::KeepOpen) => self.await_next_request(),
            Ok(Then::Close) | Err(_) => self.phase = Phase::Ended,
        }
        then.map(drop)
    }

    fn await_next_request(&mut self) {
        self.parser.reset();
        self.buffer.shrink();
        self.phase = Phase::Idle;
        self.budget = TimeBudget::fixed(self.limits.idle_timeout);
    }

    fn answer_request(
        &mut self,
        length: usize,
        handler: &dyn Handler,
        transport: &mut dyn Transport,
    ) -> io::Result<Then> {
        self.outbox.lend(transport)?; // the handler may take long
        let (bytes, window) = self.buffer.split(length);
        let head = self.parser.head(bytes);
        let budget = TimeBudget::with_rate(self.limits.body_timeout);
        let mut line = Line { transport, outbox: &mut self.outbox, budget };
        let schemes = if self.is_private { HTTP_AND_HTTPS } else { HTTP };
        match checked(&head, self.rules, &self.limits, schemes, self.authority.as_deref()) {
            Ok(meaning) => {
                let limit = self.limits.max_body;
                let message = Message::new(head, meaning, self.rules, window, &mut line, limit);
                let request = message.request();
                conclude(&request, handler.answer(&request))
            }
            Err(refused) => {
                let recipient = Recipient::of(&head);
                let response = handler.refuse(refused, bytes);
                response.write_to(recipient, Then::Close.option(), &mut line)?;
                Ok(Then::Close)
            }
        }
    }

    fn answer_refusal(
        &mut self,
        refused: Refused,
        handler: &dyn Handler,
        transport: &mut dyn Transport,
    ) -> io::Result<Then> {
        let received = self.buffer.bytes();
        let recipient = Recipient {
            version: Version::Http11,
            wants_head_only: self.parser.is_to_head(received),
        };
        let response = handler.refuse(refused, received);
        let budget = TimeBudget::fixed(Duration::ZERO); // nothing will be read
        let mut line = Line { transport, outbox: &mut self.outbox, budget };
        response.write_to(recipient, Then::Close.option(), &mut line)?;
        Ok(Then::Close)
    }

    /// Sends the pending bytes. Returns how the connection should be closed.
    ///
    /// # Errors
    ///
    /// When the connection is broken, or the client is too slow to take the bytes.
    pub fn finish(&mut self, transport: &mut dyn Transport) -> io::Result<Closing> {
        self.outbox.flush(transport)?;
        Ok(self.closing())
    }

    /// Returns how the connection should be closed when the pending bytes have been sent. From stage 21.
    pub fn closing(&self) -> Closing {
        let may_be_lost = self.outbox.has_sent() && !self.client_has_ended;
        if may_be_lost { Closing::Lingering } else { Closing::Immediate }
    }
}

/// For those who do not wait, but are told when bytes have arrived, and when bytes can be sent. From stage 21.
impl Connection {
    /// Returns room for bytes that have arrived. [`Connection::received`] says how many there are.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.room()
    }

    /// Takes note of bytes that have been put into the room; 0 if the client sends no more.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the client has left in the middle of a head.
    pub fn received(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return self.end();
        }
        self.buffer.add(count);
        Ok(())
    }

    /// Returns the time that the client has, from now on, for what is needed next: a request, or the rest of its head.
    /// A driver begins to count when that changes, and not with each byte.
    pub fn patience(&self) -> Duration {
        self.budget.left()
    }

    /// Handles the end of that time: a request that has begun is refused with 408, and an idle connection ends.
    pub fn time_is_up(&mut self) {
        self.expire();
    }

    /// Returns the bytes that are to be sent.
    pub fn outbox(&self) -> &[u8] {
        self.outbox.bytes()
    }

    /// Takes note of bytes of the outbox that have been sent.
    pub fn sent(&mut self, count: usize) {
        self.outbox.sent(count);
    }

    /// Adds bytes to those that are to be sent.
    pub fn send_later(&mut self, bytes: &[u8]) {
        self.outbox.room().extend_from_slice(bytes);
    }

    /// Gives back the memory that is not in use, for a connection that will be quiet for long.
    pub fn release_memory(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Buffer::new();
        }
        self.parser.release_memory();
        self.outbox.room().shrink_to_fit();
    }

    /// Refuses the request that [`Connection::advance`] has found, whatever it is.
    pub fn refuse(&mut self, refused: Refused) {
        self.phase = Phase::Refused(refused);
    }

    /// Whether there is nothing to remember: no part of a request has arrived, and all answers have been sent.
    pub fn is_blank(&self) -> bool {
        self.is_idle() && self.outbox.is_empty()
    }

    /// Answers what [`Connection::advance`] has found, if nobody has to wait for that.
    pub fn answer_at_once(&mut self, handler: &dyn Handler) -> AtOnce {
        let begun = match self.phase {
            Phase::Request(length) => self.begin_answer(length, handler),
            Phase::Refused(refused) => Some(self.begin_refusal(refused, handler)),
            _ => None,
        };
        let Some((mut remainder, then)) = begun else { return AtOnce::MustWait };
        self.phase = Phase::Answering(then);
        if let Ready::Nothing = remainder.ready() {
            self.conclude(remainder.end(Ok(())).is_ok());
            return AtOnce::Whole;
        }
        AtOnce::Begun(remainder)
    }

    fn begin_answer(&mut self, length: usize, handler: &dyn Handler) -> Option<(Remainder, Then)> {
        let (bytes, window) = self.buffer.split(length);
        let head = self.parser.head(bytes);
        let authority = self.authority.as_deref();
        let schemes = if self.is_private { HTTP_AND_HTTPS } else { HTTP };
        let meaning = match checked(&head, self.rules, &self.limits, schemes, authority) {
            Ok(meaning) => meaning,
            Err(refused) => {
                let response = handler.refuse(refused, bytes);
                let out = self.outbox.room();
                let remainder = response.begin(Recipient::of(&head), Then::Close.option(), out);
                return Some((remainder, Then::Close));
            }
        };
        let is_whole = match meaning.1 {
            Framing::None => true,
            Framing::Length(length) => length <= window.bytes().len() as u64,
            Framing::Chunked => false,
        };
        let mut is_last_word = false;
        let mut answered = {
            let mut nobody = Nobody;
            let limit = self.limits.max_body;
            let message = Message::new(head, meaning, self.rules, window, &mut nobody, limit);
            let request = message.request();
            (is_whole && !handler.may_wait(&request)).then(|| {
                let response = handler.answer(&request);
                let then = persistence::after(&request, &response);
                let out = self.outbox.room();
                let remainder = response.begin(request.recipient(), then.option(), out);
                let is_skipped = then == Then::Close || request.skip_body().is_ok();
                is_last_word = then == Then::Close && persistence::is_last_word(&request);
                (remainder, if is_skipped { then } else { Then::Close })
            })
        };
        if answered.is_none() {
            self.buffer.restore(length);
        }
        // A large response takes time, and who knows what a client says in that time.
        let is_small =
            answered.as_mut().is_some_and(|(it, _)| matches!(it.ready(), Ready::Nothing));
        let says_goodbye = self.is_private; // which comes after the last word
        self.client_has_ended |=
            is_last_word && is_small && !says_goodbye && self.buffer.is_empty();
        answered
    }

    fn begin_refusal(&mut self, refused: Refused, handler: &dyn Handler) -> (Remainder, Then) {
        let received = self.buffer.bytes();
        let recipient = Recipient {
            version: Version::Http11,
            wants_head_only: self.parser.is_to_head(received),
        };
        let response = handler.refuse(refused, received);
        (response.begin(recipient, Then::Close.option(), self.outbox.room()), Then::Close)
    }

    /// Takes note of the end of a response: that all of it has been sent, or that this has failed.
    pub fn conclude(&mut self, has_been_sent: bool) {
        match self.phase {
            Phase::Answering(Then::KeepOpen) if has_been_sent => self.await_next_request(),
            _ => self.phase = Phase::Ended,
        }
    }

    /// Sends what is left of a response, and waits as long as that takes.
    ///
    /// # Errors
    ///
    /// When the connection is broken, when the client is too slow, and when a file or a stream fails.
    pub fn write_remainder(
        &mut self,
        remainder: Remainder,
        transport: &mut dyn Transport,
    ) -> io::Result<()> {
        let budget = TimeBudget::fixed(Duration::ZERO); // nothing will be read
        let mut line = Line { transport, outbox: &mut self.outbox, budget };
        let written = remainder.write(&mut line);
        self.conclude(written.is_ok());
        written
    }
}

/// A client of whom all bytes have arrived that will be looked at.
struct Nobody;

impl Read for Nobody {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Nobody {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Nobody {}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// With a lingering close: the last response may not have arrived yet, and bytes that the client
    /// still sends could destroy it. Shut down the sending side, then read and discard what arrives
    /// until the client closes as well (RFC 9112, section 9.6).
    Lingering,
    /// At once: nothing can be lost.
    Immediate,
}

const TOO_SLOW: Refused = Refused { status: 408, why: "the request took too long to arrive" };

/// Returns what a head means, or the refusal if it breaks one of these rules.
fn checked<'a>(
    head: &Head<'a>,
    rules: Rules,
    limits: &Limits,
    schemes: &[&str],
    authority: Option<&dyn Authority>,
) -> Result<(Target<'a>, Framing), Refused> {
    let meaning = interpret(head, rules, schemes)?;
    if rules != Rules::Sound {
        rules::check_all(head, meaning.1, rules, limits.max_body)?;
    }
    if let Some(authority) = authority {
        rules::check_authority(head, authority)?;
    }
    Ok(meaning)
}

/// Writes the response to a request and, if the connection stays open, makes it ready for the next
/// one.
fn conclude(request: &Request, response: Response) -> io::Result<Then> {
    let then = persistence::after(request, &response);
    request.respond(response, then.option())?;
    if then == Then::KeepOpen {
        request.skip_body()?;
    }
    Ok(then)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{Move, Script};
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use std::io::Read;

    /// A handler that echoes bodies, and answers with the refusals.
    struct Echo;

    impl Handler for Echo {
        fn answer(&self, request: &Request) -> Response {
            match request.path() {
                ("quick", None) => Response::text("quick"),
                ("last", None) => Response::ok().last(),
                ("broken", None) => Response::ok().header("X", "a\r\nY: b".to_owned()),
                ("stream", None) => Response::stream("text/plain", &b"stream"[..]),
                ("large", None) => Response::text(vec![b'x'; 1_000_000]),
                _ => {
                    let mut body = String::new();
                    let read = request.body().map_err(io::Error::from);
                    match read.and_then(|mut it| it.read_to_string(&mut body)) {
                        Ok(_) => Response::text(body),
                        Err(error) => Response::failed(error),
                    }
                }
            }
        }

        fn refuse(&self, refused: Refused, _received: &[u8]) -> Response {
            Response::refused(refused)
        }
    }

    fn talk(script: &mut Script) -> io::Result<Closing> {
        talk_within(Limits::default(), script)
    }

    fn talk_within(limits: Limits, script: &mut Script) -> io::Result<Closing> {
        let mut connection = Connection::new(limits);
        loop {
            match connection.advance() {
                Need::Bytes => connection.receive(script)?,
                Need::Answer => connection.answer(&Echo, script)?,
                Need::Close => return connection.finish(script),
            }
        }
    }

    /// Returns the statuses of all answers.
    fn statuses(script: &Script) -> Vec<u16> {
        let text = script.text();
        let starts = text.split("HTTP/1.1 ").skip(1);
        starts.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
    }

    const GET: &[u8] = b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n";

    fn post(fields: &str, body: &str) -> Vec<u8> {
        format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
    }

    #[test]
    fn requests_follow_one_another_until_the_client_has_no_more() {
        let mut script = Script::new(&[(0, GET), (9_000, GET), (9_000, GET)]).then(0, Move::Leaves);
        assert_eq!(talk(&mut script).expect("nothing is wrong"), Closing::Immediate);
        assert_eq!(statuses(&script), [200, 200, 200]);
        assert_eq!(script.text().matches("Connection: keep-alive").count(), 3);
    }

    #[test]
    fn answers_to_requests_that_came_together_go_out_together() {
        let together = GET.repeat(100);
        let mut script = Script::new(&[(0, &together)]).then(0, Move::Leaves);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!((statuses(&script).len(), script.sends), (100, 1));
    }

    #[test]
    fn pending_answers_are_sent_before_waiting() {
        let half = [GET, b"GET /quick HT"].concat();
        let mut script = Script::new(&[(0, &half), (5_000, b"TP/1.1\r\nHost: a\r\n\r\n")]);
        let mut connection = Connection::new(Limits::default());
        assert_eq!(connection.advance(), Need::Bytes);
        connection.receive(&mut script).expect("bytes arrive");
        assert_eq!(connection.advance(), Need::Answer);
        connection.answer(&Echo, &mut script).expect("nothing is wrong");
        assert!(!connection.outbox.is_empty() && statuses(&script).is_empty());
        assert_eq!(connection.advance(), Need::Bytes);
        connection.receive(&mut script).expect("bytes arrive");
        assert_eq!((connection.outbox.is_empty(), statuses(&script)), (true, vec![200]));
    }

    #[test]
    fn a_silent_client_is_closed_quietly_and_a_partial_head_gets_408() {
        let mut silent = Script::default();
        assert_eq!(talk(&mut silent).expect("silence is no error"), Closing::Immediate);
        assert_eq!((silent.text().as_str(), silent.waited), ("", Duration::from_secs(10)));
        let mut idle = Script::new(&[(0, GET)]);
        assert_eq!(talk(&mut idle).expect("silence is no error"), Closing::Lingering);
        assert_eq!(statuses(&idle), [200]);
        let mut stuck = Script::new(&[(9_000, b"GET / HT")]);
        assert_eq!(talk(&mut stuck).expect("the client is told"), Closing::Lingering);
        assert_eq!((statuses(&stuck), stuck.waited), (vec![408], Duration::from_secs(19)));
    }

    #[test]
    fn a_head_has_its_time_however_many_pieces_it_comes_in() {
        let drips = vec![(900, &b"a"[..]); 100];
        let head = [(0, &b"GET / HTTP/1.1\r\nX: "[..])];
        let mut script = Script::new(&[&head[..], &drips].concat());
        talk(&mut script).expect("the client is told");
        assert_eq!((statuses(&script), script.waited), (vec![408], Duration::from_secs(10)));
    }

    #[test]
    fn an_empty_line_between_requests_is_no_request() {
        let body = [&post("Content-Length: 2\r\n", "hi")[..], b"\r\n"].concat();
        let mut script = Script::new(&[(0, &body), (9_000, b"\r"), (900, b"\n"), (99, GET)]);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!(statuses(&script), [200, 200]);
        let mut silent = Script::new(&[(0, b"\r\n"), (20_000, GET)]);
        talk(&mut silent).expect("silence is no error");
        assert_eq!((silent.text().as_str(), silent.waited), ("", Duration::from_secs(10)));
    }

    #[test]
    fn empty_lines_count_against_the_head() {
        let mut script = Script::new(&[(0, &b"\r\n".repeat(8 * 1024))]);
        talk(&mut script).expect("the client is told");
        assert_eq!(statuses(&script), [431]);
    }

    #[test]
    fn a_body_may_be_slow_but_not_forever() {
        let head = post("Content-Length: 30000\r\n", "");
        let pieces = |millis| vec![(millis, &[b'x'; 1000][..]); 30];
        let mut slow = Script::new(&[&[(0, &head[..])], &pieces(1_000)[..]].concat());
        talk(&mut slow).expect("nothing is wrong");
        assert_eq!(statuses(&slow), [200]);
        let mut slower = Script::new(&[&[(0, &head[..])], &pieces(2_000)[..]].concat());
        talk(&mut slower).expect("the client is told");
        assert_eq!(statuses(&slower), [408]);
    }

    #[test]
    fn skipping_an_unread_body_times_out() {
        let head = b"GET /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
        let drips = vec![(500, &b"x"[..]); 1_000];
        let mut script = Script::new(&[&[(0, &head[..])], &drips[..]].concat());
        let error = talk(&mut script).expect_err("the server gives up");
        assert_eq!(Refused::inside(&error).map(|refused| refused.status), Some(408));
        assert_eq!(statuses(&script), [200], "the answer does not wait for the body");
    }

    #[test]
    fn a_standstill_of_the_server_is_not_charged_to_the_client() {
        let standstill = Duration::from_secs(600);
        let pieces = [(0, &b"GET /quick HT"[..]), (100, b"TP/1.1\r\nHost: a\r\n"), (300, b"\r\n")];
        let mut script = Script::new(&pieces);
        let mut connection = Connection::new(Limits::default());
        connection.receive(&mut script).expect("bytes arrive");
        assert_eq!(connection.advance(), Need::Bytes);
        script.standstill = standstill; // in the middle of a wait
        connection.receive(&mut script).expect("bytes arrive");
        assert_eq!(connection.advance(), Need::Bytes);
        connection.receive(&mut script).expect("bytes arrive");
        assert_eq!(connection.advance(), Need::Answer);
        connection
            .answer(&Echo, &mut script)
            .and_then(|()| connection.flush(&mut script))
            .expect("ok");
        assert_eq!(statuses(&script), [200]);
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_and_nothing_follows() {
        let mut script = Script::new(&[(0, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")]);
        script.takes = Some((10_000, Duration::from_secs(61)));
        let error = talk(&mut script).expect_err("the server gives up");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let mut trickle = Script::new(&[(0, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")]);
        trickle.takes = Some((100, Duration::from_secs(1)));
        talk(&mut trickle).expect_err("a hundred bytes per second are too few");
        assert!(trickle.waited < Duration::from_secs(70), "{:?}", trickle.waited);
    }

    #[test]
    fn what_is_refused_is_answered_and_ends_the_connection() {
        for (request, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741825\r\n\r\n", 413),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ] {
            let mut script = Script::new(&[(0, &[request, GET].concat())]);
            assert_eq!(talk(&mut script).expect("the client is told"), Closing::Lingering);
            assert_eq!(statuses(&script), [status], "{}", request.escape_ascii());
            assert!(script.text().contains("Connection: close"));
        }
    }

    #[test]
    fn to_head_a_refusal_has_no_body_either() {
        for request in
            ["HEAD / HTTP/1.1\r\n\r\n", "HEAD /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / x"]
        {
            let bytes = format!("{request}\r\n\r\n");
            let mut script = Script::new(&[(0, bytes.as_bytes())]);
            talk(&mut script).expect("the client is told");
            assert!(script.text().ends_with("\r\n\r\n"), "{}", script.text());
        }
    }

    #[test]
    fn the_client_is_told_to_continue_when_the_body_is_read() {
        let head = post("Content-Length: 2\r\nExpect: 100-continue\r\n", "");
        let mut script = Script::new(&[(0, &head), (1_000, b"hi"), (0, GET)]);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!(statuses(&script), [100, 200, 200]);
        let unwanted =
            b"POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        let mut script = Script::new(&[(0, unwanted), (1_000, GET)]);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!(statuses(&script), [200], "the body may follow, or not");
    }

    #[test]
    fn a_body_is_read_to_its_end_and_no_further() {
        let chunked = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        let unread = b"GET /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /";
        let all = [&chunked[..], unread, &post("Content-Length: 2\r\n", "hi"), GET].concat();
        for size in [1, 7, all.len()] {
            let pieces: Vec<_> = all.chunks(size).map(|piece| (0, piece)).collect();
            let mut script = Script::new(&pieces).then(0, Move::Leaves);
            talk(&mut script).expect("nothing is wrong");
            assert_eq!(statuses(&script), [200; 4], "in pieces of {size}");
            assert!(
                script.text().contains("\r\n\r\nabcde") && script.text().contains("\r\n\r\nhi")
            );
        }
    }

    #[test]
    fn a_large_body_goes_through_in_whatever_framing() {
        let content = "x".repeat(100_000);
        let plain = post("Content-Length: 100000\r\n", &content);
        let chunked = format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
        let chunked = post("Transfer-Encoding: chunked\r\n", &chunked);
        for request in [plain, chunked] {
            let mut script = Script::new(&[(0, &request), (0, GET)]).then(0, Move::Leaves);
            talk(&mut script).expect("nothing is wrong");
            assert_eq!(statuses(&script), [200, 200]);
            assert!(script.text().contains(&content));
        }
    }

    #[test]
    fn chunks_count_against_the_body_limit() {
        let limits = Limits { max_body: 10, ..Limits::default() };
        let body = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let mut script = Script::new(&[(0, &post("Transfer-Encoding: chunked\r\n", body))]);
        talk_within(limits, &mut script).expect("the client is told");
        assert_eq!(statuses(&script), [413]);
    }

    #[test]
    fn a_broken_connection_is_the_clients_fault() {
        let half = post("Content-Length: 5\r\n", "he");
        for what in [Move::Leaves, Move::Resets] {
            let mut script = Script::new(&[(0, &half)]).then(0, what);
            talk(&mut script).expect("the answer is written");
            assert_eq!(statuses(&script), [400]);
        }
        let mut script = Script::new(&[(0, b"GET / HT")]).then(0, Move::Leaves);
        assert!(talk(&mut script).is_err() && script.text().is_empty());
    }

    #[test]
    fn a_response_may_end_the_connection_and_a_broken_one_is_500() {
        let last = b"GET /last HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut script = Script::new(&[(0, &[&last[..], GET].concat())]);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!(statuses(&script), [200]);
        let broken = b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut script = Script::new(&[(0, broken)]);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!(statuses(&script), [500]);
        assert!(!script.text().contains("Y: b"));
    }

    #[test]
    fn a_stream_does_not_hold_back_what_came_before_it() {
        let both = [GET, b"GET /stream HTTP/1.0\r\n\r\n"].concat();
        let mut script = Script::new(&[(0, &both)]);
        talk(&mut script).expect("nothing is wrong");
        assert_eq!(statuses(&script), [200, 200]);
        assert!(script.text().ends_with("\r\n\r\nstream"), "HTTP/1.0 has no chunks");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(
            pieces in proptest::collection::vec(
                (0..3_000u64, proptest::collection::vec(any::<u8>(), 1..60)), 0..8),
        ) {
            let pieces: Vec<_> = pieces.iter().map(|(millis, it)| (*millis, &it[..])).collect();
            let _ = talk(&mut Script::new(&pieces));
        }

        #[test]
        fn how_requests_are_cut_changes_nothing(
            cuts in proptest::collection::vec(1..200usize, 0..20),
            count in 1..6usize,
        ) {
            let chunked = post("Transfer-Encoding: chunked\r\n", "3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n");
            let bytes = [GET, &chunked, &post("Content-Length: 3\r\n", "def")].concat().repeat(count);
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, others) = rest.split_at(cut.min(rest.len()));
                pieces.push((0, piece));
                rest = others;
            }
            pieces.retain(|(_, piece)| !piece.is_empty());
            pieces.push((0, rest));
            pieces.retain(|(_, piece)| !piece.is_empty());
            let mut script = Script::new(&pieces).then(0, Move::Leaves);
            talk(&mut script).expect("nothing is wrong");
            prop_assert_eq!(statuses(&script), vec![200; 3 * count]);
        }
    }
}
