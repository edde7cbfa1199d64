//! What kind of file a name stands for (stage 14's lasting form).

use std::path::Path;

/// The media type of a file (RFC 9110, section 8.3.1), and what a server wants to know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// The value of `Content-Type`.
    pub(crate) name: &'static str,
    /// Whether gzip makes such files smaller. Pictures, films and archives are compressed already.
    pub(crate) is_compressible: bool,
}

impl MediaType {
    /// The type of a file of this name, by what follows its last dot, in any case. What is unknown is
    /// `application/octet-stream`.
    pub(crate) fn of(name: &Path) -> MediaType {
        let extension = name.extension().unwrap_or_default().as_encoded_bytes();
        let mut lower = [0; LONGEST];
        let known = lower.get_mut(..extension.len()).and_then(|lower| {
            lower.copy_from_slice(extension);
            lower.make_ascii_lowercase();
            by_extension(lower)
        });
        known.unwrap_or(MediaType { name: "application/octet-stream", is_compressible: false })
    }
}

/// The most bytes that a known extension has.
const LONGEST: usize = 11;

fn by_extension(extension: &[u8]) -> Option<MediaType> {
    let text = |name| Some(MediaType { name, is_compressible: true });
    let other = |name| Some(MediaType { name, is_compressible: false });
    match extension {
        b"htm" | b"html" => text("text/html; charset=utf-8"),
        b"css" => text("text/css; charset=utf-8"),
        b"js" | b"mjs" => text("text/javascript; charset=utf-8"), // RFC 9239
        b"txt" | b"rs" | b"toml" | b"py" | b"sh" => text("text/plain; charset=utf-8"),
        b"md" => text("text/markdown; charset=utf-8"),
        b"csv" => text("text/csv; charset=utf-8"),
        b"xml" => text("text/xml; charset=utf-8"),
        b"json" | b"map" => text("application/json"), // UTF-8, always (RFC 8259)
        b"webmanifest" => text("application/manifest+json"),
        b"svg" => text("image/svg+xml"),
        b"wasm" => text("application/wasm"),
        b"ttf" => text("font/ttf"),
        b"otf" => text("font/otf"),
        b"ico" => text("image/vnd.microsoft.icon"),
        b"woff" => other("font/woff"),
        b"woff2" => other("font/woff2"),
        b"png" => other("image/png"),
        b"jpg" | b"jpeg" => other("image/jpeg"),
        b"gif" => other("image/gif"),
        b"webp" => other("image/webp"),
        b"avif" => other("image/avif"),
        b"mp3" => other("audio/mpeg"),
        b"aac" => other("audio/aac"),
        b"ogg" | b"oga" | b"opus" => other("audio/ogg"),
        b"wav" => other("audio/wav"),
        b"weba" => other("audio/webm"),
        b"mp4" => other("video/mp4"),
        b"webm" => other("video/webm"),
        b"ogv" => other("video/ogg"),
        b"pdf" => other("application/pdf"),
        b"zip" => other("application/zip"),
        b"gz" => other("application/gzip"),
        b"tar" => other("application/x-tar"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_last_extension_counts_in_any_case() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.c/d.CSS", "text/css; charset=utf-8"),
            ("site.webmanifest", "application/manifest+json"),
            ("archive.tar.gz", "application/gzip"),
            ("jquery.min.js", "text/javascript; charset=utf-8"),
            ("html", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            ("a.webmanifests", "application/octet-stream"),
            ("a.html~", "application/octet-stream"),
            ("é.é", "application/octet-stream"),
        ] {
            assert_eq!(MediaType::of(Path::new(name)).name, expected, "{name}");
        }
    }
}
