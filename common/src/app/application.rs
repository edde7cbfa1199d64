//! A program made of routes (stage 17's lasting form).

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, absolute};
use std::sync::Arc;
use std::time::Duration;

use crate::app::cors::Cors;
use crate::app::router::{Match, Router};
use crate::content::caching::cached;
use crate::content::directory::Directory;
use crate::content::ranges::ranged;
use crate::content::site::Site;
use crate::message::refused::Refused;
use crate::message::response::Response;
use crate::message::target::{Rest, location};
use crate::protocol::filter::Filter;
use crate::protocol::limits::Limits;
use crate::protocol::request::Request;
use crate::serve::access_log::RequestLog;
use crate::serve::clock::now;
use crate::serve::log;
use crate::serve::service::{AtStop, Driven, NewFilter, Service};
use crate::serve::stop::{AtHangup, Draining, on_signals};
use crate::transport::listener::Listener;

/// A function that answers requests.
type Handler = dyn Fn(&Request) -> io::Result<Response> + Send + Sync;

/// What a middleware wraps: the next middleware, and at the end the routes. It always has an answer: an error of a
/// handler is one, and so is a panic.
pub type Next<'n> = &'n dyn Fn(&Request) -> Response;

/// A function around others.
type Middleware = dyn Fn(&Request, Next) -> Response + Send + Sync;

/// A program made of routes: a method, a pattern of paths, and a function that answers.
///
/// ```no_run
/// use common::{App, Response};
///
/// let mut app = App::new();
/// app.get("/", |_| Ok(Response::text("hello")));
/// app.get("/user/:id", |request| Ok(Response::text(request.param("id")?)));
/// app.post("/upload/*path", |request| {
///     let length = std::io::copy(&mut request.body()?, &mut std::io::sink())?;
///     Ok(Response::text(format!("{length} bytes")))
/// });
/// app.files("/static", "public");
/// app.listen(4221)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Patterns
///
/// A pattern is compared with the path segment by segment. The path is split at its slashes first, and each segment is
/// decoded alone, so an escaped slash, `%2F`, stays inside its segment.
///
/// - `user` fits this text.
/// - `:id` fits any text that is not empty: [`Request::param`] returns it.
/// - `*path` fits all that follows, with its slashes, and also nothing: `/files/*path` fits `/files/`, and not `/files`.
///
/// If several patterns fit, the more exact one answers: a text comes before a parameter, and a parameter before a
/// rest. Segments on the left count more.
///
/// # What has no route
///
/// - HEAD is answered by the route for GET, and OPTIONS with what the path allows.
/// - A method that the path does not allow gets 405, with `Allow`.
/// - `/a/` is not `/a`. Where only the other one has routes, the client is sent there with 308.
/// - All else goes to [`App::fallback`], and without one it gets 404.
pub struct App {
    router: Router<Target>,
    /// The methods of routes that may wait.
    waiting: Vec<&'static str>,
    fallback: Option<Box<Handler>>,
    /// The outermost first.
    layers: Vec<Box<Middleware>>,
    cors: Cors,
    at_stop: Vec<AtStop>,
    filters: Option<Box<NewFilter>>,
    at_hangup: Option<AtHangup>,
    /// For how long the program goes on when it is asked to stop.
    drain: Option<(Draining, Duration)>,
    /// What is wrong with the routes.
    fault: Option<String>,
}

/// What is behind a pattern.
struct Target {
    handler: Box<Handler>,
    may_wait: bool,
}

impl Default for App {
    fn default() -> App {
        App::new()
    }
}

impl App {
    /// Creates a program without routes.
    pub fn new() -> App {
        App {
            router: Router::new(),
            waiting: Vec::new(),
            fallback: None,
            layers: Vec::new(),
            cors: Cors::default(),
            at_stop: Vec::new(),
            filters: None,
            at_hangup: None,
            drain: None,
            fault: None,
        }
    }

    /// Adds a route. A pattern that is wrong, and two routes for the same requests, are reported by [`App::run`].
    pub fn route(
        &mut self,
        method: &'static str,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.add(method, vec![pattern], Target { handler: Box::new(handler), may_wait: false });
    }

