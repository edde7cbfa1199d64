//! The limits on sizes and times, and the time budget of a client (stage 12's lasting form).

use std::time::Duration;

use crate::message::body::MAX_BODY;

/// The limits of a server for its clients. Each limit is an option of the same name on the command
/// line. From stage 11.
///
/// ```
/// use common::Limits;
///
/// let limits = Limits { max_body: 1_000, ..Limits::default() };
/// assert_eq!(limits.max_connections, 400);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most connections that are served at the same time. When the limit is reached, a new
    /// connection evicts the one that has been idle longest. If none is idle, the new one is refused
    /// with 503. A connection takes a file descriptor, another one while a file is sent, and two while one is stored:
    /// on many systems, 400 connections fit into what a program may ask for.
    pub max_connections: usize,
    /// The most bytes that a request's body may have. A larger one is refused with 413.
    pub max_body: u64,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// How long the head of a request may take, from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a request's body may take, plus a second for every 1,000 bytes.
    pub body_timeout: Duration,
    /// How long a response may take, plus a second for every 1,000 bytes. The server sees what a client
    /// has taken only in pieces of some hundred kilobytes.
    pub send_timeout: Duration,
    /// How long requests may continue after the server has been asked to stop.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 400,
            max_body: MAX_BODY,
            idle_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            send_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// The time that each byte adds to a budget: a client may be as slow as 1,000 bytes per second, and no
/// slower.
const TIME_PER_BYTE: Duration = Duration::from_millis(1);

/// The time that a client has for a part of the conversation: to send a head, to send a body, or to
/// take a response. The budget covers the whole part, in however many reads or writes. Only the time
/// that the server waits for the client is charged to it. What the server does in between costs the
/// client nothing.
///
/// The budget has no clock: the caller says how long it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBudget {
    full: Duration,
    left: Duration,
    per_byte: Duration,
}

impl TimeBudget {
    /// Creates a budget of the given time, to which nothing is added.
    pub(crate) fn fixed(time: Duration) -> TimeBudget {
        TimeBudget { full: time, left: time, per_byte: Duration::ZERO }
    }

    /// Creates a budget of the given time, to which each byte that is transferred adds a little. So a
    /// client that is fast enough may go on forever. The budget never grows beyond its initial time: a
    /// fast beginning does not pay for a long silence.
    pub(crate) fn with_rate(time: Duration) -> TimeBudget {
        TimeBudget { per_byte: TIME_PER_BYTE, ..TimeBudget::fixed(time) }
    }

    /// Returns the initial time.
    pub(crate) fn full(self) -> Duration {
        self.full
    }

    /// Returns the time that is left.
    pub(crate) fn left(self) -> Duration {
        self.left
    }

    /// Charges the given waiting time.
    pub(crate) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    /// Adds the time that the given number of bytes earns.
    pub(crate) fn earn(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let earned = self.per_byte.saturating_mul(bytes);
        self.left = self.left.saturating_add(earned).min(self.full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fixed_budget_runs_out_however_much_passes() {
        let mut budget = TimeBudget::fixed(seconds(10));
        for _ in 0..4 {
            budget.spend(seconds(3));
            budget.earn(1_000_000);
        }
        assert_eq!((budget.left(), budget.full()), (Duration::ZERO, seconds(10)));
    }

    #[test]
    fn a_thousand_bytes_per_second_never_run_out() {
        let mut quick = TimeBudget::with_rate(seconds(20));
        let mut slow = quick;
        for _ in 0..100 {
            quick.spend(seconds(1));
            quick.earn(1_000);
            slow.spend(seconds(1));
            slow.earn(700);
        }
        assert_eq!(quick.left(), seconds(20));
        assert!(slow.left() < seconds(1), "the next wait is cut short");
    }

    #[test]
    fn a_quick_beginning_does_not_pay_for_a_long_silence() {
        let mut budget = TimeBudget::with_rate(seconds(20));
        budget.earn(usize::MAX);
        assert_eq!(budget.left(), seconds(20));
    }
}
