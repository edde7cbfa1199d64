//! A page that lists a folder.

use std::ffi::OsStr;

use common::Listed;

/// A page of HTML with a link for each of these names.
pub fn page(path: &str, names: &[Listed]) -> String {
    let title = html(path);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <h1>{title}</h1>\n<ul>\n"
    );
    for Listed { name, is_folder } in names {
        let slash = if *is_folder { "/" } else { "" };
        let (link, text) = (url(name), html(&name.to_string_lossy()));
        page += &format!("<li><a href=\"./{link}{slash}\">{text}{slash}</a></li>\n");
    }
    page + "</ul>\n</html>\n"
}

/// A text for HTML: what would begin a tag or an escape is written as an escape.
fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A name for a URL: all bytes that could mean something there are written as escapes.
fn url(name: &OsStr) -> String {
    let escaped = name.as_encoded_bytes().iter().map(|&byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}
