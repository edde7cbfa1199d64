//! A request's head: found, checked and indexed in one pass, in however many pieces it arrives
//! (stage 3's lasting form).

use crate::message::fields::FieldParser;
use crate::message::headers::{Headers, misplaced};
use crate::message::refused::{Refused, bad_request};
use crate::message::syntax::Class;

/// The most bytes that a request's head may have, including empty lines before it and the one after
/// it.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most bytes that a request target may have. RFC 9112, section 3, recommends at least 8,000.
pub const MAX_TARGET: usize = 8 * 1024;

/// The part of a request before its body: the request line and the fields (RFC 9112, section 2.1).
/// Borrows from the bytes that it was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The request line, such as `GET / HTTP/1.1`. It contains no control characters, and exactly two
    /// spaces.
    pub line: &'a str,
    /// The first word of the request line, such as `GET`. Case matters.
    pub method: &'a str,
    /// The second word, such as `/echo/abc?d=e`, not decoded yet.
    pub target: &'a str,
    /// The third word.
    pub version: Version,
    /// The fields.
    pub headers: Headers<'a>,
    /// The field lines as they arrived, each ending with CRLF.
    pub fields: &'a [u8],
}

/// The versions of the protocol that this server speaks. Any `HTTP/1.x` from 1.1 up is treated as 1.1
/// (RFC 9110, section 2.5).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    #[default]
    Http11,
}

/// A parser for a head that may arrive in pieces. It continues with the next piece where it stopped, and
/// looks at no byte more than twice. So the result does not depend on the pieces, and a head that arrives
/// byte by byte costs no more than one that arrives at once.
///
/// ```
/// use common::HeadParser;
///
/// let mut parser = HeadParser::new();
/// assert_eq!(parser.advance(b"GET /echo/abc HTT")?, None);
/// let bytes = b"GET /echo/abc HTTP/1.1\r\nHost: a\r\n\r\nwhat comes after it";
/// assert_eq!(parser.advance(bytes)?, Some(35));
/// assert_eq!(parser.head(bytes).target, "/echo/abc");
/// # Ok::<(), common::Refused>(())
/// ```
#[derive(Debug, Default)]
pub struct HeadParser {
    state: State,
    /// How many bytes have been looked at.
    at: usize,
    line: LinePositions,
    fields: FieldParser,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Line(LineState),
    Fields,
}

/// What the next byte of the request line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    /// The method, or an empty line before it.
    Start,
    /// The LF of such an empty line.
    EmptyLineEnd,
    Method,
    Target,
    Version,
    /// The LF at the end of the request line.
    LineEnd,
}

impl Default for State {
    fn default() -> State {
        State::Line(LineState::Start)
    }
}

impl LineState {
    /// Returns the bytes that do not change the state: most of a line is inside a word.
    fn inside(self) -> Class {
        match self {
            LineState::Method => Class::TCHAR,
            LineState::Target => Class::TARGET,
            LineState::Version => Class::VISIBLE,
            _ => Class::NONE,
        }
    }

    /// Returns why a byte is refused that is not allowed at this position.
    fn misplaced(self, byte: u8) -> Refused {
        match (self, byte) {
            (LineState::EmptyLineEnd | LineState::LineEnd, _) => misplaced(byte, true),
            (LineState::Target, b'#') => MUST_BE_ESCAPED,
            (_, b'\r') => MALFORMED,
            _ if Class::TEXT.contains(byte) => MALFORMED,
            _ => misplaced(byte, false),
        }
    }
}

/// Where the parts of the request line are.
#[derive(Debug, Default, Clone, Copy)]
struct LinePositions {
    start: usize,
    method_end: usize,
    target_end: usize,
    end: usize,
    version: Version,
}

impl HeadParser {
    /// Creates a parser for a head that begins with the first byte that it is given.
    pub fn new() -> HeadParser {
        HeadParser::default()
    }

    /// Prepares for another head. Memory is kept.
    pub(crate) fn reset(&mut self) {
        self.fields.reset();
        (self.state, self.at, self.line.method_end) = (State::default(), 0, 0);
    }

    /// Prepares for another head, with the memory of a new parser.
    pub(crate) fn release_memory(&mut self) {
        *self = HeadParser::new();
    }

