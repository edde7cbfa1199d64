//! Stage 17: a router. Chapter: docs/17-router.md

mod query;
mod router;

use std::io;
use std::process::ExitCode;

use common::{Countdown, Directory, Refused, Request, Response, Site};
use router::{App, Params};

fn main() -> ExitCode {
    common::run_with_caching(|args| {
        let (files, max_age, now) = (args.files(), args.max_age, common::now);
        let site = Site::new(args.site()).list_folders(args.list);
        let app = routes(&files).sorted()?;
        let service = args.service()?;
        common::on_stop(service.stopper())?;
        service.run(move |request| {
            let response = app.answer(request, |request| site.answer(request))?;
            let response = common::cached(request, response, max_age, now());
            Ok(common::ranged(request, response, now()))
        });
        files.abandon_uploads();
        Ok(())
    })
}

fn routes(files: &Directory) -> App {
    let mut app = App::default();
    app.on("GET", "/echo", echo_query);
    app.on("GET", "/echo/*text", echo);
    app.on("GET", "/user-agent", user_agent);
    app.on("GET", "/countdown/*from", countdown);
    app.on("GET", "/user/:id", user);
    app.on("GET", "/user/:id/posts/:post", post);
    app.on("GET", "/user/me", |_, _| Ok(Response::text("that is you")));
    app.on("GET", "/user/me/settings", |_, _| Ok(Response::text("your settings")));
    let served = files.clone();
    app.on("GET", "/files/*name", move |request, params| {
        common::download(request, served.open(params.raw("name")?)?)
    });
    let served = files.clone();
    app.on("POST", "/files/*name", move |request, params| store(request, params, &served));
    app
}

fn echo_query(request: &Request, _: &Params) -> io::Result<Response> {
    match query::value(request.query_string().unwrap_or_default(), "message") {
        Some(message) => Ok(Response::text(format!("Echo: {message}"))),
        None => Err(Refused { status: 400, why: "the query has no message" }.into()),
    }
}

fn echo(request: &Request, params: &Params) -> io::Result<Response> {
    Response::text(params.text("text")?).compressed_for(request.headers())
}

fn user_agent(request: &Request, _: &Params) -> io::Result<Response> {
    let found = request.header("User-Agent").unwrap_or_default();
    Ok(Response::text(found).header("Vary", "User-Agent"))
}

fn countdown(_: &Request, params: &Params) -> io::Result<Response> {
    let lines = Countdown::from(params.raw("from")?.raw());
    Ok(lines.map_or_else(Response::not_found, |lines| Response::stream("text/plain", lines)))
}

fn user(_: &Request, params: &Params) -> io::Result<Response> {
    let id = quoted(&params.text("id")?);
    Ok(Response::json(format!("{{\"user_id\": {id}}}")))
}

fn post(_: &Request, params: &Params) -> io::Result<Response> {
    let (id, post) = (quoted(&params.text("id")?), quoted(&params.text("post")?));
    Ok(Response::json(format!("{{\"user_id\": {id}, \"post_id\": {post}}}")))
}

fn store(request: &Request, params: &Params, files: &Directory) -> io::Result<Response> {
    files.store_if(params.raw("name")?, request.body()?, |state| {
        common::may_change(request, state, common::now())
    })?;
    Ok(Response::created())
}

/// A text as JSON writes it: in quotes, with escapes for what would end them, and for control characters (RFC 8259,
/// section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..' ' => quoted += &format!("\\u{:04x}", u32::from(character)),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}
