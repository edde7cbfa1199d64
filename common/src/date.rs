//! The time as HTTP writes it (stage 11's lasting form).

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// From 1 January 1970 on.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Calls a function with the date of this second, such as `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110, section 5.6.7). Each thread writes it down once a second at most.
pub fn with_now<T>(use_it: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static LATEST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LATEST.with_borrow_mut(|(latest, date)| {
        if *latest != second || date.is_empty() {
            (*latest, *date) = (second, imf_fixdate(second));
        }
        use_it(date)
    })
}

/// `IMF-fixdate = day-name "," SP date1 SP time-of-day SP GMT`
fn imf_fixdate(seconds: u64) -> String {
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let weekday = WEEKDAYS[usize::try_from(days % 7).unwrap_or(0)];
    let (year, month, day) = calendar(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The year, month and day of the month, so many days after 1 January 1970.
///
/// The days are counted from 1 March of the year 0, so that a leap day is the last day of a year.
/// A period of 400 years always has 146,097 days, and from March on, the months' lengths repeat
/// every five months, with 153 days (this is how Howard Hinnant's `civil_from_days` counts).
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
        ] {
            assert_eq!(imf_fixdate(seconds), date);
        }
    }

    #[test]
    fn is_the_same_within_a_second() {
        let dates: Vec<_> = (0..3).map(|_| with_now(str::to_owned)).collect();
        assert!(dates.iter().all(|date| date.len() == 29), "{dates:?}");
    }

    /// The date, counted year by year and month by month.
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
