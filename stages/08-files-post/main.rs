//! Stage 8: take files in. Chapter: docs/08-files-post.md

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use common::{Directory, Refused, Request, Response};

fn main() -> ExitCode {
    common::run_with_directory(|args| {
        let files = args.files();
        common::serve(args.listen()?, move |client| {
            common::answer(client, |request| route(request, &files));
        })
    })
}

fn route(request: &Request, files: &Directory) -> Response {
    let parts: Vec<_> = request.path().splitn(3, '/').collect();
    let response = match parts[..] {
        ["", ""] => Ok(Response::ok()),
        ["", "echo", text] => Ok(Response::text(text)),
        ["", "user-agent"] => Ok(Response::text(request.header("User-Agent").unwrap_or_default())),
        ["", "files", name] if request.method() == "POST" => store(request, files, name),
        ["", "files", name] => files.open(name).and_then(Response::file),
        _ => Ok(Response::not_found()),
    };
    response.unwrap_or_else(Response::failed)
}

/// Stores the request's body as the file called `name`: all of it, or nothing.
fn store(request: &Request, files: &Directory, name: &str) -> io::Result<Response> {
    let (place, length) = (files.place(name)?, content_length(request)?);
    if request.header("Expect") == Some(b"100-continue") {
        request.client().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?; // the client waits for this
    }
    let mut body = request.rest().chain(request.client()).take(length);
    let part = place.with_file_name(format!(".upload-{}", request.client().peer().port()));
    let whole = |count| if count == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) };
    File::create(&part)
        .and_then(|mut file| io::copy(&mut body, &mut file))
        .and_then(whole)
        .and_then(|()| fs::rename(&part, place))
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .map(|()| Response::created())
}

/// How many bytes the body has. It must be said once, in digits.
fn content_length(request: &Request) -> Result<u64, Refused> {
    const MAX_BODY: u64 = 8 << 30; // bytes: 8 GiB
    let lengths: Vec<_> = request.headers().all("Content-Length").collect();
    match lengths[..] {
        [] => Err(Refused { status: 411, why: "the request has no Content-Length" }),
        [digits] if digits.iter().all(u8::is_ascii_digit) && !digits.is_empty() => {
            let length = String::from_utf8_lossy(digits).parse().ok().filter(|it| *it <= MAX_BODY);
            length.ok_or(Refused { status: 413, why: "the body is larger than 8 GiB" })
        }
        _ => Err(Refused { status: 400, why: "Content-Length is not one number" }),
    }
}