    /// Adds a route whose handler may take long, because it waits for a disk or for another program. With an event loop,
    /// it runs in a thread of its own, so that nobody else waits. From stage 21.
    pub fn slow_route(
        &mut self,
        method: &'static str,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.add(method, vec![pattern], Target { handler: Box::new(handler), may_wait: true });
    }

    fn add(&mut self, method: &'static str, parts: Vec<&'static str>, target: Target) {
        if target.may_wait && !self.waiting.contains(&method) {
            self.waiting.push(method);
        }
        if let Err(fault) = self.router.add(method, parts, target) {
            self.fault.get_or_insert(fault);
        }
    }

    /// Adds a route for GET: see [`App::route`].
    pub fn get(
        &mut self,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.route("GET", pattern, handler);
    }

    /// Adds a route for POST: see [`App::route`].
    pub fn post(
        &mut self,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.route("POST", pattern, handler);
    }

    /// Adds a route for PUT: see [`App::route`].
    pub fn put(
        &mut self,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.route("PUT", pattern, handler);
    }

    /// Adds a route for PATCH: see [`App::route`].
    pub fn patch(
        &mut self,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.route("PATCH", pattern, handler);
    }

    /// Adds a route for DELETE: see [`App::route`].
    pub fn delete(
        &mut self,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.route("DELETE", pattern, handler);
    }

    /// Sets the function that answers requests for paths that have no route. At first they get 404.
    pub fn fallback(
        &mut self,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.fallback = Some(Box::new(handler));
    }

    /// Adds a middleware: a function that is called for each request, also if no route fits. It may call `next`, and
    /// change the answer that comes back, or answer itself. The first one that is added is the outermost. From stage
    /// 18.
    ///
    /// ```
    /// # use common::{App, Response};
    /// # let mut app = App::new();
    /// app.wrap(|request, next| match request.header("Authorization") {
    ///     Some(b"Basic YTpi") => next(request).header("Cache-Control", "private"),
    ///     _ => Response::new(401).header("WWW-Authenticate", "Basic realm=\"all\""),
    /// });
    /// ```
    pub fn wrap(&mut self, layer: impl Fn(&Request, Next) -> Response + Send + Sync + 'static) {
        self.layers.push(Box::new(layer));
    }

    /// Calls a function when the program is asked to stop. The requests that are being answered then are waited for
    /// afterwards, so this is the place to end answers that would go on forever. From stage 20.
    pub fn at_stop(&mut self, call: impl FnOnce() + Send + Sync + 'static) {
        self.at_stop.push(Box::new(call));
    }

    /// Puts a filter between each socket and its conversation, such as TLS. From stage 22.
    pub fn through(&mut self, new_filter: impl Fn() -> Box<dyn Filter> + Send + Sync + 'static) {
        self.filters = Some(Box::new(new_filter));
    }

    /// Calls a function when the program gets the signal SIGHUP, which otherwise asks it to stop. From stage 23.
    pub fn at_hangup(&mut self, call: impl Fn() + Send + Sync + 'static) {
        self.at_hangup = Some(Box::new(call));
    }

    /// Goes on for this time when the program is asked to stop, so that those who send requests here can learn of it. Each
    /// answer is the last on its connection then. From stage 23.
    pub fn drain(&mut self, time: Duration) -> Draining {
        let draining = Draining::default();
        self.drain = Some((draining.clone(), time));
        draining
    }

    /// Serves the files of a directory below a prefix, as a web site: `/static/a.css` is `a.css`, with its type, and not
    /// sent to whoever has it; `/static/` is its `index.html`. From stage 21.
    ///
    /// A directory that is not there is reported by [`App::run`].
    pub fn files(&mut self, prefix: &'static str, directory: impl AsRef<Path>) {
        let directory = directory.as_ref();
        if !directory.is_dir() {
            let fault =
                format!("{} is no directory, and has no files for {prefix}", directory.display());
            self.fault.get_or_insert(fault);
        }
        let site = Site::new(Directory::new(absolute(directory).ok()));
        let handler = move |request: &Request| {
            let found = site.answer_below(request, request.raw_param("path")?)?;
            Ok(ranged(request, cached(request, found, None, now()), now()))
        };
        let target = Target { handler: Box::new(handler), may_wait: false };
        self.add("GET", vec![prefix, "/*path"], target);
    }

