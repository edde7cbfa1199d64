//! The current date (stage 11's lasting form).

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::message::date::HttpDate;

/// Returns the current time in seconds since the beginning of 1970. From stage 14.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns the current time in milliseconds since the beginning of 1970.
pub(crate) fn milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the current date. Each thread computes it once a second at most.
pub fn date() -> HttpDate {
    thread_local! {
        static LATEST: Cell<Option<(u64, HttpDate)>> = const { Cell::new(None) };
    }
    let second = now();
    match LATEST.get() {
        Some((latest, date)) if latest == second => date,
        _ => {
            let date = HttpDate::of(second);
            LATEST.set(Some((second, date)));
            date
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let read = |date: HttpDate| date.as_str().split(' ').nth(3).map(str::to_owned);
        assert!(read(date()) >= Some("2026".to_owned()));
    }
}
