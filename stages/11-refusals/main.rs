//! Stage 11: refuse what is wrong, and say why. Chapter: docs/11-refusals.md

mod date;

use std::io;
use std::process::ExitCode;

use common::{Directory, Refused, Request, Response, Rest, Version};

/// The methods that HTTP defines, apart from `CONNECT`, which is for proxies. Any other is not
/// implemented here, and perhaps nowhere.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];

fn main() -> ExitCode {
    common::run_with_directory(|args| {
        let files = args.files();
        common::serve(args.listen()?, move |client| {
            common::answer_all(client, |request| answer(request, &files));
        })
    })
}

/// Answers a request, or what could not be understood as one. A refusal is an answer, too.
fn answer(request: Result<&Request, Refused>, files: &Directory) -> Response {
    let response = match request {
        Ok(request) => route(request, files).unwrap_or_else(Response::failed),
        Err(refused) => Response::refused(refused),
    };
    response.explained().header("Date", date::now())
}

/// Refuses what no resource needs to see.
fn check(request: &Request) -> Result<(), Refused> {
    let mut hosts = request.headers().all("Host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if common::is_authority(host) => {}
        (None, _) if request.version() == Version::Http10 => {}
        _ => return Err(Refused { status: 400, why: "a request has one Host, and a valid one" }),
    }
    if !METHODS.contains(&request.method()) {
        return Err(Refused { status: 501, why: "this server does not know the method" });
    }
    if request.headers().list("Expect").any(|it| !it.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refused { status: 417, why: "100-continue is all that can be expected here" });
    }
    Ok(())
}

fn route(request: &Request, files: &Directory) -> io::Result<Response> {
    check(request)?;
    let allowed = match request.path() {
        ("", None) | ("echo", Some(_)) | ("user-agent", None) => &["GET", "HEAD", "OPTIONS"][..],
        ("files", Some(_)) => &["GET", "HEAD", "OPTIONS", "POST"],
        _ if request.target() == "*" => &["GET", "HEAD", "OPTIONS", "POST"], // the server as a whole
        _ => return Ok(Response::not_found()),
    };
    if !allowed.contains(&request.method()) {
        return Ok(Response::new(405).header("Allow", allowed.join(", ")));
    }
    Ok(match (request.method(), request.path()) {
        ("OPTIONS", _) => Response::ok().header("Allow", allowed.join(", ")),
        ("POST", ("files", Some(name))) => store(request, files, name)?,
        (_, ("files", Some(name))) => files.open(name).and_then(Response::file)?,
        (_, ("echo", Some(text))) => echo(request, text)?,
        (_, ("user-agent", None)) => user_agent(request),
        _ => Response::ok(),
    })
}

/// Stores a body that is the whole content of the file, and nothing else.
fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    if request.header("Content-Range").is_some() {
        return Err(Refused { status: 400, why: "a part of a file cannot be stored" }.into());
    }
    if request.header("Content-Encoding").is_some() {
        return Err(Refused { status: 415, why: "send the file as it is, not compressed" }.into());
    }
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
