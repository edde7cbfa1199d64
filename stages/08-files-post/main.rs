//! Stage 8: take files in. Chapter: docs/08-files-post.md

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::process::{self, ExitCode};
use std::thread;

use common::{Client, Directory, Refused, Request, Response, Rest};

const MAX_BODY: u64 = 1 << 30; // bytes: 1 GiB

fn main() -> ExitCode {
    common::run_with_directory(|args| {
        let files = args.files();
        common::serve(args.listen()?, move |client| {
            common::answer(client, |request| route(request, client, &files));
        })
    })
}

fn route(request: &Request, client: &Client, files: &Directory) -> io::Result<Response> {
    Ok(match request.path() {
        ("", None) => Response::ok(),
        ("echo", Some(text)) => Response::text(text.decode()?),
        ("user-agent", None) => Response::text(request.header("User-Agent").unwrap_or_default()),
        ("files", Some(name)) if request.method() == "POST" => store(request, client, files, name)?,
        ("files", Some(name)) => files.open(name).and_then(Response::file)?,
        _ => Response::not_found(),
    })
}

/// Stores the request's body as the file called `name`: all of it, or nothing.
fn store(
    request: &Request,
    mut client: &Client,
    files: &Directory,
    name: Rest,
) -> io::Result<Response> {
    let place = files.place(name)?;
    let length = content_length(request)?;
    let expects = request.header("Expect").unwrap_or_default();
    if expects.eq_ignore_ascii_case(b"100-continue") && !request.line().ends_with("HTTP/1.0") {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?; // the client waits for this
    }
    let rest = request.rest(); // of the body, this came together with the head
    let mut body = rest.chain(client).take(length);
    // A name that no other upload has: this process, this thread.
    let part = format!(".upload-{}-{:?}", process::id(), thread::current().id());
    let part = place.with_file_name(part);
    let mut file = File::create_new(&part)?;
    let stored = match io::copy(&mut body, &mut file) {
        Ok(count) if count == length => fs::rename(&part, place),
        Ok(_) => Err(Refused { status: 400, why: "the client left before the end" }.into()),
        Err(error) => Err(error),
    };
    if stored.is_err() {
        let _ = fs::remove_file(&part); // nothing of it stays behind
    }
    stored.map(|()| Response::created())
}

/// How many bytes the body has. That it is one number was checked with the rest of the head.
fn content_length(request: &Request) -> Result<u64, Refused> {
    let missing = Refused { status: 411, why: "the request has no Content-Length" };
    let digits = String::from_utf8_lossy(request.header("Content-Length").ok_or(missing)?);
    let length = digits.parse().ok().filter(|&length| length <= MAX_BODY);
    length.ok_or(Refused { status: 413, why: "the body is larger than 1 GiB" })
}
