//! The request target: which resource a request is for (stage 3's lasting form).

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
pub fn path(method: &str, target: &str) -> Result<String, Refused> {
    let without_query = target.split('?').next().unwrap_or_default();
    if without_query.starts_with('/') {
        return decode(without_query);
    }
    if method == "OPTIONS" && target == "*" {
        return Ok("*".to_owned());
    }
    let (scheme, rest) = without_query.split_once("://").ok_or(NO_PATH)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !scheme.eq_ignore_ascii_case("http") || !is_authority(authority.as_bytes()) {
        return Err(NO_PATH);
    }
    if path.is_empty() { Ok("/".to_owned()) } else { decode(path) }
}

const NO_PATH: Refused = bad_request("the request target is neither a path nor an http:// URL");

/// Whether a text may be `uri-host [ ":" port ]` (RFC 9110, section 4.2.1), as in a `Host`: not
/// empty, and without the user's name and password that older URLs had before an `@`.
pub fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok());
    is_host(host) && is_port
}

/// `host = IP-literal / IPv4address / reg-name`, but not empty (RFC 3986, section 3.2.2). The literal
/// is an IPv6 address in brackets; those of later versions, which do not exist, are refused.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_allowed = |byte: u8| is_pchar(byte) && !b":@".contains(&byte);
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default();
    !text.is_empty()
        && first.bytes().all(is_allowed)
        && parts.all(|part| {
            escape(part.as_bytes()).is_some_and(|(_, rest)| rest.iter().copied().all(is_allowed))
        })
}

/// `pchar = unreserved / pct-encoded / sub-delims / ":" / "@"` (RFC 3986, section 3.3), the escapes
/// aside.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Replaces each percent-escape by the byte that it stands for (RFC 3986, section 2.1).
fn decode(path: &str) -> Result<String, Refused> {
    if !path.bytes().all(|byte| is_pchar(byte) || b"/%".contains(&byte)) {
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
    String::from_utf8(decoded).map_err(|_| bad_request("the decoded path is not UTF-8"))
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
        assert_eq!(path("GET", "/echo/a?b=c"), Ok("/echo/a".to_owned()));
        assert_eq!(path("GET", "/?"), Ok("/".to_owned()));
        assert_eq!(path("GET", "/?a=%zz"), Ok("/".to_owned()));
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(path("GET", "/echo/caf%C3%A9"), Ok("/echo/café".to_owned()));
        assert_eq!(path("GET", "/%2e%2E%2f"), Ok("/../".to_owned()));
        assert_eq!(path("GET", "/%252e"), Ok("/%2e".to_owned()));
        assert_eq!(path("GET", "/%3F"), Ok("/?".to_owned()));
    }

    #[test]
    fn bad_escapes_are_refused() {
        for target in ["/%", "/%4", "/%zz", "/%4g", "/%+4", "/100%", "/%%41", "/%ff"] {
            assert_eq!(path("GET", target).map_err(|refused| refused.status), Err(400), "{target}");
        }
    }

    #[test]
    fn a_url_is_taken_by_its_path() {
        assert_eq!(path("GET", "http://localhost:4221/echo/a?b"), Ok("/echo/a".to_owned()));
        assert_eq!(path("GET", "HTTP://localhost"), Ok("/".to_owned()));
        assert_eq!(path("GET", "http://localhost?a/b"), Ok("/".to_owned()));
        assert_eq!(path("GET", "http://[::1]:4221/a"), Ok("/a".to_owned()));
        assert_eq!(path("GET", "http://[::1]"), Ok("/".to_owned()));
    }

    #[test]
    fn what_a_path_cannot_contain_must_be_escaped() {
        for target in ["/\"", "/a|b", "/{a}", "/a[0]", "/a\\b", "/^", "/`", "/<"] {
            assert_eq!(path("GET", target).map_err(|refused| refused.status), Err(400), "{target}");
        }
        assert_eq!(path("GET", "/a;b=c@d:e!$&'()*+,?{}[]|"), Ok("/a;b=c@d:e!$&'()*+,".to_owned()));
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
        assert_eq!(path("OPTIONS", "*"), Ok("*".to_owned()));
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
            prop_assert_eq!(path("GET", &format!("/{escaped}")), Ok(format!("/{text}")));
        }

        #[test]
        fn no_target_makes_it_panic(target in ".*") {
            let _ = path("GET", &target);
        }
    }
}