    /// Parses the bytes that are new. `bytes` must begin with the first byte of the head each time.
    /// Returns the length of the head in bytes, once it is complete. Bytes after the head are not
    /// looked at.
    ///
    /// # Errors
    ///
    /// 400 at the first byte that breaks the rules of RFC 9112, sections 2 to 5; 414 when the target
    /// is too long; 431 when the head is too large or has too many fields; 505 when the version is
    /// not supported. After an error, the parser cannot continue.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refused> {
        let within = &bytes[..bytes.len().min(MAX_HEAD)];
        if let State::Line(state) = self.state {
            self.advance_line(state, within)?;
        }
        if self.state == State::Fields {
            self.at = self.fields.advance(within, self.at)?;
        }
        match self.state {
            State::Fields if self.fields.is_done() => Ok(Some(self.at)),
            _ if within.len() == MAX_HEAD => Err(self.too_large()),
            _ => Ok(None),
        }
    }

    /// Continues in the request line.
    ///
    /// `request-line = method SP request-target SP HTTP-version` (RFC 9112, section 3)
    fn advance_line(&mut self, mut state: LineState, bytes: &[u8]) -> Result<(), Refused> {
        use LineState::{EmptyLineEnd, LineEnd, Method, Start, Target, Version};
        if state == Start && self.take_whole_line(bytes) {
            return Ok(());
        }
        loop {
            self.at += state.inside().run(&bytes[self.at..]);
            let Some(&byte) = bytes.get(self.at) else { break };
            match (state, byte) {
                // A server should ignore empty lines before the request line (section 2.2).
                (Start, b'\r') => state = EmptyLineEnd,
                (EmptyLineEnd, b'\n') => state = Start,
                (Start, _) if Class::TCHAR.contains(byte) => {
                    (state, self.line.start) = (Method, self.at);
                }
                (Method, b' ') => (state, self.line.method_end) = (Target, self.at),
                (Target, b' ') => {
                    self.end_target()?;
                    state = Version;
                }
                (Version, b'\r') => {
                    self.end_line(bytes)?;
                    state = LineEnd;
                }
                (LineEnd, b'\n') => {
                    self.at += 1;
                    self.begin_fields();
                    return Ok(());
                }
                _ => return Err(state.misplaced(byte)),
            }
            self.at += 1;
        }
        self.state = State::Line(state);
        Ok(())
    }

    /// Takes a request line that has arrived whole, as nearly all do, in fewer steps. Returns `false` if anything is
    /// unusual.
    fn take_whole_line(&mut self, bytes: &[u8]) -> bool {
        let Some(line) = whole_line(bytes, self.at) else { return false };
        self.line = line;
        self.at = line.end + 2;
        self.begin_fields();
        true
    }

    fn begin_fields(&mut self) {
        self.fields.begin(self.at);
        self.state = State::Fields;
    }

    fn end_target(&mut self) -> Result<(), Refused> {
        self.line.target_end = self.at;
        match self.at - self.line.method_end - 1 {
            0 => Err(MALFORMED),
            1..=MAX_TARGET => Ok(()),
            _ => Err(TARGET_TOO_LONG),
        }
    }

    fn end_line(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.line.end = self.at;
        self.line.version = http_version(&bytes[self.line.target_end + 1..self.at])?;
        let target = &bytes[self.line.method_end + 1..self.line.target_end];
        match target.is_ascii() || std::str::from_utf8(target).is_ok() {
            true => Ok(()),
            false => Err(MUST_BE_ESCAPED),
        }
    }

    /// Returns why a head that has reached the limit is refused: because of its target, if that has
    /// begun and has not ended.
    fn too_large(&self) -> Refused {
        match self.state {
            State::Line(LineState::Target) => TARGET_TOO_LONG,
            _ => Refused { status: 431, why: "the head of the request is larger than 16 KiB" },
        }
    }

    /// Whether the request has the method HEAD, as far as that is known.
    pub(crate) fn is_to_head(&self, bytes: &[u8]) -> bool {
        self.line.method_end > 0 && &bytes[self.line.start..self.line.method_end] == b"HEAD"
    }

    /// Whether nothing but empty lines has been seen. They are not a request.
    pub(crate) fn is_blank_so_far(&self) -> bool {
        matches!(self.state, State::Line(LineState::Start | LineState::EmptyLineEnd))
    }

    /// Returns the head. `bytes` must be those in which [`HeadParser::advance`] has found the whole
    /// head.
    ///
    /// # Panics
    ///
    /// When the head is not complete: a mistake of the caller.
    pub fn head<'a>(&'a self, bytes: &'a [u8]) -> Head<'a> {
        assert!(self.state == State::Fields && self.fields.is_done(), "the head is not complete");
        let LinePositions { start, method_end, target_end, end, version } = self.line;
        // These bytes were checked to be UTF-8 when they were parsed.
        let line = std::str::from_utf8(&bytes[start..end]).unwrap_or_default();
        Head {
            line,
            method: &line[..method_end - start],
            target: &line[method_end + 1 - start..target_end - start],
            version,
            headers: self.fields.headers(bytes),
            fields: &bytes[self.fields.start()..self.at - 2],
        }
    }
}

