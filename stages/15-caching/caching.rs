//! What an answer says about its file, so that the client need not get it twice.

use common::{HttpDate, Request, Response};

use crate::conditions::{Outcome, Validators, evaluate};

/// Gives a file its validators, and leaves the file out if the client has it already.
pub fn cached(request: &Request, response: Response, max_age: Option<u64>) -> Response {
    let coding = response.get("Content-Encoding");
    let validators = response.file_state().and_then(|state| Validators::of(state, coding));
    let Some(validators) = validators.filter(|_| response.status() == 200) else {
        return response;
    };
    let modified = HttpDate::of(validators.modified.min(common::now())); // never in the future
    let response = response
        .header("Cache-Control", cache_control(request.full_path().raw(), max_age))
        .header("Last-Modified", modified)
        .header("ETag", validators.etag.clone());
    match evaluate(request, Some(&validators)) {
        Outcome::Perform => response,
        Outcome::Failed => Response::new(412),
        Outcome::NotModified => not_modified(&response),
    }
}

/// 304, with the headers that a cache needs to go on using what it has.
fn not_modified(response: &Response) -> Response {
    let kept = ["Cache-Control", "ETag", "Vary"].into_iter();
    kept.fold(Response::new(304), |kept, name| match response.get(name) {
        Some(value) => kept.header(name, value.to_owned()),
        None => kept,
    })
}

/// How long a client may use a file without asking.
fn cache_control(path: &str, max_age: Option<u64>) -> String {
    match max_age {
        _ if has_hash(path) => "max-age=31536000, immutable".into(), // a year
        Some(seconds) => format!("max-age={seconds}"),
        None => "no-cache".into(), // keep it, and ask each time
    }
}

/// Whether a name has a hash of its content in it, as in `app-3f2a9c1b.js`: then its content never changes.
fn has_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    let hash = stem.rsplit(['.', '-']).next().unwrap_or_default();
    let is = |kind: fn(&u8) -> bool| hash.bytes().any(|byte| kind(&byte));
    let is_hex = hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex && is(u8::is_ascii_digit) && is(u8::is_ascii_alphabetic) // a date has no letters
}
