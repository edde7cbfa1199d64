//! The request target: which resource a request is for (stage 3's lasting form).

use core::net::Ipv6Addr; // from `core`: an address needs no sockets
use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::message::refused::{Refused, bad_request};
use crate::message::syntax::{Class, find, is_pchar};

/// A parsed target: `/files/a%20b?c=d` has the first segment `files`, the rest `a b`, and the query
/// `c=d`. The path is split at its slashes before it is decoded, so an escaped slash, `%2F`, does not
/// separate segments.
///
/// ```
/// use common::Target;
///
/// let target = Target::parse("GET", "/echo/a%2Fb/c?d=e")?;
/// assert_eq!(target.first(), "echo");
/// assert_eq!(target.rest().map(|rest| rest.decode()), Some(Ok("a/b/c".to_owned())));
/// assert_eq!(target.query(), Some("d=e"));
/// assert_eq!(Target::parse("GET", "/echo%2Fa")?.first(), "echo/a"); // one segment
/// # Ok::<(), common::Refused>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    path: Rest<'a>,
    first: Cow<'a, str>,
    rest: Option<Rest<'a>>,
    query: Option<&'a str>,
}

/// The part of a path behind one of its slashes, not decoded yet. Its escapes are known to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest<'a>(&'a str);

impl<'a> Target<'a> {
    /// Parses one of the two forms that name a resource (RFC 9112, section 3.2): the origin form, a
    /// path, or the absolute form, `http://host/path`. The asterisk form, `*`, is accepted for
    /// `OPTIONS` only, and the authority form, `host:port`, for `CONNECT` only. Both are returned as
    /// a first segment, although they are not paths and have no slash before them.
    ///
    /// A path may contain `[ ] | ^ { }`, a backtick, and text that is not ASCII: browsers and other
    /// clients send these characters unescaped, and they mean the same as their escapes.
    ///
    /// # Errors
    ///
    /// 400 when the target has none of these forms, when its path has a character that must be
    /// escaped, and when a `%` is not followed by two hexadecimal digits. The query is not checked.
    pub fn parse(method: &str, target: &'a str) -> Result<Target<'a>, Refused> {
        Target::parse_with(HTTP, method, target)
    }

    /// Parses as [`Target::parse`] does, but a URL may have one of these schemes. From stage 22.
    pub(crate) fn parse_with(
        schemes: &[&str],
        method: &str,
        target: &'a str,
    ) -> Result<Target<'a>, Refused> {
        if method == "CONNECT" {
            return Target::authority_form(target);
        }
        let (before, query) = split_at(target, b'?');
        if method == "OPTIONS" && target == "*" {
            return Ok(Target { path: Rest(""), first: target.into(), rest: None, query });
        }
        let path = if before.starts_with('/') { before } else { path_of_url(before, schemes)? };
        let has_escapes = check(path)?;
        let path = path.strip_prefix('/').unwrap_or(path);
        let (first, rest) = split_at(path, b'/');
        // A segment that is not text when decoded stays encoded: no route has such a name.
        let decoded = if has_escapes { Rest(first).decode().ok() } else { None };
        let first = decoded.map_or(Cow::Borrowed(first), Cow::Owned);
        Ok(Target { path: Rest(path), first, rest: rest.map(Rest), query })
    }

    fn authority_form(target: &'a str) -> Result<Target<'a>, Refused> {
        if !is_authority(target.as_bytes()) {
            return Err(bad_request("the target of CONNECT is not a host and a port"));
        }
        Ok(Target { path: Rest(""), first: target.into(), rest: None, query: None })
    }

    /// Returns the path without its first slash: empty for `/`, and for a target without a path. From stage 13.
    pub fn path(&self) -> Rest<'a> {
        self.path
    }

    /// Returns the first segment of the path, decoded if that gives text. It is empty for `/`.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Returns what follows the slash after the first segment: `None` if there is no such slash, and
    /// an empty [`Rest`] if nothing follows the slash.
    pub fn rest(&self) -> Option<Rest<'a>> {
        self.rest
    }

    /// Returns what follows the first `?`, as the client sent it.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }
}

