//! Which route a request is for (stage 17's lasting form).
//!
//! The routes are a tree of segments. A path is followed from the root, and at each node what is more exact is tried
//! first: a name, then a parameter, then the rest. What does not lead to a route is given up, and the next is tried.
//! A path of any length visits each node at most once.

use crate::app::pattern::{Segment, parameter, parse};
use crate::message::target::Rest;
use crate::protocol::request::Parameter;

/// The targets of requests, by pattern and method.
#[derive(Debug)]
pub(crate) struct Router<T> {
    routes: Vec<Route<T>>,
    root: Node,
}

#[derive(Debug)]
pub(crate) struct Route<T> {
    pub(crate) method: &'static str,
    /// The pattern, in one part or several.
    pub(crate) parts: Vec<&'static str>,
    parameters: Vec<Place>,
    pub(crate) target: T,
}

/// Where in a path the value of a parameter is.
#[derive(Debug)]
struct Place {
    name: &'static str,
    /// How many slashes are before it.
    depth: usize,
    /// Whether it goes on to the end of the path.
    is_rest: bool,
}

/// A node of the tree. It knows the routes by their index.
#[derive(Debug, Default)]
struct Node {
    /// The nodes for names, sorted by [`key`].
    names: Vec<(&'static str, Node)>,
    parameter: Option<Box<Node>>,
    /// The routes whose pattern ends here.
    routes: Vec<usize>,
    /// The routes whose rest begins here.
    rests: Vec<usize>,
}

/// What a router knows about a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Match<'r, 'p, T> {
    /// The target of the most exact route with this path and method, and what its parameters stand for.
    Target(&'r T, Vec<Parameter<'p>>),
    /// There are routes with this path, but not with this method: the value of `Allow`.
    OtherMethods(String),
    /// There is no route with this path.
    Nothing,
}

impl<T> Router<T> {
    pub(crate) fn new() -> Router<T> {
        Router { routes: Vec::new(), root: Node::default() }
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// A sentence about a pattern that is wrong, or about two routes for the same requests.
    pub(crate) fn add(
        &mut self,
        method: &'static str,
        parts: Vec<&'static str>,
        target: T,
    ) -> Result<(), String> {
        let mut segments = Vec::new();
        for part in &parts {
            let why = |why| format!("the pattern {} {why}", parts.concat());
            segments.extend(parse(part).map_err(why)?);
        }
        let place = self.root.place(&segments);
        if let Some(&other) = place.iter().find(|&&index| self.routes[index].method == method) {
            let patterns = [self.routes[other].parts.concat(), parts.concat()];
            return Err(format!(
                "{} are for the same requests",
                patterns.map(|it| format!("{method} {it}")).join(" and ")
            ));
        }
        place.push(self.routes.len());
        let parameters = segments.iter().enumerate().filter_map(|(depth, segment)| {
            let is_rest = matches!(segment, Segment::Rest(_));
            Some(Place { name: parameter(segment)?, depth, is_rest })
        });
        let parameters = parameters.collect();
        self.routes.push(Route { method, parts, parameters, target });
        Ok(())
    }

    /// Returns all routes.
    pub(crate) fn into_routes(self) -> Vec<Route<T>> {
        self.routes
    }

    /// Finds the most exact route for a method and a path. HEAD is answered by the routes for GET, unless one of its
    /// own is just as exact.
    pub(crate) fn find<'p>(&self, method: &str, path: Rest<'p>) -> Match<'_, 'p, T> {
        let mut others = Vec::new();
        let found = self.root.search(Some(path), &mut |indices| {
            let find = |method| indices.iter().find(|&&index| self.routes[index].method == method);
            let found = find(method).or_else(|| find("GET").filter(|_| method == "HEAD"));
            if found.is_none() {
                others.extend(indices.iter().map(|&index| self.routes[index].method));
            }
            found.copied()
        });
        match found.map(|index| &self.routes[index]) {
            Some(Route { target, parameters, .. }) => {
                Match::Target(target, parameters.iter().map(|place| place.value(path)).collect())
            }
            None if others.is_empty() => Match::Nothing,
            None => Match::OtherMethods(allow(others)),
        }
    }

    /// The value of `Allow` for a path: the methods of all routes that it fits. `None` if it fits none.
    pub(crate) fn allowed(&self, path: Rest) -> Option<String> {
        let mut methods = Vec::new();
        self.root.search(Some(path), &mut |indices| {
            methods.extend(indices.iter().map(|&index| self.routes[index].method));
            None
        });
        (!methods.is_empty()).then(|| allow(methods))
    }

    /// The value of `Allow` for the server as a whole: the methods of all routes.
    pub(crate) fn allowed_anywhere(&self) -> String {
        allow(self.routes.iter().map(|route| route.method).collect())
    }
}

