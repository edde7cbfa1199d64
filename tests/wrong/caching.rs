//! Stage 15 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

use std::env;
use std::io;
use std::process::ExitCode;
use std::sync::OnceLock;

use common::{Directory, FileState, HttpDate, Request, Response, Rest, Site};

/// Whether this is the mistake that was chosen.
fn is(name: &str) -> bool {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| env::var("MISTAKE").unwrap_or_default()) == name
}

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
    let current = state.map(|state| etag(state, None));
    let fails = match &current {
        _ if is("stores-in-any-case") => false,
        Some(tag) => {
            has(request, "If-None-Match")
                || has(request, "If-Match") && !lists(request, "If-Match", tag)
        }
        None => has(request, "If-Match"),
    };
    if fails {
        return Ok(Response::new(412));
    }
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn etag(state: FileState, coding: Option<&str>) -> String {
    let modified = if is("tag-of-the-length") { 0 } else { state.modified.unwrap_or(0) };
    let coding = coding.filter(|_| !is("one-tag-for-two-codings")).unwrap_or_default();
    let tag = format!("{:x}-{modified:x}{coding}", state.length);
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
    let value = String::from_utf8_lossy(request.header(name).unwrap_or_default()).into_owned();
    let opaque = tag.trim_matches('"');
    if is("compares-the-whole-header") {
        return value == tag;
    } else if is("searches-for-the-tag") {
        return value.contains(opaque) || value == "*";
    } else if is("splits-at-commas") {
        let mut tags = value.split(',').map(|it| it.trim().trim_start_matches("W/"));
        return tags.next() == Some(tag) || value == "*";
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
    let Some(state) = response.file_state().filter(|_| response.status() == 200) else {
        return response;
    };
    let tag = etag(state, response.get("Content-Encoding"));
    let modified = u64::try_from(state.modified.unwrap_or(0) / 1_000_000_000).unwrap_or(0);
    let shown = if is("dates-in-the-future") { modified } else { modified.min(common::now()) };
    let response = response.header("Last-Modified", HttpDate::of(shown));
    let response = if is("no-tags") { response } else { response.header("ETag", tag.clone()) };
    let response = match cache_control(request.target(), max_age) {
        _ if is("says-nothing-about-caching") => response,
        value => response.header("Cache-Control", value),
    };
    let none_match = has(request, "If-None-Match") && lists(request, "If-None-Match", &tag);
    let since = date(request, "If-Modified-Since").is_some_and(|date| modified <= date);
    let is_same = match () {
        () if is("ignores-conditions") => false,
        () if is("prefers-dates") && has(request, "If-Modified-Since") => since,
        () if has(request, "If-None-Match") => none_match,
        () => since,
    };
    let fails = has(request, "If-Match") && !lists(request, "If-Match", &tag)
        || date(request, "If-Unmodified-Since").is_some_and(|date| modified > date);
    match () {
        () if fails && !is("ignores-preconditions") => Response::new(412),
        () if !is_same => response,
        () if is("304-without-vary") => {
            Response::new(304).header("ETag", tag).header("Cache-Control", "no-cache")
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
    let hash = stem.rsplit(['.', '-']).next().unwrap_or_default();
    let is_hash = hash.len() >= 8
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (hash.bytes().any(|byte| byte.is_ascii_alphabetic()) || is("dates-are-hashes"));
    match max_age {
        _ if is_hash && !is("nothing-is-immutable") => "max-age=31536000, immutable".to_owned(),
        Some(seconds) if !is("ignores-max-age") => format!("max-age={seconds}"),
        _ => "no-cache".to_owned(),
    }
}
