//! The rules that a request must follow to reach a handler (stage 11's lasting form).

use crate::message::body::{Framing, TOO_LARGE};
use crate::message::coding::is_gzip;
use crate::message::head::{Head, Version};
use crate::message::headers::Known;
use crate::message::refused::{Refused, bad_request};
use crate::message::target::is_authority;
use crate::protocol::filter::Authority;
use crate::protocol::request::{Request, Rules, host};

/// Refuses a request that breaks a rule of the protocol, or asks for something that this server does not
/// do, whatever the resource.
///
/// # Errors
///
/// 400 unless there is exactly one valid `Host`, which HTTP/1.0 may omit (RFC 9112, section 3.2); 501
/// for a method that this server does not know; 417 for an expectation other than `100-continue`. For a
/// `POST` also 400 for a `Content-Range`, which would store a part as if it were the whole (RFC 9110,
/// section 14.5), and 415 for a `Content-Encoding` other than `identity`, which this server does not
/// decode.
pub fn check(request: &Request) -> Result<(), Refused> {
    check_rest(request.head(), Rules::All)
}

/// Refuses what [`check`] refuses, and a body with a length above `max_body`, with 413. A body may be compressed if
/// these rules allow it.
pub(crate) fn check_all(
    head: &Head,
    framing: Framing,
    rules: Rules,
    max_body: u64,
) -> Result<(), Refused> {
    check_rest(head, rules)?;
    match framing {
        Framing::Length(length) if length > max_body => Err(TOO_LARGE),
        _ => Ok(()),
    }
}

/// Refuses a request for somebody else than whom the server has shown to be on this connection (RFC 9110, section
/// 7.4).
pub(crate) fn check_authority(head: &Head, authority: &dyn Authority) -> Result<(), Refused> {
    match host(head) {
        Some(host) if !authority.covers(host) => Err(MISDIRECTED),
        _ => Ok(()),
    }
}

const MISDIRECTED: Refused =
    Refused { status: 421, why: "the certificate of this connection is not for this host" };

fn check_rest(head: &Head, rules: Rules) -> Result<(), Refused> {
    check_host(head)?;
    if !is_method(head.method) {
        return Err(Refused { status: 501, why: "this server does not know the method" });
    }
    let mut expectations = head.headers.known_list(Known::Expect);
    if expectations.any(|it| !it.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refused { status: 417, why: "100-continue is all that can be expected here" });
    }
    if matches!(head.method, "POST" | "PUT" | "PATCH") {
        check_content(head, rules)
    } else {
        Ok(())
    }
}

/// Refuses a body that is a part of something, or is encoded.
fn check_content(head: &Head, rules: Rules) -> Result<(), Refused> {
    if head.headers.get("Content-Range").is_some() {
        return Err(bad_request("the body is a part of something, and this server takes wholes"));
    }
    let mut codings = head.headers.list("Content-Encoding");
    let mut codings = codings.by_ref().filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if rules == Rules::Packed && is_gzip(coding) => Ok(()),
        _ if rules == Rules::Packed => Err(UNKNOWN_CODING),
        _ => Err(Refused { status: 415, why: "this server does not decode a Content-Encoding" }),
    }
}

/// The refusal of a content coding by a server that knows another one, gzip.
pub(crate) const UNKNOWN_CODING: Refused =
    Refused { status: 415, why: "only gzip is decoded here" };

/// Whether this is a method of RFC 9110, section 9, or of RFC 5789. `CONNECT` is not among them: it is
/// for proxies.
fn is_method(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "TRACE" | "PATCH")
}

fn check_host(head: &Head) -> Result<(), Refused> {
    let mut hosts = head.headers.known(Known::Host);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host) => Ok(()),
        (Some(_), None) => {
            Err(bad_request("the Host is not a name or an address, with or without a port"))
        }
        (Some(_), Some(_)) => Err(bad_request("the request has more than one Host")),
        (None, _) if head.version == Version::Http10 => Ok(()),
        (None, _) => Err(bad_request("the request has no Host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::HeadParser;

    #[test]
    fn what_is_wrong_whatever_the_resource() {
        for (lines, status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n", 200),
            ("GET / HTTP/1.0\r\n", 200),
            ("GET / HTTP/1.1\r\n", 400),
            ("GET / HTTP/1.1\r\nHost:\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n", 400),
            ("GET / HTTP/1.0\r\nHost: a b\r\n", 400),
            ("BREW / HTTP/1.1\r\nHost: a\r\n", 501),
            ("get / HTTP/1.1\r\nHost: a\r\n", 501),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n", 501),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, tea\r\n", 417),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n", 415),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: Identity\r\n", 200),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Range: bytes 0-1/2\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n", 200),
        ] {
            let bytes = format!("{lines}\r\n");
            let mut parser = HeadParser::new();
            parser.advance(bytes.as_bytes()).expect("valid").expect("complete");
            let outcome = check_rest(&parser.head(bytes.as_bytes()), Rules::All);
            assert_eq!(outcome.map_or_else(|it| it.status, |()| 200), status, "{lines}");
        }
    }

    #[test]
    fn one_coding_is_known_where_bodies_are_unpacked() {
        for (value, expected) in [
            ("gzip", Ok(())),
            ("X-GZIP", Ok(())),
            ("identity", Ok(())),
            ("identity, gzip", Ok(())),
            ("gzip, gzip", Err(UNKNOWN_CODING)),
            ("br", Err(UNKNOWN_CODING)),
            ("gzip, br", Err(UNKNOWN_CODING)),
        ] {
            let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Encoding: {value}\r\n\r\n");
            let mut parser = HeadParser::new();
            parser.advance(head.as_bytes()).expect("valid").expect("complete");
            let outcome = check_rest(&parser.head(head.as_bytes()), Rules::Packed);
            assert_eq!(outcome, expected, "{value}");
        }
    }

    #[test]
    fn an_expectation_that_is_no_text_is_one_that_cannot_be_met() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nExpect: \xff\r\n\r\n";
        let mut parser = HeadParser::new();
        parser.advance(bytes).expect("valid").expect("complete");
        assert_eq!(check_rest(&parser.head(bytes), Rules::All).map_err(|it| it.status), Err(417));
    }
}
