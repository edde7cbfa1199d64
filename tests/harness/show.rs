//! Makes bytes visible: line ends and control characters are escaped, text stays text.

use std::fmt::Write;

/// The most bytes of a message that are shown.
const MOST: usize = 600;

/// The most bytes of a body that are shown if it is not text.
const MOST_BINARY: usize = 48;

/// Shows a message line by line, with its `\r\n` visible. Long messages are cut.
pub(crate) fn message(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(nothing)".to_owned();
    }
    let (shown, rest) = bytes.split_at(bytes.len().min(most(bytes)));
    let mut text = shorten_runs(&escape(shown));
    if !rest.is_empty() {
        let _ = write!(text, " … and {} more bytes", rest.len());
    }
    text
}

/// How many bytes of a message are shown.
fn most(bytes: &[u8]) -> usize {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 4);
    let body = &bytes[head..bytes.len().min(head + MOST)];
    let whole_characters = body.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    let is_cut = body.len() - whole_characters < 4; // no more than one character is incomplete
    if is_cut && is_text(&body[..whole_characters]) { MOST } else { head + MOST_BINARY }
}

/// Replaces a long run of one character by a few of them.
fn shorten_runs(text: &str) -> String {
    const LONG: usize = 100;
    let mut shortened = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let next = rest.trim_start_matches(character);
        let count = (rest.len() - next.len()) / character.len_utf8();
        shortened.extend(std::iter::repeat_n(character, if count < LONG { count } else { 20 }));
        if count >= LONG {
            let _ = write!(shortened, "… ({count} times)");
        }
        rest = next;
    }
    shortened
}

/// Shows a message as [`message`] does, however long it is.
pub(crate) fn whole_message(bytes: &[u8]) -> String {
    escape(bytes)
}

/// Whether bytes are readable text: UTF-8 without control characters except line ends and tabs.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        text.chars().all(|character| !character.is_control() || "\r\n\t".contains(character))
    })
}

/// Escapes invisible characters and bytes, and starts a new line after each `\n`.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n\n"),
                '\t' => text.push_str("\\t"),
                '\\' => text.push_str("\\\\"),
                _ if character.is_control() => {
                    let _ = write!(text, "\\x{:02x}", u32::from(character));
                }
                _ => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// Shows a part of a message in quotes, on one line, for use within a sentence.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", escape(bytes).replace("\\n\n", "\\n"))
}

/// Bytes in hexadecimal, sixteen to a line, each line with its offset: for bodies that are not text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (row, line) in bytes.chunks(16).enumerate() {
        let _ = write!(dump, "{:06x} ", row * 16);
        for byte in line {
            let _ = write!(dump, " {byte:02x}");
        }
        dump.push('\n');
    }
    dump
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn line_ends_are_visible() {
        assert_eq!(message(b"a\r\nb\nc"), "a\\r\\n\nb\\n\nc");
        assert_eq!(message(b"a\r\n\r\n"), "a\\r\\n\n\\r\\n");
    }

    #[test]
    fn text_stays_text_and_bytes_become_numbers() {
        assert_eq!(message("café".as_bytes()), "café");
        assert_eq!(message(b"caf\xe9\0"), "caf\\xe9\\x00");
        assert_eq!(message(b""), "(nothing)");
    }

    #[test]
    fn long_messages_are_cut() {
        assert!(message(&[b'a'; MOST + 5]).ends_with(" times) … and 5 more bytes"));
        assert!(message(&b"a\r\n\r\n".repeat(MOST)).contains("\\r\\n\na\\r\\n"));
        let packed = [b"HTTP/1.1 200 OK\r\n\r\n", &[0x1f, 0x8b, 8, 0][..]].concat();
        assert!(message(&packed).ends_with("\\x1f\\x8b\\x08\\x00"));
        let packed = [packed, vec![0x8b; 1000]].concat();
        assert!(message(&packed).ends_with(" … and 956 more bytes"));
    }

    #[test]
    fn hexadecimal_has_sixteen_bytes_a_line() {
        let dump = hex(&[0xab; 17]);
        assert_eq!(dump.lines().last(), Some("000010  ab"));
    }
}
