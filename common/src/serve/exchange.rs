//! One request, one response, one line in the log (stage 3's lasting form, with additions from later
//! stages).

use std::io;

use crate::message::body::MAX_BODY;
use crate::message::head::{HeadParser, Version};
use crate::message::refused::Refused;
use crate::message::response::{Recipient, Response};
use crate::message::stream::Stream;
use crate::message::target::HTTP;
use crate::protocol::buffer::Buffer;
use crate::protocol::persistence::{self, Then};
use crate::protocol::request::{Message, Request, Rules, interpret};
use crate::serve::access_log::{FirstLine, Quoted};
use crate::transport::client::Client;

/// Reads one request from `client` and answers it with the response of `route`. From stage 4.
///
/// A request that is not valid is refused without calling `route`. Each request and each failure is logged
/// as a line on stderr.
pub fn answer(client: &Client, route: impl FnOnce(&Request) -> io::Result<Response>) {
    with_request(client, |request, client| {
        respond(client, request, route(request).unwrap_or_else(Response::failed))
    });
}

/// Reads one request from `client` and lets `answer` answer it. If `answer` returns a [`Refused`] as its
/// error, the client gets that refusal as the response. The connection is not used any further: see
/// [`next_request`] for a client that may send more requests.
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

/// Reads the next request from `client` and lets `answer` answer it. Returns the decision of `answer`
/// about the connection, or [`Then::Close`] after a refusal or a failure.
///
/// `buffer` holds the bytes that have been read already. Afterwards, it holds the bytes that were read
/// beyond this request: the beginning of the next one. Bytes of the body that `answer` does not read stay
/// there as well.
///
/// A request that is not valid gets a response with the status of its refusal, and never reaches `answer`.
/// Each failure is logged as a line on stderr.
pub fn next_request(
    client: &Client,
    buffer: &mut Buffer,
    answer: impl FnOnce(&Request) -> io::Result<Then>,
) -> Then {
    match read_request(&mut { client }, buffer, answer) {
        Ok(Ok(then)) => return then,
        Ok(Err(error)) => client.log(error),
        Err(error) => match Refused::inside(&error) {
            // A client that stops sending has not sent a whole request, and gets no response.
            Some(refused) if refused.status != 408 => {
                refuse(client, buffer.bytes(), Response::refused(refused));
            }
            _ => client.log(error),
        },
    }
    Then::Close
}

/// Reads from `stream` into `buffer` until the head of a request is complete. From stage 10.
///
/// # Errors
///
/// A [`Refused`] when the head is not valid; otherwise the error of reading.
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

/// Reads from `stream` until the head of a request is complete, and calls `answer` with the request.
/// Returns what `answer` returns. `buffer` is used as in [`next_request`]. From stage 10.
///
/// # Errors
///
/// A [`Refused`] when the request is not valid; otherwise the error of reading.
pub fn read_request<T>(
    stream: &mut dyn Stream,
    buffer: &mut Buffer,
    answer: impl FnOnce(&Request) -> T,
) -> io::Result<T> {
    let (parser, length) = parse_head(stream, buffer)?;
    // A head that is refused stays in the buffer, for the log.
    interpret(&parser.head(buffer.bytes()), Rules::Sound, HTTP)?;
    let (bytes, window) = buffer.split(length);
    let head = parser.head(bytes);
    let meaning = interpret(&head, Rules::Sound, HTTP)?;
    let message = Message::new(head, meaning, Rules::Sound, window, stream, MAX_BODY);
    Ok(answer(&message.request()))
}

/// Writes a response to the client of `request`, and a line about both to stderr. The response says
/// `Connection: close` unless it sets another `Connection`. From stage 4.
///
/// # Errors
///
/// When the client has left, when a write times out, and when the response fails after its beginning has
/// been written.
pub fn respond(mut client: &Client, request: &Request, response: Response) -> io::Result<()> {
    let response = response.or_500();
    client.log(format_args!("{} {}", Quoted(request.line()), response.summary()));
    response.write_to(request.recipient(), Then::Close.option(), &mut client)
}

/// Writes a response as [`respond`] does. If another request may follow (RFC 9112, section 9.3; see
/// [`crate::answer_all`]), makes the connection ready for it. Returns whether one may follow, which the
/// response says as well. From stage 10.
///
/// # Errors
///
/// As [`respond`], and when the rest of the request's body does not arrive.
pub fn conclude(client: &Client, request: &Request, response: Response) -> io::Result<Then> {
    let then = persistence::after(request, &response);
    respond(client, request, response.header("Connection", then.option()))?;
    if then == Then::KeepOpen {
        request.skip_body()?;
    }
    Ok(then)
}

/// Answers a client whose bytes are refused before they form a request, and writes a line about that to
/// stderr. `received` is what the client has sent. From stage 11.
pub fn refuse(mut client: &Client, received: &[u8], response: Response) {
    let wants_head_only = received.trim_ascii_start().starts_with(b"HEAD ");
    let recipient = Recipient { version: Version::Http11, wants_head_only };
    client.log(format_args!("{} {}", FirstLine(received), response.summary()));
    if let Err(error) = response.write_to(recipient, Then::Close.option(), &mut client) {
        client.log(error);
    }
}
