//! Whether the pages of other sites may read answers (stage 18's lasting form).

use std::io;

use crate::message::response::Response;
use crate::message::target::is_authority;
use crate::protocol::request::Request;

/// The fields that a script may send. Some others are always allowed.
const ALLOWED: &str = "Content-Type, If-Match, If-None-Match, Authorization, Last-Event-ID, Range";

/// The fields that a script may read. Some others can always be read.
const EXPOSED: &str = "ETag, Location, Link, Retry-After, X-Request-Id";

/// For how many seconds a browser may use the answer to a preflight again.
const MAX_AGE: &str = "600";

/// Which other sites have access (CORS: Fetch Standard, section 3.3).
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    /// The origins that are allowed; `*` stands for all.
    origins: Vec<String>,
    allows_credentials: bool,
}

impl Cors {
    /// Allows the pages of these origins to read answers; with credentials, also those that depend on the user.
    ///
    /// # Errors
    ///
    /// When every page would be allowed to act for its reader.
    pub(crate) fn new(origins: Vec<String>, allows_credentials: bool) -> io::Result<Cors> {
        if allows_credentials && origins.iter().any(|origin| origin == "*") {
            let sentence = "--allow-credentials and --allow-origin '*' would let every page act for its reader; \
                            name the origins";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        Ok(Cors { origins, allows_credentials })
    }

    /// Allows the pages of one more origin to read answers.
    ///
    /// # Errors
    ///
    /// As [`origin`].
    pub(crate) fn allow(&mut self, text: &str) -> Result<(), String> {
        self.origins.push(origin(text)?);
        Ok(())
    }

    /// Adds what the browser wants to know to the answer of `next`. Answers a preflight itself: it has no credentials,
    /// so no login would let it pass. `allowed` returns the methods of the path.
    pub(crate) fn answer(
        &self,
        request: &Request,
        allowed: impl FnOnce() -> Option<String>,
        next: impl FnOnce() -> Response,
    ) -> Response {
        if self.origins.is_empty() {
            return next();
        }
        let origin = request.headers().only("Origin").unwrap_or_default();
        let found = self.origins.iter().find(|it| *it == "*" || it.as_bytes() == origin);
        let response = match is_preflight(request) {
            true => preflight(found.and_then(|_| allowed())),
            false => next(),
        };
        let is_open = self.origins.iter().all(|it| it == "*");
        let response = if is_open { response } else { response.header("Vary", "Origin") };
        let Some(found) = found else { return response };
        let response = response.header("Access-Control-Allow-Origin", found.clone());
        let response = response.header("Access-Control-Expose-Headers", EXPOSED);
        match self.allows_credentials {
            true => response.header("Access-Control-Allow-Credentials", "true"),
            false => response,
        }
    }
}

/// Whether a browser asks whether a page may send a request (Fetch Standard, section 3.3.2).
pub(crate) fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS"
        && request.header("Origin").is_some()
        && request.header("Access-Control-Request-Method").is_some()
}

fn preflight(methods: Option<String>) -> Response {
    let vary = "Access-Control-Request-Method, Access-Control-Request-Headers";
    let response = Response::new(204).header("Vary", vary);
    match methods {
        None => response,
        Some(methods) => response
            .header("Access-Control-Allow-Methods", methods)
            .header("Access-Control-Allow-Headers", ALLOWED)
            .header("Access-Control-Max-Age", MAX_AGE),
    }
}

/// Returns an origin as browsers write it: a scheme, a host, and a port that is not the usual one (RFC 6454, section
/// 6.2); or `*`.
///
/// # Errors
///
/// A sentence for whoever has written something else.
pub(crate) fn origin(text: &str) -> Result<String, String> {
    let host = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_origin = host.is_some_and(|host| is_authority(host.as_bytes()) && !host.ends_with(':'));
    let is_lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if text == "*" || is_origin && is_lower_case {
        return Ok(text.to_owned());
    }
    Err("write it as browsers do, such as https://example.com or http://localhost:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for right in ["*", "http://a.example", "https://a.example:8443", "http://[::1]:80"] {
            assert_eq!(origin(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "null",
            "a.example",
            "http://",
            "http://a/",
            "http://A.example",
            "ftp://a",
            "http://a:",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
