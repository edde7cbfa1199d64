//! Whether a client has the newest version of a file already (stage 15's lasting form).

use std::borrow::Cow;

use crate::message::coding::accepts_gzip;
use crate::message::date::HttpDate;
use crate::message::digits::add_hexadecimal;
use crate::message::file::FileState;
use crate::message::response::Response;
use crate::protocol::request::Request;

/// The names of one version of a file (RFC 9110, section 8.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, in its quotes: from the length, the time of the last change, and the content coding.
    pub etag: String,
    /// When the file was last changed, in seconds since the beginning of 1970; 0 for earlier times.
    pub modified: u64,
}

impl Validators {
    /// Returns the validators of a file in this state, sent in this content coding. `None` if the system does not
    /// know when the file was changed: then versions cannot be told apart.
    pub fn of(state: FileState, coding: Option<&str>) -> Option<Validators> {
        let nanoseconds = state.modified?;
        Some(Validators {
            etag: etag(state.length, nanoseconds, coding),
            modified: u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0),
        })
    }
}

/// An entity tag such as `"2a-1870f1c5d2b3a400-gzip"`.
fn etag(length: u64, nanoseconds: i128, coding: Option<&str>) -> String {
    let mut tag = Vec::with_capacity(48);
    tag.push(b'"');
    add_hexadecimal(&mut tag, length.into());
    tag.push(b'-');
    add_hexadecimal(&mut tag, nanoseconds as u128);
    if let Some(coding) = coding {
        tag.push(b'-');
        tag.extend_from_slice(coding.as_bytes());
    }
    tag.push(b'"');
    String::from_utf8(tag).unwrap_or_default() // it is ASCII, and a coding that was text
}

/// The result of the conditions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Do what the request asks for.
    Perform,
    /// The client has the current version: 304 (RFC 9110, section 15.4.5).
    NotModified,
    /// The current version is not the one that the client expects: 412 (RFC 9110, section 15.5.13).
    Failed,
}

/// Evaluates the conditions of a request in the order of RFC 9110, section 13.2.2. `current` is the current version
/// of the file, if there is one. `now` is in seconds since the beginning of 1970. What is no date is ignored, and so
/// are several dates.
pub fn evaluate(request: &Request, current: Option<&Validators>, now: u64) -> Outcome {
    let date = |name| HttpDate::parse(request.headers().only(name)?, now);
    let is_later = |date: Option<u64>| Some(current?.modified > date?);
    let is_read = matches!(request.method(), "GET" | "HEAD");
    if request.header("If-Match").is_some() {
        if !lists(request, "If-Match", current, Comparison::Strong) {
            return Outcome::Failed;
        }
    } else if is_later(date("If-Unmodified-Since")) == Some(true) {
        return Outcome::Failed;
    }
    if request.header("If-None-Match").is_some() {
        return match lists(request, "If-None-Match", current, Comparison::Weak) {
            false => Outcome::Perform,
            true if is_read => Outcome::NotModified,
            true => Outcome::Failed,
        };
    }
    match is_later(date("If-Modified-Since")) {
        Some(false) if is_read => Outcome::NotModified,
        _ => Outcome::Perform,
    }
}

/// How entity tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A weak tag is equal to nothing.
    Strong,
    /// Whether tags are weak does not matter.
    Weak,
}

/// Whether a list of entity tags, or `*`, names the current version.
fn lists(request: &Request, name: &str, current: Option<&Validators>, how: Comparison) -> bool {
    let Some(current) = current else { return false };
    request.headers().all(name).any(|value| value == b"*" || names(value, &current.etag, how))
}

/// Whether a list contains an entity tag. What is between two quotes is a tag, with its commas; what is before it,
/// after the comma, says whether it is weak.
fn names(list: &[u8], etag: &str, how: Comparison) -> bool {
    let etag = etag.trim_matches('"').as_bytes();
    let mut parts = list.split(|&byte| byte == b'"');
    let mut before = parts.next().unwrap_or_default();
    while let (Some(tag), Some(after)) = (parts.next(), parts.next()) {
        let is_tag =
            match before.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii() {
                b"" => true,
                b"W/" => how == Comparison::Weak,
                _ => false,
            };
        if is_tag && tag == etag {
            return true;
        }
        before = after;
    }
    false
}

/// Whether the conditions of a request allow to change a file in this state; `None` if there is no such file. What
/// counts is the tag that a GET with the same fields would get (RFC 9110, section 13.1.1), so that of the compressed
/// file for a client that accepts gzip. `now` is in seconds since the beginning of 1970.
pub fn may_change(request: &Request, current: Option<FileState>, now: u64) -> bool {
    let coding = accepts_gzip(request.headers()).then_some("gzip");
    let current = current.and_then(|state| Validators::of(state, coding));
    evaluate(request, current.as_ref(), now) != Outcome::Failed
}

