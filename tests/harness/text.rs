//! Texts whose bytes were decoded as Latin-1, the most common mistake with bytes outside of ASCII.

/// What becomes of UTF-8 if each byte is taken for a character, and these are encoded as UTF-8 again:
/// `café` becomes `cafÃ©`.
pub(crate) fn doubled(utf8: &[u8]) -> String {
    utf8.iter().copied().map(char::from).collect()
}

/// What has happened to a text that looks as if its bytes were decoded as Latin-1; nothing if it does
/// not look so.
pub(crate) fn decoded_twice(found: &[u8]) -> Option<String> {
    let found = std::str::from_utf8(found).ok().filter(|text| !text.is_ascii())?;
    let bytes: Option<Vec<u8>> = found.chars().map(|it| u8::try_from(u32::from(it)).ok()).collect();
    let original = String::from_utf8(bytes?).ok()?;
    Some(format!(
        "The bytes of \"{}\" were decoded as Latin-1, where each byte is a character, and encoded as \
         UTF-8 again. Decode and encode in the same way, or leave the bytes as they are.",
        original.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn latin_1_is_recognized() {
        assert_eq!(doubled("café".as_bytes()), "cafÃ©");
        assert!(decoded_twice("cafÃ©".as_bytes()).is_some_and(|it| it.contains("\"café\"")));
        assert_eq!(decoded_twice("café".as_bytes()), None);
        assert_eq!(decoded_twice(b"cafe"), None);
        assert_eq!(decoded_twice("日本".as_bytes()), None);
    }
}
