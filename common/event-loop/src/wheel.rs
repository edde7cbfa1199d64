//! Deadlines in a wheel. A deadline that moves further away needs no new entry: its client is looked at in vain, and put back.

/// How long a tick takes, in milliseconds. Deadlines are met up to this much too late.
pub(crate) const TICK: u64 = 250;

/// How many ticks the wheel knows ahead: a minute. What is later is looked at then, and put back.
const SPOKES: u64 = 256;

/// Who is to be looked at in which tick.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    spokes: Vec<Vec<T>>,
    /// The tick up to which all has been looked at.
    tick: u64,
    count: usize,
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Wheel<T> {
        Wheel { spokes: (0..SPOKES).map(|_| Vec::new()).collect(), tick: 0, count: 0 }
    }

    /// Has somebody looked at when this time has come, in milliseconds, or before, if that is far away.
    pub(crate) fn add(&mut self, who: T, deadline: u64) {
        let tick = (deadline / TICK + 1).clamp(self.tick + 1, self.tick + SPOKES);
        self.spokes[(tick % SPOKES) as usize].push(who);
        self.count += 1;
    }

    /// Returns those whose time has come.
    pub(crate) fn advance(&mut self, now: u64) -> Vec<T> {
        let mut due = Vec::new();
        let last = now / TICK;
        while self.tick < last && self.count > 0 {
            self.tick += 1;
            let spoke = &mut self.spokes[(self.tick % SPOKES) as usize];
            self.count -= spoke.len();
            due.append(spoke);
        }
        self.tick = self.tick.max(last);
        due
    }

    /// Returns the milliseconds until it may be somebody's time; `None` if there is nobody.
    pub(crate) fn until_next(&self, now: u64) -> Option<u64> {
        (self.count > 0).then(|| ((self.tick + 1) * TICK).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_looked_at_too_early_or_much_too_late() {
        let mut wheel = Wheel::new();
        let deadlines = [0, 1, 249, 250, 1_000, 1_001, 63_000];
        deadlines.iter().for_each(|deadline| wheel.add(*deadline, *deadline));
        let mut seen = Vec::new();
        let mut now = 0;
        while let Some(wait) = wheel.until_next(now) {
            now += wait.max(1);
            for deadline in wheel.advance(now) {
                assert!((deadline..=deadline + 2 * TICK).contains(&now), "{deadline} at {now}");
                seen.push(deadline);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, deadlines);
    }

    #[test]
    fn what_is_far_away_comes_back_in_a_minute() {
        let mut wheel = Wheel::new();
        wheel.add((), 1_000_000);
        assert!(wheel.advance(63_000).is_empty());
        assert_eq!(wheel.advance(64_100).len(), 1);
        assert!(wheel.until_next(64_100).is_none());
    }

    #[test]
    fn a_long_sleep_skips_nobody() {
        let mut wheel = Wheel::new();
        (0..100).for_each(|number| wheel.add(number, number * 500));
        assert_eq!(wheel.advance(10_000_000).len(), 100);
        wheel.add(7, 10_000_100);
        assert!(wheel.advance(10_000_101).is_empty());
        assert_eq!(wheel.advance(10_000_501), [7]);
    }
}
