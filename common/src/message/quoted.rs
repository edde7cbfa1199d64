//! Texts as JSON writes them (stage 17's lasting form).

use std::fmt::Write;

/// Returns a text in quotes, as in JSON (RFC 8259, section 7): with escapes for quotes, for backslashes, and for control
/// characters. Characters that end a line somewhere, or that turn the direction of what follows, are escaped as well:
/// the text may be shown in a log. From stage 17.
///
/// ```
/// assert_eq!(common::quoted("a \"b\"\n"), r#""a \"b\"\u000a""#);
/// ```
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if is_unsafe(character) => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character)); // to memory, so it does not fail
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn is_unsafe(character: char) -> bool {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}')
}
