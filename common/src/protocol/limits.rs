//! What clients get at most, and the time they have (stage 12's lasting form).

use std::time::Duration;

use crate::message::body::MAX_BODY;

/// What a server gives to its clients at most. Each limit is an option of the same name on the command
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
    /// Connections that are served at the same time. When there are so many, the one that has been
    /// idle longest makes room; if none is idle, further ones are turned away with 503. A connection
    /// takes a file descriptor, and another one while a file is sent or stored: 400 fit into the 1,024
    /// that many systems allow.
    pub max_connections: usize,
    /// Bytes of a request's body. A larger one is refused with 413.
    pub max_body: u64,
    /// How long a connection may be silent between two requests.
    pub idle_timeout: Duration,
    /// How long the head of a request may take, from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a request's body may take, apart from a second for every 1,000 bytes.
    pub body_timeout: Duration,
    /// How long a response may take, apart from a second for every 1,000 bytes. What a client takes
    /// is only seen in pieces of some hundred kilobytes.
    pub send_timeout: Duration,
    /// How long requests may go on after the server was asked to stop.
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

/// A client may be as slow as 1,000 bytes in a second, and no slower.
const TIME_PER_BYTE: Duration = Duration::from_millis(1);

/// The time that a client has for a part of the conversation: a head, a body, or taking a response. The
/// budget covers all of it, in however many reads or writes. Only waiting for the client is paid
/// from it; what the server does in between costs the client nothing.
///
/// It knows no clock: the caller says how long it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBudget {
    full: Duration,
    left: Duration,
    per_byte: Duration,
}

impl TimeBudget {
    /// So much time, once.
    pub(crate) fn fixed(time: Duration) -> TimeBudget {
        TimeBudget { full: time, left: time, per_byte: Duration::ZERO }
    }

    /// So much time, and a little more for each byte that passes, so that a client that is quick
    /// enough may go on for ever. It never grows beyond what it was at first: a quick beginning does
    /// not pay for a long silence.
    pub(crate) fn with_rate(time: Duration) -> TimeBudget {
        TimeBudget { per_byte: TIME_PER_BYTE, ..TimeBudget::fixed(time) }
    }

    /// What there was at first.
    pub(crate) fn full(self) -> Duration {
        self.full
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        self.left
    }

    /// Pays for waiting so long.
    pub(crate) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    /// Adds what so many bytes earn.
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
    fn a_thousand_bytes_a_second_last_for_ever_and_less_do_not() {
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