/// Splits a text at the first `separator`, which is an ASCII byte. (`split_once` takes longer to set
/// up its search than the search takes here.)
fn split_at(text: &str, separator: u8) -> (&str, Option<&str>) {
    match find(text.as_bytes(), separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Returns the path of `http://host/path`, or `/` if the path is missing.
fn path_of_url<'a>(url: &'a str, schemes: &[&str]) -> Result<&'a str, Refused> {
    let (scheme, rest) = url.split_once("://").ok_or(NO_PATH)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_known = schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_known || !is_authority(authority.as_bytes()) {
        return Err(NO_PATH);
    }
    Ok(if path.is_empty() { "/" } else { path })
}

const NO_PATH: Refused = bad_request("the request target is neither a path nor an http:// URL");

/// The scheme of a server without TLS.
pub(crate) const HTTP: &[&str] = &["http"];

/// The schemes of a server with TLS.
pub(crate) const HTTP_AND_HTTPS: &[&str] = &["http", "https"];

/// Returns the authority that a target names, if it is a URL. Its syntax has been checked.
pub(crate) fn authority_of(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return None;
    }
    target.split_once("://")?.1.split(['/', '?']).next()
}

/// Returns the host of an authority, without its port, and without the brackets of an IPv6 address.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => split_at(authority, b':').0,
    }
}

impl<'a> Rest<'a> {
    /// A path whose escapes are known to be valid.
    pub(crate) fn valid(path: &'a str) -> Rest<'a> {
        Rest(path)
    }

    /// Returns the text as the client sent it, with its escapes.
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// Returns the path of a folder, without the slash at its end. `None` if there is no slash at its end. The empty
    /// path is that of the root. From stage 13.
    pub fn folder(self) -> Option<Rest<'a>> {
        match self.0.strip_suffix('/') {
            None if self.0.is_empty() => Some(self),
            folder => {
                folder.filter(|folder| !folder.is_empty() && !folder.ends_with('/')).map(Rest)
            }
        }
    }

    /// Splits the path at its first slash: returns the first segment, and what follows the slash, if there is one.
    pub fn split_first(self) -> (Rest<'a>, Option<Rest<'a>>) {
        let (first, rest) = split_at(self.0, b'/');
        (Rest(first), rest.map(Rest))
    }

    /// Returns the segments as the client sent them.
    pub fn segments(self) -> impl Iterator<Item = Rest<'a>> {
        self.0.split('/').map(Rest)
    }

    /// Returns the decoded text: each escape is replaced by its byte (RFC 3986, section 2.1), once.
    ///
    /// # Errors
    ///
    /// 400 when the bytes are not UTF-8.
    pub fn decode(self) -> Result<String, Refused> {
        if !self.has_escapes() {
            return Ok(self.0.to_owned());
        }
        let decoded = String::from_utf8(self.decode_bytes());
        decoded.map_err(|_| bad_request("the decoded path is not UTF-8"))
    }

    /// Returns the file name that this text stands for, as a relative path. Where file names are
    /// bytes, any bytes are accepted; elsewhere they must be UTF-8.
    ///
    /// # Errors
    ///
    /// `NotFound` for bytes that no file name can contain: a zero byte, or an escaped slash, which
    /// does not separate two names.
    pub fn file_name(self) -> io::Result<Cow<'a, Path>> {
        if !self.has_escapes() {
            return Ok(Cow::Borrowed(Path::new(self.0)));
        }
        let is_name = |part: Rest| !part.decode_bytes().iter().any(|byte| b"/\0".contains(byte));
        if self.segments().all(is_name) {
            path_from(self.decode_bytes())
        } else {
            Err(NOT_A_NAME.into())
        }
    }

    /// Whether the text changes when it is decoded.
    pub(crate) fn has_escapes(self) -> bool {
        find(self.0.as_bytes(), b'%').is_some()
    }

    fn decode_bytes(self) -> Vec<u8> {
        let mut decoded = Vec::with_capacity(self.0.len());
        let mut parts = self.0.as_bytes().split(|&byte| byte == b'%');
        decoded.extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            if let Some((byte, rest)) = escape(part) {
                decoded.push(byte);
                decoded.extend_from_slice(rest);
            }
        }
        decoded
    }
}

