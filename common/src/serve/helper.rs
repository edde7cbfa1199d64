//! A thread for what no other thread should wait for (stage 12's lasting form).
//!
//! Answers to requests that came together go out together. While the next request is being answered, which
//! may take long, those that are ready are lent to this thread, which sends them after a moment. And when a
//! connection is to be closed gently, this thread waits until the client has closed it, too.

use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::transport::{Transfer, Transport};
use crate::serve::places::Place;
use crate::transport::tcp::{self, Tcp};

/// A moment. What is lent is sent after one or two of them, and connections that are to be closed are
/// looked at once in each.
const TICK: Duration = Duration::from_millis(1);

/// After so many moments in which there was nothing to do, the thread sleeps until there is something.
const TICKS_UNTIL_SLEEP: u32 = 50;

/// A connection whose client has not closed it after so many moments is looked at less often.
const PATIENT_AFTER: u64 = 20;

/// Nothing is lent.
const NEVER: u64 = 0;

/// The thread, started when it is needed.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts moments; it stands still while the thread sleeps.
    tick: AtomicU64,
    is_asleep: AtomicBool,
    state: Mutex<State>,
    /// Signalled when there is something to do while the thread sleeps.
    wakes: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    loans: Vec<Weak<Loan>>,
    closing: Vec<Closing>,
}

/// A connection that says no more, and waits until its client does not, either.
#[derive(Debug)]
struct Closing {
    stream: Arc<TcpStream>,
    /// It counts as a connection until it is closed.
    _place: Place,
    since: Instant,
    /// When the client was heard of last.
    heard: Instant,
    /// How many moments ago it began.
    ticks: u64,
}

/// What one connection has lent.
#[derive(Debug)]
struct Loan {
    stream: Arc<TcpStream>,
    /// The moment since when it is lent.
    since: AtomicU64,
    bytes: Mutex<(Vec<u8>, io::Result<()>)>,
}

impl Helper {
    /// A connection whose answers may be lent.
    pub(crate) fn transport<'h>(
        &'h self,
        stream: &'h Arc<TcpStream>,
        idle_timeout: Duration,
    ) -> Lending<'h> {
        let tcp = Tcp::prepared(stream, idle_timeout);
        Lending { tcp, stream, shared: &self.shared, loan: None }
    }

    /// Closes a connection gently, and gives its place back then. See [`tcp::close_gently`], which does it
    /// where the system has no way to look without waiting.
    pub(crate) fn close_gently(&self, stream: Arc<TcpStream>, place: Place) {
        if !tcp::CAN_LOOK || !self.shared.start_thread() {
            return tcp::close_gently(&stream, tcp::LINGER_AT_MOST);
        }
        if stream.shutdown(Shutdown::Write).is_err() {
            return; // it is gone already
        }
        let now = Instant::now();
        let closing = Closing { stream, _place: place, since: now, heard: now, ticks: 0 };
        self.shared.lock().closing.push(closing);
        self.shared.wake_if_asleep();
    }
}

impl Closing {
    /// Reads and forgets what has come. Returns whether to go on.
    fn look(&mut self, now: Instant) -> bool {
        self.ticks += 1;
        if self.ticks > PATIENT_AFTER && self.ticks % PATIENT_AFTER != 0 {
            return true;
        }
        loop {
            match tcp::discard_at_once(&self.stream) {
                Ok(0) => return false,
                Ok(_) => self.heard = now,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        now.duration_since(self.heard) < tcp::LINGER
            && now.duration_since(self.since) < tcp::LINGER_AT_MOST
    }
}

/// A TCP connection that lends what is to be sent while something else is done.
pub(crate) struct Lending<'h> {
    tcp: Tcp<'h>,
    stream: &'h Arc<TcpStream>,
    shared: &'h Arc<Shared>,
    /// Made when it is first needed: few connections have two requests at a time.
    loan: Option<Arc<Loan>>,
}

impl Transport for Lending<'_> {
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer> {
        self.tcp.receive(buffer, time)
    }

    fn send(&mut self, bytes: &[u8], more: bool, time: Duration) -> io::Result<Transfer> {
        self.tcp.send(bytes, more, time)
    }

    fn send_file(&mut self, file: &File, length: u64, time: Duration) -> io::Result<Transfer> {
        self.tcp.send_file(file, length, time)
    }

    fn lend(&mut self, bytes: &mut Vec<u8>) -> bool {
        if self.loan.is_none() {
            self.loan = self.shared.register(self.stream);
        }
        let Some(loan) = &self.loan else { return false };
        std::mem::swap(&mut loan.lock().0, bytes);
        loan.since.store(self.shared.tick.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
        self.shared.wake_if_asleep();
        true
    }

    fn take_back(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let Some(loan) = &self.loan else { return Ok(()) };
        loan.since.store(NEVER, Ordering::SeqCst);
        let mut lent = loan.lock();
        std::mem::swap(&mut lent.0, bytes);
        std::mem::replace(&mut lent.1, Ok(()))
    }
}

impl Loan {
    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, io::Result<()>)> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what was lent before this moment. Returns whether to go on looking.
    fn look(&self, tick: u64) -> bool {
        let since = self.since.load(Ordering::SeqCst);
        if since != NEVER && since < tick {
            self.send();
        }
        true
    }

    /// Sends what there is, as far as that can be done at once.
    fn send(&self) {
        let mut lent = self.lock();
        while !lent.0.is_empty() && lent.1.is_ok() {
            match tcp::send_at_once(&self.stream, &lent.0) {
                Ok(count) => drop(lent.0.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => lent.1 = Err(error),
            }
        }
    }
}

impl Shared {
    /// Makes room for the loans of a connection; `None` if nobody would send them.
    fn register(self: &Arc<Shared>, stream: &Arc<TcpStream>) -> Option<Arc<Loan>> {
        if !tcp::CAN_LOOK || !self.start_thread() {
            return None;
        }
        let bytes = Mutex::new((Vec::new(), Ok(())));
        let loan = Loan { stream: Arc::clone(stream), since: AtomicU64::new(NEVER), bytes };
        let loan = Arc::new(loan);
        self.lock().loans.push(Arc::downgrade(&loan));
        Some(loan)
    }

    /// Starts the thread if there is none. Returns whether there is one.
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
            let _state = self.lock(); // it is asleep, or has not looked yet
            self.wakes.notify_one();
        }
    }

    /// Looks once in a moment at what there is to do.
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

    /// Does what there is to do. Returns whether there may be more in the next moment.
    fn look(&self, tick: u64) -> bool {
        let mut state = self.lock();
        state.loans.retain(|loan| loan.upgrade().is_some_and(|loan| loan.look(tick)));
        let mut closing = std::mem::take(&mut state.closing);
        let is_anything_lent = state.has_loans();
        drop(state); // whoever has something to be closed should not wait for this
        let now = Instant::now();
        closing.retain_mut(|connection| connection.look(now));
        let is_anything_closing = !closing.is_empty();
        self.lock().closing.append(&mut closing);
        is_anything_lent || is_anything_closing
    }

    /// Waits until there is something to do.
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
        let is_lent = |loan: &Weak<Loan>| {
            loan.upgrade().is_some_and(|loan| loan.since.load(Ordering::SeqCst) != NEVER)
        };
        self.loans.iter().any(is_lent)
    }
}
