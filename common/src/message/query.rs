//! The names and values of a query, or of a form (stage 17's lasting form).

use std::borrow::Cow;

use crate::message::target::escape;

/// Returns the names and values of a text such as `a=1&b=two+words`, in their order, as browsers read it (URL
/// Standard, section 5.1, "application/x-www-form-urlencoded").
///
/// A `+` is a space, and an escape is its byte. Nothing is refused: a `%` without two hexadecimal digits stays as it
/// is, bytes that are not UTF-8 become U+FFFD, and a name without a `=` has an empty value. From stage 17.
///
/// ```
/// use common::query_pairs;
///
/// let pairs: Vec<_> = query_pairs(b"q=two+words&q=100%&page").collect();
/// let expected = [("q", "two words"), ("q", "100%"), ("page", "")];
/// assert_eq!(pairs, expected.map(|(name, value)| (name.into(), value.into())));
/// ```
pub fn query_pairs(text: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        (decode(name), decode(value))
    })
}

fn decode(part: &[u8]) -> Cow<'_, str> {
    if !part.iter().any(|byte| b"+%".contains(byte)) {
        return String::from_utf8_lossy(part);
    }
    let part: Vec<_> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let mut pieces = part.split(|&byte| byte == b'%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (byte, rest) = escape(piece).unwrap_or((b'%', piece));
        decoded.push(byte);
        decoded.extend_from_slice(rest);
    }
    String::from_utf8_lossy(&decoded).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pairs = query_pairs(text.as_bytes());
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    #[test]
    fn names_and_values_are_decoded_after_they_are_split() {
        for (text, expected) in [
            ("", vec![]),
            ("&&", vec![]),
            ("a", vec![("a", "")]),
            ("a=", vec![("a", "")]),
            ("=b", vec![("", "b")]),
            ("a=1&a=2", vec![("a", "1"), ("a", "2")]),
            ("a=b=c", vec![("a", "b=c")]),
            ("a%3D=%26", vec![("a=", "&")]),
            ("a+b=c+%2B", vec![("a b", "c +")]),
            ("a=%zz%4&b=100%", vec![("a", "%zz%4"), ("b", "100%")]),
            ("a=%2541", vec![("a", "%41")]),
            ("caf%C3%A9=é", vec![("café", "é")]),
            ("a=%ff%41", vec![("a", "\u{fffd}A")]),
            ("a=%00", vec![("a", "\0")]),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(a, b): (&str, &str)| (a.to_owned(), b.to_owned()))
                .collect();
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn another_implementation_agrees(text in "[a-c&=+%0-9A-F\\u{e9}]{0,20}") {
            let others = form_urlencoded::parse(text.as_bytes()).into_owned();
            prop_assert_eq!(pairs(&text), others.collect::<Vec<_>>());
        }
    }
}
