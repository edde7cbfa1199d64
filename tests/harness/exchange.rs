//! A request, its answer, and what the check expects of the answer.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::answer::{Answer, LENGTHS};
use crate::{Check, Failure, Server, location, show, text};

/// A request that is being put together.
#[derive(Debug)]
pub struct Request<'s> {
    server: &'s Server,
    method: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl<'s> Request<'s> {
    pub(crate) fn new(server: &'s Server, method: &str, target: &str) -> Request<'s> {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        Request { server, method: method.to_owned(), head, body: Vec::new() }
    }

    /// Adds a header line `name:value`, as it is written, including its white space.
    #[must_use]
    pub fn header(mut self, line: impl AsRef<[u8]>) -> Self {
        self.head.extend_from_slice(line.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a body, and the header `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len();
        self.header(format!("Content-Length: {length}"))
    }

    /// The bytes of the head, including its blank line.
    pub fn head(&self) -> Vec<u8> {
        [&self.head[..], b"\r\n"].concat()
    }

    /// Sends the request in one piece and waits for the answer.
    pub fn send(self) -> Exchange {
        let bytes = [self.head(), self.body.clone()].concat();
        self.send_parts(&[&bytes])
    }

    /// Sends the request byte by byte and waits for the answer.
    pub fn send_byte_by_byte(self) -> Exchange {
        let bytes = [self.head(), self.body.clone()].concat();
        self.send_parts(&bytes.chunks(1).collect::<Vec<_>>())
    }

    /// Sends the head, then the body in pieces of `size` bytes, and waits for the answer.
    pub fn send_body_in_pieces(self, size: usize) -> Exchange {
        let head = self.head();
        let parts: Vec<_> = std::iter::once(&head[..]).chain(self.body.chunks(size)).collect();
        self.send_parts(&parts)
    }

    fn send_parts(&self, parts: &[&[u8]]) -> Exchange {
        self.server.exchange_with(&parts.concat(), |connection| {
            connection.send_in_parts(parts.iter().copied())?;
            connection.answer_to(&self.method)
        })
    }
}

/// A request and its answer. The report is about the first expectation that is not met.
#[derive(Debug)]
#[must_use = "end with .because(…)"]
pub struct Exchange {
    sent: Vec<u8>,
    answer: Result<Answer, Failure>,
    /// What is expected of the answer, in words.
    expected: Vec<String>,
    /// The arguments that the server was started with, and what is in its directory. Empty if it has none.
    started: String,
    /// What the server has printed. The report shows it.
    output: String,
    /// The chapter that explains the check.
    page: String,
}

impl Exchange {
    pub(crate) fn new(sent: &[u8], answer: Result<Answer, Failure>, server: &Server) -> Exchange {
        let (started, output, page) = (server.started(), server.output(), server.chapter());
        Exchange { sent: sent.to_vec(), answer, expected: Vec::new(), started, output, page }
    }

    /// Expects this status code; the phrase after it is free.
    pub fn status(self, expected: u16) -> Exchange {
        self.status_in(&[expected])
    }

    /// Expects one of these status codes.
    pub fn status_in(self, expected: &[u16]) -> Exchange {
        let words = expected.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ");
        self.status_where(&words, |status| expected.contains(&status))
    }

    /// Expects a status code of the class 2xx.
    pub fn successful(self) -> Exchange {
        self.status_where("200 (or another 2xx)", |status| (200..300).contains(&status))
    }

    /// Expects a status code of the class 4xx.
    pub fn refused(self) -> Exchange {
        self.status_where("404 (or another 4xx)", |status| (400..500).contains(&status))
    }

    /// Expects any status code but those of the class 5xx, which mean an error of the server.
    pub fn no_server_error(self) -> Exchange {
        self.status_where("below 500", |status| status < 500)
    }

    fn status_where(self, words: &str, is_right: impl Fn(u16) -> bool) -> Exchange {
        self.expect(&format!("status {words}"), |answer| {
            if is_right(answer.status) {
                return Ok(());
            }
            Err(Failure::new(format!("the status is {}, not {words}", answer.status)))
        })
    }

    /// Fails with this cause if the answer has one of these status codes, which are not expected.
    pub fn if_status(mut self, found: &[u16], cause: &str) -> Exchange {
        let status = self.answer.as_ref().map_or(0, |answer| answer.status);
        if let (true, Ok(answer)) = (found.contains(&status), &self.answer) {
            let failure = Failure::new(format!("the status is {status}")).cause(cause);
            self.answer = Err(failure.bytes(&self.sent, &answer.raw));
        }
        self
    }

    /// Expects a header with this value. A `Content-Type` may also have parameters.
    pub fn header(self, name: &str, expected: &str) -> Exchange {
        self.expect(&format!("{name}: {expected}"), |answer| {
            let explain = |failure: Failure| match name {
                "Content-Type" => failure.cause(CONTENT_TYPE),
                _ => failure,
            };
            let Some(found) = answer.header(name) else {
                return Err(explain(Failure::new(format!("the answer has no {name}"))));
            };
            let compared = match name {
                "Content-Type" => found.split(';').next().unwrap_or_default().trim(),
                _ => found,
            };
            if compared.eq_ignore_ascii_case(expected) {
                return Ok(());
            }
            Err(explain(Failure::new(format!("{name} is \"{found}\", not \"{expected}\""))))
        })
    }

    /// Expects that the answer announces the end of the connection.
    pub fn closing(self) -> Exchange {
        self.expect("Connection: close", |answer| {
            if answer.is_last() {
                return Ok(());
            }
            Err(Failure::new("the answer does not say Connection: close"))
        })
    }

    /// Whether an answer came, and has this status code.
    pub fn has_status(&self, status: u16) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.status == status)
    }

    /// Expects a header of this name, whatever its value.
    pub fn with(self, name: &str) -> Exchange {
        self.expect(name, |answer| match answer.header(name) {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("the answer has no {name}"))),
        })
    }

    /// Expects that the header `Allow` lists a method.
    pub fn allows(self, method: &str) -> Exchange {
        self.expect(&format!("{method} in Allow"), |answer| {
            let Some(allow) = answer.header("Allow") else {
                return Err(Failure::new("the answer has no Allow"));
            };
            if allow.split(',').any(|listed| listed.trim() == method) {
                return Ok(());
            }
            Err(Failure::new(format!("Allow is \"{allow}\", which does not list {method}")))
        })
    }

    /// Expects a `Date` in the form of RFC 9110, section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn dated(self) -> Exchange {
        const EXAMPLE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        self.with("Date").expect(&format!("in the form {EXAMPLE}"), |answer| {
            let date = answer.header("Date").unwrap_or_default();
            let shape = |character: char| match character {
                '0'..='9' => '0',
                'a'..='z' => 'a',
                'A'..='Z' => 'A',
                other => other,
            };
            if date.chars().map(shape).eq("Aaa, 00 Aaa 0000 00:00:00 AAA".chars())
                && date.ends_with("GMT")
            {
                return Ok(());
            }
            Err(Failure::new(format!("Date is \"{date}\", not in the form \"{EXAMPLE}\"")))
        })
    }

    /// Whether the answer announces the end of the connection.
    pub fn is_last(&self) -> bool {
        self.answer.as_ref().is_ok_and(Answer::is_last)
    }

    /// Expects that the answer says how long its body is: by `Content-Length` or by `Transfer-Encoding`.
    pub fn framed(self) -> Exchange {
        self.expect("Content-Length, or Transfer-Encoding: chunked", |answer| {
            let framing = ["Content-Length", "Transfer-Encoding"];
            if framing.iter().any(|name| answer.header(name).is_some()) {
                return Ok(());
            }
            let problem = "the answer does not say how long its body is: no Content-Length";
            let cause = "A client cannot tell a complete body from one that was cut off, and it cannot use the \
                         connection for a second request. Send Content-Length, or chunks (stage 13).";
            Err(Failure::new(problem).cause(cause).read(LENGTHS))
        })
    }

    /// Expects that the answer does not have this header.
    pub fn no_header(self, name: &str) -> Exchange {
        self.expect(&format!("no {name}"), |answer| match answer.header(name) {
            None => Ok(()),
            Some(found) => Err(Failure::new(format!("the answer has {name}: {found}"))),
        })
    }

    /// Expects exactly these bytes as the body, not compressed.
    pub fn body(self, expected: impl AsRef<[u8]>) -> Exchange {
        let expected = expected.as_ref();
        let accepts_gzip = String::from_utf8_lossy(&self.sent).contains("Encoding: gzip\r\n");
        self.expect(&body_in_words(expected), |answer| match answer.header("Content-Encoding") {
            Some(coding) if !coding.eq_ignore_ascii_case("identity") => {
                let failure = Failure::new(format!("the body is compressed ({coding})"));
                let cause =
                    "The client did not say in Accept-Encoding that it can decompress this coding.";
                Err(if accepts_gzip {
                    failure
                } else {
                    failure.cause(cause).read("docs/09-gzip.md")
                })
            }
            _ => same_bytes(expected, &answer.body),
        })
    }

    /// Expects a body that decompresses to exactly these bytes.
    pub fn gzip_body(self, expected: impl AsRef<[u8]>) -> Exchange {
        let expected = expected.as_ref();
        let words = format!("{}, compressed", body_in_words(expected));
        self.header("Content-Encoding", "gzip").expect(&words, |answer| {
            let mut decoded = Vec::new();
            match GzDecoder::new(&answer.body[..]).read_to_end(&mut decoded) {
                Ok(_) => same_bytes(expected, &decoded),
                Err(error) => Err(not_gzip(&answer.body, &error)),
            }
        })
    }

    /// Expects a body of JSON with this value. White space and the order of names are free.
    pub fn json(self, expected: &Value) -> Exchange {
        let exchange = self.header("Content-Type", "application/json");
        exchange.expect(&format!("the JSON {expected}"), |answer| {
            match serde_json::from_slice::<Value>(&answer.body) {
                Ok(found) if found == *expected => Ok(()),
                Ok(found) => Err(Failure::new(format!("the JSON is {found}, not {expected}"))),
                Err(error) => Err(Failure::new(format!("the body is no JSON: {error}"))),
            }
        })
    }

    /// Expects a redirect to this path and query of the same server. `Location` may be a path or a URL.
    pub fn leads_to(self, expected: &str) -> Exchange {
        self.expect(&format!("Location: {expected}"), |answer| {
            let Some(location) = answer.header("Location") else {
                return Err(Failure::new("the answer has no Location"));
            };
            match location::on_this_site(location) {
                Some(path) if path == expected => Ok(()),
                Some(_) => {
                    Err(Failure::new(format!("Location is \"{location}\", not \"{expected}\"")))
                }
                None => Err(leads_off(location)),
            }
        })
    }

    /// Expects that the answer does not send the client to another site.
    pub fn stays_on_this_site(self) -> Exchange {
        self.expect("no Location that leads off this site", |answer| {
            let location = answer.header("Location");
            match location.filter(|location| location::on_this_site(location).is_none()) {
                Some(location) => Err(leads_off(location)),
                None => Ok(()),
            }
        })
    }

    /// Expects that a function accepts the answer. The report lists `words` as what was expected, unless they
    /// are empty.
    pub fn expect(mut self, words: &str, demand: impl FnOnce(&Answer) -> Check) -> Exchange {
        if !words.is_empty() {
            self.expected.push(words.to_owned());
        }
        if let Ok(answer) = &self.answer {
            if let Err(failure) = demand(answer) {
                let failure = failure.bytes(&self.sent, &answer.raw);
                self.answer = Err(failure);
            }
        }
        self
    }

    /// Ends the exchange. Fails if an expectation was not met or no answer came, and says what the check is
    /// about.
    ///
    /// # Errors
    ///
    /// When an expectation was not met, or no answer came.
    pub fn because(self, why: &str) -> Check {
        self.answer_because(why).map(drop)
    }

    /// Ends the exchange as [`Exchange::because`] does, and returns the answer.
    ///
    /// # Errors
    ///
    /// As [`Exchange::because`].
    pub fn answer_because(self, why: &str) -> Result<Answer, Failure> {
        self.answer.map_err(|failure| {
            let failure = failure.expected(&self.expected).why(why);
            failure.started(&self.started).output(&self.output).read(self.page)
        })
    }

    /// The answer itself, for further tests.
    ///
    /// # Errors
    ///
    /// When an expectation was not met, or no answer came.
    pub fn answer(self) -> Result<Answer, Failure> {
        self.answer
    }
}

fn leads_off(location: &str) -> Failure {
    Failure::new(format!("Location is \"{location}\", which leads off this site"))
}

/// What the header `Content-Type` is for.
const CONTENT_TYPE: &str = "Content-Type tells the client what the bytes of the body are. A browser shows \
                            text/plain as it is, renders text/html as a page, and stores \
                            application/octet-stream as a file.";

/// Whether these bytes are short enough to be quoted in a sentence.
fn is_short(bytes: &[u8]) -> bool {
    bytes.len() <= 60 && show::is_text(bytes)
}

fn body_in_words(body: &[u8]) -> String {
    match body {
        [] => "an empty body".to_owned(),
        _ if is_short(body) => format!("the body {}", show::quoted(body)),
        _ => format!("a body of {} bytes", body.len()),
    }
}

fn same_bytes(expected: &[u8], found: &[u8]) -> Check {
    if expected == found {
        return Ok(());
    }
    let failure = if is_short(expected) && is_short(found) {
        let (found, expected) = (show::quoted(found), show::quoted(expected));
        Failure::new(format!("the body is {found}, not {expected}"))
    } else {
        let problem = match (expected.len(), found.len()) {
            (a, b) if a == b => "the body has the right length, but not the right bytes".to_owned(),
            (a, b) => format!("the body has {b} bytes, not the expected {a}"),
        };
        Failure::new(problem).difference(expected, found)
    };
    Err(match text::explain(expected, found) {
        Some(cause) => failure.cause(cause),
        None => failure,
    })
}

fn not_gzip(body: &[u8], error: &std::io::Error) -> Failure {
    let failure =
        Failure::new(format!("the body is not valid gzip ({error})")).read("docs/09-gzip.md");
    match body {
        [0x1f, 0x8b, ..] => failure.cause(
            "The body begins like gzip, but its end is missing. An encoder writes the last block and the \
             checksum only when you finish it (in Rust: encoder.finish(), in Java: close()). Flushing is not enough.",
        ),
        [0x1f, 0xef, 0xbf, 0xbd, ..] => failure.cause(
            "The second byte should be 8b. Instead, there are the bytes ef bf bd, which replace bytes that are \
             not valid UTF-8. Your server turned the compressed bytes into text. Keep them as bytes.",
        ),
        [0x78, ..] => failure.cause(
            "The body begins with 78, like the format zlib. gzip wraps the same compressed data in another way, \
             and begins with 1f 8b.",
        ),
        _ => failure.cause("gzip begins with the bytes 1f 8b, and this body does not. Did your server compress \
                            it at all?"),
    }
}
