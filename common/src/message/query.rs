//! The names and values of a query, or of a form (stage 17's lasting form).

use std::borrow::Cow;

use crate::message::refused::{Refused, bad_request};
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
    decoded_pairs(text).map(|(name, value)| (lossy(name), lossy(value)))
}

/// Returns the names and values of a form (`application/x-www-form-urlencoded`), as [`query_pairs`] does, but nothing in
/// them is replaced. From stage 18.
///
/// # Errors
///
/// 400 if the decoded bytes are not UTF-8.
pub fn form_pairs(text: &[u8]) -> Result<Vec<(String, String)>, Refused> {
    let exact = |bytes: Cow<[u8]>| {
        let text = String::from_utf8(bytes.into_owned());
        text.map_err(|_| bad_request("the form is not UTF-8"))
    };
    decoded_pairs(text).map(|(name, value)| Ok((exact(name)?, exact(value)?))).collect()
}

fn lossy(bytes: Cow<[u8]>) -> Cow<str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

fn decoded_pairs(text: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        (decode(name), decode(value))
    })
}

fn decode(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|byte| b"+%".contains(byte)) {
        return Cow::Borrowed(part);
    }
    let part: Vec<_> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let mut pieces = part.split(|&byte| byte == b'%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (byte, rest) = escape(piece).unwrap_or((b'%', piece));
        decoded.push(byte);
        decoded.extend_from_slice(rest);
    }
    Cow::Owned(decoded)
}