/// Parses a request line that has arrived whole, and whose version is HTTP/1.1. Returns `None` if anything is unusual.
fn whole_line(bytes: &[u8], start: usize) -> Option<LinePositions> {
    let line = &bytes[start..];
    let method = Class::TCHAR.run(line);
    let target = line.get(method..)?.strip_prefix(b" ").filter(|_| method > 0)?;
    let length = Class::TARGET.run(target);
    let (target, version) = target.split_at(length);
    let is_usual = (1..=MAX_TARGET).contains(&length) && target.is_ascii();
    (is_usual && version.starts_with(b" HTTP/1.1\r\n")).then(|| {
        let target_end = start + method + 1 + length;
        let end = target_end + b" HTTP/1.1".len();
        let (method_end, version) = (start + method, Version::Http11);
        LinePositions { start, method_end, target_end, end, version }
    })
}

const MALFORMED: Refused =
    bad_request("the request line is not: method, space, target, space, version");

const MUST_BE_ESCAPED: Refused =
    bad_request("the request target has a character that must be escaped with %");

const TARGET_TOO_LONG: Refused =
    Refused { status: 414, why: "the request target is longer than 8 KiB" };

/// Parses `HTTP-version = "HTTP/" DIGIT "." DIGIT` (RFC 9112, section 2.3).
fn http_version(version: &[u8]) -> Result<Version, Refused> {
    match version {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Refused { status: 505, why: "this server speaks HTTP/1.0 and HTTP/1.1 only" })
        }
        _ => Err(bad_request("the request line does not end with a version such as HTTP/1.1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::fields::MAX_FIELDS;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn status_of(bytes: &[u8]) -> u16 {
        match HeadParser::new().advance(bytes) {
            Ok(Some(_)) => 200,
            Ok(None) => 100,
            Err(refused) => refused.status,
        }
    }

    /// Returns what a server finds when the bytes arrive in pieces that end at the given cuts: the length of the head,
    /// and all that it says.
    fn parse_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Option<(usize, String)>, Refused> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut parser = HeadParser::new();
        let mut outcomes = cuts.iter().map(|&cut| parser.advance(&bytes[..cut]));
        let outcome = outcomes.find(|outcome| !matches!(outcome, Ok(None))).unwrap_or(Ok(None))?;
        Ok(outcome.map(|length| (length, format!("{:?}", parser.head(&bytes[..length])))))
    }

    #[test]
    fn splits_a_head_into_its_parts() {
        let bytes = b"POST /echo/a?b=c HTTP/1.1\r\nHost: localhost\r\nX:\r\n\r\nbody";
        let mut parser = HeadParser::new();
        let length = parser.advance(bytes).expect("valid").expect("complete");
        let head = parser.head(bytes);
        assert_eq!(head.line, "POST /echo/a?b=c HTTP/1.1");
        assert_eq!((head.method, head.target), ("POST", "/echo/a?b=c"));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.headers.get("host"), Some(&b"localhost"[..]));
        assert_eq!(head.fields, b"Host: localhost\r\nX:\r\n");
        assert_eq!(&bytes[length..], b"body");
    }

    #[test]
    fn a_target_is_text() {
        assert_eq!(status_of(b"GET /\xff HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status_of("GET /é HTTP/1.1\r\n\r\n".as_bytes()), 200);
    }

    #[test]
    fn memory_is_used_again() {
        let mut parser = HeadParser::new();
        for bytes in [&b"GET /a HTTP/1.0\r\nA: b\r\nC: d\r\n\r\n"[..], b"PUT /b HTTP/1.1\r\n\r\n"] {
            parser.reset();
            parser.advance(bytes).expect("valid").expect("complete");
        }
        let head = parser.head(b"PUT /b HTTP/1.1\r\n\r\n");
        assert_eq!((head.method, head.target, head.version), ("PUT", "/b", Version::Http11));
        assert_eq!(head.headers.iter().count(), 0);
    }

    #[test]
    fn empty_lines_before_the_request_are_skipped() {
        let found = parse_in_pieces(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[1, 5]);
        assert_eq!(found.map(|it| it.map(|(length, _)| length)), Ok(Some(22)));
    }

    #[test]
    fn strict_about_the_request_line() {
        for (line, status) in [
            ("GET / HTTP/1.1", 200),
            ("GET / HTTP/1.0", 200),
            ("GET / HTTP/1.7", 200),
            ("OPTIONS * HTTP/1.1", 200),
            ("M-SEARCH * HTTP/1.1", 200),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/0.9", 505),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.10", 400),
            ("GET / HTTP/1", 400),
            ("GET /", 400),
            ("GET", 400),
            (" GET / HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET\t/\tHTTP/1.1", 400),
            ("GET /a b HTTP/1.1", 400),
            ("GET /\u{e9}[]|^{}` HTTP/1.1", 200),
            ("GET /#a HTTP/1.1", 400),
            ("G:T / HTTP/1.1", 400),
        ] {
            assert_eq!(status_of(format!("{line}\r\n\r\n").as_bytes()), status, "{line}");
        }
    }

    #[test]
    fn strict_about_fields() {
        for (field, status) in [
            ("A: b", 200),
            ("A:b", 200),
            ("A:", 200),
            ("A: \u{e9}", 200),
            ("A: b: c", 200),
            ("A : b", 400),
            (" A: b", 400),
            ("A: b\r\n c", 400),
            ("A", 400),
            (": b", 400),
            ("A b: c", 400),
            ("A\u{e9}: b", 400),
            ("A: b\0", 400),
            ("A: b\rC: d", 400),
            ("A: b\nC: d", 400),
            ("A: b\u{7f}", 400),
        ] {
            let bytes = format!("GET / HTTP/1.1\r\n{field}\r\n\r\n");
            assert_eq!(status_of(bytes.as_bytes()), status, "{field:?}");
        }
    }

    #[test]
    fn bounded() {
        let long_target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET));
        assert_eq!(status_of(long_target.as_bytes()), 414);
        assert_eq!(status_of(format!("GET /{}", "a".repeat(MAX_HEAD)).as_bytes()), 414);
        let long_field = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(MAX_HEAD));
        assert_eq!(status_of(long_field.as_bytes()), 431);
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(status_of(fields(MAX_FIELDS).as_bytes()), 200);
        assert_eq!(status_of(fields(MAX_FIELDS + 1).as_bytes()), 431);
        assert_eq!(status_of("\r\n".repeat(MAX_HEAD).as_bytes()), 431);
        assert_eq!(status_of(format!("{}GET", "a".repeat(MAX_HEAD)).as_bytes()), 431);
    }

    #[test]
    fn refused_before_the_head_is_whole_if_it_can_never_be_valid() {
        assert_eq!(status_of(b"\x16\x03\x01\x02\x00"), 400); // the beginning of a TLS handshake
        assert_eq!(status_of(b"GET / HTTP/1.1\n"), 400);
        assert_eq!(status_of(b"GET / HTTP/1.1\r"), 100);
    }

    /// Generates heads that are valid or nearly valid: one byte may be replaced by another.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let line = ("[A-Z]{3,7}|[!#-'*+.^-~-]{1,4}", "[!-~]{1,12}", "HTTP/1\\.[01]")
            .prop_map(|(method, target, version)| format!("{method} {target} {version}\r\n"));
        let field = ("[A-Za-z-]{1,9}|[!#-'*+.^-`|~]{1,4}", "[ \t]{0,2}[!-~\u{80}-\u{ff} \t]{0,9}")
            .prop_map(|(name, value)| format!("{name}:{value}\r\n"));
        let mistake = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
        (line, proptest::collection::vec(field, 0..4), mistake).prop_map(
            |(line, fields, mistake)| {
                let mut bytes = format!("{line}{}\r\nbody", fields.concat()).into_bytes();
                if let Some((index, byte)) = mistake {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            },
        )
    }

    /// What httparse finds in a head: its length, its method, its target and its fields.
    type Opinion<'a> = Option<(usize, &'a str, &'a str, Vec<(&'a [u8], &'a [u8])>)>;

    fn second_opinion(bytes: &[u8]) -> Opinion<'_> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = request.parse(bytes) else { return None };
        let fields = request.headers.iter();
        let fields = fields.map(|field| (field.name.as_bytes(), field.value.trim_ascii()));
        Some((length, request.method?, request.path?, fields.collect()))
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_accepted_by_others(bytes in heads()) {
            let mut parser = HeadParser::new();
            let Ok(Some(length)) = parser.advance(&bytes) else { return Ok(()) };
            let head = parser.head(&bytes);
            // This server treats HTTP/1.2 to 1.9 as 1.1 (RFC 9110, section 2.5). httparse does not
            // know them.
            if head.line.ends_with("1.0") || head.line.ends_with("1.1") {
                let ours = (length, head.method, head.target, head.headers.iter().collect());
                prop_assert_eq!(second_opinion(&bytes), Some(ours));
            }
        }

        #[test]
        fn any_split_gives_the_same_result(
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            field in "[A-Za-z:\\- \r\n\t]{0,30}",
            at in any::<prop::sample::Index>(),
            cuts in proptest::collection::vec(any::<usize>(), 0..8),
        ) {
            let mut bytes = format!("GET /a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").into_bytes();
            let at = at.index(bytes.len() + 1);
            for bytes in [bytes.clone(), { bytes.splice(at..at, noise); bytes }] {
                prop_assert_eq!(parse_in_pieces(&bytes, &cuts), parse_in_pieces(&bytes, &[]));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HeadParser::new().advance(&bytes);
        }
    }
}
