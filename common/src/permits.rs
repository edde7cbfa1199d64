//! A limit for what happens at the same time (stage 11's lasting form).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often to look whether all permits are back.
const PAUSE: Duration = Duration::from_millis(10);

/// So many permits, and no more: a counting semaphore that never makes anyone wait, and that
/// threads share without a lock.
#[derive(Debug, Clone)]
pub struct Permits {
    taken: Arc<AtomicUsize>,
    count: usize,
}

/// One of them. It goes back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    taken: Arc<AtomicUsize>,
}

impl Permits {
    /// So many of them, and all are there.
    pub fn new(count: usize) -> Permits {
        Permits { taken: Arc::default(), count }
    }

    /// Takes a permit, if there is one left.
    pub fn take(&self) -> Option<Permit> {
        let one_more = |taken: usize| (taken < self.count).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken.is_ok().then(|| Permit { taken: Arc::clone(&self.taken) })
    }

    /// Waits until all permits are back, until `time` has passed, or until `is_urgent` says so, and
    /// then takes all that are there: nobody gets one any more. Returns whether all were back.
    pub fn take_all_within(&self, time: Duration, is_urgent: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let all =
                self.taken.compare_exchange(0, self.count, Ordering::AcqRel, Ordering::Acquire);
            if all.is_ok() {
                return true;
            }
            if is_urgent() || Instant::now() > deadline {
                self.taken.fetch_add(self.count, Ordering::AcqRel);
                return false;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let permits = Permits::new(2);
        let (first, second) = (permits.take(), permits.take());
        assert!(first.is_some() && second.is_some());
        assert!(permits.take().is_none());
        drop(first);
        assert!(permits.take().is_some());
    }

    #[test]
    fn threads_never_hold_more_than_there_are() {
        let permits = Permits::new(3);
        let held = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let Some(_permit) = permits.take() else { continue };
                        assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                        held.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(permits.take_all_within(Duration::ZERO, || false));
        assert!(permits.take().is_none());
    }

    #[test]
    fn waiting_has_an_end() {
        let permits = Permits::new(1);
        let held = permits.take();
        assert!(!permits.take_all_within(Duration::from_millis(1), || false));
        assert!(!permits.take_all_within(Duration::MAX / 4, || true));
        drop(held);
        assert!(permits.take().is_none());
    }
}
