//! The routes of earlier stages, for those after them.

use std::io;
use std::time::Instant;

use crate::app::application::App;
use crate::app::rate_limit::RateLimit;
use crate::content::caching::{cached, may_change};
use crate::content::countdown::Countdown;
use crate::content::directory::Directory;
use crate::content::ranges::{download, ranged};
use crate::content::site::Site;
use crate::message::quoted::quoted;
use crate::message::refused::bad_request;
use crate::message::response::Response;
use crate::protocol::request::Request;
use crate::serve::clock::now;

/// Returns the routes that the stages up to 17 have: `/echo`, `/user-agent`, `/user`, `/countdown` and `/files`, and the
/// site for all other paths.
pub fn earlier_routes(files: &Directory, site: Site) -> App {
    let mut app = App::new();
    app.get("/echo", echo_query);
    app.get("/echo/*text", |request| {
        Response::text(request.param("text")?).compressed_for(request.headers())
    });
    app.get("/user-agent", user_agent);
    app.get("/countdown/*from", countdown);
    app.get("/user/:id", user);
    app.get("/user/:id/posts/:post", post);
    app.get("/user/me", |_| Ok(Response::text("that is you")));
    app.get("/user/me/settings", |_| Ok(Response::text("your settings")));
    let served = files.clone();
    app.get("/files/*name", move |request| {
        download(request, served.open(request.raw_param("name")?)?)
    });
    let served = files.clone();
    app.slow_route("POST", "/files/*name", move |request| store(request, &served));
    app.fallback(move |request| site.answer(request));
    app
}

/// Adds what stage 18 has: `/healthz`, `/fail`, a limit of requests a second, and caching and ranges for files.
pub(crate) fn add_middleware(app: &mut App, rate: Option<u32>, max_age: Option<u64>) {
    app.get("/healthz", |_| Ok(Response::text("ok")));
    app.get("/fail", |_| panic!("this handler fails on purpose"));
    if let Some(rate) = rate {
        let limit = RateLimit::new(rate);
        app.wrap(move |request, next| limit.answer(request, Instant::now(), || next(request)));
    }
    app.wrap(move |request, next| {
        let response = next(request);
        if response.file_state().is_none() {
            return response; // only files have versions and parts
        }
        let now = now();
        ranged(request, cached(request, response, max_age, now), now)
    });
}

fn echo_query(request: &Request) -> io::Result<Response> {
    let message = request.query("message").ok_or(bad_request("the query has no message"))?;
    Ok(Response::text(format!("Echo: {message}")))
}

fn user_agent(request: &Request) -> io::Result<Response> {
    let found = request.header("User-Agent").unwrap_or_default();
    Ok(Response::text(found).header("Vary", "User-Agent"))
}

fn countdown(request: &Request) -> io::Result<Response> {
    let lines = Countdown::from(request.raw_param("from")?.raw());
    Ok(lines.map_or_else(Response::not_found, |lines| Response::stream("text/plain", lines)))
}

fn user(request: &Request) -> io::Result<Response> {
    let id = quoted(&request.param("id")?);
    Ok(Response::json(format!("{{\"user_id\": {id}}}")))
}

fn post(request: &Request) -> io::Result<Response> {
    let (id, post) = (quoted(&request.param("id")?), quoted(&request.param("post")?));
    Ok(Response::json(format!("{{\"user_id\": {id}, \"post_id\": {post}}}")))
}

fn store(request: &Request, files: &Directory) -> io::Result<Response> {
    let name = request.raw_param("name")?;
    files.store_if(name, request.body()?, |state| may_change(request, state, now()))?;
    Ok(Response::created())
}
