//! Stage 16: a part of a file. Chapter: docs/16-ranges.md

mod ranges;

use std::io;
use std::process::ExitCode;

use common::{Countdown, Directory, Request, Response, Rest, Site};
use ranges::ranged;

fn main() -> ExitCode {
    common::run_with_caching(|args| {
        let (files, max_age) = (args.files(), args.max_age);
        let site = Site::new(args.site()).list_folders(args.list);
        let service = args.service()?;
        common::on_stop(service.stopper())?;
        let served = files.clone();
        service.run(move |request| {
            let response = route(request, &served, &site)?;
            Ok(ranged(request, common::cached(request, response, max_age, common::now())))
        });
        files.abandon_uploads();
        Ok(())
    })
}

fn route(request: &Request, files: &Directory, site: &Site) -> io::Result<Response> {
    let allowed = match request.path() {
        ("echo" | "countdown", Some(_)) | ("user-agent", None) => &["GET", "HEAD", "OPTIONS"][..],
        ("files", Some(_)) => &["GET", "HEAD", "OPTIONS", "POST"],
        _ if request.target() == "*" => &["GET", "HEAD", "OPTIONS", "POST"],
        _ => return site.answer(request), // whatever no other row is about
    };
    if !allowed.contains(&request.method()) {
        return Ok(Response::new(405).header("Allow", allowed.join(", ")));
    }
    Ok(match (request.method(), request.path()) {
        ("OPTIONS", _) => Response::ok().header("Allow", allowed.join(", ")),
        ("POST", ("files", Some(name))) => store(request, files, name)?,
        (_, ("files", Some(name))) => fetch(request, files, name)?,
        (_, ("countdown", Some(from))) => countdown(from),
        (_, ("echo", Some(text))) => {
            Response::text(text.decode()?).compressed_for(request.headers())?
        }
        _ => user_agent(request),
    })
}

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    files.store_if(name, request.body()?, |state| {
        common::may_change(request, state, common::now())
    })?;
    Ok(Response::created())
}

/// A file, compressed unless the client wants a part of it: a range counts the bytes of the file as it is.
fn fetch(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    let response = Response::file(files.open(name)?)?;
    match (request.method(), request.header("Range")) {
        ("GET", Some(_)) => Ok(response.header("Vary", "Accept-Encoding")),
        _ => response.compressed_for(request.headers()),
    }
}

fn countdown(from: Rest) -> Response {
    Countdown::from(from.raw())
        .map_or_else(Response::not_found, |lines| Response::stream("text/plain", lines))
}

fn user_agent(request: &Request) -> Response {
    let found = request.header("User-Agent").unwrap_or_default();
    Response::text(found).header("Vary", "User-Agent")
}
