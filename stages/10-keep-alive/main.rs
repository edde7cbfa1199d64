//! Stage 10: many requests on one connection. Chapter: docs/10-keep-alive.md

use std::io;
use std::process::ExitCode;

use common::{Buffer, Client, Directory, Request, Response, Rest, Then, Version};

/// How much of a body that no handler has read is skipped, for the sake of the connection.
const MAX_SKIPPED: u64 = 64 * 1024; // bytes

fn main() -> ExitCode {
    common::run_with_directory(|args| {
        let files = args.files();
        common::serve(args.listen()?, move |client| answer_all(client, &files))
    })
}

/// Answers one request after another, until either side wants no more.
fn answer_all(client: &Client, files: &Directory) {
    let mut buffer = Buffer::new(); // after a request, it may hold the beginning of the next
    let mut then = Then::KeepOpen;
    while then == Then::KeepOpen {
        if buffer.is_empty() && buffer.fill(client).is_err() {
            return; // the client has left, or has nothing to ask: it may do either
        }
        then = common::next_request(client, &mut buffer, |request| answer(request, client, files));
    }
}

/// Answers a request, and says what becomes of the connection.
fn answer(request: &Request, client: &Client, files: &Directory) -> io::Result<Then> {
    let response = route(request, files).unwrap_or_else(Response::failed);
    let can_be_skipped = request.unread().is_some_and(|bytes| bytes <= MAX_SKIPPED);
    let goes_on = can_be_skipped && client_goes_on(request);
    let then = if goes_on { Then::KeepOpen } else { Then::Close };
    common::respond(client, request, response.header("Connection", then.option()))?;
    if goes_on {
        if let Ok(mut body) = request.body() {
            io::copy(&mut body, &mut io::sink())?; // or its rest would be the next request
        }
    }
    Ok(then)
}

/// Whether the client may ask again: in HTTP/1.1 unless it says `close`, in HTTP/1.0 only if it says
/// `keep-alive`.
fn client_goes_on(request: &Request) -> bool {
    let options: Vec<_> = request.headers().list("Connection").collect();
    let says = |wanted: &[u8]| options.iter().any(|option| option.eq_ignore_ascii_case(wanted));
    !says(b"close") && (request.version() == Version::Http11 || says(b"keep-alive"))
}

fn route(request: &Request, files: &Directory) -> io::Result<Response> {
    Ok(match request.path() {
        ("", None) => Response::ok(),
        ("echo", Some(text)) => echo(request, text)?,
        ("user-agent", None) => user_agent(request),
        ("files", Some(name)) if request.method() == "POST" => store(request, files, name)?,
        ("files", Some(name)) => files.open(name).and_then(Response::file)?,
        _ => Response::not_found(),
    })
}

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn user_agent(request: &Request) -> Response {
    let found = request.header("User-Agent").unwrap_or_default();
    Response::text(found).header("Vary", "User-Agent")
}

fn echo(request: &Request, text: Rest) -> io::Result<Response> {
    Response::text(text.decode()?).compressed_for(request.headers())
}
