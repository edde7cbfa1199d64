//! Raw requests in a text file, one on each line: `title | bytes`, with escapes. Lines that begin with `#` are comments.

/// A request: what it is about, and its bytes.
pub struct Request {
    pub title: &'static str,
    pub bytes: Vec<u8>,
}

impl Request {
    /// The requests of a file.
    pub fn all(file: &'static str) -> Vec<Request> {
        let lines = file.lines().filter(|line| !line.starts_with('#'));
        let parts = lines.filter_map(|line| line.split_once(" | "));
        parts.map(|(title, bytes)| Request { title, bytes: unescape(bytes) }).collect()
    }
}

/// Replaces `\r`, `\n`, `\t`, `\0`, `\\`, `\xNN`, and `{text*times}`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((repeated, times, after)) = repetition(rest) {
            bytes.extend(unescape(repeated).repeat(times));
            rest = after;
        } else if let Some(hexadecimal) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&hexadecimal[..2], 16).expect("two digits"));
            rest = &hexadecimal[2..];
        } else if let Some(letter) = rest.strip_prefix('\\') {
            bytes.push(match letter.as_bytes()[0] {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                other => other,
            });
            rest = &letter[1..];
        } else {
            rest = &rest[first.len_utf8()..];
            bytes.extend_from_slice(first.to_string().as_bytes());
        }
    }
    bytes
}

/// The text, the number and the rest, if the text begins with `{text*number}`.
fn repetition(text: &str) -> Option<(&str, usize, &str)> {
    let (inner, after) = text.strip_prefix('{')?.split_once('}')?;
    let (repeated, times) = inner.split_once('*')?;
    Some((repeated, times.parse().ok()?, after))
}