    /// Lets the pages of another site read answers: `http://localhost:3000`, as browsers write it, or `*` for all sites.
    /// From stage 21.
    pub fn allow_origin(&mut self, origin: &str) {
        if let Err(fault) = self.cors.allow(origin) {
            self.fault.get_or_insert(format!("{origin} is no origin: {fault}"));
        }
    }

    /// Lets the pages of other sites read answers, as [`Cors`] decides. That is around all middleware.
    pub(crate) fn share(&mut self, cors: Cors) {
        self.cors = cors;
    }

    /// Adds the routes of another program below a prefix: its `/:id` is `/user/:id` here if the prefix is `/user`. Its
    /// middleware is around these routes only. Its fallback, and what it calls at a stop, are dropped.
    pub fn nest(&mut self, prefix: &'static str, other: App) {
        let mut fault = other.fault;
        if prefix.ends_with('/') {
            fault.get_or_insert(format!("the prefix {prefix} ends with a slash"));
        }
        self.fault = self.fault.take().or(fault);
        let layers = Arc::new(other.layers);
        for route in other.router.into_routes() {
            let parts = [&[prefix][..], &route.parts].concat();
            let Target { handler, may_wait } = route.target;
            let handler = inside(Arc::clone(&layers), handler);
            self.add(route.method, parts, Target { handler, may_wait });
        }
    }

    /// Returns the program if its routes are right.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the routes.
    pub fn checked(self) -> io::Result<App> {
        match self.fault {
            Some(fault) => Err(io::Error::new(io::ErrorKind::InvalidInput, fault)),
            None => Ok(self),
        }
    }

    /// Listens on this port of 127.0.0.1, and answers requests until the program is asked to stop, with the default
    /// [`Limits`]. Each request is a line in the log. 0 means any free port. From stage 21.
    ///
    /// # Errors
    ///
    /// As [`App::checked`] and [`Listener::bind`].
    pub fn listen(self, port: u16) -> io::Result<()> {
        let app = self.checked()?;
        let service = Service::new(Listener::bind(port)?, Limits::default())?;
        let ended = app.serve(service.with_request_log(RequestLog::default()));
        log::flush();
        ended
    }

    /// Answers the requests that reach a service, until the program is asked to stop. Bodies that are compressed are
    /// unpacked. From stage 18.
    pub(crate) fn serve(mut self, service: Service) -> io::Result<()> {
        let service = service.unpacking();
        self.heed_signals(&service)?;
        self.run(service).map(drop)
    }

    /// Has a service stopped by the signals that ask for that.
    pub(crate) fn heed_signals(&mut self, service: &Service) -> io::Result<()> {
        match &self.drain {
            Some((draining, time)) => {
                on_signals(draining.before(service.stopper(), *time), self.at_hangup.take())
            }
            None => on_signals(service.stopper(), self.at_hangup.take()),
        }
    }

    /// Gives a service what it needs from here beside the routes.
    fn complete(&mut self, service: Service) -> Service {
        let service = service.calling_at_stop(std::mem::take(&mut self.at_stop));
        match self.filters.take() {
            Some(new_filter) => service.through(new_filter),
            None => service,
        }
    }

    /// Answers the requests that reach a service, until it is stopped: see [`Service::run`].
    ///
    /// # Errors
    ///
    /// As [`App::checked`]. The service does not start then.
    pub fn run(self, service: Service) -> io::Result<bool> {
        let mut app = self.checked()?;
        let service = app.complete(service);
        Ok(service.run(move |request| Ok(app.answer(request))))
    }

