//! Stage 15: what the client has already need not be sent again. Chapter: docs/15-caching.md

mod caching;
mod conditions;

use std::io;
use std::process::ExitCode;

use caching::cached;
use common::{Countdown, Directory, Request, Response, Rest, Site};
use conditions::{Outcome, Validators, evaluate};

fn main() -> ExitCode {
    common::run_with_caching(|args| {
        let (files, max_age) = (args.files(), args.max_age);
        let site = Site::new(args.site()).list_folders(args.list);
        let service = args.service()?;
        common::on_stop(service.stopper())?;
        let served = files.clone();
        service.run(move |request| {
            let response = route(request, &served, &site)?;
            Ok(cached(request, response, max_age))
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
        (_, ("files", Some(name))) => {
            Response::file(files.open(name)?)?.compressed_for(request.headers())?
        }
        (_, ("countdown", Some(from))) => countdown(from),
        (_, ("echo", Some(text))) => {
            Response::text(text.decode()?).compressed_for(request.headers())?
        }
        _ => user_agent(request),
    })
}

/// Stores a file, unless the client has set a condition that what is there now does not meet.
fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    let state = match files.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?.state()?),
    };
    // The tag that a GET with the same headers would get.
    let coding = common::accepts_gzip(request.headers()).then_some("gzip");
    let current = state.and_then(|state| Validators::of(state, coding));
    if evaluate(request, current.as_ref()) == Outcome::Failed {
        return Ok(Response::new(412));
    }
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn countdown(from: Rest) -> Response {
    Countdown::from(from.raw())
        .map_or_else(Response::not_found, |lines| Response::stream("text/plain", lines))
}

fn user_agent(request: &Request) -> Response {
    let found = request.header("User-Agent").unwrap_or_default();
    Response::text(found).header("Vary", "User-Agent")
}