const NOT_A_NAME: Refused = Refused { status: 404, why: "no file can have this name" };

#[cfg(unix)]
fn path_from(bytes: Vec<u8>) -> io::Result<Cow<'static, Path>> {
    use std::os::unix::ffi::OsStringExt;
    Ok(Cow::Owned(std::ffi::OsString::from_vec(bytes).into()))
}

#[cfg(not(unix))]
fn path_from(bytes: Vec<u8>) -> io::Result<Cow<'static, Path>> {
    let text = String::from_utf8(bytes).map_err(|_| NOT_A_NAME)?;
    Ok(Cow::Owned(text.into()))
}

/// Whether a text is a valid `uri-host [ ":" port ]` (RFC 9110, section 4.2.1), as in a `Host` field:
/// not empty, and without the user name and password that older URLs had before an `@`.
pub fn is_authority(text: &[u8]) -> bool {
    match text.split_at(Class::PLAIN_HOST.run(text)) {
        ([_, ..], [] | [b':']) => return true,
        ([_, ..], [b':', port @ ..]) if is_port(port) => return true,
        _ => {}
    }
    let (host, port) = match text.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !text.ends_with(b"]") => (&text[..colon], &text[colon + 1..]),
        _ => (text, &[][..]),
    };
    is_host(host) && (port.is_empty() || is_port(port))
}

fn is_port(text: &[u8]) -> bool {
    let add = |number: u32, digit: &u8| (number * 10 + u32::from(digit - b'0')).min(1 << 16);
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number && (text.len() < 5 || text.iter().fold(0, add) < 1 << 16)
}

/// Whether a text is a valid `host = IP-literal / IPv4address / reg-name` that is not empty
/// (RFC 3986, section 3.2.2). An IP literal must be an IPv6 address in brackets. Literals of later
/// versions, which do not exist, are refused.
fn is_host(text: &[u8]) -> bool {
    if let Some(address) = text.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        let is_address = |text: &str| text.parse::<Ipv6Addr>().is_ok();
        return std::str::from_utf8(address).is_ok_and(is_address);
    }
    let is_allowed = |byte: u8| is_pchar(byte) && !matches!(byte, b':' | b'@');
    let mut parts = text.split(|&byte| byte == b'%');
    let first = parts.next().unwrap_or_default();
    let are_allowed = |bytes: &[u8]| bytes.iter().copied().all(is_allowed);
    !text.is_empty()
        && are_allowed(first)
        && parts.all(|part| escape(part).is_some_and(|(_, rest)| are_allowed(rest)))
}

/// Refuses a path with a byte that must be escaped, or with an invalid escape. Returns whether it has escapes.
fn check(path: &str) -> Result<bool, Refused> {
    let (mut rest, mut has_escapes) = (path.as_bytes(), false);
    loop {
        rest = &rest[Class::PATH.run(rest)..];
        match rest {
            [] => return Ok(has_escapes),
            [b'%', escaped @ ..] => {
                (_, rest) = escape(escaped).ok_or(BAD_ESCAPE)?;
                has_escapes = true;
            }
            _ => return Err(bad_request("the path has a character that must be escaped with %")),
        }
    }
}

const BAD_ESCAPE: Refused =
    bad_request("a % in the path is not followed by two hexadecimal digits");

/// Splits what follows a `%` into the byte that its two hexadecimal digits stand for, and the rest.
pub(crate) fn escape(part: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = part.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, rest))
}

