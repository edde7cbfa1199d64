//! Texts whose bytes were decoded as Latin-1: the most common mistake with bytes outside of ASCII.

/// Decodes UTF-8 as Latin-1, where each byte is one character: `café` becomes `cafÃ©`.
pub(crate) fn as_latin_1(utf8: &[u8]) -> String {
    utf8.iter().copied().map(char::from).collect()
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
}
