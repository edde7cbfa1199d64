//! One request, one response, one line in the log (stage 4's lasting form).

use std::io;

use crate::Client;
use crate::request::{Request, with_request};
use crate::response::Response;

/// Reads one request from `client` and answers it with what `route` makes of it.
///
/// A request that is not valid is refused without asking `route`. Each request becomes a line on
/// stderr, and so does each failure.
pub fn answer(client: &Client, route: impl FnOnce(&Request) -> Response) {
    with_request(client, |request, _| respond(request, route(request)));
}

/// Writes a response to the client of `request`, and a line about both to stderr.
///
/// # Errors
///
/// As [`Response::write_to`].
pub fn respond(request: &Request, response: Response) -> io::Result<()> {
    let client = request.client();
    if !client.is_quiet() || response.is_error() {
        client.log(format_args!("{:?} {}", request.line(), response.summary()));
    }
    if request.method() == "HEAD" {
        response.write_head_for(request.version(), client)
    } else {
        response.write_for(request.version(), client)
    }
}
