//! Time for a part of a conversation. A client has it from stage 11 on.

use std::time::{Duration, Instant};

/// The time that a client has for a part of its conversation, in however many pieces. It begins when
/// the server first reads or writes: what the server does before is not the client's doing.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    time: Duration,
    per_byte: Duration,
    /// Set when the time has begun.
    deadline: Option<Instant>,
}

impl Allowance {
    /// So much time.
    pub fn new(time: Duration) -> Allowance {
        Allowance { time, per_byte: Duration::ZERO, deadline: None }
    }

    /// The same, and somewhat more for each byte that passes, so that whoever is quick enough may go
    /// on for ever. It never adds up to more than the time at the beginning: to have been quick does
    /// not entitle to a long silence.
    #[must_use]
    pub fn and_per_byte(self, per_byte: Duration) -> Allowance {
        Allowance { per_byte, ..self }
    }

    /// So much time for each write, as often as it takes. Nobody sees how fast a client reads: the
    /// system takes megabytes off a server's hands at once, and then nothing for a while.
    pub fn for_each_write(time: Duration) -> Allowance {
        Allowance::new(time).and_per_byte(time)
    }

    /// All of it.
    pub(crate) fn time(self) -> Duration {
        self.time
    }

    /// What is left of it; `None` if nothing is. It begins now if it has not begun before.
    pub(crate) fn left(&mut self) -> Option<Duration> {
        let Some(deadline) = self.deadline else {
            self.deadline = Some(Instant::now() + self.time);
            return Some(self.time);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// What it is after so many bytes have passed.
    pub(crate) fn after(self, count: usize) -> Allowance {
        let more = self.per_byte.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let deadline = match self.deadline {
            Some(deadline) if more.is_zero() => Some(deadline),
            Some(deadline) if more < self.time => {
                Some((deadline + more).min(Instant::now() + self.time))
            }
            _ => None, // all of it begins anew
        };
        Allowance { deadline, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn it_runs_out() {
        let mut none = Allowance::new(Duration::ZERO);
        assert_eq!(none.left(), Some(Duration::ZERO));
        assert_eq!(none.left(), None);
        assert_eq!(none.after(1000).left(), None);
    }

    #[test]
    fn it_begins_when_it_is_first_asked_for() {
        let mut allowance = Allowance::new(LONG);
        assert_eq!(allowance.after(1).deadline, None);
        assert_eq!(allowance.left(), Some(LONG));
        assert!(allowance.deadline.is_some());
    }

    #[test]
    fn whoever_is_quick_gets_more_but_never_more_than_at_the_beginning() {
        let mut allowance = Allowance::new(LONG).and_per_byte(SECOND);
        let _ = allowance.left();
        allowance.deadline = allowance.deadline.map(|deadline| deadline - LONG / 2);
        let between = |allowance: &mut Allowance, least: u64, most: u64| {
            allowance.left().is_some_and(|left| (least..=most).contains(&left.as_secs()))
        };
        assert!(between(&mut allowance.after(0), 400, 500));
        assert!(between(&mut allowance.after(100), 500, 600));
        assert!(between(&mut allowance.after(900), 900, 1000));
        assert!(between(&mut allowance.after(1_000_000), 1000, 1000));
    }
}
