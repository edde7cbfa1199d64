//! A part of a file (stage 16's lasting form).

use std::io;

use crate::message::date::HttpDate;
use crate::message::file::OpenFile;
use crate::message::response::Response;
use crate::protocol::request::Request;

/// Which bytes of a body are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Whole,
    /// From the first of these bytes to the last, both included.
    Part(u64, u64),
    /// Nothing of what the client asks for exists.
    Nothing,
}

/// Answers with a file, compressed if the client accepts that and does not ask for a part: a range counts the bytes of
/// the file as it is.
///
/// # Errors
///
/// When the file cannot be read.
pub fn download(request: &Request, file: OpenFile) -> io::Result<Response> {
    let response = Response::file(file)?;
    match wants_part(request) {
        true => Ok(response.header("Vary", "Accept-Encoding")),
        false => response.compressed_for(request.headers()),
    }
}

/// Whether a request asks for a part of a file.
pub(crate) fn wants_part(request: &Request) -> bool {
    request.method() == "GET" && request.header("Range").is_some()
}

/// Sends a part of the file that a response carries, if the client asks for one (RFC 9110, section 14): 206, or 416
/// if nothing of it exists. Several ranges, other units and what is no range are answered with the whole file.
/// Conditions come first: see [`crate::cached`]. `now` is in seconds since the beginning of 1970.
pub fn ranged(request: &Request, response: Response, now: u64) -> Response {
    let is_file = response.status() == 200 && response.file_state().is_some();
    let is_plain = is_file && response.coding().is_none();
    let Some(length) = response.length().filter(|_| is_plain) else { return response };
    let response = response.header("Accept-Ranges", "bytes");
    let Some(range) = request.headers().only("Range") else { return response };
    if request.method() != "GET" || !has_the_same_version(request, &response, now) {
        return response;
    }
    match wanted(range, length) {
        Wanted::Whole => response,
        Wanted::Nothing => Response::new(416).header("Content-Range", format!("bytes */{length}")),
        Wanted::Part(first, last) => response
            .part(first..last + 1)
            .with_status(206)
            .header("Content-Range", format!("bytes {first}-{last}/{length}")),
    }
}

/// What the value of `Range` asks for, in a body of this length.
fn wanted(range: &[u8], length: u64) -> Wanted {
    let Some((unit, range)) = split_at(range, b'=') else { return Wanted::Whole };
    let Some(end) = length.checked_sub(1) else { return Wanted::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return Wanted::Whole;
    }
    // In a list, what follows the first "-" has a comma, which is no digit.
    let Some((first, last)) = split_at(range.trim_ascii(), b'-') else { return Wanted::Whole };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(end)),
        (Some(first), None) if last.is_empty() => (first, end),
        (None, Some(0)) if first.is_empty() => return Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => (length.saturating_sub(count), end),
        _ => return Wanted::Whole,
    };
    if first < length { Wanted::Part(first, last) } else { Wanted::Nothing }
}

fn split_at(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// `1*DIGIT`. A number that is too large is beyond the end of any file.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let value = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    is_number.then(|| value(digits).unwrap_or(u64::MAX))
}

/// Whether `If-Range` names the version that is there now, by a strong tag or an exact date (RFC 9110, section
/// 13.1.5). A file that was changed in this very second may change again in it, so its date is not exact. Without
/// the field, the client does not care.
fn has_the_same_version(request: &Request, response: &Response, now: u64) -> bool {
    let Some(wanted) = request.header("If-Range") else { return true };
    let is = |name| response.get(name).is_some_and(|current| current.as_bytes() == wanted);
    is("ETag") || is("Last-Modified") && HttpDate::parse(wanted, now).is_some_and(|date| date < now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_one_part_the_whole_or_nothing() {
        use Wanted::{Nothing, Part, Whole};
        for (range, expected) in [
            ("bytes=2-4", Part(2, 4)),
            ("bytes=0-0", Part(0, 0)),
            ("bytes=7-", Part(7, 9)),
            ("bytes=-3", Part(7, 9)),
            ("bytes=-99", Part(0, 9)),
            ("bytes=9-99999999999999999999999", Part(9, 9)),
            ("BYTES= 1-2 ", Part(1, 2)),
            ("bytes=10-", Nothing),
            ("bytes=99999999999999999999999-", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=4-2", Whole),
            ("bytes=1-2,4-5", Whole),
            ("bytes=1-,", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1 - 2", Whole),
            ("lines=1-2", Whole),
            ("", Whole),
        ] {
            assert_eq!(wanted(range.as_bytes(), 10), expected, "{range}");
        }
        for range in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(wanted(range.as_bytes(), 0), Whole, "{range} of an empty file");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_inside_of_the_whole(range in "bytes=[0-9-]{0,4}", length in 0..200_u64) {
            if let Wanted::Part(first, last) = wanted(range.as_bytes(), length) {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
