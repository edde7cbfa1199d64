//! Stage 16 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

mod mistake;

use std::io;
use std::process::ExitCode;

use common::{Directory, Request, Response, Site};
use mistake::is;

fn main() -> ExitCode {
    common::run_with_caching(|args| {
        let (files, pages) = (args.files(), args.site());
        let site = Site::new(pages.clone());
        args.service()?.run(move |request| {
            let is_ranged_head = request.method() == "HEAD" && request.header("Range").is_some();
            let response = match is("a-range-makes-head-plain") && is_ranged_head {
                true => Response::file(pages.open(request.full_path())?)?,
                false => route(request, &files, &site)?,
            };
            let ranges_first = is("ranges-before-conditions");
            let response = if ranges_first { ranged(request, response) } else { response };
            let response = common::cached(request, response, None, common::now());
            Ok(if ranges_first { response } else { ranged(request, response) })
        });
        Ok(())
    })
}

fn route(request: &Request, files: &Directory, site: &Site) -> io::Result<Response> {
    match request.path() {
        ("files", Some(name)) => {
            let response = Response::file(files.open(name)?)?;
            let has_range = request.header("Range").is_some();
            match has_range && !is("compresses-below-files") {
                true => Ok(response.header("Vary", "Accept-Encoding")),
                false => response.compressed_for(request.headers()),
            }
        }
        _ => {
            let response = site.answer(request)?;
            if is("compresses-parts") {
                response.compressed_for(request.headers())
            } else {
                Ok(response)
            }
        }
    }
}

fn ranged(request: &Request, response: Response) -> Response {
    let is_file = response.file_state().is_some();
    if !is_file || response.status() != 200 && !is("cuts-the-404-page") {
        return response;
    }
    let Some(length) = response.length() else { return response };
    let response = match is("hides-that-it-can") {
        true => response,
        false => response.header("Accept-Ranges", "bytes"),
    };
    let range = String::from_utf8_lossy(request.header("Range").unwrap_or_default()).into_owned();
    let is_same = is_same(request, &response) || is("416-before-if-range") && range == "bytes=10-";
    if request.method() != "GET" && !is("cuts-head") || is("ignores-ranges") || !is_same {
        return response;
    }
    let refused = |length: u64| match is("416-without-the-length") {
        true => Response::new(416),
        false => Response::new(416).header("Content-Range", format!("bytes */{length}")),
    };
    let Some(range) = range
        .strip_prefix("bytes=")
        .or(range.split_once("bytes=").map(|it| it.1).filter(|_| is("searches-for-bytes")))
        .or(range.split_once('=').map(|it| it.1).filter(|_| is("any-unit")))
    else {
        return response;
    };
    let range = match range.split_once(',') {
        Some((first, _)) if is("takes-the-first-range") => first,
        Some(_) if is("refuses-several") => return refused(length),
        Some(_) => return response,
        None => range,
    };
    let Some((first, last)) = range.split_once('-') else { return response };
    if is("large-numbers-are-errors") && last.len() > 30 {
        return Response::new(500);
    }
    let number = |text: &str| match () {
        () if is("takes-signs") => text.parse::<u64>().ok(),
        () if is("knows-underscores") => text.replace('_', "").parse().ok(),
        () if is("stops-after-the-digits") => {
            text.trim_end_matches(|it: char| it.is_ascii_alphabetic()).parse().ok()
        }
        () => text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
    };
    let (from, to) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last && is("416-for-nonsense") => {
            return refused(length);
        }
        (Some(first), Some(last)) if first > last => return response,
        (Some(first), Some(last)) => (first, last),
        (Some(first), None) if last.is_empty() => (first, length.saturating_sub(1)),
        (None, Some(count)) if first.is_empty() && is("last-bytes-from-the-start") => {
            (0, count.saturating_sub(1))
        }
        (None, Some(0)) if first.is_empty() => return refused(length),
        (None, Some(count)) if first.is_empty() && length > 0 => {
            let length = if is("counts-in-32-bits") { length % (1 << 32) } else { length };
            (length.saturating_sub(count), length - 1)
        }
        (None, _) if first.len() > 19 => return refused(length),
        _ => return response,
    };
    if from >= length && !is("206-past-the-end") {
        return refused(length);
    }
    let to = to.min(length.saturating_sub(1));
    let end = if is("leaves-out-the-last-byte") { to } else { to + 1 };
    let status = if is("says-200") { 200 } else { 206 };
    let total = if is("length-of-the-part") { end - from } else { length };
    response
        .part(from.min(length)..end.max(from.min(length)))
        .with_status(status)
        .header("Content-Range", format!("bytes {from}-{to}/{total}"))
}

fn is_same(request: &Request, response: &Response) -> bool {
    let Some(wanted) = request.header("If-Range") else { return true };
    let wanted = String::from_utf8_lossy(wanted).into_owned();
    let wanted =
        if is("weak-if-range") { wanted.trim_start_matches("W/").to_owned() } else { wanted };
    let current = response.get("ETag").unwrap_or_default();
    if is("if-range-forgets-the-coding") && wanted.replace("-gzip", "") == current
        || is("if-range-needs-no-quotes") && wanted == current.trim_matches('"')
        || is("if-range-is-a-list") && wanted.contains(current)
    {
        return true;
    }
    let is_date = !wanted.contains('"');
    if is("ignores-if-range") || is_date && is("any-date-will-do") {
        return true;
    }
    let tag = response.get("ETag").map(str::to_owned);
    let tag = tag.or_else(|| Some(common::Validators::of(response.file_state()?, None)?.etag));
    tag.as_deref() == Some(&wanted) || response.get("Last-Modified") == Some(&wanted)
}
