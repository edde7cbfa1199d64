//! Dates in the format of HTTP (stage 11's lasting form).

use std::borrow::Cow;

use crate::message::digits::set_decimal;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// The last second of the year 9999. Later dates cannot be written in this format.
const LATEST: u64 = 253_402_300_799;

/// The days of the week, beginning with that of 1 January 1970.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A date in the format of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
///
/// ```
/// use common::HttpDate;
///
/// assert_eq!(HttpDate::of(784_111_777).as_str(), "Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// Returns the date that is the given number of seconds after the beginning of 1970, up to the
    /// year 9999: `IMF-fixdate = day-name "," SP date1 SP time-of-day SP GMT`.
    pub fn of(seconds: u64) -> HttpDate {
        let (days, second) = (seconds.min(LATEST) / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
        let weekday = WEEKDAYS[usize::try_from(days % 7).unwrap_or(0)];
        let (year, month, day) = calendar(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        date[..3].copy_from_slice(weekday.as_bytes());
        date[8..11].copy_from_slice(month.as_bytes());
        set_decimal(&mut date[5..7], day);
        set_decimal(&mut date[12..16], year);
        set_decimal(&mut date[17..19], hour);
        set_decimal(&mut date[20..22], minute);
        set_decimal(&mut date[23..25], second);
        HttpDate(date)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a date in any of the three forms that RFC 9110, section 5.6.7, allows, and returns the seconds since
    /// the beginning of 1970; 0 for earlier dates. `now` is in the same unit: a year of two digits is the one that is
    /// not more than 50 years after it. `None` for anything else. From stage 14.
    ///
    /// ```
    /// use common::HttpDate;
    ///
    /// let now = 1_700_000_000;
    /// for text in [
    ///     "Sun, 06 Nov 1994 08:49:37 GMT",
    ///     "Sunday, 06-Nov-94 08:49:37 GMT",
    ///     "Sun Nov  6 08:49:37 1994",
    /// ] {
    ///     assert_eq!(HttpDate::parse(text.as_bytes(), now), Some(784_111_777));
    /// }
    /// ```
    pub fn parse(text: &[u8], now: u64) -> Option<u64> {
        let text = std::str::from_utf8(text).ok()?;
        let (weekday, rest) = text.split_at_checked(text.find([',', ' '])?)?;
        if !WEEKDAYS.iter().any(|short| weekday.starts_with(short)) {
            return None;
        }
        let (date, time) = match rest.strip_prefix(", ") {
            Some(rest) => rest.strip_suffix(" GMT")?.rsplit_once(' ')?,
            None => return asctime(rest.strip_prefix(' ')?),
        };
        let (day, month, year) = match weekday.len() {
            3 => three(date, ' ', 4)?,
            _ => three(date, '-', 2)?,
        };
        let year = if weekday.len() == 3 { number(year)? } else { full_year(number(year)?, now) };
        seconds(year, month, number(day)?, time)
    }

    /// Returns the date as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<HttpDate> for Cow<'static, str> {
    fn from(date: HttpDate) -> Cow<'static, str> {
        date.as_str().to_owned().into()
    }
}

/// Returns the year, the month, and the day of the month, the given number of days after
/// 1 January 1970.
///
/// Days are counted from 1 March of the year 0, so that a leap day is the last day of a year. A
/// period of 400 years always has 146,097 days. From March on, the lengths of the months repeat
/// every five months, which have 153 days together. (Howard Hinnant's `civil_from_days` counts in
/// the same way.)
fn calendar(days: u64) -> (u64, &'static str, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    (year, MONTHS[usize::try_from((month + 2) % 12).unwrap_or(0)], day)
}

/// Reads what follows the weekday in the form of `asctime` in C: `Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<u64> {
    let (month, rest) = text.split_at_checked(3)?;
    let (day, rest) = rest.strip_prefix(' ')?.split_at_checked(2)?;
    let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    let day = day.strip_prefix(' ').unwrap_or(day);
    if year.len() != 4 { None } else { seconds(number(year)?, month, number(day)?, time) }
}

/// Splits a date such as `06-Nov-94` at its separators. The day has two digits, and the year this many.
fn three(date: &str, separator: char, digits: usize) -> Option<(&str, &str, &str)> {
    let (day, rest) = date.split_once(separator)?;
    let (month, year) = rest.split_once(separator)?;
    (day.len() == 2 && year.len() == digits).then_some((day, month, year))
}

/// The year that two digits stand for.
fn full_year(digits: u64, now: u64) -> u64 {
    let (this_year, ..) = calendar(now / SECONDS_PER_DAY);
    let year = this_year - this_year % 100 + digits;
    if year > this_year + 50 { year - 100 } else { year }
}

/// The seconds since the beginning of 1970 until a moment. `time` is such as `08:49:37`.
fn seconds(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (hour, rest) = time.split_once(':')?;
    let (minute, second) = rest.split_once(':')?;
    let is_whole = [hour, minute, second].iter().all(|part| part.len() == 2);
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
    // A leap second is allowed.
    if !is_whole || hour > 23 || minute > 59 || second > 60 || day == 0 || day > length {
        return None;
    }
    // Days are counted from March of the year 0, as in `calendar`.
    let (year, month) =
        if month < 2 { (year.checked_sub(1)?, month + 10) } else { (year, month - 2) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month as u64 + 2) / 5 + day - 1;
    let Some(days) = days.checked_sub(719_468) else { return Some(0) };
    Some(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second)
}

/// A number of digits and nothing else.
fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn is_written_as_the_rfc_says() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(HttpDate::of(seconds).as_str(), date);
        }
    }

    #[test]
    fn is_read_in_three_forms() {
        let read = |text: &str| HttpDate::parse(text.as_bytes(), 1_700_000_000); // 2023
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 12:34:56 GMT", 951_827_696),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Tuesday, 29-Feb-72 00:00:00 GMT", 3_223_929_600), // 2072
            ("Saturday, 01-Jan-00 00:00:00 GMT", 946_684_800),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Wed Nov 16 08:49:37 1994", 784_975_777),
            ("Wed, 01 Jan 1800 00:00:00 GMT", 0), // before anything here was stored
        ] {
            assert_eq!(read(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "784111777",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    /// Returns the date, counted year by year and month by month.
    fn counted(mut days: u64) -> (u64, &'static str, u64) {
        let leap = |year: u64| u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        let mut year = 1970;
        while days >= 365 + leap(year) {
            days -= 365 + leap(year);
            year += 1;
        }
        let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while days >= lengths[month] {
            days -= lengths[month];
            month += 1;
        }
        (year, MONTHS[month], days + 1)
    }

    proptest! {
        #[test]
        fn is_read_as_it_was_written(seconds in 0..=LATEST) {
            prop_assert_eq!(HttpDate::parse(HttpDate::of(seconds).as_bytes(), 0), Some(seconds));
        }

        #[test]
        fn agrees_with_counting(days in 0..1_000_000u64) {
            prop_assert_eq!(calendar(days), counted(days));
        }
    }
}
