//! A part of a file, for a client that does not need all of it.

use common::{HttpDate, Request, Response};

/// Which bytes of a file are sent.
#[derive(Debug, PartialEq)]
pub enum Wanted {
    Whole,
    /// From the first of these bytes to the last, both included.
    Part(u64, u64),
    /// Nothing of what the client asks for exists.
    Nothing,
}

/// What the value of `Range` asks for, in a file of this length. What cannot be understood asks for nothing special.
pub fn wanted(range: &str, length: u64) -> Wanted {
    let Some((unit, range)) = range.split_once('=') else { return Wanted::Whole };
    if !unit.eq_ignore_ascii_case("bytes") || range.contains(',') || length == 0 {
        return Wanted::Whole; // another unit, several ranges, an empty file: the whole is right, too
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    let end = length - 1;
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(end)),
        (Some(first), None) if last.is_empty() => (first, end),
        (None, Some(0)) if first.is_empty() => return Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => (length.saturating_sub(count), end),
        _ => return Wanted::Whole, // this is no range
    };
    if first < length { Wanted::Part(first, last) } else { Wanted::Nothing }
}

/// Digits and nothing else. A number that is too large is beyond the end of any file.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Sends a part of the file that a response carries, if the client asks for one.
pub fn ranged(request: &Request, response: Response) -> Response {
    let is_file = response.status() == 200 && response.file_state().is_some();
    let is_plain = is_file && response.get("Content-Encoding").is_none();
    let Some(length) = response.length().filter(|_| is_plain) else { return response };
    let response = response.header("Accept-Ranges", "bytes");
    let range = request.headers().only("Range").filter(|_| request.method() == "GET");
    let range = String::from_utf8_lossy(range.unwrap_or_default()).into_owned();
    if !is_same_version(request, &response) {
        return response; // a part of this version does not fit what the client has
    }
    match wanted(&range, length) {
        Wanted::Whole => response,
        Wanted::Nothing => Response::new(416).header("Content-Range", format!("bytes */{length}")),
        Wanted::Part(first, last) => response
            .part(first..last + 1)
            .with_status(206)
            .header("Content-Range", format!("bytes {first}-{last}/{length}")),
    }
}

/// Whether `If-Range` names the version that is there now, by a strong tag or an exact date. Without it, it does.
fn is_same_version(request: &Request, response: &Response) -> bool {
    let Some(wanted) = request.header("If-Range") else { return true };
    let is = |name| response.get(name).is_some_and(|current| current.as_bytes() == wanted);
    // A file that was changed in this very second may change again in it.
    let modified = HttpDate::parse(wanted, common::now());
    is("ETag") || is("Last-Modified") && modified.is_some_and(|date| date < common::now())
}
