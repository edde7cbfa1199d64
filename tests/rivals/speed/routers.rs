//! How long it takes to find a route.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::Instant;

use common::{App, Buffer, Response, Stream, read_request};

const ROUNDS: usize = 5;

/// Patterns, as the stages and matchit write them, and a path for each.
const ROUTES: [(&str, &str, &str); 20] = [
    ("/", "/", "/"),
    ("/healthz", "/healthz", "/healthz"),
    ("/echo", "/echo", "/echo"),
    ("/echo/*text", "/echo/{*text}", "/echo/hello"),
    ("/files/*name", "/files/{*name}", "/files/a/b/c.txt"),
    ("/user/:id", "/user/{id}", "/user/10"),
    ("/user/:id/posts", "/user/{id}/posts", "/user/10/posts"),
    ("/user/:id/posts/:post", "/user/{id}/posts/{post}", "/user/10/posts/5"),
    ("/user/me", "/user/me", "/user/me"),
    ("/user/me/settings", "/user/me/settings", "/user/me/settings"),
    ("/data", "/data", "/data"),
    ("/data/:id", "/data/{id}", "/data/123456"),
    ("/data/events", "/data/events", "/data/events"),
    ("/repos/:owner/:name", "/repos/{owner}/{name}", "/repos/a/b"),
    ("/repos/:owner/:name/issues", "/repos/{owner}/{name}/issues", "/repos/a/b/issues"),
    ("/repos/:owner/:name/issues/:id", "/repos/{owner}/{name}/issues/{id}", "/repos/a/b/issues/7"),
    ("/repos/:owner/:name/pulls", "/repos/{owner}/{name}/pulls", "/repos/a/b/pulls"),
    ("/repos/:owner/:name/pulls/:id", "/repos/{owner}/{name}/pulls/{id}", "/repos/a/b/pulls/7"),
    ("/search", "/search", "/search"),
    ("/static/*path", "/static/{*path}", "/static/css/a.css"),
];

/// Returns how long it takes to choose one of twenty routes. Each choice comes with an empty answer, so that both routers do
/// the same.
pub fn compare() -> String {
    const CHOICES: u32 = 20_000;
    let mut app = App::new();
    let mut matchit = matchit::Router::new();
    for (ours, theirs, _) in ROUTES {
        app.get(ours, |_| Ok(Response::ok()));
        matchit.insert(theirs, ()).expect("the patterns do not collide");
    }
    let time = |choose: &dyn Fn()| {
        let start = Instant::now();
        (0..CHOICES).for_each(|_| choose());
        start.elapsed().as_nanos() as f64 / f64::from(CHOICES)
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let mut sums = [0.0, 0.0];
        for (.., path) in ROUTES {
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let ours =
                read_request(&mut Recorded(head.as_bytes()), &mut Buffer::new(), |request| {
                    time(&|| drop(black_box(app.route_to(request))))
                });
            sums[0] += ours.expect("the request is right");
            sums[1] += time(&|| {
                black_box(matchit.at(path)).expect("there is a route");
                drop(black_box(Response::ok()));
            });
        }
        (0..2).for_each(|which| times[which].push(sums[which] / ROUTES.len() as f64));
    }
    let [ours, theirs] = times.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    format!(
        "| nanoseconds for one of 20 routes, and an empty answer | App | matchit |\n|---|---:|---:|\n\
         | on average | {ours:.0} | {theirs:.0} |\n"
    )
}

/// A client whose request was recorded.
struct Recorded<'b>(&'b [u8]);

impl Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Recorded<'_> {}