    /// Hands the requests that reach a service to these routes, and the service to somebody else who drives its
    /// connections. From stage 21.
    ///
    /// # Errors
    ///
    /// As [`App::checked`].
    pub fn driven(self, service: Service) -> io::Result<Driven> {
        let mut app = self.checked()?;
        let service = app.complete(service);
        let app = Arc::new(app);
        let asked = Arc::clone(&app);
        Ok(service.driven(move |request| Ok(app.answer(request)), move |it| asked.may_wait(it)))
    }

    /// Whether the handler of a request may take long. From stage 21.
    fn may_wait(&self, request: &Request) -> bool {
        self.waiting.contains(&request.method())
            && match self.router.find(request.method(), request.full_path()) {
                Match::Target(target, _) => target.may_wait,
                _ => false,
            }
    }

    /// Answers a request, through all middleware. From stage 18.
    pub fn answer(&self, request: &Request) -> Response {
        let allowed = || {
            let of_routes = self.router.allowed(request.full_path());
            of_routes.or_else(|| self.fallback.as_ref().map(|_| "GET, HEAD, OPTIONS".to_owned()))
        };
        let response = self.cors.answer(request, allowed, || {
            through(&self.layers, request, &|request| guarded(|| self.route_to(request)))
        });
        match &self.drain {
            Some((draining, _)) if draining.has_begun() => response.last(),
            _ => response,
        }
    }

    /// Answers a request with its route, without any middleware.
    ///
    /// # Errors
    ///
    /// Those of the handler.
    pub fn route_to(&self, request: &Request) -> io::Result<Response> {
        if request.target() == "*" {
            return Ok(allowing(request, self.router.allowed_anywhere()));
        }
        let path = request.full_path();
        match self.router.find(request.method(), path) {
            Match::Target(target, parameters) => {
                (target.handler)(&request.with_parameters(parameters))
            }
            Match::OtherMethods(allowed) => Ok(allowing(request, allowed)),
            Match::Nothing => match (self.with_the_other_end(path), &self.fallback) {
                (Some(path), _) => {
                    let location = location(&path, request.query_string());
                    Ok(Response::new(308).header("Location", location))
                }
                (None, Some(fallback)) => fallback(request),
                (None, None) => Ok(Response::not_found()),
            },
        }
    }

    /// The same path with a slash at its end, or without, if there is a route for it.
    fn with_the_other_end(&self, path: Rest) -> Option<String> {
        let other = match path.raw().strip_suffix('/') {
            Some(path) => path.to_owned(),
            None => format!("{}/", path.raw()),
        };
        self.router.allowed(Rest::valid(&other)).map(|_| other)
    }
}

/// What a path allows: the answer to OPTIONS, or 405 (RFC 9110, sections 9.3.7 and 15.5.6).
fn allowing(request: &Request, allowed: String) -> Response {
    let status = if request.method() == "OPTIONS" { 200 } else { 405 };
    Response::new(status).header("Allow", allowed)
}

/// Sends a request through middleware to `end`, and the answer back.
fn through(layers: &[Box<Middleware>], request: &Request, end: Next) -> Response {
    match layers.split_first() {
        Some((first, rest)) => first(request, &|request| through(rest, request, end)),
        None => end(request),
    }
}

/// A handler with middleware around it.
fn inside(layers: Arc<Vec<Box<Middleware>>>, handler: Box<Handler>) -> Box<Handler> {
    if layers.is_empty() {
        return handler;
    }
    Box::new(move |request| Ok(through(&layers, request, &|request| guarded(|| handler(request)))))
}

/// Makes an answer of what comes out of a handler: an error, or a panic, is an answer as well.
fn guarded(handler: impl FnOnce() -> io::Result<Response>) -> Response {
    // What a panic leaves behind is not used again: the connection ends.
    match panic::catch_unwind(AssertUnwindSafe(handler)) {
        Ok(answered) => answered.unwrap_or_else(Response::failed).explained(),
        Err(_) => Response::refused(MISTAKE),
    }
}

