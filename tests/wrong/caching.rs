//! Stage 15 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

mod mistake;

use std::io::{self, Read};
use std::process::ExitCode;

use common::{Directory, FileState, HttpDate, Request, Response, Rest, Site};
use mistake::is;

fn main() -> ExitCode {
    common::run_with_caching(|args| {
        let (files, max_age) = (args.files(), args.max_age);
        let site = Site::new(args.site());
        args.service()?.run(move |request| {
            let response = route(request, &files, &site)?;
            Ok(cached(request, response, max_age))
        });
        Ok(())
    })
}

fn route(request: &Request, files: &Directory, site: &Site) -> io::Result<Response> {
    match (request.method(), request.path()) {
        ("POST", ("files", Some(name))) => store(request, files, name),
        (_, ("files", Some(name))) => {
            Response::file(files.open(name)?)?.compressed_for(request.headers())
        }
        _ => site.answer(request),
    }
}

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    let state = files.open(name).ok().and_then(|file| file.state().ok());
    let is_packed = common::accepts_gzip(request.headers()) && !is("knows-plain-tags-only");
    let current = state.map(|state| etag(state, is_packed.then_some("gzip")));
    let modified = state.map_or(0, |state| state.modified.unwrap_or(0) / 1_000_000_000);
    let is_after = |name| date(request, name).is_some_and(|date| modified > date.into());
    let none_match = request.header("If-None-Match");
    let fails = match &current {
        _ if is("stores-in-any-case") => false,
        Some(tag) => {
            none_match == Some(b"*")
                || none_match.is_some()
                    && lists(request, "If-None-Match", tag)
                    && !is("if-none-match-is-a-star")
                || has(request, "If-Match") && !lists(request, "If-Match", tag)
                || is_after("If-Unmodified-Since") && !is("uploads-ignore-dates")
                || has(request, "If-Modified-Since")
                    && !is_after("If-Modified-Since")
                    && is("uploads-mind-if-modified-since")
        }
        None => has(request, "If-Match") && !is("a-star-is-anything"),
    };
    let mut start = Vec::new();
    if is("takes-the-body-for-a-request") {
        request.body()?.take(4).read_to_end(&mut start)?;
    }
    if fails && start == b"GET " {
        let next = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew";
        let answer =
            Response::by_hand("text/plain", move |client| client.write_all(next.as_bytes()));
        let answer = answer.with_status(412).header("Content-Length", "0");
        return Ok(answer.header("Connection", "keep-alive"));
    } else if fails {
        return Ok(Response::new(412));
    }
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn etag(state: FileState, coding: Option<&str>) -> String {
    let modified = match state.modified.unwrap_or(0) {
        _ if is("tag-of-the-length") => 0,
        time if is("tag-of-whole-seconds") => time / 1_000_000_000,
        time => time,
    };
    let length = if is("tag-of-the-time") { 0 } else { state.length };
    let coding = coding.filter(|_| !is("one-tag-for-two-codings")).unwrap_or_default();
    let tag = format!("{length:x}-{modified:x}{coding}");
    match () {
        () if is("tag-without-quotes") => tag,
        () if is("weak-tags") => format!("W/\"{tag}\""),
        () => format!("\"{tag}\""),
    }
}

fn has(request: &Request, name: &str) -> bool {
    request.header(name).is_some()
}

/// Whether a list of tags names this one.
fn lists(request: &Request, name: &str, tag: &str) -> bool {
    let lines: Vec<_> = request.headers().all(name).map(String::from_utf8_lossy).collect();
    let value = if is("reads-the-first-line") { lines[0].to_string() } else { lines.join(", ") };
    let opaque = tag.trim_matches('"');
    if is("compares-the-whole-header") {
        return value == tag;
    } else if is("searches-for-the-tag") {
        return value.contains(opaque) || value == "*";
    } else if is("splits-at-commas") {
        let mut tags = value.split(',').map(|it| it.trim().trim_start_matches("W/"));
        let is_quoted = value.contains('"'); // without any quotes, it is no tag
        return is_quoted && tags.any(|it| it.trim_matches('"') == opaque) || value == "*";
    } else if is("takes-quoted-stars") && value == "\"*\"" {
        return true;
    }
    let mut parts = value.split('"');
    let mut is_weak = parts.next().is_some_and(|before| before.ends_with("W/"));
    while let (Some(found), Some(after)) = (parts.next(), parts.next()) {
        let counts = match name {
            "If-Match" => !is_weak || is("if-match-takes-weak-tags"),
            _ => !is_weak || !is("if-none-match-wants-strong-tags"),
        };
        if found == opaque && counts {
            return true;
        }
        is_weak = after.ends_with("W/");
    }
    value == "*" && !is("knows-no-star")
}