impl Place {
    /// The parameter, and what it stands for in a path that fits its pattern.
    fn value<'p>(&self, path: Rest<'p>) -> Parameter<'p> {
        let mut left = path;
        for _ in 0..self.depth {
            left = left.split_first().1.unwrap_or(Rest::valid(""));
        }
        (self.name, if self.is_rest { left } else { left.split_first().0 })
    }
}

/// A list of methods for `Allow`, with those that the router answers by itself.
fn allow(mut methods: Vec<&str>) -> String {
    methods.extend(methods.contains(&"GET").then_some("HEAD"));
    methods.push("OPTIONS");
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

/// Chooses one of the routes that a path fits.
type Choose<'c> = dyn FnMut(&[usize]) -> Option<usize> + 'c;

impl Node {
    /// The routes of a pattern. Nodes that are missing on the way are added.
    fn place(&mut self, segments: &[Segment]) -> &mut Vec<usize> {
        let Some((first, rest)) = segments.split_first() else { return &mut self.routes };
        match *first {
            Segment::Rest(_) => &mut self.rests,
            Segment::Parameter(_) => self.parameter.get_or_insert_default().place(rest),
            Segment::Name(name) => {
                let found = self.names.binary_search_by_key(&key(name), |(name, _)| key(name));
                let at = found.unwrap_or_else(|at| {
                    self.names.insert(at, (name, Node::default()));
                    at
                });
                self.names[at].1.place(rest)
            }
        }
    }

    /// Offers the routes that a path fits to `choose`, the most exact first, until it chooses one.
    fn search(&self, path: Option<Rest>, choose: &mut Choose) -> Option<usize> {
        let Some(path) = path else { return choose(&self.routes) };
        let (segment, rest) = path.split_first();
        let parameter = || self.parameter.as_deref().filter(|_| !segment.raw().is_empty());
        let named = self.named(segment).and_then(|node| node.search(rest, choose));
        named
            .or_else(|| parameter().and_then(|node| node.search(rest, choose)))
            .or_else(|| choose(&self.rests))
    }

    /// The node for a segment that is a name. It is decoded first; one that is not text has no node.
    fn named(&self, segment: Rest) -> Option<&Node> {
        if self.names.is_empty() {
            return None;
        }
        let decoded = segment.has_escapes().then(|| segment.decode());
        let name = match &decoded {
            Some(decoded) => decoded.as_ref().ok()?,
            None => segment.raw(),
        };
        let at = self.names.binary_search_by_key(&key(name), |(name, _)| key(name)).ok()?;
        Some(&self.names[at].1)
    }
}

/// By what names are sorted: lengths are compared faster than texts.
fn key(name: &str) -> (usize, &str) {
    (name.len(), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    /// A router whose targets are the patterns.
    fn router(routes: &[(&'static str, &'static str)]) -> Router<&'static str> {
        let mut router = Router::new();
        for (method, pattern) in routes {
            router.add(method, vec![pattern], *pattern).expect("the pattern is right");
        }
        router
    }

    fn get<'r, 'p>(router: &'r Router<&'static str>, path: &'p str) -> (&'r str, Vec<&'p str>) {
        match router.find("GET", Rest::valid(path)) {
            Match::Target(pattern, values) => {
                (pattern, values.into_iter().map(|(_, value)| value.raw()).collect())
            }
            other => (if other == Match::Nothing { "nothing" } else { "405" }, vec![]),
        }
    }

    #[test]
    fn the_more_exact_route_answers() {
        let patterns =
            ["/", "/a/b/d", "/a/:x", "/a/:x/c", "/a/*rest", "/:x/:y/:z", "/f/*rest", "/g/"];
        for patterns in [patterns, {
            let mut it = patterns;
            it.reverse();
            it
        }] {
            let router = router(&patterns.map(|pattern| ("GET", pattern)));
            for (path, expected) in [
                ("", ("/", vec![])),
                ("a/b/d", ("/a/b/d", vec![])),
                ("a/b/c", ("/a/:x/c", vec!["b"])),
                ("a/b", ("/a/:x", vec!["b"])),
                ("a/b/e", ("/a/*rest", vec!["b/e"])),
                ("a/", ("/a/*rest", vec![""])),
                ("a//c", ("/a/*rest", vec!["/c"])),
                ("a", ("nothing", vec![])),
                ("b/c/d", ("/:x/:y/:z", vec!["b", "c", "d"])),
                ("b/c/d/e", ("nothing", vec![])),
                ("f/c/d", ("/f/*rest", vec!["c/d"])),
                ("g/", ("/g/", vec![])),
                ("g", ("nothing", vec![])),
                ("%61/%62/d", ("/a/b/d", vec![])),
                ("a%2Fb/d/e", ("/:x/:y/:z", vec!["a%2Fb", "d", "e"])),
                ("%ff/d/e", ("/:x/:y/:z", vec!["%ff", "d", "e"])),
            ] {
                assert_eq!(get(&router, path), expected, "{path}");
            }
        }
    }

    #[test]
    fn a_method_belongs_to_the_route() {
        let routes = [
            ("POST", "/a/b"),
            ("GET", "/a/:x"),
            ("DELETE", "/a/:y"),
            ("HEAD", "/h"),
            ("PUT", "/h"),
        ];
        let router = router(&routes);
        assert_eq!(get(&router, "a/b").0, "/a/:x");
        let find = |method, path| router.find(method, Rest::valid(path));
        assert_eq!(find("POST", "a/b"), Match::Target(&"/a/b", vec![]));
        assert_eq!(find("HEAD", "a/b"), Match::Target(&"/a/:x", vec![("x", Rest::valid("b"))]));
        assert_eq!(find("DELETE", "a/b"), Match::Target(&"/a/:y", vec![("y", Rest::valid("b"))]));
        assert_eq!(
            find("PUT", "a/b"),
            Match::OtherMethods("DELETE, GET, HEAD, OPTIONS, POST".into())
        );
        assert_eq!(find("PUT", "a/c"), Match::OtherMethods("DELETE, GET, HEAD, OPTIONS".into()));
        assert_eq!(find("GET", "h"), Match::OtherMethods("HEAD, OPTIONS, PUT".into()));
        assert_eq!(find("PUT", "b"), Match::Nothing);
        assert_eq!(router.allowed_anywhere(), "DELETE, GET, HEAD, OPTIONS, POST, PUT");
    }

    #[test]
    fn routes_for_the_same_requests_are_refused_by_name() {
        for (one, other) in [("/a", "/a"), ("/:a/b", "/:b/b"), ("/a/*b", "/a/*c")] {
            let mut router = router(&[("GET", one)]);
            let sentence = format!("GET {one} and GET {other} are for the same requests");
            assert_eq!(router.add("GET", vec![other], ""), Err(sentence));
            assert_eq!(router.add("PUT", vec![other], ""), Ok(()));
        }
        let sentence =
            router(&[]).add("GET", vec!["/api", "/a?b"], "").expect_err("that is no path");
        assert!(sentence.starts_with("the pattern /api/a?b has a ? or a #"), "{sentence}");
    }

    const SEGMENTS: [&str; 4] = ["a", "b", ":x", "*x"];

    /// Patterns of up to three segments: all that there are.
    fn patterns() -> Vec<Vec<&'static str>> {
        let mut all = vec![vec![]];
        let mut longest = all.clone();
        for _ in 0..3 {
            let longer = longest.iter().filter(|it: &&Vec<_>| it.last() != Some(&"*x"));
            longest =
                longer.flat_map(|it| SEGMENTS.map(|last| [&it[..], &[last]].concat())).collect();
            all.extend(longest.clone());
        }
        all.into_iter().skip(1).collect()
    }

    /// A pattern as text, with the names `x0`, `x1` … for its parameters.
    fn text(pattern: &[&str], parameter: fn(usize) -> String, rest: fn(usize) -> String) -> String {
        let segments = pattern.iter().enumerate().map(|(index, segment)| match *segment {
            ":x" => parameter(index),
            "*x" => rest(index),
            name => name.to_owned(),
        });
        segments.map(|segment| format!("/{segment}")).collect()
    }

    proptest! {
        /// matchit has no rest that stands for nothing, so the paths have no slash at their end. And it takes no parameter
        /// beside a rest, so such patterns are left out.
        #[test]
        fn another_router_agrees(
            patterns in subsequence(patterns(), 1..12),
            paths in prop::collection::vec("[abc](/[abc]){0,3}", 1..20),
        ) {
            let (mut ours, mut theirs) = (Router::new(), matchit::Router::new());
            for (number, pattern) in patterns.iter().enumerate() {
                let theirs_too = text(pattern, |it| format!("{{x{it}}}"), |it| format!("{{*x{it}}}"));
                if theirs.insert(theirs_too, number).is_ok() {
                    let ours_too = text(pattern, |it| format!(":x{it}"), |it| format!("*x{it}"));
                    ours.add("GET", vec![ours_too.leak()], number).expect("no two are the same");
                }
            }
            for path in paths {
                let found = match ours.find("GET", Rest::valid(&path)) {
                    Match::Target(number, values) => {
                        let values = values.iter().map(|(name, value)| format!("{name}={}", value.raw()));
                        Some((*number, values.collect::<Vec<_>>()))
                    }
                    _ => None,
                };
                let path = format!("/{path}");
                let expected = theirs.at(&path).ok().map(|found| {
                    let values = found.params.iter().map(|(name, value)| format!("{name}={value}"));
                    (*found.value, values.collect::<Vec<_>>())
                });
                prop_assert_eq!(found, expected, "{} in {:?}", path, patterns);
            }
        }
    }
}
