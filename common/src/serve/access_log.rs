//! What the log says about each request (stage 4's lasting form).

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::message::quoted::quoted;
use crate::message::refused::Refused;
use crate::message::request_id::RequestId;
use crate::message::response::Response;
use crate::message::timestamp::{add_apache, rfc3339};
use crate::protocol::connection::Handler;
use crate::protocol::request::{Origin, Request};
use crate::serve::clock::milliseconds;
use crate::serve::log::{self, LogFormat, log};
use crate::serve::proxies::Proxies;

/// Which answers get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    All,
    /// Those with an error, and refusals.
    Errors,
    /// The refusals of what never reached the handler.
    Refusals,
}

/// A handler that writes a line about each answer to stderr.
pub(crate) struct Logged<'s, F> {
    pub(crate) peer: SocketAddr,
    pub(crate) lines: Lines,
    pub(crate) may_wait: &'s dyn Fn(&Request) -> bool,
    pub(crate) answer: F,
}

impl<F: Fn(Result<&Request, Refused>) -> Response> Handler for Logged<'_, F> {
    fn may_wait(&self, request: &Request) -> bool {
        (self.may_wait)(request)
    }

    fn answer(&self, request: &Request) -> Response {
        let response = (self.answer)(Ok(&request.from(self.peer, None))).or_500();
        let is_logged = match self.lines {
            Lines::All => true,
            Lines::Errors => response.status() >= 400,
            Lines::Refusals => false,
        };
        if is_logged {
            let line = Quoted(request.line());
            log(format_args!("{} {line} {}", self.peer, response.summary()));
        }
        response
    }

    fn refuse(&self, refused: Refused, received: &[u8]) -> Response {
        let response = (self.answer)(Err(refused)).or_500();
        let line = FirstLine(received);
        log(format_args!("{} {line} {}", self.peer, response.summary()));
        response
    }
}

/// How requests are logged, and whose word about the client counts. From stage 18.
#[derive(Debug, Clone, Default)]
pub struct RequestLog {
    /// The format of the lines.
    pub format: LogFormat,
    /// The proxies that are trusted.
    pub proxies: Proxies,
}

/// A handler that gives each request a name, finds out who its client is, and writes a line about it when its answer
/// has been sent.
pub(crate) struct Traced<'s, F> {
    pub(crate) peer: SocketAddr,
    pub(crate) log: &'s RequestLog,
    pub(crate) may_wait: &'s dyn Fn(&Request) -> bool,
    pub(crate) answer: F,
}

impl<F: Fn(Result<&Request, Refused>) -> Response> Handler for Traced<'_, F> {
    fn may_wait(&self, request: &Request) -> bool {
        (self.may_wait)(request)
    }

    fn answer(&self, request: &Request) -> Response {
        let origin = self.origin(request);
        let request = request.from(self.peer, Some(origin));
        if self.log.format == LogFormat::Off {
            return (self.answer)(Ok(&request)).or_500().named(origin.id);
        }
        let start = Instant::now();
        let response = (self.answer)(Ok(&request));
        let text = |name| request.header(name).map(<[u8]>::to_vec);
        self.finish(origin.id, response, || Entry {
            line: request.line().to_owned(),
            referer: text("Referer"),
            agent: text("User-Agent"),
            peer: self.peer,
            client: origin.client,
            id: self.logged_id(origin.id),
            start,
        })
    }

    fn refuse(&self, refused: Refused, received: &[u8]) -> Response {
        let start = Instant::now();
        let id = RequestId::next();
        let response = (self.answer)(Err(refused));
        self.finish(id, response, || {
            let line = first_line(received);
            Entry {
                line: String::from_utf8_lossy(&line[..line.len().min(LOGGED)]).into_owned(),
                referer: None,
                agent: None,
                peer: self.peer,
                client: self.peer.ip().to_canonical(),
                id: self.logged_id(id),
                start,
            }
        })
    }
}

