//! A request's head, parsed from bytes: no sockets, no copies (stage 3's lasting form).

use crate::buffer::{MAX_HEAD, end_of_head};
use crate::headers::Headers;
use crate::refused::{Refused, bad_request};

/// The most field lines that a head may have.
pub const MAX_FIELDS: usize = 100;

/// The most bytes that a request target may have. RFC 9112, section 3, asks for 8,000 at least.
pub const MAX_TARGET: usize = 8 * 1024;

/// What stands before a request's body: the request line and the fields (RFC 9112, section 2.1).
/// Borrows from the bytes it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The request line, such as `GET / HTTP/1.1`: visible ASCII and two spaces.
    pub line: &'a str,
    /// The first word of the request line, such as `GET`. Case matters.
    pub method: &'a str,
    /// The second word, such as `/echo/abc?d=e`: visible ASCII, not decoded yet.
    pub target: &'a str,
    /// The third word.
    pub version: Version,
    /// The field lines.
    pub headers: Headers<'a>,
}

/// The versions of the protocol that this server speaks. Any `HTTP/1.x` from 1.1 up is spoken to
/// as 1.1 (RFC 9110, section 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

impl<'a> Head<'a> {
    /// Parses the head at the beginning of `bytes`, and says how many bytes it took.
    /// `None` means that it is not whole yet. Bytes after the head are not looked at.
    ///
    /// However the bytes arrive, the result is the same: what is refused early, from a part of
    /// the head, would also be refused from the whole.
    ///
    /// # Errors
    ///
    /// 400 when the head breaks the rules of RFC 9112, sections 2 to 5; 414, 431 and 505 when a
    /// target is too long, the head too large, or the version not ours. Nothing is mended: what
    /// two programs can read in two ways is a way to smuggle a request past one of them.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Head<'a>, usize)>, Refused> {
        // A server should ignore an empty line before the request line (section 2.2).
        let skipped = bytes.chunks(2).take_while(|chunk| chunk == b"\r\n").count() * 2;
        let within = &bytes[..bytes.len().min(MAX_HEAD)];
        let rest = within.get(skipped..).unwrap_or_default();
        let end = end_of_head(rest);
        check_bytes(&rest[..end.unwrap_or(rest.len())])?;
        match end {
            Some(end) => Ok(Some((Head::from_lines(&rest[..end - 2])?, skipped + end))),
            None if within.len() == MAX_HEAD => Err(too_large(rest)),
            None => Ok(None),
        }
    }

    /// Parses a request line and field lines, each ending with CRLF.
    fn from_lines(lines: &'a [u8]) -> Result<Head<'a>, Refused> {
        let end = lines.windows(2).position(|two| two == b"\r\n").unwrap_or(lines.len());
        let (line, method, target, version) = request_line(&lines[..end])?;
        let fields = lines.get(end + 2..).unwrap_or_default();
        check_fields(fields)?;
        Ok(Head { line, method, target, version, headers: Headers::new(fields) })
    }
}

/// Why a head that reached the limit is refused: it is the target if no line ended before.
fn too_large(rest: &[u8]) -> Refused {
    if rest.contains(&b'\n') {
        Refused { status: 431, why: "the head of the request is larger than 16 KiB" }
    } else {
        TARGET_TOO_LONG
    }
}

const TARGET_TOO_LONG: Refused =
    Refused { status: 414, why: "the request target is longer than 8 KiB" };

/// Refuses the bytes that no head may contain: control characters, and a CR or an LF that is not
/// part of a CRLF. The last byte may be a CR whose LF has not arrived yet.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), Refused> {
    let mut previous = 0;
    for &byte in bytes {
        match byte {
            b'\n' if previous == b'\r' => {}
            b'\n' => {
                return Err(bad_request("a line of the head ends with LF alone, not with CR LF"));
            }
            _ if previous == b'\r' => {
                return Err(bad_request("a CR in the head is not followed by LF"));
            }
            b' '..=b'~' | 0x80.. | b'\r' | b'\t' => {}
            _ => return Err(bad_request("the head contains a control character")),
        }
        previous = byte;
    }
    Ok(())
}

