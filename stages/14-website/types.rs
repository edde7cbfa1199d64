//! What kind of file a name stands for.

use std::path::Path;

/// The type of each kind of file, by what follows the last dot of its name.
const TYPES: [(&str, &str); 29] = [
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rs", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "text/xml; charset=utf-8"),
    ("zip", "application/zip"),
];

/// The type of a file of this name.
pub fn type_of(name: &Path) -> &'static str {
    let extension = name.extension().unwrap_or_default().to_ascii_lowercase();
    let found = TYPES.iter().find(|(known, _)| extension == *known);
    found.map_or("application/octet-stream", |(_, content_type)| content_type)
}

/// Whether files of this type are text, which becomes smaller when it is compressed.
pub fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/")
        || ["json", "xml", "wasm"].iter().any(|end| content_type.ends_with(end))
}
