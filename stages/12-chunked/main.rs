//! Stage 12: bodies whose length nobody knows. Chapter: docs/12-chunked.md

mod chunks;

use std::io::{self, Read};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use chunks::{Chunks, write_chunks};
use common::{Directory, Request, Response, Service, Version};
use flate2::{Compression, read};

/// The longest countdown.
const MAX_COUNT: u32 = 60;

fn main() -> ExitCode {
    common::run_with_limits(|args| {
        let files = args.files();
        let service = Service::bind(args)?;
        ctrlc::set_handler(service.stopper()?).map_err(io::Error::other)?;
        let max_body = args.limits.max_body;
        let served = files.clone();
        service
            .run(move |request| route(request, &served, max_body).unwrap_or_else(Response::failed));
        files.abandon_uploads();
        Ok(())
    })
}

fn route(request: &Request, files: &Directory, max_body: u64) -> io::Result<Response> {
    let parts: Vec<_> = request.path().splitn(3, '/').collect();
    let allowed = match parts[..] {
        ["", ""] | ["", "echo", _] | ["", "user-agent"] | ["", "countdown", _] => {
            "GET, HEAD, OPTIONS"
        }
        ["", "files", _] | ["*"] => "GET, HEAD, OPTIONS, POST",
        _ => return Ok(Response::not_found()),
    };
    if !allowed.split(", ").any(|method| method == request.method()) {
        return Ok(Response::new(405).header("Allow", allowed));
    }
    match (request.method(), &parts[..]) {
        ("OPTIONS", _) => Ok(Response::ok().header("Allow", allowed)),
        ("POST", ["", "files", name]) => store(request, files, name, max_body),
        (_, ["", "files", name]) => fetch(request, files, name),
        (_, ["", "countdown", from]) => Ok(countdown(request, from)),
        (_, ["", "echo", text]) => echo(request, text),
        (_, ["", "user-agent"]) => {
            Ok(Response::text(request.header("User-Agent").unwrap_or_default()))
        }
        _ => Ok(Response::ok()),
    }
}

fn store(request: &Request, files: &Directory, name: &str, max: u64) -> io::Result<Response> {
    if request.is_chunked() {
        files.store(name, Chunks::new(request, max))?;
    } else {
        files.store(name, request.body()?)?;
    }
    Ok(Response::created())
}

fn fetch(request: &Request, files: &Directory, name: &str) -> io::Result<Response> {
    let file = files.open(name)?;
    let response = if common::accepts_gzip(request.headers()) {
        let packed = read::GzEncoder::new(file, Compression::fast()); // packs while it is read
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
fn countdown(request: &Request, from: &str) -> Response {
    match from.parse() {
        Ok(from @ 1..=MAX_COUNT) => stream(request, "text/plain", Countdown { from, next: from }),
        _ => Response::not_found(),
    }
}

struct Countdown {
    from: u32,
    next: u32,
}

impl Read for Countdown {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.next == 0 {
            return Ok(0);
        }
        if self.next < self.from {
            thread::sleep(Duration::from_secs(1));
        }
        let line = format!("{}\n", self.next);
        self.next -= 1;
        line.as_bytes().read(buffer)
    }
}

fn echo(request: &Request, text: &str) -> io::Result<Response> {
    let response = if common::accepts_gzip(request.headers()) {
        Response::text(common::gzip(text.as_bytes())?).header("Content-Encoding", "gzip")
    } else {
        Response::text(text)
    };
    Ok(response.header("Vary", "Accept-Encoding"))
}
