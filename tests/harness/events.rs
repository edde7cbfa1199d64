//! Server-sent events, read as a browser reads them (HTML, section 9.2.6).

use std::time::{Duration, Instant};

use crate::answer;
use crate::connection::{Connection, Ending};
use crate::{Exchange, Failure, Server, TIMEOUT};

/// An answer that goes on, with an event now and then.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
    head: Vec<u8>,
    is_chunked: bool,
    /// How many bytes of the connection have been decoded.
    decoded: usize,
    /// What has been decoded: the events as they were sent.
    content: Vec<u8>,
    /// How many bytes of the content have been read as lines.
    read: usize,
    has_ended: bool,
    event: Event,
    /// The event before.
    before: Option<Event>,
    /// How many comments have come.
    comments: usize,
    /// Whether the last event had no data.
    has_dropped: bool,
}

/// An event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The last `id` of the stream so far; empty if there was none.
    pub id: String,
    /// What `event` says; `message` without it.
    pub name: String,
    /// The lines of `data`.
    pub data: String,
    /// Whether it is the same as the event before, also by its `id`.
    pub repeats: bool,
}

impl Server {
    /// Begins to watch `/data/events`. Returns when the head of the answer has come.
    ///
    /// # Errors
    ///
    /// When the answer is not one that a browser would go on to read.
    pub fn watch(&self, last_event_id: Option<&str>) -> Result<Events, Failure> {
        let why = "A browser reads events only from an answer with the status 200 and the type text/event-stream. Send \
                   the head at once, and keep the answer open.";
        let (connection, exchange, length) = self.begin_to_watch(last_event_id)?;
        let exchange = exchange.status(200).header("Content-Type", "text/event-stream");
        let answer = exchange.answer_because(why)?;
        let coding = answer.header("Transfer-Encoding").unwrap_or_default();
        Ok(Events {
            connection,
            is_chunked: coding.eq_ignore_ascii_case("chunked"),
            head: answer.raw,
            decoded: length,
            content: Vec::new(),
            read: 0,
            has_ended: false,
            event: Event::default(),
            before: None,
            comments: 0,
            has_dropped: false,
        })
    }

    /// Begins to watch `/data/events`. If the answer has the status 200, this is its head.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub fn ask_to_watch(&self) -> Result<Exchange, Failure> {
        self.begin_to_watch(None).map(|(_, exchange, _)| exchange)
    }

    /// Asks for events. Returns the connection, the answer, and the length of its head.
    fn begin_to_watch(
        &self,
        last_event_id: Option<&str>,
    ) -> Result<(Connection, Exchange, usize), Failure> {
        let mut connection = self.connect()?;
        let mut request = self.request("GET", "/data/events").header("Accept: text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header(format!("Last-Event-ID: {id}"));
        }
        connection.send(&request.head())?;
        let sent = connection.sent().to_vec();
        let (answer, length) = match answer::begin(&mut connection) {
            Ok((answer, length)) if answer.status == 200 => (Ok(answer), length),
            Ok(_) => (connection.answer(), 0),
            Err(failure) => (Err(failure), 0),
        };
        Ok((connection, self.exchange(&sent, answer), length))
    }
}

