//! Texts that were decoded in a wrong way.

/// Decodes UTF-8 as Latin-1, where each byte is one character: `café` becomes `cafÃ©`.
pub(crate) fn as_latin_1(utf8: &[u8]) -> String {
    utf8.iter().copied().map(char::from).collect()
}

/// Explains what happened to a text if it was decoded in a way that many servers have tried.
pub(crate) fn explain(expected: &[u8], found: &[u8]) -> Option<String> {
    let latin_1 = found.starts_with(as_latin_1(expected).as_bytes());
    let latin_1 = latin_1.then(|| explain_latin_1(found)).flatten();
    latin_1.or_else(|| explain_replaced(expected, found)).or_else(|| explain_plus(expected, found))
}

/// Explains what happened to a text whose bytes seem to have been decoded as Latin-1. `None` if they were not.
pub(crate) fn explain_latin_1(found: &[u8]) -> Option<String> {
    let found = std::str::from_utf8(found).ok().filter(|text| !text.is_ascii())?;
    let bytes: Option<Vec<u8>> = found.chars().map(|it| u8::try_from(u32::from(it)).ok()).collect();
    let original = String::from_utf8(bytes?).ok()?;
    Some(format!(
        "Your server decoded the bytes of \"{}\" as Latin-1, where each byte is one character, and encoded the \
         result as UTF-8. Decode and encode in the same way, or leave the bytes as they are.",
        original.trim()
    ))
}

/// Explains why bytes outside of ASCII have become question marks.
fn explain_replaced(expected: &[u8], found: &[u8]) -> Option<String> {
    let mark = |mark: &str| {
        let replaced = expected.iter().map(|byte| match byte {
            0..=127 => char::from(*byte).to_string(),
            _ => mark.to_owned(),
        });
        replaced.collect::<String>()
    };
    let is_replaced =
        !expected.is_ascii() && ["\u{fffd}", "?"].iter().any(|it| mark(it).as_bytes() == found);
    is_replaced.then(|| {
        "Your server decoded the bytes in an encoding that they are not in, which replaced some of them. Many \
         languages choose the encoding by the machine that they run on. Keep the bytes, or name Latin-1 to \
         decode and to encode them (in Java: StandardCharsets.ISO_8859_1)."
            .to_owned()
    })
}

/// Explains why a plus sign has become a space.
fn explain_plus(expected: &[u8], found: &[u8]) -> Option<String> {
    let as_space = expected.iter().map(|&byte| if byte == b'+' { b' ' } else { byte });
    (expected.contains(&b'+') && as_space.eq(found.iter().copied())).then(|| {
        "A + stands for a space in forms, but not in a path. Your library decodes forms: do not use URLDecoder \
         (Java), unquote_plus (Python) or urldecode (PHP) for a path."
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn latin_1_is_recognized() {
        assert_eq!(as_latin_1("café".as_bytes()), "cafÃ©");
        assert!(explain_latin_1("cafÃ©".as_bytes()).is_some_and(|it| it.contains("\"café\"")));
        assert_eq!(explain_latin_1("café".as_bytes()), None);
        assert_eq!(explain_latin_1(b"cafe"), None);
        assert_eq!(explain_latin_1("日本".as_bytes()), None);
    }

    #[test]
    fn question_marks_and_spaces_are_explained() {
        let cause = |expected: &str, found: &str| explain(expected.as_bytes(), found.as_bytes());
        assert!(cause("café", "caf\u{fffd}\u{fffd}").is_some_and(|it| it.contains("replaced")));
        assert!(cause("café", "caf??").is_some_and(|it| it.contains("replaced")));
        assert!(cause("a+b", "a b").is_some_and(|it| it.contains("forms")));
        assert_eq!(cause("a+b", "a%2Bb"), None);
        assert_eq!(cause("cafe", "caf?"), None);
    }
}
