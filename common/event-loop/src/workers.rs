//! Threads for what has to wait: a body on its way, a disk, a stream. Their number is bounded, and so is the queue.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::{Connection, Driven, Filter, Remainder, blocking_through, reset};
use mio::{Token, Waker};

/// How many clients may wait for a worker.
const MAX_QUEUE: usize = 1_000;

/// How long a worker waits for work before it ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client for whom somebody has to wait.
pub(crate) struct Job {
    pub(crate) token: Token,
    pub(crate) home: Arc<Home>,
    pub(crate) stream: TcpStream,
    pub(crate) filter: Option<Box<dyn Filter>>,
    pub(crate) peer: SocketAddr,
    pub(crate) connection: Box<Connection>,
    /// What is left of a response; without it, a request is to be answered.
    pub(crate) remainder: Option<Remainder>,
}

/// A client that comes back to its loop.
pub(crate) struct Back {
    pub(crate) stream: TcpStream,
    pub(crate) filter: Option<Box<dyn Filter>>,
    pub(crate) connection: Box<Connection>,
}

/// What loops and workers tell a loop.
pub(crate) enum Message {
    /// A worker has done what it could, and gives the client back; without one, the connection has ended.
    Back(Token, Option<Back>),
    /// A client has connected, and this loop should take it.
    Arrived(TcpStream, SocketAddr),
    /// A client has connected, and should have the place of the idlest client of this loop.
    Exchanged(TcpStream, SocketAddr),
}

/// The loop to which a client goes back.
pub(crate) struct Home {
    pub(crate) mailbox: Sender<Message>,
    pub(crate) waker: Waker,
}

impl Home {
    /// Sends a message to the loop. If the loop has ended, nobody needs it.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.mailbox.send(message);
        let _ = self.waker.wake();
    }
}

/// Threads that wait.
pub(crate) struct Workers {
    driven: Arc<Driven>,
    most: usize,
    state: Mutex<Jobs>,
    news: Condvar,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Box<Job>>,
    count: usize,
    idle: usize,
}

impl Workers {
    pub(crate) fn new(driven: Arc<Driven>, most: usize) -> Arc<Workers> {
        Arc::new(Workers { driven, most, state: Mutex::default(), news: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job. Gives it back if all are busy, and the queue is full.
    pub(crate) fn take(self: &Arc<Workers>, job: Box<Job>) -> Option<Box<Job>> {
        let mut jobs = self.lock();
        if jobs.idle <= jobs.queue.len() {
            if jobs.count < self.most && self.start() {
                jobs.count += 1;
            } else if jobs.count == 0 || jobs.queue.len() >= MAX_QUEUE {
                return Some(job);
            }
        }
        jobs.queue.push_back(job);
        self.news.notify_one();
        None
    }

    fn start(self: &Arc<Workers>) -> bool {
        let workers = Arc::clone(self);
        thread::Builder::new().name("worker".to_owned()).spawn(move || workers.work()).is_ok()
    }

    fn work(&self) {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                drop(jobs);
                self.wait_for(*job);
                jobs = self.lock();
                continue;
            }
            jobs.idle += 1;
            let waited = self.news.wait_timeout(jobs, PATIENCE);
            let (again, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            jobs = again;
            jobs.idle -= 1;
            if waited.timed_out() && jobs.queue.is_empty() {
                jobs.count -= 1;
                return;
            }
        }
    }

    /// Does a job, and sends the client back to its loop.
    fn wait_for(&self, job: Job) {
        let Job { token, home, stream, mut filter, peer, mut connection, remainder } = job;
        let done = self.serve(&stream, &mut filter, peer, &mut connection, remainder);
        let back = match done {
            Ok(()) => Some(Back { stream, filter, connection }),
            Err(error) => {
                reset(&stream);
                self.driven.tell_of_failure(peer, &error);
                None
            }
        };
        home.tell(Message::Back(token, back));
    }

    fn serve(
        &self,
        stream: &TcpStream,
        filter: &mut Option<Box<dyn Filter>>,
        peer: SocketAddr,
        connection: &mut Connection,
        remainder: Option<Remainder>,
    ) -> io::Result<()> {
        let filter = filter.as_mut().map(|filter| filter.as_mut() as &mut dyn Filter);
        blocking_through(stream, filter, |transport| {
            match remainder {
                Some(remainder) => connection.write_remainder(remainder, transport),
                None => self.driven.with_handler(peer, |it| connection.answer(it, transport)),
            }?;
            connection.flush(transport)
        })
    }
}
