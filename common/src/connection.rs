//! A connection that serves more than one request (stage 10's lasting form).

use std::io;

use crate::head::Version;
use crate::{Buffer, Client, Request, Response, next_request, respond};

/// The most bytes of an unread body that are skipped to save the connection: 64 KiB. Whoever has
/// more to come is sooner back with a new connection.
pub const MAX_SKIPPED: u64 = 64 * 1024;

/// Answers the requests of a client one after another, each with what `route` makes of it, until
/// one of the two wants no more.
///
/// A client that leaves between two requests, or says nothing for
/// [`TIMEOUT`](crate::TIMEOUT), is no failure and leaves no trace in the log. Meanwhile its
/// connection holds no more memory than a small buffer.
pub fn answer_all(client: &Client, route: impl Fn(&Request) -> Response) {
    let mut buffer = Buffer::new();
    loop {
        buffer.give_back();
        if buffer.is_empty() && buffer.fill(client).is_err() {
            return;
        }
        let answered =
            next_request(client, &mut buffer, |request, _| answer(request, route(request)));
        if answered != Some(Next::MayCome) {
            return;
        }
    }
}

/// What comes after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another request on the same connection.
    MayCome,
    /// The end of the connection.
    End,
}

fn answer(request: &Request, response: Response) -> io::Result<Next> {
    let unread = request.unread().filter(|&bytes| bytes <= MAX_SKIPPED);
    if unread.is_none() || response.is_refusal() || !client_goes_on(request) {
        respond(request, response.header("Connection", "close"))?;
        return Ok(Next::End);
    }
    respond(request, response.header("Connection", "keep-alive"))?;
    if let Ok(mut body) = request.body() {
        io::copy(&mut body, &mut io::sink())?;
    }
    Ok(Next::MayCome)
}

/// Whether the client may send another request on this connection (RFC 9112, section 9.3).
fn client_goes_on(request: &Request) -> bool {
    let says = |wanted: &str| {
        request.headers().list("Connection").any(|option| option.eq_ignore_ascii_case(wanted))
    };
    !says("close") && (request.version() == Version::Http11 || says("keep-alive"))
}
