//! Dates in the format of HTTP (stage 11's lasting form).

use std::borrow::Cow;

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
        let text =
            format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
        let mut date = [b' '; 29];
        date.copy_from_slice(text.as_bytes());
        HttpDate(date)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
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
        fn agrees_with_counting(days in 0..1_000_000u64) {
            prop_assert_eq!(calendar(days), counted(days));
        }
    }
}
