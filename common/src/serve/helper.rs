//! A thread that waits for slow clients, so that no other has to (stage 12's lasting form).
//!
//! Answering a request may take long. Meanwhile, the earlier answers that have not been sent yet are lent
//! to this thread, which sends them after a millisecond or two. And when a connection gets a lingering
//! close, this thread waits until the client has closed it as well.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::serve::places::Place;
use crate::transport::tcp;

/// The time between two ticks, in each of which the thread looks for work. Lent bytes are sent after one
/// or two ticks.
const TICK: Duration = Duration::from_millis(1);

/// The number of ticks without work after which the thread sleeps until there is some.
const TICKS_UNTIL_SLEEP: u32 = 50;

/// The number of ticks after which a connection that its client has not closed is looked at less often.
const SLOW_POLL_AFTER: u64 = 20;

/// The tick of a loan while nothing is lent.
const NEVER: u64 = 0;

/// The helper thread, started when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The number of ticks so far. It does not change while the thread sleeps.
    tick: AtomicU64,
    is_asleep: AtomicBool,
    state: Mutex<State>,
    /// Signalled when there is work while the thread sleeps.
    wakes: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    loans: Vec<Weak<Loan>>,
    closing: Vec<LingeringClose>,
}

/// A connection in a lingering close: the server has closed its side, and waits until the client closes
/// its own.
#[derive(Debug)]
struct LingeringClose {
    stream: Arc<TcpStream>,
    /// Counts as a connection until it is closed.
    _place: Place,
    since: Instant,
    /// When the client last sent something.
    last_received: Instant,
    /// How many ticks ago the lingering close began.
    ticks: u64,
}

/// The bytes that one connection lends. A connection has one loan, and uses it again and again.
#[derive(Debug)]
pub(crate) struct Loan {
    stream: Arc<TcpStream>,
    shared: Arc<Shared>,
    /// The tick after which the lent bytes are sent, or [`NEVER`].
    since: AtomicU64,
    lent: Mutex<Lent>,
}

#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    /// The error that occurred while sending, if one did.
    outcome: io::Result<()>,
}

impl Helper {
    /// Creates a loan for a connection. Returns `None` if the system cannot send without waiting, or has
    /// no thread for that.
    pub(crate) fn loan(&self, stream: &Arc<TcpStream>) -> Option<Arc<Loan>> {
        if !tcp::CAN_TRY_WITHOUT_WAITING || !self.shared.start_thread() {
            return None;
        }
        let loan = Arc::new(Loan {
            stream: Arc::clone(stream),
            shared: Arc::clone(&self.shared),
            since: AtomicU64::new(NEVER),
            lent: Mutex::new(Lent { bytes: Vec::new(), outcome: Ok(()) }),
        });
        self.shared.lock().loans.push(Arc::downgrade(&loan));
        Some(loan)
    }

    /// Closes a connection with a lingering close, then frees its place. The caller waits for that only if
    /// the system cannot read without waiting, or has no thread for it: see [`tcp::close_gently`].
    pub(crate) fn close_gently(&self, stream: Arc<TcpStream>, place: Place) {
        if !tcp::CAN_TRY_WITHOUT_WAITING || !self.shared.start_thread() {
            return tcp::close_gently(&stream, tcp::LINGERING_TIME);
        }
        if stream.shutdown(Shutdown::Write).is_err() {
            return; // the connection is gone already
        }
        let now = Instant::now();
        let closing =
            LingeringClose { stream, _place: place, since: now, last_received: now, ticks: 0 };
        self.shared.lock().closing.push(closing);
        self.shared.wake_if_asleep();
    }
}

impl LingeringClose {
    /// Reads and discards what has arrived. Returns whether to go on.
    fn look(&mut self, now: Instant) -> bool {
        self.ticks += 1;
        if self.ticks > SLOW_POLL_AFTER && self.ticks % SLOW_POLL_AFTER != 0 {
            return true;
        }
        loop {
            match tcp::discard_at_once(&self.stream) {
                Ok(0) => return false,
                Ok(_) => self.last_received = now,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        now.duration_since(self.last_received) < tcp::LINGERING_TIMEOUT
            && now.duration_since(self.since) < tcp::LINGERING_TIME
    }
}

impl Loan {
    /// Lends these bytes: from now on the thread may send them.
    pub(crate) fn lend(&self, bytes: &mut Vec<u8>) {
        std::mem::swap(&mut self.lock().bytes, bytes);
        self.since.store(self.shared.tick.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
        self.shared.wake_if_asleep();
    }

    /// Takes back the bytes that have not been sent.
    ///
    /// # Errors
    ///
    /// The error that occurred while sending.
    pub(crate) fn take_back(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.since.store(NEVER, Ordering::SeqCst);
        let mut lent = self.lock();
        std::mem::swap(&mut lent.bytes, bytes);
        std::mem::replace(&mut lent.outcome, Ok(()))
    }

    fn is_lent(&self) -> bool {
        self.since.load(Ordering::SeqCst) != NEVER
    }

    /// Sends the lent bytes, unless they were lent less than a tick ago.
    fn look(&self, tick: u64) {
        let since = self.since.load(Ordering::SeqCst);
        if since != NEVER && since < tick {
            self.send();
        }
    }

    /// Sends as many of the lent bytes as possible without waiting.
    fn send(&self) {
        let mut lent = self.lock();
        while !lent.bytes.is_empty() && lent.outcome.is_ok() {
            match tcp::send_at_once(&self.stream, &lent.bytes) {
                Ok(count) => drop(lent.bytes.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => lent.outcome = Err(error),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lent> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Starts the thread if it does not run. Returns whether it runs.
    fn start_thread(self: &Arc<Shared>) -> bool {
        let mut state = self.lock();
        if !state.has_thread {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("helper".to_owned());
            state.has_thread = thread.spawn(move || shared.run()).is_ok();
        }
        state.has_thread
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_if_asleep(&self) {
        if self.is_asleep.load(Ordering::SeqCst) {
            let _state = self.lock(); // so the thread waits, or has not looked for work yet
            self.wakes.notify_one();
        }
    }

    /// Does the work that there is, once in each tick.
    fn run(&self) {
        let mut idle_ticks = 0;
        loop {
            thread::sleep(TICK);
            let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
            idle_ticks = if self.look(tick) { 0 } else { idle_ticks + 1 };
            if idle_ticks > TICKS_UNTIL_SLEEP {
                self.sleep();
                idle_ticks = 0;
            }
        }
    }

    /// Does the work that there is. Returns whether there may be more in the next tick.
    fn look(&self, tick: u64) -> bool {
        let mut state = self.lock();
        state.loans.retain(|loan| loan.upgrade().inspect(|loan| loan.look(tick)).is_some());
        let mut closing = std::mem::take(&mut state.closing);
        let is_anything_lent = state.has_loans();
        drop(state); // no thread with a connection to close should wait for this
        let now = Instant::now();
        closing.retain_mut(|connection| connection.look(now));
        let is_anything_closing = !closing.is_empty();
        self.lock().closing.append(&mut closing);
        is_anything_lent || is_anything_closing
    }

    /// Waits until there is work.
    fn sleep(&self) {
        let state = self.lock();
        self.is_asleep.store(true, Ordering::SeqCst);
        if !state.has_loans() && state.closing.is_empty() {
            drop(self.wakes.wait(state));
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn has_loans(&self) -> bool {
        self.loans.iter().any(|loan| loan.upgrade().is_some_and(|loan| loan.is_lent()))
    }
}