impl Events {
    /// Waits for the next event. `None` when the answer has ended.
    ///
    /// # Errors
    ///
    /// When there is none for 5 seconds, and when the answer breaks off.
    pub fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        let start = Instant::now();
        loop {
            self.decode()?;
            if let Some(event) = self.parse() {
                return Ok(Some(event));
            }
            if self.has_ended {
                return Ok(None);
            }
            let left = TIMEOUT.saturating_sub(start.elapsed());
            if left.is_zero() || !self.receive(left)? {
                return Err(self.no_event());
            }
        }
    }

    /// Waits for the next event. The answer must not end.
    ///
    /// # Errors
    ///
    /// As [`Events::next_event`], and when the answer ends.
    pub fn event(&mut self) -> Result<Event, Failure> {
        self.next_event()?
            .ok_or_else(|| self.failure("the answer ends, and the event is not in it"))
    }

    /// Waits for a comment. Events that come before it are skipped.
    ///
    /// # Errors
    ///
    /// When there is none for 5 seconds, and when the answer ends.
    pub fn comment(&mut self) -> Result<(), Failure> {
        let (start, before) = (Instant::now(), self.comments);
        loop {
            self.decode()?;
            while self.parse().is_some() {}
            if self.comments > before {
                return Ok(());
            }
            if self.has_ended {
                return Err(self.failure("the answer has ended"));
            }
            let left = TIMEOUT.saturating_sub(start.elapsed());
            if left.is_zero() || !self.receive(left)? {
                return Err(self.failure("no comment within 5 seconds"));
            }
        }
    }

    /// Waits for the end of the answer.
    ///
    /// # Errors
    ///
    /// When it does not end within 5 seconds, when it breaks off, and when there is an event before.
    pub fn end(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            self.decode()?;
            if let Some(event) = self.parse() {
                return Err(self.failure(format!("there is another event: {}", event.name)));
            }
            if self.has_ended {
                return Ok(());
            }
            let left = TIMEOUT.saturating_sub(start.elapsed());
            if left.is_zero() || !self.receive(left)? {
                return Err(self.failure("the answer does not end within 5 seconds"));
            }
        }
    }

    /// A failure that shows what was sent and received, up to the last event that was read: whether the next one has
    /// come as well is a matter of chance.
    pub fn failure(&self, problem: impl Into<String>) -> Failure {
        let has_more = self.content[self.read..].contains(&b'\n');
        let end = if has_more { self.read } else { self.content.len() };
        let received = [&self.head[..], &self.content[..end]].concat();
        Failure::new(problem).bytes(self.connection.sent(), &received)
    }

    fn no_event(&self) -> Failure {
        let failure = self.failure("no event within 5 seconds");
        let rest = &self.content[self.read..];
        match () {
            () if !rest.is_empty() => failure.cause(
                "Something has come, but its line has no end yet. Each line of an event ends with \\n.",
            ),
            () if !self.event.data.is_empty() => failure.cause(
                "Its lines have come, but not the empty line that ends an event. A browser waits for it.",
            ),
            () if self.has_dropped => failure.cause(
                "An event without data has come. Browsers drop such events: send some data, whatever it is.",
            ),
            () => failure,
        }
    }

    /// Receives more. Returns whether something has come, or the end.
    fn receive(&mut self, time: Duration) -> Result<bool, Failure> {
        match self.connection.receive(time) {
            Ok(()) => Ok(true),
            Err(Ending::Silent) => Ok(false),
            Err(Ending::Closed) if !self.is_chunked => {
                self.has_ended = true;
                Ok(true)
            }
            Err(_) => Err(self.failure("the answer breaks off").cause(
                "The connection has ended, and the last chunk has not come. Did your server crash?",
            )),
        }
    }

    /// Decodes what has come.
    fn decode(&mut self) -> Result<(), Failure> {
        if !self.is_chunked {
            self.content.extend_from_slice(&self.connection.unread()[self.decoded..]);
            self.decoded = self.connection.unread().len();
        }
        while self.is_chunked && !self.has_ended && self.decode_chunk()? {}
        Ok(())
    }

    /// Decodes a chunk, if it has come. Returns whether it has.
    fn decode_chunk(&mut self) -> Result<bool, Failure> {
        let bytes = &self.connection.unread()[self.decoded..];
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
        let line = String::from_utf8_lossy(&bytes[..end]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(digits, 16) else {
            return Err(self.failure(format!("a chunk has an invalid size: \"{line}\"")));
        };
        let Some(chunk) = bytes.get(end + 2..end + 2 + size + 2) else { return Ok(false) };
        if !chunk.ends_with(b"\r\n") {
            let problem =
                format!("a chunk of {size} bytes does not end where its size says: \"{line}\"");
            return Err(self.failure(problem));
        }
        self.content.extend_from_slice(&chunk[..size]);
        self.decoded += end + 2 + size + 2;
        self.has_ended = size == 0;
        Ok(true)
    }

    /// Reads lines up to the end of an event.
    fn parse(&mut self) -> Option<Event> {
        loop {
            let rest = &self.content[self.read..];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = String::from_utf8_lossy(&rest[..end]);
            let line = line.strip_suffix('\r').unwrap_or(&line).to_owned();
            self.read += end + 1;
            if let Some(event) = self.take(&line) {
                return Some(event);
            }
        }
    }

    /// Takes a line. An empty one ends an event, which is none without data.
    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let id = self.event.id.clone();
            let event = std::mem::replace(&mut self.event, Event { id, ..Event::default() });
            self.has_dropped = event.data.is_empty() && !event.name.is_empty();
            let data = event.data.strip_suffix('\n')?.to_owned();
            let name = if event.name.is_empty() { "message".to_owned() } else { event.name };
            let event = Event { name, data, ..event };
            let before = self.before.replace(event.clone());
            let repeats = !event.id.is_empty() && before.as_ref() == Some(&event);
            return Some(Event { repeats, ..event });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "id" => self.event.id = value.to_owned(),
            "event" => self.event.name = value.to_owned(),
            "data" => self.event.data += &format!("{value}\n"),
            _ => {}
        }
        None
    }
}
