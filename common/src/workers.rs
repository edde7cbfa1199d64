//! Threads that are used again (stage 11's lasting form).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a thread that has nothing to do waits for work before it ends.
const PATIENCE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// Threads for jobs that come and go. A job gets a thread that has nothing to do, or a new one if all
/// are busy; it never waits for another job. To start a thread takes longer than to answer a small
/// request.
#[derive(Default)]
pub struct Workers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there is a job for a thread that waits.
    has_job: Condvar,
}

#[derive(Default)]
struct State {
    /// Jobs that are about to be taken by threads that wait.
    jobs: VecDeque<Job>,
    waiting: usize,
}

impl Workers {
    /// Has a thread do a job. If that panics, it is the end of the thread, and of nothing else.
    ///
    /// # Errors
    ///
    /// When a new thread is needed, and the system has none.
    pub fn employ(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.jobs.len() < state.waiting {
            state.jobs.push_back(Box::new(job));
            self.shared.has_job.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let work = move || {
            job();
            while let Some(job) = shared.next_job() {
                job();
            }
        };
        thread::Builder::new().spawn(work).map(drop)
    }
}

impl Shared {
    /// Waits for a job, but not for long.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        state.waiting += 1;
        let no_job = |state: &mut State| state.jobs.is_empty();
        let waited = self.has_job.wait_timeout_while(state, PATIENCE, no_job);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::sync::mpsc;
    use std::thread::ThreadId;
    use std::time::Instant;

    /// Has a thread say who it is, and waits for that.
    fn who(workers: &Workers) -> ThreadId {
        let (sender, receiver) = mpsc::channel();
        let say = move || sender.send(thread::current().id()).expect("somebody listens");
        workers.employ(say).expect("there is a thread");
        receiver.recv_timeout(Duration::from_secs(10)).expect("it is done")
    }

    #[test]
    fn a_thread_is_used_again() {
        let workers = Workers::default();
        let first = who(&workers);
        let deadline = Instant::now() + PATIENCE;
        while workers.shared.lock().waiting == 0 {
            assert!(Instant::now() < deadline, "it does not wait for another job");
            thread::yield_now();
        }
        assert_eq!(who(&workers), first);
    }

    #[test]
    fn no_job_waits_for_another() {
        let workers = Workers::default();
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..4 {
            let receiver = Arc::clone(&receiver);
            let wait = move || drop(receiver.lock().map(|receiver| receiver.recv()));
            workers.employ(wait).expect("there is a thread");
        }
        who(&workers);
        drop(sender);
    }
}