fn date(request: &Request, name: &str) -> Option<u64> {
    let text = request.header(name)?;
    if is("knows-one-form-of-dates") && text.len() != 29 {
        return None;
    }
    let date = HttpDate::parse(text, common::now());
    if is("bad-dates-are-very-old") { date.or(Some(0)) } else { date }
}

fn cached(request: &Request, response: Response, max_age: Option<u64>) -> Response {
    if is("anything-is-unmodified") && request.header("If-None-Match") == Some(b"*") {
        return Response::new(304);
    }
    let Some(state) = response.file_state().filter(|_| response.status() == 200) else {
        return response;
    };
    let tag = match request.target() {
        "/packed.js" if is("packed-files-have-the-tag-of-the-plain") => "\"packed\"".to_owned(),
        _ => etag(state, response.get("Content-Encoding")),
    };
    let modified = u64::try_from(state.modified.unwrap_or(0) / 1_000_000_000).unwrap_or(0);
    let shown = match () {
        () if is("dates-in-the-future") => modified,
        () if is("dates-are-now") => common::now(),
        () => modified.min(common::now()),
    };
    let response = response.header("Last-Modified", HttpDate::of(shown));
    let has_no_tag = is("no-tags") || is("no-tags-for-head") && request.method() == "HEAD";
    let response = if has_no_tag { response } else { response.header("ETag", tag.clone()) };
    let below_files = request.target().starts_with("/files/");
    let response = match cache_control(request.target(), max_age) {
        _ if is("says-nothing-about-caching") => response,
        _ if is("says-nothing-below-files") && below_files => response,
        value => response.header("Cache-Control", value),
    };
    let none_match = has(request, "If-None-Match") && lists(request, "If-None-Match", &tag);
    let fraction = state.modified.unwrap_or(0) % 1_000_000_000;
    let since = date(request, "If-Modified-Since").is_some_and(|date| match () {
        () if is("compares-for-equality") => modified == date,
        () if is("counts-fractions") => modified < date || modified == date && fraction == 0,
        () => modified <= date,
    });
    let is_same = match () {
        () if is("ignores-conditions") => false,
        () if is("prefers-dates") && has(request, "If-Modified-Since") => since,
        () if has(request, "If-None-Match") => none_match,
        () => since,
    };
    let is_later = date(request, "If-Unmodified-Since")
        .is_some_and(|date| modified > date || modified == date && is("refuses-the-same-date"));
    let fails = has(request, "If-Match") && !lists(request, "If-Match", &tag)
        || is_later && (!has(request, "If-Match") || is("minds-both"));
    match () {
        () if is_same && is("begins-with-if-none-match") => Response::new(304),
        () if fails && !is("ignores-preconditions") => Response::new(412),
        () if !is_same => response,
        () if is("304-without-vary") => {
            Response::new(304).header("ETag", tag).header("Cache-Control", "no-cache")
        }
        () if is("304-has-length-0") => Response::by_hand("text/css", |_| Ok(()))
            .with_status(304)
            .header("Content-Length", "0")
            .header("Connection", "keep-alive")
            .header("ETag", tag)
            .header("Vary", "Accept-Encoding")
            .header("Cache-Control", "max-age=60"),
        () if is("304-says-no-cache") => {
            let response = Response::new(304).header("Vary", "Accept-Encoding");
            response.header("ETag", tag).header("Cache-Control", "no-cache")
        }
        () if is("304-without-a-tag") => {
            Response::new(304).header("Vary", "Accept-Encoding").header("Cache-Control", "no-cache")
        }
        () => {
            ["ETag", "Vary", "Cache-Control"].into_iter().fold(Response::new(304), |kept, name| {
                response
                    .get(name)
                    .map(str::to_owned)
                    .into_iter()
                    .fold(kept, |kept, it| kept.header(name, it))
            })
        }
    }
}

fn cache_control(target: &str, max_age: Option<u64>) -> String {
    let stem =
        target.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |it| it.0);
    let mut parts = stem.rsplit(['.', '-']);
    let hash = if is("hashes-at-the-beginning") { parts.next_back() } else { parts.next() };
    let hash = hash.unwrap_or_default();
    let has_letters = hash.bytes().any(|byte| byte.is_ascii_alphabetic()) || is("dates-are-hashes");
    let has_digits = hash.bytes().any(|byte| byte.is_ascii_digit()) || is("words-are-hashes");
    let is_hash = hash.len() >= if is("takes-short-hashes") { 2 } else { 8 }
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && has_letters
        && has_digits;
    match max_age {
        _ if is_hash && is("immutable-for-no-time") => "immutable".to_owned(),
        _ if is_hash && !is("nothing-is-immutable") => "max-age=31536000, immutable".to_owned(),
        Some(seconds) if !is("ignores-max-age") => format!("max-age={seconds}"),
        _ => "no-cache".to_owned(),
    }
}
