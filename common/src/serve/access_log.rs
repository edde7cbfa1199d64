//! What the log says about each request (stage 4's lasting form).

use std::fmt;
use std::net::SocketAddr;

use crate::message::refused::Refused;
use crate::message::response::Response;
use crate::protocol::connection::Handler;
use crate::protocol::request::Request;
use crate::serve::log::log;

/// A handler that writes a line about each answer to stderr. If it is quiet, it writes lines about
/// errors only.
pub(crate) struct Logged<F> {
    pub(crate) peer: SocketAddr,
    pub(crate) is_quiet: bool,
    pub(crate) answer: F,
}

impl<F: Fn(Result<&Request, Refused>) -> Response> Handler for Logged<F> {
    fn answer(&self, request: &Request) -> Response {
        let response = (self.answer)(Ok(request)).or_500();
        if !self.is_quiet || response.status() >= 400 {
            let line = Quoted(request.line());
            log(format_args!("{} {line} {}", self.peer, response.summary()));
        }
        response
    }

    fn refuse(&self, refused: Refused, received: &[u8]) -> Response {
        let response = (self.answer)(Err(refused)).or_500();
        let line = FirstLine(received);
        log(format_args!("{} {line} {}", self.peer, response.summary()));
        response
    }
}

/// The most bytes of a request line that are logged.
const LOGGED: usize = 500;

/// The beginning of a request line, in quotes. Characters that could end the quotes are escaped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut most = self.0.len().min(LOGGED);
        while !self.0.is_char_boundary(most) {
            most -= 1;
        }
        let line = &self.0[..most];
        let is_plain = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if line.bytes().all(is_plain) {
            write!(f, "\"{line}\"") // the same as the other arm, but faster
        } else {
            write!(f, "{line:?}")
        }
    }
}

/// The first line that a client sent, in quotes. It may contain any bytes, so it is made safe to
/// print.
pub(crate) struct FirstLine<'a>(pub(crate) &'a [u8]);

impl fmt::Display for FirstLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut lines = self.0.split(|byte| b"\r\n".contains(byte));
        let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
        write!(f, "\"{}\"", line[..line.len().min(LOGGED)].escape_ascii())
    }
}