const MISTAKE: Refused = Refused { status: 500, why: "this server has made a mistake" };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::see;
    use pretty_assertions::assert_eq;

    /// What an app answers to a request line: the status, and the field that says most.
    fn ask(app: &App, line: &str) -> (u16, String) {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\nOrigin: http://a.example\r\n\r\n");
        see(&head, |request| {
            let response = app.answer(request);
            let field = ["X-Way", "Location", "Allow"].iter().find_map(|name| response.get(name));
            (response.status(), field.unwrap_or_default().to_owned())
        })
    }

    fn named(name: &'static str) -> impl Fn(&Request) -> io::Result<Response> {
        move |_| Ok(Response::ok().header("X-Way", name))
    }

    /// A middleware that adds its name to the way that an answer has come.
    fn step(name: &'static str) -> impl Fn(&Request, Next) -> Response {
        move |request, next| {
            let response = next(request);
            let way = response.get("X-Way").unwrap_or_default();
            let way = format!("{name} {way}");
            Response::new(response.status()).header("X-Way", way)
        }
    }

    #[test]
    fn what_has_no_route_is_answered_by_the_router() {
        let mut app = App::new();
        app.get("/a/:id", |request| Ok(Response::ok().header("X-Way", request.param("id")?)));
        app.post("/a/:id", named("post"));
        app.get("/rest/*path", named("rest"));
        for (line, expected) in [
            ("GET /a/b%20c", (200, "b c")),
            ("HEAD /a/b", (200, "b")),
            ("GET /a/%ff", (400, "")),
            ("POST /a/b", (200, "post")),
            ("PUT /a/b", (405, "GET, HEAD, OPTIONS, POST")),
            ("OPTIONS /a/b", (200, "GET, HEAD, OPTIONS, POST")),
            ("OPTIONS *", (200, "GET, HEAD, OPTIONS, POST")),
            ("GET /a/b%2F/?c=%20", (308, "/a/b%2F?c=%20")),
            ("PUT /a/b/", (308, "/a/b")),
            ("GET /rest", (308, "/rest/")),
            ("GET //a/b/", (404, "")),
            ("GET /c/", (404, "")),
        ] {
            assert_eq!(ask(&app, line), (expected.0, expected.1.to_owned()), "{line}");
        }
        app.fallback(named("fallback"));
        assert_eq!(ask(&app, "PUT /c"), (200, "fallback".to_owned()));
    }

    #[test]
    fn middleware_is_around_everything_from_the_outside_in() {
        let mut inner = App::new();
        inner.wrap(step("inner"));
        inner.get("/", named("root"));
        inner.get("/:id", |_| Err(io::Error::other("broken")));
        let mut app = App::new();
        app.wrap(step("first"));
        app.wrap(step("second"));
        app.get("/a", named("a"));
        app.get("/panic", |_| panic::resume_unwind(Box::new("on purpose")));
        app.nest("/api", inner);
        for (line, expected) in [
            ("GET /a", (200, "first second a")),
            ("GET /api/", (200, "first second inner root")),
            ("GET /api/1", (500, "first second inner")),
            ("PUT /api/1", (405, "first second")),
            ("GET /panic", (500, "first second")),
            ("GET /missing", (404, "first second")),
        ] {
            assert_eq!(ask(&app, line), (expected.0, expected.1.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_routes_is_said_before_the_start() {
        let fault = |build: fn(&mut App)| {
            let mut app = App::new();
            app.get("/user/:id", named("user"));
            build(&mut app);
            app.checked().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(fault(|app| app.post("/user/:name", named("post"))), "");
        let sentence = fault(|app| app.get("/user/:name", named("other")));
        assert_eq!(sentence, "GET /user/:id and GET /user/:name are for the same requests");
        let api = || {
            let mut api = App::new();
            api.get("/:id", named("api"));
            api
        };
        let mut app = App::new();
        app.get("/user/:id", named("user"));
        app.nest("/user", api());
        assert!(app.checked().is_err());
        assert!(fault(|app| app.nest("/api/", App::new())).contains("ends with a slash"));
        assert!(fault(|app| app.get("/*all/more", named("all"))).contains("/*all/more"));
    }
}