/// `request-line = method SP request-target SP HTTP-version` (RFC 9112, section 3)
fn request_line(line: &[u8]) -> Result<(&str, &str, &str, Version), Refused> {
    let malformed = bad_request("the request line is not: method, space, target, space, version");
    let line = std::str::from_utf8(line).map_err(|_| malformed)?;
    let (method, rest) = line.split_once(' ').ok_or(malformed)?;
    let (target, version) = rest.split_once(' ').ok_or(malformed)?;
    if !is_token(method.as_bytes()) || target.is_empty() {
        return Err(malformed);
    }
    if target.len() > MAX_TARGET {
        return Err(TARGET_TOO_LONG);
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(bad_request("the request target has a character that must be escaped with %"));
    }
    Ok((line, method, target, http_version(version)?))
}

/// `HTTP-version = "HTTP/" DIGIT "." DIGIT` (RFC 9112, section 2.3)
fn http_version(version: &str) -> Result<Version, Refused> {
    match version.as_bytes() {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Refused { status: 505, why: "this server speaks HTTP/1.0 and HTTP/1.1 only" })
        }
        _ => Err(bad_request("the request line does not end with a version such as HTTP/1.1")),
    }
}

/// `field-line = field-name ":" OWS field-value OWS` (RFC 9112, section 5)
pub(crate) fn check_fields(fields: &[u8]) -> Result<(), Refused> {
    for (index, line) in fields.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if index == MAX_FIELDS {
            return Err(Refused { status: 431, why: "the request has more than 100 fields" });
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(bad_request("a field line begins with white space"));
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Err(bad_request("a field line has no colon"));
        };
        if !is_token(&line[..colon]) {
            return Err(bad_request("a field name has a character that no name may have"));
        }
    }
    Ok(())
}

/// `token = 1*tchar` (RFC 9110, section 5.6.2)
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

fn is_tchar(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
        | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn status_of(bytes: &[u8]) -> u16 {
        match Head::parse(bytes) {
            Ok(Some(_)) => 200,
            Ok(None) => 100,
            Err(refused) => refused.status,
        }
    }

    /// What a server finds when the bytes arrive up to each of the cuts, one after another.
    fn parse_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Option<usize>, Refused> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut outcomes = cuts.iter().map(|&cut| Head::parse(&bytes[..cut]));
        let decided = outcomes.find(|outcome| !matches!(outcome, Ok(None))).unwrap_or(Ok(None));
        decided.map(|found| found.map(|(_, length)| length))
    }

    #[test]
    fn splits_a_head_into_its_parts() {
        let bytes = b"POST /echo/a?b=c HTTP/1.1\r\nHost: localhost\r\nX:\r\n\r\nbody";
        let (head, length) = Head::parse(bytes).expect("valid").expect("whole");
        assert_eq!(head.line, "POST /echo/a?b=c HTTP/1.1");
        assert_eq!((head.method, head.target), ("POST", "/echo/a?b=c"));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.headers.get("host"), Some(&b"localhost"[..]));
        assert_eq!(&bytes[length..], b"body");
    }

    #[test]
    fn empty_lines_before_the_request_are_skipped() {
        assert_eq!(parse_in_pieces(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[1, 5]), Ok(Some(22)));
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
            ("GET /\u{e9} HTTP/1.1", 400),
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
        assert_eq!(status_of("\r\n".repeat(MAX_HEAD).as_bytes()), 414);
    }

    #[test]
    fn refused_before_the_head_is_whole_if_it_can_never_be_valid() {
        assert_eq!(status_of(b"\x16\x03\x01\x02\x00"), 400); // the beginning of a TLS hello
        assert_eq!(status_of(b"GET / HTTP/1.1\n"), 400);
        assert_eq!(status_of(b"GET / HTTP/1.1\r"), 100);
    }

    /// Heads that are nearly right, for the most part: one byte may be another one.
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

    /// What httparse makes of these bytes: the length of the head, its method, target and fields.
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
            let Ok(Some((head, length))) = Head::parse(&bytes) else { return Ok(()) };
            // We answer HTTP/1.2 to 1.9 as 1.1 (RFC 9110, section 2.5). httparse does not know them.
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
                let whole = Head::parse(&bytes).map(|found| found.map(|(_, length)| length));
                prop_assert_eq!(parse_in_pieces(&bytes, &cuts), whole);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Head::parse(&bytes);
        }
    }
}
