//! A limit for what happens at the same time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// So many permits, and no more: a counting semaphore.
#[derive(Clone)]
pub struct Permits {
    /// How many are taken, and the signal that one has come back.
    state: Arc<(Mutex<usize>, Condvar)>,
    count: usize,
}

/// One of them. It goes back when it is dropped.
pub struct Permit(Permits);

impl Permits {
    pub fn new(count: usize) -> Permits {
        Permits { state: Arc::default(), count }
    }

    /// Takes a permit, if there is one left.
    pub fn take(&self) -> Option<Permit> {
        let mut taken = self.state.0.lock().expect("nobody panics while counting");
        if *taken == self.count {
            return None;
        }
        *taken += 1;
        Some(Permit(self.clone()))
    }

    /// Waits until all permits are back, for so long at most. Returns whether they are.
    pub fn all_back_within(&self, time: Duration) -> bool {
        let (taken, came_back) = &*self.state;
        let taken = taken.lock().expect("nobody panics while counting");
        let waited = came_back.wait_timeout_while(taken, time, |taken| *taken > 0);
        waited.is_ok_and(|(taken, _)| *taken == 0)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (taken, came_back) = &*self.0.state;
        *taken.lock().expect("nobody panics while counting") -= 1;
        came_back.notify_all();
    }
}