impl<F> Traced<'_, F> {
    fn origin<'r>(&self, request: &Request<'r>) -> Origin<'r> {
        let peer = self.peer.ip().to_canonical();
        if !self.log.proxies.trust(peer) {
            return Origin { client: peer, id: RequestId::next() };
        }
        let client = self.log.proxies.client(peer, request.headers());
        let given = request.headers().only("X-Request-Id").and_then(RequestId::given);
        Origin { client, id: given.unwrap_or_else(RequestId::next) }
    }

    /// The name of a request, if lines in this format have it.
    fn logged_id(&self, id: RequestId) -> String {
        match self.log.format {
            LogFormat::Json | LogFormat::Logfmt => id.to_string(),
            LogFormat::Plain | LogFormat::Combined | LogFormat::Off => String::new(),
        }
    }

    /// Adds the name of the request to its response, and a line to the log when that has been sent.
    fn finish(&self, id: RequestId, response: Response, entry: impl FnOnce() -> Entry) -> Response {
        let mut response = response.or_500().named(id);
        let format = self.log.format;
        if format == LogFormat::Off {
            return response;
        }
        let (entry, status, note) = (entry(), response.status(), response.take_note());
        response.when_sent(move |sent| {
            let error = sent.as_ref().err().map(ToString::to_string);
            let bytes = sent.as_ref().ok().copied();
            let outcome = Outcome { status, bytes, error: note.or(error) };
            log::write(entry.in_format(format, &outcome));
        })
    }
}

/// What the log says about a request.
struct Entry {
    peer: SocketAddr,
    client: IpAddr,
    /// Empty if the format does without.
    id: String,
    line: String,
    referer: Option<Vec<u8>>,
    agent: Option<Vec<u8>>,
    start: Instant,
}

/// What has become of a request.
struct Outcome {
    status: u16,
    /// The bytes of the body, if all of it was sent.
    bytes: Option<u64>,
    error: Option<String>,
}

impl Entry {
    fn in_format(&self, format: LogFormat, outcome: &Outcome) -> String {
        match format {
            LogFormat::Plain | LogFormat::Off => self.plain(outcome),
            LogFormat::Combined => self.combined(outcome),
            LogFormat::Json => {
                let members = self.fields(outcome).into_iter();
                let members: Vec<_> =
                    members.map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }
            LogFormat::Logfmt => {
                let fields = self.fields(outcome).into_iter();
                let fields: Vec<_> =
                    fields.map(|(name, value)| format!("{name}={value}")).collect();
                fields.join(" ")
            }
        }
    }

    fn plain(&self, outcome: &Outcome) -> String {
        let time = rfc3339(milliseconds());
        let mut text = format!("{time} {} \"", self.peer);
        add_escaped(&mut text, self.line.as_bytes());
        // Writing to memory does not fail.
        let _ = match &outcome.error {
            None => write!(text, "\" {}", outcome.status),
            Some(error) => write!(text, "\" {} ({error})", outcome.status),
        };
        text
    }

    fn combined(&self, outcome: &Outcome) -> String {
        let mut text = String::with_capacity(256);
        // Writing to memory does not fail.
        let _ = write!(text, "{} - - [", self.client);
        add_apache(&mut text, milliseconds());
        text.push_str("] \"");
        add_escaped(&mut text, self.line.as_bytes());
        let _ = write!(text, "\" {} ", outcome.status);
        let _ = match outcome.bytes {
            Some(bytes) => write!(text, "{bytes} "),
            None => write!(text, "- "),
        };
        for (value, end) in [(&self.referer, "\" "), (&self.agent, "\"")] {
            text.push('"');
            add_escaped(&mut text, value.as_deref().unwrap_or(b"-"));
            text.push_str(end);
        }
        text
    }

    /// The names and values for programs. A text is in quotes, as in JSON.
    fn fields(&self, outcome: &Outcome) -> Vec<(&'static str, String)> {
        let text = |value: &Option<Vec<u8>>| {
            quoted(&String::from_utf8_lossy(value.as_deref().unwrap_or_default()))
        };
        let mut words = self.line.split(' ');
        let (method, target) = (words.next(), words.next());
        let mut fields = vec![
            ("time", quoted(&rfc3339(milliseconds()))),
            ("request_id", quoted(&self.id)),
            ("peer", quoted(&self.peer.to_string())),
            ("client", quoted(&self.client.to_string())),
            ("method", quoted(method.unwrap_or_default())),
            ("target", quoted(target.unwrap_or_default())),
            ("status", outcome.status.to_string()),
            ("bytes", outcome.bytes.map_or("null".to_owned(), |bytes| bytes.to_string())),
            ("duration_ms", format!("{:.3}", self.start.elapsed().as_secs_f64() * 1000.0)),
            ("referer", text(&self.referer)),
            ("user_agent", text(&self.agent)),
        ];
        fields.extend(outcome.error.as_ref().map(|error| ("error", quoted(error))));
        fields
    }
}

