//! What becomes of a connection after a response (stage 10's lasting form).

use std::io;
use std::time::Duration;

use crate::head::Version;
use crate::{Request, Response, respond};

/// The most bytes of an unread body that are skipped to save the connection: 64 KiB. Whoever has
/// more to come is sooner back with a new connection.
pub const MAX_SKIPPED: u64 = 64 * 1024;

/// Writes a response, and makes the connection ready for the next request. Returns whether there
/// may be one.
///
/// The connection ends if the client wants that, or speaks HTTP/1.0 and does not ask for more, if
/// `is_last` says so, if the request was refused for breaking a rule, if nothing but its end tells
/// where the response ends, and if too much of the request's body is unread, or nobody knows how much:
/// it is in chunks, or may never come. The response says which.
///
/// # Errors
///
/// As [`respond`], and when the rest of the body does not come.
pub fn conclude(request: &Request, response: Response, is_last: bool) -> io::Result<bool> {
    let client_goes_on = client_goes_on(request);
    let can_be_skipped = request.unread().is_some_and(|bytes| bytes <= MAX_SKIPPED);
    if is_last || !client_goes_on || !can_be_skipped || response.is_last(request.version()) {
        // A client that says close has promised to be silent. It is not taken at its word after a body:
        // some send a line end there that does not belong to it.
        if !client_goes_on && request.version() == Version::Http11 && request.is_bare() {
            request.client().linger_no_longer_than(Duration::ZERO);
        }
        respond(request, response.header("Connection", "close"))?;
        return Ok(false);
    }
    respond(request, response.header("Connection", "keep-alive"))?;
    request.skip_body()?;
    Ok(true)
}

/// Whether the client may send another request on this connection (RFC 9112, section 9.3).
fn client_goes_on(request: &Request) -> bool {
    let says = |wanted: &str| {
        request.headers().list("Connection").any(|option| option.eq_ignore_ascii_case(wanted))
    };
    !says("close") && (request.version() == Version::Http11 || says("keep-alive"))
}
