//! A limit for what happens at the same time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A fixed number of permits: a counting semaphore.
pub struct Permits {
    count: usize,
    taken: Mutex<usize>,
    /// The signal that one has come back.
    came_back: Condvar,
}

/// One of them. It goes back when it is dropped.
pub struct Permit(Arc<Permits>);

impl Permits {
    pub fn new(count: usize) -> Arc<Permits> {
        Arc::new(Permits { count, taken: Mutex::new(0), came_back: Condvar::new() })
    }

    /// Takes a permit, if there is one left.
    pub fn take(self: &Arc<Permits>) -> Option<Permit> {
        let mut taken = self.taken.lock().expect("no thread panics while counting");
        if *taken >= self.count {
            return None;
        }
        *taken += 1;
        Some(Permit(Arc::clone(self)))
    }

    /// Waits until all permits are back, but no longer than `time`, and then keeps them: no caller gets
    /// one any more.
    pub fn take_all_within(&self, time: Duration) {
        let taken = self.taken.lock().expect("no thread panics while counting");
        let waited = self.came_back.wait_timeout_while(taken, time, |taken| *taken > 0);
        if let Ok((mut taken, _)) = waited {
            *taken += self.count;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.taken.lock().expect("no thread panics while counting") -= 1;
        self.0.came_back.notify_all();
    }
}