/// Adds the validators of the file that a response carries, and `Cache-Control`; then answers 304 or 412 instead
/// if the conditions of the request ask for it. Other responses stay as they are. `max_age` is in seconds; without
/// it, clients have to ask each time. `now` is in seconds since the beginning of 1970.
pub fn cached(request: &Request, response: Response, max_age: Option<u64>, now: u64) -> Response {
    let Some(state) = response.file_state().filter(|_| response.status() == 200) else {
        return response;
    };
    let coding = response.coding();
    let Some(validators) = Validators::of(state, coding) else { return response };
    let outcome = evaluate(request, Some(&validators), now);
    let modified = HttpDate::of(validators.modified.min(now)); // never later than now
    let response = response
        .header("Cache-Control", cache_control(request.full_path().raw(), max_age))
        .dated("Last-Modified", &modified)
        .header("ETag", validators.etag);
    match outcome {
        Outcome::Perform => response,
        Outcome::Failed => Response::new(412),
        Outcome::NotModified => not_modified(&response),
    }
}

/// 304 with the fields that a cache needs to go on using its copy (RFC 9110, section 15.4.5).
fn not_modified(response: &Response) -> Response {
    let kept = ["Cache-Control", "ETag", "Vary"].into_iter();
    kept.fold(Response::new(304), |kept, name| match response.get(name) {
        Some(value) => kept.header(name, value.to_owned()),
        None => kept,
    })
}

/// How long a client may use a copy without asking (RFC 9111, section 5.2.2).
fn cache_control(path: &str, max_age: Option<u64>) -> Cow<'static, str> {
    match max_age {
        _ if has_hash(path) => "max-age=31536000, immutable".into(), // a year (RFC 8246)
        Some(seconds) => format!("max-age={seconds}").into(),
        None => "no-cache".into(),
    }
}

