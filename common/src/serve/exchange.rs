//! One request, one response, one line in the log (stage 3's lasting form, and what later ones add).

use std::io;

use crate::message::body::MAX_BODY;
use crate::message::head::{HeadParser, Version};
use crate::message::refused::Refused;
use crate::message::response::{Recipient, Response};
use crate::message::stream::Stream;
use crate::protocol::buffer::Buffer;
use crate::protocol::persistence::{self, Then};
use crate::protocol::request::{Request, Rules, interpret};
use crate::serve::access_log::{FirstLine, Quoted};
use crate::transport::client::Client;

/// Reads one request from `client` and answers it with what `route` makes of it. From stage 4.
///
/// A request that is not valid is refused without asking `route`. Each request becomes a line on
/// stderr, and so does each failure.
pub fn answer(client: &Client, route: impl FnOnce(&Request) -> io::Result<Response>) {
    with_request(client, |request, client| {
        respond(client, request, route(request).unwrap_or_else(Response::failed))
    });
}

/// Reads one request from `client` and lets `answer` answer it; what that refuses is answered with the
/// refusal. For a client that is given up after that: see [`next_request`] for one that may ask more.
pub fn with_request(client: &Client, answer: impl FnOnce(&Request, &Client) -> io::Result<()>) {
    next_request(client, &mut Buffer::new(), |request| {
        match answer(request, client) {
            Err(error) if Refused::inside(&error).is_some() => {
                respond(client, request, Response::failed(error))
            }
            answered => answered,
        }
        .map(|()| Then::Close)
    });
}

/// Reads the next request from `client` and lets `answer` answer it. Returns what `answer` says about
/// the connection, and [`Then::Close`] if that is of no more use.
///
/// `buffer` holds what has been read already, and afterwards what has been read too much: the
/// beginning of the request after this one. A body that `answer` does not read stays there, too.
///
/// A request that is not valid gets a response with the status of its refusal and never reaches
/// `answer`. Whatever goes wrong becomes a line on stderr.
pub fn next_request(
    client: &Client,
    buffer: &mut Buffer,
    answer: impl FnOnce(&Request) -> io::Result<Then>,
) -> Then {
    match read_request(&mut { client }, buffer, answer) {
        Ok(Ok(then)) => return then,
        Ok(Err(error)) => client.log(error),
        Err(error) => match Refused::inside(&error) {
            // A client that says nothing has asked nothing.
            Some(refused) if refused.status != 408 => {
                refuse(client, buffer.bytes(), Response::refused(refused));
            }
            _ => client.log(error),
        },
    }
    Then::Close
}

/// Reads from `stream` into `buffer` until the head of a request is there. From stage 10.
///
/// # Errors
///
/// A [`Refused`] when what comes is no valid head, and what reading gives.
pub fn fill_head(stream: &mut dyn Stream, buffer: &mut Buffer) -> io::Result<()> {
    parse_head(stream, buffer).map(drop)
}

fn parse_head(stream: &mut dyn Stream, buffer: &mut Buffer) -> io::Result<(HeadParser, usize)> {
    let mut parser = HeadParser::new();
    loop {
        match parser.advance(buffer.bytes())? {
            Some(length) => return Ok((parser, length)),
            None => buffer.fill(&mut *stream)?,
        }
    }
}

/// Reads from `stream` until a request is there, and calls `answer` with it. Returns what that returns.
/// `buffer` is used as in [`next_request`]. From stage 10.
///
/// # Errors
///
/// A [`Refused`] when what comes is no valid request, and what reading gives.
pub fn read_request<T>(
    stream: &mut dyn Stream,
    buffer: &mut Buffer,
    answer: impl FnOnce(&Request) -> T,
) -> io::Result<T> {
    let (parser, length) = parse_head(stream, buffer)?;
    // A head that is refused stays in the buffer, for the log.
    interpret(&parser.head(buffer.bytes()), Rules::Sound)?;
    let (bytes, window) = buffer.split(length);
    let head = parser.head(bytes);
    let meaning = interpret(&head, Rules::Sound)?;
    Ok(answer(&Request::new(head, meaning, window, stream, MAX_BODY)))
}

/// Writes a response to the client of `request`, and a line about both to stderr. The response says
/// `Connection: close` unless it has another `Connection`. From stage 4.
///
/// # Errors
///
/// When the client left or takes nothing, and when the response fails after its beginning has been
/// written.
pub fn respond(mut client: &Client, request: &Request, response: Response) -> io::Result<()> {
    let response = response.sound();
    client.log(format_args!("{} {}", Quoted(request.line()), response.summary()));
    response.write_to(request.recipient(), Then::Close.option(), &mut client)
}

/// Writes a response as [`respond`] does, and makes the connection ready for the next request, if RFC 9112,
/// section 9.3, allows one: see [`crate::answer_all`]. Returns whether it does; the response says so,
/// too. From stage 10.
///
/// # Errors
///
/// As [`respond`], and when the rest of the request's body does not come.
pub fn conclude(client: &Client, request: &Request, response: Response) -> io::Result<Then> {
    let then = persistence::after(request, &response);
    respond(client, request, response.header("Connection", then.option()))?;
    if then == Then::KeepOpen {
        request.skip_body()?;
    }
    Ok(then)
}

/// Answers a client whose request is refused before it is one, and writes a line about that to
/// stderr. `received` is what the client has sent. From stage 11.
pub fn refuse(mut client: &Client, received: &[u8], response: Response) {
    let wants_head_only = received.trim_ascii_start().starts_with(b"HEAD ");
    let recipient = Recipient { version: Version::Http11, wants_head_only };
    client.log(format_args!("{} {}", FirstLine(received), response.summary()));
    if let Err(error) = response.write_to(recipient, Then::Close.option(), &mut client) {
        client.log(error);
    }
}
