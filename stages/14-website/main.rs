//! Stage 14: a folder becomes a web site. Chapter: docs/14-website.md

mod listing;
mod site;
mod types;

use std::io;
use std::process::ExitCode;

use common::{Countdown, Directory, Request, Response, Rest};
use site::Site;

fn main() -> ExitCode {
    common::run_with_site(|args| {
        let files = args.files();
        let site = Site { files: args.site(), list: args.list };
        let service = args.service()?;
        common::on_stop(service.stopper())?;
        let served = files.clone();
        service.run(move |request| route(request, &served, &site));
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

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
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
