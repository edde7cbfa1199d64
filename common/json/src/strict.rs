//! JSON that comes back as it came, or is refused (stage 19).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses a text that is one JSON value (RFC 8259).
///
/// What could change on its way is refused: a name that an object has twice, half of a character that takes two
/// escapes, and a number that cannot be kept exactly, such as 1e400 or one of 30 digits. So is a value of more than
/// 127 levels.
///
/// # Errors
///
/// A sentence with the line and the column.
///
/// ```
/// assert_eq!(json::parse(br#"{"a": 1.50}"#).map(|value| value.to_string()), Ok(r#"{"a":1.5}"#.to_owned()));
/// let error = json::parse(b"{\"a\": 1,\n \"a\": 2}").unwrap_err();
/// assert_eq!(error, "the name \"a\" comes twice at line 2 column 4");
/// ```
pub fn parse(text: &[u8]) -> Result<Value, String> {
    let Strict(value) = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match inexact_number(text) {
        None => Ok(value),
        Some(at) => {
            let before = &text[..at];
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
            Err(format!("this number cannot be kept exactly at line {line} column {column}"))
        }
    }
}

/// A value in which no object has a name twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(Builder).map(Strict)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("the name {name:?} comes twice")));
            }
            let Strict(value) = members.next_value()?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Where the first number begins that is not exactly the one that is kept for it. The text is valid JSON.
fn inexact_number(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at += length_of_text(&text[at..]),
            b'-' | b'0'..=b'9' => {
                let length = text[at..].iter().take_while(|it| is_of_number(**it)).count();
                let number = std::str::from_utf8(&text[at..at + length]).unwrap_or_default();
                if !is_exact(number) {
                    return Some(at);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// How many bytes a text in quotes takes.
fn length_of_text(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || b"+-.eE".contains(&byte)
}

/// Whether a number is kept exactly: as an integer of 64 bits, or as the double that is written in the same way.
fn is_exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    let Ok(kept) = number.parse::<f64>() else { return false };
    kept.is_finite() && decimal(number) == decimal(&format!("{kept:e}"))
}

/// A number as its digits, without zeros at either end, and the power of ten of the last digit.
fn decimal(number: &str) -> Option<(String, i64)> {
    let number = number.trim_start_matches('-');
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let power = exponent - fraction.len() as i64 + (digits.len() - significant.len()) as i64;
    let significant = significant.trim_start_matches('0');
    match significant.is_empty() {
        true => Some((String::new(), 0)),
        false => Some((significant.to_owned(), power)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn what_is_kept_is_what_came() {
        for text in [
            "null",
            "[true,false]",
            "9007199254740993",
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "1e300",
            "1.0",
            "\"\\u0000\\ud83d\\ude00é\"",
            "{\"b\":1,\"a\":{\"b\":[]}}",
            " [ 1e2 , 1E+2, 100.00, 1e20, 5e-324, -0.0, 0e0 ] ",
        ] {
            assert!(parse(text.as_bytes()).is_ok(), "{text} {:?}", parse(text.as_bytes()));
        }
    }

    #[test]
    fn what_would_change_is_refused_with_its_position() {
        for (text, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\"a\":}", "expected value at line 1 column 6"),
            ("[1,\n 2,,]", "expected value at line 2 column 4"),
            ("1 2", "trailing characters at line 1 column 3"),
            ("{\"a\":{\"b\":1,\"b\":2}}", "the name \"b\" comes twice at line 1 column 15"),
            ("{\"a\":1,\"\\u0061\":2}", "the name \"a\" comes twice at line 1 column 15"),
            ("\"\\ud83d\"", "unexpected end of hex escape at line 1 column 8"),
            ("1e400", "number out of range at line 1 column 5"),
            (
                "[1,\n 123456789012345678901]",
                "this number cannot be kept exactly at line 2 column 2",
            ),
            ("0.1000000000000000055", "this number cannot be kept exactly at line 1 column 1"),
            ("[\"\\\"1e99999\", 1e-400]", "this number cannot be kept exactly at line 1 column 15"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(expected.to_owned()), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(127).as_bytes()).is_ok());
        assert!(
            parse(nested(128).as_bytes()).is_err_and(|error| error.contains("recursion limit"))
        );
    }

    proptest! {
        #[test]
        fn a_number_that_is_taken_is_the_same_number(number in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,20})?(e-?[0-9]{1,3})?") {
            if let Ok(value) = parse(number.as_bytes()) {
                prop_assert_eq!(decimal(&value.to_string()), decimal(&number), "{}", number);
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in "[\\[\\]{}:,\"\\\\0-9eE.+\\-a-f \n]{0,30}") {
            let _ = parse(text.as_bytes());
        }
    }
}
