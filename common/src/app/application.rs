//! A program made of routes (stage 17's lasting form).

use std::io;

use crate::app::router::{Match, Router};
use crate::message::response::Response;
use crate::message::target::{Rest, location};
use crate::protocol::request::Request;
use crate::serve::service::Service;

/// A function that answers requests.
type Handler = dyn Fn(&Request) -> io::Result<Response> + Send + Sync;

/// A program made of routes: a method, a pattern of paths, and a function that answers.
///
/// ```no_run
/// use common::{App, Limits, Listener, Response, Service};
///
/// let mut app = App::new();
/// app.get("/", |_| Ok(Response::text("hello")));
/// app.get("/user/:id", |request| Ok(Response::text(request.param("id")?)));
/// app.post("/upload/*path", |request| {
///     let length = std::io::copy(&mut request.body()?, &mut std::io::sink())?;
///     Ok(Response::text(format!("{length} bytes")))
/// });
/// app.run(Service::new(Listener::bind(4221)?, Limits::default())?)?;
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
    router: Router<Box<Handler>>,
    fallback: Option<Box<Handler>>,
    /// What is wrong with the routes.
    fault: Option<String>,
}

impl Default for App {
    fn default() -> App {
        App::new()
    }
}

impl App {
    /// Creates a program without routes.
    pub fn new() -> App {
        App { router: Router::new(), fallback: None, fault: None }
    }

    /// Adds a route. A pattern that is wrong, and two routes for the same requests, are reported by [`App::run`].
    pub fn route(
        &mut self,
        method: &'static str,
        pattern: &'static str,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        if let Err(fault) = self.router.add(method, vec![pattern], Box::new(handler)) {
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

    /// Sets the function that answers requests for paths that have no route. At first they get 404.
    pub fn fallback(
        &mut self,
        handler: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        self.fallback = Some(Box::new(handler));
    }

    /// Adds the routes of another program below a prefix: its `/:id` is `/user/:id` here if the prefix is `/user`. Its
    /// fallback is dropped.
    pub fn nest(&mut self, prefix: &'static str, other: App) {
        let mut fault = other.fault;
        if prefix.ends_with('/') {
            fault.get_or_insert(format!("the prefix {prefix} ends with a slash"));
        }
        for route in other.router.into_routes() {
            let parts = [&[prefix][..], &route.parts].concat();
            let added = self.router.add(route.method, parts, route.target);
            fault = fault.or(added.err());
        }
        self.fault = self.fault.take().or(fault);
    }

    /// Answers the requests that reach a service, until it is stopped: see [`Service::run`].
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the routes. The service does not start then.
    pub fn run(self, service: Service) -> io::Result<bool> {
        if let Some(fault) = &self.fault {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, fault.clone()));
        }
        Ok(service.run(move |request| self.answer(request)))
    }

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// Those of the handler.
    pub fn answer(&self, request: &Request) -> io::Result<Response> {
        if request.target() == "*" {
            return Ok(allowing(request, self.router.allowed_anywhere()));
        }
        let path = request.full_path();
        match self.router.find(request.method(), path) {
            Match::Target(handler, parameters) => handler(&request.with_parameters(parameters)),
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
