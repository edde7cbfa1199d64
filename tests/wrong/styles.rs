//! Stages 11 to 13 in another style, which the environment variable `STYLE` names. HTTP allows each of these
//! styles, so the checks must accept them. tests/wrong_servers.rs says which checks. Search for `is("…")` to find
//! the style.

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Client, Connection, Directory, Handler, Limits, Need, Refused, Request, Response, Rest,
    Transfer, Transport,
};

/// Whether `STYLE` has this name.
fn is(name: &str) -> bool {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| env::var("STYLE").unwrap_or_default()) == name
}

fn main() -> ExitCode {
    common::run_with_limits(|args| {
        let (files, limits) = (args.files(), args.limits);
        common::serve(args.listen()?, move |client| {
            if is("open-refusals") || is("empty-uploads") {
                common::answer_all(client, |request| answer(request, &files));
            } else if let Err(error) = attend(client, &files, limits) {
                client.log(error);
            }
        })
    })
}

/// Stage 11: only the end of the request is known. Everything else still has to be checked.
fn answer(request: Result<&Request, Refused>, files: &Directory) -> Response {
    let response = match request {
        Err(refused) => Response::refused(refused),
        Ok(request) => match common::check(request) {
            Err(refused) if is("open-refusals") => Response::new(refused.status), // and no body
            Err(refused) => Response::refused(refused),
            Ok(()) => route(request, files).unwrap_or_else(Response::failed),
        },
    };
    response.header("Date", common::date())
}

/// Stages 12 and 13, with the limits of the command line.
fn attend(client: &Client, files: &Directory, limits: Limits) -> io::Result<()> {
    let (mut connection, mut socket) = (Connection::new(limits), Socket(client));
    loop {
        match connection.advance() {
            Need::Bytes => {
                connection.flush(&mut socket)?;
                connection.receive(&mut socket)?;
            }
            Need::Answer => connection.answer(&Site(files), &mut socket)?,
            Need::Close => return connection.finish(&mut socket).map(drop),
        }
    }
}

struct Site<'f>(&'f Directory);

impl Handler for Site<'_> {
    fn answer(&self, request: &Request) -> Response {
        let response =
            route(request, self.0).unwrap_or_else(|error| match Refused::inside(&error) {
                Some(refused) => self.refuse(refused, b""),
                None => Response::failed(error),
            });
        response.header("Date", common::date())
    }

    fn refuse(&self, refused: Refused, _received: &[u8]) -> Response {
        let may_be_400 = matches!(refused.status, 413 | 414 | 431 | 501 | 505 | 411);
        let status = if is("says-400") && may_be_400 { 400 } else { refused.status };
        Response::new(status).last().header("Date", common::date())
    }
}

fn route(request: &Request, files: &Directory) -> io::Result<Response> {
    let allowed = match request.path() {
        ("", None) | ("echo" | "countdown", Some(_)) | ("user-agent", None) => "GET, HEAD, OPTIONS",
        ("files", Some(_)) => "GET, HEAD, OPTIONS, POST",
        _ if request.target() == "*" => "GET, HEAD, OPTIONS, POST",
        _ => return Ok(Response::not_found()),
    };
    if !allowed.split(", ").any(|method| method == request.method()) {
        let is_known = matches!(request.method(), "GET" | "HEAD" | "OPTIONS" | "POST");
        let status = if is("knows-four-methods") && !is_known { 501 } else { 405 };
        return Ok(Response::new(status).header("Allow", allowed));
    }
    Ok(match (request.method(), request.path()) {
        ("OPTIONS", _) => Response::new(204).header("Allow", allowed),
        ("POST", ("files", Some(name))) => store(request, files, name)?,
        (_, ("files", Some(name))) => fetch(request, files, name)?,
        (_, ("countdown", Some(from))) => match from.raw().parse() {
            Ok(number @ 1..=60) if !from.raw().starts_with('+') => countdown(number),
            _ => Response::not_found(),
        },
        (_, ("echo", Some(text))) => {
            Response::text(text.decode()?).compressed_for(request.headers())?
        }
        (_, ("user-agent", None)) => {
            Response::text(request.header("User-Agent").unwrap_or_default())
        }
        _ => Response::ok(),
    })
}

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    let is_new = files.open(name).is_err();
    if is("empty-uploads") && request.content_length().is_none() && !request.is_chunked() {
        files.store_from(name, io::empty())?;
    } else {
        files.store(name, request.body()?)?;
    }
    Ok(Response::new(if is("replaces-with-204") && !is_new { 204 } else { 201 }))
}

fn fetch(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    let file = files.open(name)?;
    let response = if common::accepts_gzip(request.headers()) {
        let packed = common::gzip_stream(file.into_whole()?);
        Response::stream("application/octet-stream", packed).header("Content-Encoding", "gzip")
    } else {
        Response::file(file)?
    };
    Ok(response.header("Vary", "Accept-Encoding"))
}

/// A countdown with `Content-Length`: its length is known before it is sent.
fn countdown(from: u32) -> Response {
    let lines: Vec<String> = (1..=from).rev().map(|number| format!("{number}\n")).collect();
    let length = lines.concat().len();
    let response = Response::by_hand("text/plain", move |client| {
        for (index, line) in lines.iter().enumerate() {
            thread::sleep(Duration::from_secs(u64::from(index > 0)));
            client.write_all(line.as_bytes())?;
            client.flush()?;
        }
        Ok(())
    });
    response.header("Content-Length", length.to_string())
}

/// A client's connection, as the protocol sees it.
struct Socket<'c>(&'c Client);

impl Transport for Socket<'_> {
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer> {
        self.0.limit_reads(time)?;
        timed(|| self.0.read(buffer))
    }

    fn send(&mut self, bytes: &[u8], time: Duration) -> io::Result<Transfer> {
        self.0.limit_writes(time)?;
        timed(|| self.0.write(bytes))
    }
}

fn timed(transfer: impl FnOnce() -> io::Result<usize>) -> io::Result<Transfer> {
    let start = Instant::now();
    let bytes = match transfer() {
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut) => None,
        outcome => Some(outcome?),
    };
    Ok(Transfer { bytes, waited: start.elapsed() })
}
