//! Times in the formats of logs (stage 18's lasting form).

use crate::message::date::HttpDate;

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// Returns a time as in `1994-11-06T08:49:37.125Z` (RFC 3339, section 5.6). It is given in milliseconds since the beginning
/// of 1970.
pub(crate) fn rfc3339(milliseconds: u64) -> String {
    let date = HttpDate::of(milliseconds / 1000);
    let [day, month, year, time] = parts(&date);
    let month = MONTHS.find(month).unwrap_or_default() / 3 + 1;
    format!("{year}-{month:02}-{day}T{time}.{:03}Z", milliseconds % 1000)
}

/// Adds a time as in `06/Nov/1994:08:49:37 +0000`, as the access logs of Apache have it.
pub(crate) fn add_apache(text: &mut String, milliseconds: u64) {
    let date = HttpDate::of(milliseconds / 1000);
    let [day, month, year, time] = parts(&date);
    for part in [day, "/", month, "/", year, ":", time, " +0000"] {
        text.push_str(part);
    }
}

/// The day, the month, the year and the time of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parts(date: &HttpDate) -> [&str; 4] {
    let date = date.as_str();
    [&date[5..7], &date[8..11], &date[12..16], &date[17..25]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_time_has_two_formats() {
        assert_eq!(rfc3339(784_111_777_125), "1994-11-06T08:49:37.125Z");
        let mut text = String::new();
        add_apache(&mut text, 784_111_777_125);
        assert_eq!(text, "06/Nov/1994:08:49:37 +0000");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
