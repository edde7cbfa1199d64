//! The port without TLS, and how browsers are told to stay away from it.

use std::io;
use std::net::IpAddr;
use std::thread::{self, JoinHandle};

use common::{App, Args, Request, Response, Site};

/// Sends those to the port with TLS who come to the one without, if there is one; but not those who want the file of a
/// challenge.
pub fn redirect(app: &mut App, args: &Args) -> io::Result<Option<JoinHandle<bool>>> {
    let Some(service) = args.plain_service()? else { return Ok(None) };
    let (host, site) = (args.https_host(), Site::new(args.site()));
    app.at_stop(service.stopper());
    let run = move || {
        service.run(move |request| {
            // Whoever issues certificates looks here to see whether the name is ours.
            if request.full_path().raw().starts_with(".well-known/acme-challenge/") {
                return site.answer(request);
            }
            let location = format!("https://{host}{}", request.relative_url());
            Ok(Response::new(308).header("Location", location))
        })
    };
    thread::Builder::new().spawn(run).map(Some)
}

/// Tells a browser not to come without TLS for some time, if the host is a name that belongs to somebody.
pub fn strict(request: &Request, response: Response, seconds: u32) -> Response {
    let host = request.host().unwrap_or("localhost").trim_end_matches('.');
    let is_local = host.rsplit('.').next().is_some_and(|it| it.eq_ignore_ascii_case("localhost"));
    if is_local || host.parse::<IpAddr>().is_ok() {
        return response;
    }
    response.header("Strict-Transport-Security", format!("max-age={seconds}"))
}
