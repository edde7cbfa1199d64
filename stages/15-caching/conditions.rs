//! Whether the client has the newest version of a file already.

use common::{FileState, HttpDate, Request};

/// What tells one version of a file from another.
pub struct Validators {
    pub etag: String,
    /// When it was last modified, in seconds since the beginning of 1970.
    pub modified: u64,
}

impl Validators {
    /// `None` if the system does not know when the file was modified: then nothing can be compared.
    pub fn of(state: FileState, coding: Option<&str>) -> Option<Validators> {
        let nanoseconds = state.modified?;
        let coding = coding.map_or(String::new(), |coding| format!("-{coding}"));
        Some(Validators {
            etag: format!("\"{:x}-{nanoseconds:x}{coding}\"", state.length),
            modified: u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0),
        })
    }
}

#[derive(PartialEq)]
pub enum Outcome {
    Perform,
    NotModified,
    Failed,
}

/// Looks at the conditions of a request, in the order of RFC 9110, section 13.2.2. `current` is what is there now.
pub fn evaluate(request: &Request, current: Option<&Validators>) -> Outcome {
    let is_read = matches!(request.method(), "GET" | "HEAD");
    if request.header("If-Match").is_some() {
        if !lists(request, "If-Match", current, false) {
            return Outcome::Failed;
        }
    } else if is_later(current, date(request, "If-Unmodified-Since")) == Some(true) {
        return Outcome::Failed;
    }
    if request.header("If-None-Match").is_some() {
        return match lists(request, "If-None-Match", current, true) {
            false => Outcome::Perform,
            true if is_read => Outcome::NotModified,
            true => Outcome::Failed,
        };
    }
    let is_later = is_later(current, date(request, "If-Modified-Since"));
    if is_read && is_later == Some(false) { Outcome::NotModified } else { Outcome::Perform }
}

/// Whether a list of entity tags, or `*`, names the current version. A tag that begins with `W/` is weak: it
/// promises the same meaning and not the same bytes.
fn lists(request: &Request, name: &str, current: Option<&Validators>, weak_too: bool) -> bool {
    let Some(current) = current else { return false };
    request.headers().all(name).any(|value| {
        let text = String::from_utf8_lossy(value);
        let mut parts = text.split('"');
        let mut is_weak = parts.next().is_some_and(|before| before.ends_with("W/"));
        while let (Some(tag), Some(after)) = (parts.next(), parts.next()) {
            if current.etag.trim_matches('"') == tag && (weak_too || !is_weak) {
                return true;
            }
            is_weak = after.ends_with("W/");
        }
        text == "*"
    })
}

fn date(request: &Request, name: &str) -> Option<u64> {
    HttpDate::parse(request.headers().only(name)?, common::now())
}

/// Whether the current version is later than a date, if there are both.
fn is_later(current: Option<&Validators>, date: Option<u64>) -> Option<bool> {
    Some(current?.modified > date?)
}