/// Adds bytes to a line that other programs read: printable ASCII as it is; quotes, backslashes and all else as `\x22`.
fn add_escaped(line: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if is_plain(byte) {
            line.push(char::from(byte));
        } else {
            let _ = write!(line, "\\x{byte:02X}"); // writing to memory does not fail
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// The most bytes of a request line that are logged.
const LOGGED: usize = 500;

/// The beginning of a request line, in quotes. Characters that could end the quotes are escaped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut most = self.0.len().min(LOGGED);
        while !self.0.is_char_boundary(most) {
            most -= 1;
        }
        let line = &self.0[..most];
        if line.bytes().all(is_plain) {
            write!(f, "\"{line}\"") // the same as the other arm, but faster
        } else {
            write!(f, "{line:?}")
        }
    }
}

/// The first line that a client sent, in quotes. It may contain any bytes, so it is made safe to
/// print.
pub(crate) struct FirstLine<'a>(pub(crate) &'a [u8]);

impl fmt::Display for FirstLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let line = first_line(self.0);
        write!(f, "\"{}\"", line[..line.len().min(LOGGED)].escape_ascii())
    }
}

fn first_line(received: &[u8]) -> &[u8] {
    let mut lines = received.split(|byte| b"\r\n".contains(byte));
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str, agent: &[u8]) -> Entry {
        Entry {
            peer: ([192, 0, 2, 1], 4242).into(),
            client: [192, 0, 2, 2].into(),
            id: "7-1".to_owned(),
            line: line.to_owned(),
            referer: None,
            agent: Some(agent.to_owned()),
            start: Instant::now(),
        }
    }

    const OUTCOME: Outcome = Outcome { status: 200, bytes: Some(5), error: None };

    #[test]
    fn a_line_has_the_fields_that_tools_expect() {
        let entry = entry("GET /a HTTP/1.1", b"curl/8");
        let line = entry.in_format(LogFormat::Combined, &OUTCOME);
        assert!(line.starts_with("192.0.2.2 - - ["), "{line}");
        assert!(line.ends_with(" +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"curl/8\""), "{line}");
        let line = entry.in_format(LogFormat::Json, &OUTCOME);
        let middle = "\"request_id\":\"7-1\",\"peer\":\"192.0.2.1:4242\",\"client\":\"192.0.2.2\",\"method\":\"GET\",\
                      \"target\":\"/a\",\"status\":200,\"bytes\":5,\"duration_ms\":";
        assert!(line.starts_with("{\"time\":\"20") && line.contains(middle), "{line}");
        assert!(line.ends_with(",\"referer\":\"\",\"user_agent\":\"curl/8\"}"), "{line}");
        let failed = Outcome { status: 200, bytes: None, error: Some("gone".to_owned()) };
        let line = entry.in_format(LogFormat::Logfmt, &failed);
        assert!(
            line.contains(" status=200 bytes=null ") && line.ends_with(" error=\"gone\""),
            "{line}"
        );
    }

    #[test]
    fn what_a_client_sends_does_not_end_a_line() {
        let entry = entry("GET /\"\\ HTTP/1.1", b"\" 1 2\n\x1b[2J\xff");
        let line = entry.in_format(LogFormat::Combined, &OUTCOME);
        assert!(line.contains("\"GET /\\x22\\x5C HTTP/1.1\""), "{line}");
        assert!(line.ends_with("\"\\x22 1 2\\x0A\\x1B[2J\\xFF\""), "{line}");
        for format in [LogFormat::Plain, LogFormat::Json, LogFormat::Logfmt] {
            let line = entry.in_format(format, &OUTCOME);
            assert!(!line.contains(['\n', '\x1b']), "{line}");
        }
    }
}
