//! The names and values behind the question mark.

/// The first value with this name, decoded. Without a `=`, the value is empty.
pub fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(found, _)| decode(found) == name).map(|(_, value)| decode(value))
}

/// `+` is a space, and an escape is its byte. What is no escape stays as it is: a query is never refused.
fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let digits = after.get(..2).filter(|_| *byte == b'%').and_then(hexadecimal);
        match digits {
            Some(escaped) => {
                decoded.push(escaped);
                rest = &after[2..];
            }
            None if *byte == b'+' => decoded.push(b' '),
            None => decoded.push(*byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}
