//! The port without TLS, and how clients are kept from it.

use std::io;
use std::net::IpAddr;

use common::{Request, Response, Site};

/// What is answered on a port without TLS: everybody is sent to the other one.
pub struct Plain {
    /// Where they are sent.
    host: String,
    /// The files for those who want to know whether this server has the name that it says (RFC 8555, section 8.3).
    challenges: Site,
}

impl Plain {
    /// Sends clients to this host, which may have a port. It is never the host that they ask for: that would be a
    /// redirect to wherever somebody else wants.
    pub fn new(host: impl Into<String>, challenges: Site) -> Plain {
        Plain { host: host.into(), challenges }
    }

    /// Answers a request with 308, or with the file of a challenge.
    ///
    /// # Errors
    ///
    /// When the file of a challenge cannot be read.
    pub fn answer(&self, request: &Request) -> io::Result<Response> {
        if request.full_path().raw().starts_with(".well-known/acme-challenge/") {
            return self.challenges.answer(request);
        }
        let location = format!("https://{}{}", self.host, request.relative_url());
        Ok(Response::new(308).header("Location", location))
    }
}

/// Tells a browser that it should not come to this host without TLS for this time, in seconds (RFC 6797). Not for
/// `localhost` and for addresses, which others share.
pub fn strict(request: &Request, response: Response, seconds: u32) -> Response {
    match request.host() {
        Some(host) if is_name(host) => {
            response.header("Strict-Transport-Security", format!("max-age={seconds}"))
        }
        _ => response,
    }
}

/// Whether a host is a name that belongs to somebody.
fn is_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let last = host.rsplit('.').next().unwrap_or_default();
    !last.eq_ignore_ascii_case("localhost") && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_hosts_belong_to_nobody() {
        for host in ["localhost", "LOCALHOST.", "x.localhost", "127.0.0.1", "127.0.0.1.", "::1"] {
            assert!(!is_name(host), "{host}");
        }
        for host in ["example.org", "example.org.", "a", "localhost.example"] {
            assert!(is_name(host), "{host}");
        }
    }
}