/// Whether a name has a hash of the content before its extension, as in `app-3f2a9c1b.js`: 8 or more hexadecimal
/// digits, with a letter and a number among them. (Numbers alone are more likely a date.)
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    let hash = stem.rsplit(['.', '-']).next().unwrap_or_default().as_bytes();
    hash.len() >= 8
        && hash.iter().all(u8::is_ascii_hexdigit)
        && hash.iter().any(u8::is_ascii_digit)
        && hash.iter().any(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::see;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_tag_is_whole_and_in_quotes() {
        for (list, weak, strong) in [
            ("\"a-1\"", true, true),
            ("\"x\", \"a-1\"", true, true),
            ("\"x,y\",\"a-1\"", true, true),
            ("W/\"a-1\"", true, false),
            ("W/\"x\", \"a-1\"", true, true),
            ("\"x\", W/\"a-1\"", true, false),
            ("\"a-11\"", false, false),
            ("\"xa-1\"", false, false),
            ("a-1", false, false),
            ("\"a-1", false, false),
            ("\"x\"a-1\"y\"", false, false),
            ("\"x\" , \"a-1\"", true, true),
            ("x\"a-1\"", false, false),
            ("w/\"a-1\"", false, false),
            ("W/ \"a-1\"", true, false),
            ("", false, false),
        ] {
            let named = |how| names(list.as_bytes(), "\"a-1\"", how);
            assert_eq!(
                (named(Comparison::Weak), named(Comparison::Strong)),
                (weak, strong),
                "{list}"
            );
        }
    }

    const NOW: u64 = 1_700_000_000;
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    /// The state of a file with the tag `"a-…"` that was modified at [`MODIFIED`].
    const STATE: FileState = FileState { length: 10, modified: Some(784_111_777_000_000_000) };

    /// Evaluates conditions; `=` in a field stands for the current tag.
    fn outcome(method: &str, current: Option<FileState>, fields: &str) -> Outcome {
        let current = current.and_then(|state| Validators::of(state, None));
        let tag = Validators::of(STATE, None).expect("there is a time").etag;
        let fields = fields.replace('=', &tag);
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        see(&request, |request| evaluate(request, current.as_ref(), NOW))
    }

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_rfc() {
        use Outcome::{Failed, NotModified, Perform};
        let same = |name: &str| format!("{name}: {MODIFIED}\r\n");
        let older = |name: &str| format!("{name}: {BEFORE}\r\n");
        let (match_it, match_other) = ("If-Match: =\r\n", "If-Match: \"x\"\r\n");
        let (none_it, none_other) = ("If-None-Match: =\r\n", "If-None-Match: \"x\"\r\n");
        let (unmodified, modified) = ("If-Unmodified-Since", "If-Modified-Since");
        for (fields, read, change) in [
            (String::new(), Perform, Perform),
            (match_it.to_owned(), Perform, Perform),
            (match_other.to_owned(), Failed, Failed),
            ("If-Match: *\r\n".to_owned(), Perform, Perform),
            ("If-Match: W/=\r\n".to_owned(), Failed, Failed),
            ("If-Match: \"x\"\r\nIf-Match: =\r\n".to_owned(), Perform, Perform),
            (same(unmodified), Perform, Perform),
            (older(unmodified), Failed, Failed),
            (match_it.to_owned() + &older(unmodified), Perform, Perform),
            (match_other.to_owned() + &same(unmodified), Failed, Failed),
            ("If-Unmodified-Since: yesterday\r\n".to_owned(), Perform, Perform),
            (older(unmodified) + &same(unmodified), Perform, Perform), // several dates are none
            (none_it.to_owned(), NotModified, Failed),
            (none_other.to_owned(), Perform, Perform),
            ("If-None-Match: *\r\n".to_owned(), NotModified, Failed),
            ("If-None-Match: \"x\", W/=\r\n".to_owned(), NotModified, Failed),
            (none_it.to_owned() + &older(modified), NotModified, Failed),
            (none_other.to_owned() + &same(modified), Perform, Perform),
            (same(modified), NotModified, Perform),
            (older(modified), Perform, Perform),
            ("If-Modified-Since: yesterday\r\n".to_owned(), Perform, Perform),
            (same(modified) + &older(modified), Perform, Perform),
            (match_other.to_owned() + none_it, Failed, Failed),
            (match_it.to_owned() + none_it, NotModified, Failed),
            (older(unmodified) + none_it, Failed, Failed),
            (older(unmodified) + &same(modified), Failed, Failed),
        ] {
            assert_eq!(outcome("GET", Some(STATE), &fields), read, "GET {fields}");
            assert_eq!(outcome("HEAD", Some(STATE), &fields), read, "HEAD {fields}");
            let fields = fields + "Content-Length: 0\r\n";
            assert_eq!(outcome("POST", Some(STATE), &fields), change, "POST {fields}");
        }
    }

    #[test]
    fn what_does_not_exist_is_in_no_version() {
        for (fields, expected) in [
            ("If-Match: *\r\n", Outcome::Failed),
            ("If-Match: =\r\n", Outcome::Failed),
            ("If-None-Match: *\r\n", Outcome::Perform),
            ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", Outcome::Perform),
        ] {
            let fields = format!("{fields}Content-Length: 0\r\n");
            assert_eq!(outcome("POST", None, &fields), expected, "{fields}");
        }
    }

    #[test]
    fn a_client_with_the_compressed_file_may_change_it() {
        for (coding, encoding, expected) in [
            (None, "", true),
            (Some("gzip"), "Accept-Encoding: gzip\r\n", true),
            (Some("gzip"), "", false),
            (None, "Accept-Encoding: gzip\r\n", false),
        ] {
            let tag = Validators::of(STATE, coding).expect("there is a time").etag;
            let fields = format!("{encoding}If-Match: {tag}\r\nContent-Length: 0\r\n");
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let may = see(&request, |request| may_change(request, Some(STATE), NOW));
            assert_eq!(may, expected, "{fields}");
        }
    }

    #[test]
    fn only_the_path_can_have_a_hash() {
        for (target, is_immutable) in [
            ("http://cdn-3f2a9c1b.example", false),
            ("http://cdn-3f2a9c1b.example/?app-3f2a9c1b.js", false),
            ("http://a.example/app-3f2a9c1b.js?x", true),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let value = see(&request, |it| cache_control(it.full_path().raw(), None));
            assert_eq!(value.contains("immutable"), is_immutable, "{target}");
        }
    }

    #[test]
    fn each_version_and_each_coding_has_a_tag_of_its_own() {
        let tag = |length, modified, coding| {
            Validators::of(FileState { length, modified: Some(modified) }, coding).map(|it| it.etag)
        };
        assert_eq!(tag(12, 255, None).as_deref(), Some("\"c-ff\""));
        assert_eq!(tag(12, 255, Some("gzip")).as_deref(), Some("\"c-ff-gzip\""));
        assert_ne!(tag(12, -255, None), tag(12, 255, None));
        assert_eq!(Validators::of(FileState { length: 1, modified: None }, None), None);
        let old = Validators::of(FileState { length: 1, modified: Some(-1) }, None);
        assert_eq!(old.map(|it| it.modified), Some(0));
    }

    #[test]
    fn a_hash_has_letters_and_digits() {
        for (path, expected) in [
            ("app-3f2a9c1b.js", true),
            ("a/b/app.3F2A9C1B.css", true),
            ("3f2a9c1b0d.png", true),
            ("photo-20240131.jpg", false),
            ("defaced-.html", false),
            ("deadbeef.html", false),
            ("app-3f2a9c1.js", false),
            ("app-3f2a9c1g.js", false),
            ("app-3f2a9c1b", false),
            ("", false),
        ] {
            assert_eq!(has_hash(path), expected, "{path}");
        }
    }
}
