//! Answers that wait for the next one, but not for long (stage 12's lasting form).
//!
//! Answers to requests that came together go out together. While the next request is being answered, which
//! may take long, those that are ready are lent to a thread that sends them after a moment.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::protocol::transport::{Transfer, Transport};
use crate::transport::tcp::{self, Tcp};

/// A moment. What is lent is sent after one or two of them.
const TICK: Duration = Duration::from_millis(1);

/// After so many moments in which nothing was lent, the thread sleeps until something is.
const TICKS_UNTIL_SLEEP: u32 = 50;

/// Nothing is lent.
const NEVER: u64 = 0;

/// The thread that sends what is lent to it, started when it is needed.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts moments; it stands still while the thread sleeps.
    tick: AtomicU64,
    is_asleep: AtomicBool,
    state: Mutex<State>,
    /// Signalled when something is lent while the thread sleeps.
    wakes: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    connections: Vec<Weak<Loan>>,
}

/// What one connection has lent.
#[derive(Debug)]
struct Loan {
    stream: Arc<TcpStream>,
    /// The moment since when it is lent.
    since: AtomicU64,
    bytes: Mutex<(Vec<u8>, io::Result<()>)>,
}

impl Flusher {
    /// A connection whose answers may be lent.
    pub(crate) fn transport<'f>(&'f self, stream: &'f Arc<TcpStream>) -> Lending<'f> {
        Lending { tcp: Tcp::new(stream), stream, shared: &self.shared, loan: None }
    }
}

/// A TCP connection that lends what is to be sent while something else is done.
pub(crate) struct Lending<'f> {
    tcp: Tcp<'f>,
    stream: &'f Arc<TcpStream>,
    shared: &'f Arc<Shared>,
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
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            self.shared.wake();
        }
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
        if !tcp::CAN_SEND_AT_ONCE {
            return None;
        }
        let mut state = self.lock();
        if !state.has_thread {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("flusher".to_owned());
            state.has_thread = thread.spawn(move || shared.run()).is_ok();
        }
        let bytes = Mutex::new((Vec::new(), Ok(())));
        let loan = Loan { stream: Arc::clone(stream), since: AtomicU64::new(NEVER), bytes };
        let loan = Arc::new(loan);
        state.connections.push(Arc::downgrade(&loan));
        state.has_thread.then_some(loan)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _state = self.lock(); // it is asleep, or has not looked yet
        self.wakes.notify_one();
    }

    /// Looks once in a moment for what was lent before this one.
    fn run(&self) {
        let mut idle_ticks = 0;
        loop {
            thread::sleep(TICK);
            let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
            let is_anything_lent = self.look(tick);
            idle_ticks = if is_anything_lent { 0 } else { idle_ticks + 1 };
            if idle_ticks > TICKS_UNTIL_SLEEP {
                self.sleep();
                idle_ticks = 0;
            }
        }
    }

    /// Sends what was lent before this moment. Returns whether anything is lent at all.
    fn look(&self, tick: u64) -> bool {
        let mut state = self.lock();
        let mut is_anything_lent = false;
        state.connections.retain(|loan| {
            let Some(loan) = loan.upgrade() else { return false };
            let since = loan.since.load(Ordering::SeqCst);
            is_anything_lent |= since != NEVER;
            if since != NEVER && since < tick {
                loan.send();
            }
            true
        });
        is_anything_lent
    }

    /// Waits until something is lent.
    fn sleep(&self) {
        let state = self.lock();
        self.is_asleep.store(true, Ordering::SeqCst);
        let is_lent = |loan: &Weak<Loan>| {
            loan.upgrade().is_some_and(|loan| loan.since.load(Ordering::SeqCst) != NEVER)
        };
        if !state.connections.iter().any(is_lent) {
            drop(self.wakes.wait(state));
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }
}
