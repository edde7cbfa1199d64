//! Stage 13: bodies of unknown length. Chapter: docs/13-chunked.md

mod chunks;
mod countdown;

use std::io::{self, Read};
use std::process::ExitCode;

use chunks::{Chunks, write_chunks};
use common::{Directory, Request, Response, Rest, Version};
use countdown::Countdown;
use flate2::{Compression, read};

fn main() -> ExitCode {
    common::run_with_limits(|args| {
        let (files, max_body) = (args.files(), args.limits.max_body);
        let service = args.service()?;
        common::on_stop(service.stopper())?;
        let served = files.clone();
        service.run(move |request| route(request, &served, max_body));
        files.abandon_uploads();
        Ok(())
    })
}

fn route(request: &Request, files: &Directory, max_body: u64) -> io::Result<Response> {
    let allowed = match request.path() {
        ("", None) | ("echo" | "countdown", Some(_)) | ("user-agent", None) => {
            &["GET", "HEAD", "OPTIONS"][..]
        }
        ("files", Some(_)) => &["GET", "HEAD", "OPTIONS", "POST"],
        _ if request.target() == "*" => &["GET", "HEAD", "OPTIONS", "POST"],
        _ => return Ok(Response::not_found()),
    };
    if !allowed.contains(&request.method()) {
        return Ok(Response::new(405).header("Allow", allowed.join(", ")));
    }
    Ok(match (request.method(), request.path()) {
        ("OPTIONS", _) => Response::ok().header("Allow", allowed.join(", ")),
        ("POST", ("files", Some(name))) => store(request, files, name, max_body)?,
        (_, ("files", Some(name))) => fetch(request, files, name)?,
        (_, ("countdown", Some(from))) => countdown(request, from),
        (_, ("echo", Some(text))) => {
            Response::text(text.decode()?).compressed_for(request.headers())?
        }
        (_, ("user-agent", None)) => user_agent(request),
        _ => Response::ok(),
    })
}

fn store(request: &Request, files: &Directory, name: Rest, max: u64) -> io::Result<Response> {
    if request.is_chunked() {
        files.store_from(name, Chunks::new(request, max))?;
    } else {
        files.store(name, request.body()?)?;
    }
    Ok(Response::created())
}

fn fetch(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    let file = files.open(name)?;
    let response = if common::accepts_gzip(request.headers()) {
        let packed = read::GzEncoder::new(file.into_whole()?, Compression::fast()); // while it is read
        stream(request, "application/octet-stream", packed).header("Content-Encoding", "gzip")
    } else {
        Response::file(file)?
    };
    Ok(response.header("Vary", "Accept-Encoding"))
}

/// A response as long as `source` is: chunks for HTTP/1.1, up to the end of the connection for
/// HTTP/1.0, which does not know them.
fn stream(
    request: &Request,
    content_type: &'static str,
    mut source: impl Read + Send + 'static,
) -> Response {
    if request.version() == Version::Http10 {
        return Response::by_hand(content_type, move |mut client| {
            io::copy(&mut source, &mut client).map(drop)
        })
        .last();
    }
    Response::by_hand(content_type, move |client| write_chunks(source, client))
        .header("Transfer-Encoding", "chunked")
}

/// `/countdown/3` answers `3`, then, a second later, `2`, and after another second, `1`.
fn countdown(request: &Request, from: Rest) -> Response {
    match Countdown::from(from.raw()) {
        Some(countdown) => stream(request, "text/plain", countdown),
        None => Response::not_found(),
    }
}

fn user_agent(request: &Request) -> Response {
    let found = request.header("User-Agent").unwrap_or_default();
    Response::text(found).header("Vary", "User-Agent")
}