/// Returns the path of a name below a prefix, with escapes for what a path cannot contain, and for slashes. From stage
/// 18.
///
/// ```
/// assert_eq!(common::path_of("/files/", "a b/c.txt"), "/files/a%20b%2Fc.txt");
/// ```
pub fn path_of(prefix: &str, name: &str) -> String {
    let mut path = prefix.to_owned();
    for byte in name.bytes() {
        match byte {
            byte if is_pchar(byte) && byte != b'%' => path.push(char::from(byte)),
            // Writing to memory does not fail.
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    path
}

/// Returns the target of a redirect to a path of this server (a `path-absolute` with a query, RFC 3986, section 4.2).
/// The path has no slash at its beginning, and is not decoded. If it were, `%2Fevil.example` would become
/// `//evil.example`, which is another host.
pub(crate) fn location(path: &str, query: Option<&str>) -> String {
    let mut location = String::from("/");
    escape_again(&mut location, path);
    if let Some(query) = query {
        location.push('?');
        escape_again(&mut location, query);
    }
    location
}

/// Adds a part of a target. What clients send as it is, although a URL cannot contain it, is escaped.
fn escape_again(url: &mut String, part: &str) {
    for byte in part.bytes() {
        match byte {
            b'/' | b'%' | b'?' => url.push(char::from(byte)),
            byte if is_pchar(byte) => url.push(char::from(byte)),
            // Writing to memory does not fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    /// Returns the first segment and the decoded rest, or the status of the refusal.
    fn path(method: &str, target: &str) -> Result<(String, Option<String>), u16> {
        let target = Target::parse(method, target).map_err(|refused| refused.status)?;
        let rest = target.rest().map(|rest| rest.decode().unwrap_or("not text".into()));
        Ok((target.first().to_owned(), rest))
    }

    fn get(target: &str) -> Result<(String, Option<String>), u16> {
        path("GET", target)
    }

    fn found(first: &str, rest: Option<&str>) -> Result<(String, Option<String>), u16> {
        Ok((first.to_owned(), rest.map(str::to_owned)))
    }

    #[test]
    fn the_query_takes_no_part() {
        assert_eq!(get("/echo/a?b=c"), found("echo", Some("a")));
        assert_eq!(get("/?"), found("", None));
        assert_eq!(get("/?a=%zz"), found("", None));
        let query = |target| Target::parse("GET", target).expect("valid").query();
        assert_eq!(query("/a"), None);
        assert_eq!(query("/a?"), Some(""));
        assert_eq!(query("http://a?b=%zz?c"), Some("b=%zz?c"));
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        assert_eq!(get("/echo/caf%C3%A9"), found("echo", Some("café")));
        assert_eq!(get("/%65cho/a%2Fb/c"), found("echo", Some("a/b/c")));
        assert_eq!(get("/echo%2fx"), found("echo/x", None));
        assert_eq!(get("/a/%2e%2E/%252e"), found("a", Some("../%2e")));
        assert_eq!(get("/a/%3F"), found("a", Some("?")));
        assert_eq!(get("//a"), found("", Some("a")));
        assert_eq!(get("/a/"), found("a", Some("")));
        assert_eq!(get("/%ff/%ff"), found("%ff", Some("not text")));
    }

    #[test]
    fn a_name_of_a_file_has_no_escaped_slash() {
        let name = |target| {
            let target = Target::parse("GET", target).expect("valid");
            target.rest().expect("there is a slash").file_name().map(Cow::into_owned)
        };
        assert_eq!(name("/f/a%20b/c").ok(), Some("a b/c".into()));
        assert_eq!(name("/f/a/%2e%2e").ok(), Some("a/..".into())); // the directory refuses that
        for target in ["/f/a%2Fb", "/f/%2f", "/f/a/b%00"] {
            assert_eq!(name(target).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_of_a_file_is_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let target = Target::parse("GET", "/f/%ff%C3").expect("valid");
        let name = target.rest().expect("there is a slash").file_name().expect("a name");
        assert_eq!(name.as_os_str().as_bytes(), b"\xff\xc3");
    }

    #[test]
    fn bad_escapes_are_refused() {
        for target in ["/%", "/%4", "/%zz", "/%4g", "/%+4", "/100%", "/%%41", "/a/%zz"] {
            assert_eq!(get(target), Err(400), "{target}");
        }
    }

    #[test]
    fn a_url_is_taken_by_its_path() {
        assert_eq!(get("http://localhost:4221/echo/a?b"), found("echo", Some("a")));
        assert_eq!(get("HTTP://localhost"), found("", None));
        assert_eq!(get("http://localhost?a/b"), found("", None));
        assert_eq!(get("http://[::1]:4221/a"), found("a", None));
        assert_eq!(get("http://[::1]"), found("", None));
    }

    #[test]
    fn what_clients_do_not_escape_is_taken_as_its_escapes() {
        assert_eq!(get("/a/[|]^{}`é"), found("a", Some("[|]^{}`é")));
        assert_eq!(get("/a/b;c=d@e:f!$&'()*+,?<\"\\>"), found("a", Some("b;c=d@e:f!$&'()*+,")));
        for target in ["/\"", "/a<b", "/a>b", "/a\\b", "/%41\""] {
            assert_eq!(get(target), Err(400), "{target}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for target in [
            "echo",
            "ftp://localhost/",
            "localhost:4221",
            "",
            "*",
            "http://",
            "http:///a",
            "http://:80/",
            "http://user@localhost/",
            "http://a:99999/",
            "http://\"/",
        ] {
            assert_eq!(get(target), Err(400), "{target}");
        }
        assert_eq!(path("OPTIONS", "*"), found("*", None));
        assert_eq!(path("CONNECT", "localhost:443"), found("localhost:443", None));
        assert_eq!(path("CONNECT", "/echo/a"), Err(400));
    }

    #[test]
    fn a_redirect_stays_on_the_site() {
        for (path, query, expected) in [
            ("sub/", None, "/sub/"),
            ("sub/", Some("a=b?c/d"), "/sub/?a=b?c/d"),
            ("%2Fevil", None, "/%2Fevil"),
            ("é[1]/", Some("{\"a\"}"), "/%C3%A9%5B1%5D/?%7B%22a%22%7D"),
            ("a%20b/", Some(""), "/a%20b/?"),
        ] {
            assert_eq!(location(path, query), expected, "{path}");
        }
    }

    #[test]
    fn a_url_names_an_authority_and_that_a_host() {
        for (target, authority) in [
            ("/a", None),
            ("//a/b", None),
            ("*", None),
            ("http://a", Some("a")),
            ("HTTPS://a:1/b?c", Some("a:1")),
            ("https://a?b/c", Some("a")),
        ] {
            assert_eq!(authority_of(target), authority, "{target}");
        }
        for (authority, host) in [
            ("a", "a"),
            ("a:80", "a"),
            ("[::1]", "::1"),
            ("[::1]:80", "::1"),
            ("1.2.3.4:5", "1.2.3.4"),
        ] {
            assert_eq!(host_of(authority), host);
        }
        assert!(Target::parse("GET", "https://a/b").is_err(), "nobody has spoken TLS");
        let target = Target::parse_with(HTTP_AND_HTTPS, "GET", "HTTPS://a/b").expect("it is known");
        assert_eq!(target.path().raw(), "b");
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in ["a", "a.b-c", "127.0.0.1:80", "[::1]", "[::1]:80", "a:", "%41", "x_y"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:+80", "a:65536", "a:b", "a:b:80", "[", "[]", "a[b]", "[a]", "::1", "%zz",
            "a%", "a b", "a/b", "u@a", "a,b#", "\u{e9}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_being_escaped(text in ".*") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let target = format!("/echo/{escaped}");
            prop_assert_eq!(get(&target), Ok(("echo".to_owned(), Some(text))));
        }

        #[test]
        fn no_target_makes_it_panic(target in ".*") {
            for method in ["GET", "CONNECT", "OPTIONS"] {
                if let Ok(target) = Target::parse(method, &target) {
                    let _ = target.rest().map(|rest| (rest.decode(), rest.file_name()));
                }
            }
        }
    }
}
