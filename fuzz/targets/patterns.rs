//! Patterns of routes. Whatever the patterns are, they are refused at the start, or a request gets the most exact one that
//! fits, found here in the slowest way.

#![no_main]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::Mutex;

use common::{App, Buffer, Response, Stream, read_request};
use libfuzzer_sys::fuzz_target;

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

/// A pattern is a text of the program, so it is kept for good.
fn lasting(pattern: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().expect("nobody panics");
    if let Some(pattern) = known.get(pattern) {
        return pattern;
    }
    let pattern: &'static str = Box::leak(pattern.to_owned().into_boxed_str());
    known.insert(pattern);
    pattern
}

/// How exact each segment of a pattern is: 0 is a text, 1 a parameter, 2 the rest. `None` if the pattern does not fit.
fn exactness(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    let mut path = Some(path);
    for segment in pattern.strip_prefix('/')?.split('/') {
        let (first, rest) = match path?.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path?, None),
        };
        if segment.starts_with('*') {
            found.push(2);
            return Some(found);
        }
        match segment.strip_prefix(':') {
            Some(_) if first.is_empty() => return None,
            Some(_) => found.push(1),
            None if decoded(first) != segment.as_bytes() => return None,
            None => found.push(0),
        }
        path = rest;
    }
    path.is_none().then_some(found)
}

/// The bytes that a segment of a path stands for.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = (first == b'%').then(|| after.get(..2)).flatten();
        let value = digits.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (patterns, path) = text.split_once("\n\n").unwrap_or((&text, "/a"));
    let mut app = App::new();
    let mut used = Vec::new();
    for pattern in patterns.lines().take(20) {
        let known = lasting(pattern);
        let number = used.len();
        used.push(known);
        app.get(known, move |_| Ok(Response::ok().header("X-Route", number.to_string())));
    }
    let checked = app.checked();
    for known in &used {
        assert!(checked.is_err() || known.starts_with('/'), "{known} fits no path");
    }
    let Ok(app) = checked else { return };
    let head = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path.lines().next().unwrap_or("/"));
    let _ = read_request(&mut Recorded(head.as_bytes()), &mut Buffer::new(), |request| {
        if request.method() != "GET" || request.target() == "*" {
            return;
        }
        let response = app.route_to(request).expect("the handlers do not fail");
        let found = response.get("X-Route").and_then(|number| number.parse::<usize>().ok());
        let path = request.full_path();
        let fitting = used.iter().enumerate().filter_map(|(number, pattern)| {
            exactness(pattern, path.raw()).map(|exactness| (exactness, number))
        });
        assert_eq!(found, fitting.min().map(|(_, number)| number), "{path:?} in {used:?}");
    });
});
