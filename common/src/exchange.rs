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
    let (client, version) = (request.client(), request.version());
    let is_logged = !client.is_quiet() || response.is_error();
    let summary = is_logged.then(|| response.summary());
    let written = if request.method() == "HEAD" {
        response.write_head_for(version, client)
    } else {
        response.write_for(version, client)
    };
    // Afterwards: whoever reads the log may be slow, and the client should not wait for that.
    if let Some(summary) = summary {
        let line = request.line();
        client.log(format_args!("{:?} {summary}", &line[..line.len().min(LOGGED)]));
    }
    written
}

/// The most bytes of a request line that go to the log.
const LOGGED: usize = 500;
