//! The request target: which resource a request is for (stage 3's lasting form).

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::refused::{Refused, bad_request};

/// The decoded path of a target, without its query: `/echo/a%20b?c=d` becomes `/echo/a b`.
///
/// Takes the two forms that name a resource (RFC 9112, section 3.2): the origin form, a path, and
/// the absolute form, `http://host/path`. The asterisk form, `*`, is taken from `OPTIONS` only, and
/// handed on as it is.
///
/// # Errors
///
/// 400 when the target has none of these forms, when its path has a character that must be
/// escaped, when a `%` is not followed by two hexadecimal digits, and when the decoded path is not
/// UTF-8. The query is not looked at.
pub fn path<'a>(method: &str, target: &'a str) -> Result<Cow<'a, str>, Refused> {
    let without_query = target.split('?').next().unwrap_or_default();
    if without_query.starts_with('/') {
        return decode(without_query);
    }
    if method == "OPTIONS" && target == "*" {
        return Ok("*".into());
    }
    let (scheme, rest) = without_query.split_once("://").ok_or(NO_PATH)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !scheme.eq_ignore_ascii_case("http") || !is_authority(authority.as_bytes()) {
        return Err(NO_PATH);
    }
    if path.is_empty() { Ok("/".into()) } else { decode(path) }
}

const NO_PATH: Refused = bad_request("the request target is neither a path nor an http:// URL");

/// Whether a text may be `uri-host [ ":" port ]` (RFC 9110, section 4.2.1), as in a `Host`: not
/// empty, and without the user's name and password that older URLs had before an `@`.
pub fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !text.ends_with(b"]") => (&text[..colon], &text[colon + 1..]),
        _ => (text, &[][..]),
    };
    is_host(host) && (port.is_empty() || is_port(port))
}

fn is_port(text: &[u8]) -> bool {
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    text.iter().all(u8::is_ascii_digit) && std::str::from_utf8(text).is_ok_and(is_number)
}

/// `host = IP-literal / IPv4address / reg-name`, but not empty (RFC 3986, section 3.2.2). The literal
/// is an IPv6 address in brackets; those of later versions, which do not exist, are refused.
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

/// `pchar = unreserved / pct-encoded / sub-delims / ":" / "@"` (RFC 3986, section 3.3), the escapes
/// aside.
fn is_pchar(byte: u8) -> bool {
    // unreserved, sub-delims, and two more
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        | b':' | b'@')
}

/// Replaces each percent-escape by the byte that it stands for (RFC 3986, section 2.1).
fn decode(path: &str) -> Result<Cow<'_, str>, Refused> {
    let is_plain = |byte: u8| is_pchar(byte) || byte == b'/';
    if path.bytes().all(is_plain) {
        return Ok(path.into());
    }
    if !path.bytes().all(|byte| is_plain(byte) || byte == b'%') {
        return Err(bad_request("the path has a character that must be escaped with %"));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (byte, rest) = escape(part.as_bytes())
            .ok_or(bad_request("a % in the path is not followed by two hexadecimal digits"))?;
        decoded.push(byte);
        decoded.extend_from_slice(rest);
    }
    let decoded = String::from_utf8(decoded);
    decoded.map(Cow::Owned).map_err(|_| bad_request("the decoded path is not UTF-8"))
}

/// Splits what follows a `%` into the byte of its two hexadecimal digits, and the rest.
fn escape(part: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = part.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn the_query_takes_no_part() {
        assert_eq!(path("GET", "/echo/a?b=c"), Ok("/echo/a".into()));
        assert_eq!(path("GET", "/?"), Ok("/".into()));
        assert_eq!(path("GET", "/?a=%zz"), Ok("/".into()));
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(path("GET", "/echo/caf%C3%A9"), Ok("/echo/café".into()));
        assert_eq!(path("GET", "/%2e%2E%2f"), Ok("/../".into()));
        assert_eq!(path("GET", "/%252e"), Ok("/%2e".into()));
        assert_eq!(path("GET", "/%3F"), Ok("/?".into()));
    }

    #[test]
    fn bad_escapes_are_refused() {
        for target in ["/%", "/%4", "/%zz", "/%4g", "/%+4", "/100%", "/%%41", "/%ff"] {
            assert_eq!(path("GET", target).map_err(|refused| refused.status), Err(400), "{target}");
        }
    }

    #[test]
    fn a_url_is_taken_by_its_path() {
        assert_eq!(path("GET", "http://localhost:4221/echo/a?b"), Ok("/echo/a".into()));
        assert_eq!(path("GET", "HTTP://localhost"), Ok("/".into()));
        assert_eq!(path("GET", "http://localhost?a/b"), Ok("/".into()));
        assert_eq!(path("GET", "http://[::1]:4221/a"), Ok("/a".into()));
        assert_eq!(path("GET", "http://[::1]"), Ok("/".into()));
    }

    #[test]
    fn what_a_path_cannot_contain_must_be_escaped() {
        for target in ["/\"", "/a|b", "/{a}", "/a[0]", "/a\\b", "/^", "/`", "/<"] {
            assert_eq!(path("GET", target).map_err(|refused| refused.status), Err(400), "{target}");
        }
        assert_eq!(path("GET", "/a;b=c@d:e!$&'()*+,?{}[]|"), Ok("/a;b=c@d:e!$&'()*+,".into()));
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
            assert_eq!(path("GET", target), Err(NO_PATH), "{target}");
        }
        assert_eq!(path("OPTIONS", "*"), Ok("*".into()));
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
            let target = format!("/{escaped}");
            prop_assert_eq!(path("GET", &target), Ok(format!("/{text}").into()));
        }

        #[test]
        fn no_target_makes_it_panic(target in ".*") {
            let _ = path("GET", &target);
        }
    }
}
