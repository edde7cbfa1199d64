//! Stage 10: many requests on one connection. Chapter: docs/10-keep-alive.md

use std::io;
use std::process::ExitCode;

use common::{Buffer, Client, Directory, Request, Response, Version};

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
    loop {
        if buffer.is_empty() && buffer.fill(client).is_err() {
            return; // the client has left, or has nothing to ask: it may do either
        }
        let goes_on = common::next_request(client, &mut buffer, |request| answer(request, files));
        if goes_on != Some(true) {
            return;
        }
    }
}

/// Answers a request, and says whether there may be another one.
fn answer(request: &Request, files: &Directory) -> io::Result<bool> {
    let response = route(request, files);
    let can_be_skipped = request.unread().is_some_and(|bytes| bytes <= MAX_SKIPPED);
    let goes_on = can_be_skipped && client_goes_on(request);
    let connection = if goes_on { "keep-alive" } else { "close" };
    common::respond(request, response.header("Connection", connection))?;
    if goes_on {
        if let Ok(mut body) = request.body() {
            io::copy(&mut body, &mut io::sink())?; // or its rest would be the next request
        }
    }
    Ok(goes_on)
}

/// Whether the client may ask again: in HTTP/1.1 unless it says `close`, in HTTP/1.0 only if it says
/// `keep-alive`.
fn client_goes_on(request: &Request) -> bool {
    let options: Vec<_> = request.headers().list("Connection").collect();
    let says = |wanted: &str| options.iter().any(|option| option.eq_ignore_ascii_case(wanted));
    !says("close") && (request.version() == Version::Http11 || says("keep-alive"))
}

fn route(request: &Request, files: &Directory) -> Response {
    let parts: Vec<_> = request.path().splitn(3, '/').collect();
    let response = match parts[..] {
        ["", ""] => Ok(Response::ok()),
        ["", "echo", text] => echo(request, text),
        ["", "user-agent"] => Ok(Response::text(request.header("User-Agent").unwrap_or_default())),
        ["", "files", name] if request.method() == "POST" => store(request, files, name),
        ["", "files", name] => files.open(name).and_then(Response::file),
        _ => Ok(Response::not_found()),
    };
    response.unwrap_or_else(Response::failed)
}

fn store(request: &Request, files: &Directory, name: &str) -> io::Result<Response> {
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn echo(request: &Request, text: &str) -> io::Result<Response> {
    let response = if common::accepts_gzip(request.headers()) {
        Response::text(common::gzip(text.as_bytes())?).header("Content-Encoding", "gzip")
    } else {
        Response::text(text)
    };
    Ok(response.header("Vary", "Accept-Encoding"))
}
