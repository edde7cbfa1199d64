//! Routes with patterns. Of those that fit a path, the more exact one answers.

use std::io;

use common::{Request, Response, Rest};

/// A part of a pattern, between two of its slashes.
#[derive(Debug, Clone, Copy)]
enum Segment {
    /// `user`: this text.
    Name(&'static str),
    /// `:id`: any text that is not empty.
    Parameter(&'static str),
    /// `*path`: all that is left of the path, with its slashes; perhaps nothing.
    Rest(&'static str),
}

impl Segment {
    fn parse(text: &'static str) -> Segment {
        match (text.strip_prefix(':'), text.strip_prefix('*')) {
            (Some(name), _) => Segment::Parameter(name),
            (_, Some(name)) => Segment::Rest(name),
            _ => Segment::Name(text),
        }
    }

    /// The smaller, the more exact. Two segments with the same key fit the same texts.
    fn key(&self) -> (u8, &str) {
        match self {
            Segment::Name(name) => (0, name),
            Segment::Parameter(_) => (1, ""),
            Segment::Rest(_) => (2, ""),
        }
    }
}

/// What the parameters of a pattern stand for.
#[derive(Default)]
pub struct Params<'a>(Vec<(&'static str, Rest<'a>)>);

impl<'a> Params<'a> {
    /// What a parameter stands for, decoded.
    pub fn text(&self, name: &str) -> io::Result<String> {
        Ok(self.raw(name)?.decode()?)
    }

    /// The same, as the client sent it.
    pub fn raw(&self, name: &str) -> io::Result<Rest<'a>> {
        let found = self.0.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
        found.ok_or_else(|| io::Error::other(format!("no pattern has the parameter {name}")))
    }
}

/// A function that answers. Several threads may call it at the same time.
type Handler = dyn Fn(&Request, &Params) -> io::Result<Response> + Send + Sync;

struct Route {
    method: &'static str,
    pattern: &'static str,
    segments: Vec<Segment>,
    handler: Box<Handler>,
}

impl Route {
    fn key(&self) -> (Vec<(u8, &str)>, &str) {
        (self.segments.iter().map(Segment::key).collect(), self.method)
    }
}

#[derive(Default)]
pub struct App {
    routes: Vec<Route>,
}

impl App {
    /// Adds a route. A pattern begins with a slash.
    pub fn on(
        &mut self,
        method: &'static str,
        pattern: &'static str,
        handler: impl Fn(&Request, &Params) -> io::Result<Response> + Send + Sync + 'static,
    ) {
        let segments = pattern.split('/').skip(1).map(Segment::parse).collect();
        self.routes.push(Route { method, pattern, segments, handler: Box::new(handler) });
    }

    /// Puts the more exact routes first. Fails if two routes are for the same requests.
    pub fn sorted(mut self) -> io::Result<App> {
        self.routes.sort_by(|a, b| a.key().cmp(&b.key()));
        match self.routes.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            Some([a, b]) => Err(io::Error::other(format!(
                "{} {} and {} are for the same requests",
                a.method, a.pattern, b.pattern
            ))),
            _ => Ok(self),
        }
    }

    /// Answers with the first route that fits. If no pattern fits the path, `otherwise` answers.
    pub fn answer(
        &self,
        request: &Request,
        otherwise: impl Fn(&Request) -> io::Result<Response>,
    ) -> io::Result<Response> {
        if request.target() == "*" {
            return Ok(allowing(request, self.routes.iter().map(|route| route.method)));
        }
        let path = request.full_path();
        let routes = self.routes.iter();
        let fitting = routes.filter_map(|route| Some((route, fit(&route.segments, path)?)));
        let fitting: Vec<(&Route, Params)> = fitting.collect();
        let method = if request.method() == "HEAD" { "GET" } else { request.method() };
        if let Some((route, params)) = fitting.iter().find(|(route, _)| route.method == method) {
            return (route.handler)(request, params);
        }
        if !fitting.is_empty() {
            return Ok(allowing(request, fitting.iter().map(|(route, _)| route.method)));
        }
        match self.with_the_other_end(path) {
            Some(path) => Ok(moved(&path, request.query_string())),
            None => otherwise(request),
        }
    }

    /// `/a/` for `/a`, or `/a` for `/a/`, if there is a route for it.
    fn with_the_other_end(&self, path: Rest) -> Option<String> {
        let mut all = self.routes.iter().map(|route| &route.segments[..]);
        if let Some(folder) = path.folder() {
            let fits = all.any(|segments| fit(segments, folder).is_some());
            return fits.then(|| format!("/{}", folder.raw()));
        }
        let fits = all.any(|segments| match segments.split_last() {
            Some((Segment::Rest(_) | Segment::Name(""), before)) => fit(before, path).is_some(),
            _ => false,
        });
        fits.then(|| format!("/{}/", path.raw()))
    }
}

/// Splits the path at its slashes, and compares one segment after another. A segment is decoded alone, so an escaped
/// slash stays inside of it.
fn fit<'a>(segments: &[Segment], path: Rest<'a>) -> Option<Params<'a>> {
    let mut params = Params::default();
    let mut left = Some(path);
    for segment in segments {
        let rest = left?;
        let (part, after) = rest.split_first();
        match segment {
            Segment::Rest(name) => {
                params.0.push((name, rest));
                return Some(params);
            }
            Segment::Parameter(name) if !part.raw().is_empty() => params.0.push((name, part)),
            Segment::Name(name) if part.decode().is_ok_and(|text| text == *name) => {}
            _ => return None,
        }
        left = after;
    }
    left.is_none().then_some(params)
}

/// The answer when patterns fit the path, and none of them has the method.
fn allowing(request: &Request, methods: impl Iterator<Item = &'static str>) -> Response {
    let mut allowed: Vec<_> = methods.chain(["OPTIONS"]).collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    allowed.sort_unstable();
    allowed.dedup();
    let status = if request.method() == "OPTIONS" { 200 } else { 405 };
    Response::new(status).header("Allow", allowed.join(", "))
}

/// 308: the same request, with its method and its body, belongs to another path.
fn moved(path: &str, query: Option<&str>) -> Response {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    Response::new(308).header("Location", format!("{path}{query}"))
}
