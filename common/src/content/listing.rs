//! A page that lists a folder (stage 14's lasting form).

use std::ffi::OsStr;
use std::fmt::Write;

use crate::content::directory::{Listed, MOST_LISTED};

/// A page of HTML with a link for each name, and one to the folder above unless `path` is `/`.
pub(crate) fn page(path: &str, names: &[Listed]) -> String {
    let title = Html(path);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if path != "/" {
        page.push_str("<li><a href=\"../\">../</a></li>\n");
    }
    for Listed { name, is_folder } in names {
        let slash = if *is_folder { "/" } else { "" };
        let (link, shown) = (UrlSegment(name), name.to_string_lossy());
        // Writing to memory does not fail. The dot is there for names such as `a:b`.
        let _ = writeln!(page, "<li><a href=\"./{link}{slash}\">{}{slash}</a></li>", Html(&shown));
    }
    page.push_str("</ul>\n");
    if names.len() >= MOST_LISTED {
        let _ = writeln!(page, "<p>No more than {MOST_LISTED} names are listed.</p>");
    }
    page + "</html>\n"
}

/// A text in HTML: characters that could begin a tag or an escape, or end an attribute, are escaped.
struct Html<'a>(&'a str);

impl std::fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => f.write_char(other),
        })
    }
}

/// A name as a segment of a path in a URL: all bytes but the unreserved ones are escaped (RFC 3986, section
/// 2.3).
struct UrlSegment<'a>(&'a OsStr);

impl std::fmt::Display for UrlSegment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.as_encoded_bytes().iter().try_for_each(|&byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                f.write_char(char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn names_are_escaped_for_links_and_for_html() {
        for (name, link, text) in [
            ("a.txt", "a.txt", "a.txt"),
            ("50% & <b>'s.txt", "50%25%20%26%20%3Cb%3E%27s.txt", "50% &amp; &lt;b&gt;&#39;s.txt"),
            ("é", "%C3%A9", "é"),
            ("a:b?c#d", "a%3Ab%3Fc%23d", "a:b?c#d"),
        ] {
            let listed = Listed { name: name.into(), is_folder: false };
            let line = format!("<li><a href=\"./{link}\">{text}</a></li>\n");
            assert!(page("/", &[listed]).contains(&line), "{name}");
        }
    }

    #[test]
    fn folders_end_with_a_slash_and_lead_up() {
        let listed = Listed { name: "sub".into(), is_folder: true };
        let page = page("/a/", &[listed]);
        let lines: Vec<_> = page.lines().filter(|line| line.starts_with("<li>")).collect();
        let up = "<li><a href=\"../\">../</a></li>";
        assert_eq!(lines, [up, "<li><a href=\"./sub/\">sub/</a></li>"]);
    }
}
