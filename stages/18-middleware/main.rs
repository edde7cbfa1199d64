//! Stage 18: middleware. Chapter: docs/18-middleware.md

mod chain;
mod cors;
mod id;
mod log;
mod rate;

use std::process::ExitCode;
use std::time::Instant;

use chain::{Chain, Next, guarded};
use common::{Args, Request, Response, Site};
use cors::Cors;
use rate::RateLimit;

fn main() -> ExitCode {
    common::run_with_middleware(|args| {
        let files = args.files();
        let site = Site::new(args.site()).list_folders(args.list);
        let mut app = common::earlier_routes(&files, site);
        app.get("/healthz", |_| Ok(Response::text("ok")));
        app.get("/fail", |_| panic!("this handler fails on purpose"));
        let app = app.checked()?;
        let chain = layers(args);
        let service = args.service()?.without_request_log();
        common::on_stop(service.stopper())?;
        service.run(move |request| {
            Ok(chain.answer(request, &|request| guarded(|| app.route_to(request))))
        });
        files.abandon_uploads();
        Ok(())
    })
}

/// What is true for all answers, from the outside in.
fn layers(args: &Args) -> Chain {
    let mut chain = Chain::default();
    let format = args.log;
    chain.wrap(move |request, next| {
        let id = id::new();
        log::logged(format, request, &id, next).header("X-Request-Id", id)
    });
    if !args.origins.is_empty() {
        let origins = args.origins.clone();
        let cors = Cors { origins, allow_credentials: args.allow_credentials };
        chain.wrap(move |request, next| cors.answer(request, next));
    }
    if let Some(rate) = args.rate {
        let limit = RateLimit::new(rate);
        chain.wrap(move |request, next| limited(&limit, request, next));
    }
    let max_age = args.max_age;
    chain.wrap(move |request, next| {
        let response = common::cached(request, next(request), max_age, common::now());
        common::ranged(request, response, common::now())
    });
    chain
}

/// 429 for a client that asks too often. Whoever asks only whether the server is alive is always answered.
fn limited(limit: &RateLimit, request: &Request, next: Next) -> Response {
    let peer = request.peer().filter(|_| request.target() != "/healthz");
    match peer.map_or(Ok(()), |peer| limit.take(peer.ip(), Instant::now())) {
        Ok(()) => next(request),
        Err(wait) => {
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            Response::new(429).header("Retry-After", seconds.to_string())
        }
    }
}
