//! The loop: it asks the system which sockets are ready, and says what can be said to their clients.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Closing, Connection, Driven, Limits, Ready, Refused, Remainder, handshake_timeout, reset,
};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::line::Line;
use crate::listeners::listeners;
use crate::slots::{Slots, State};
use crate::talk::{Pause, Socket, Talk, Watched, discard, talk};
use crate::wheel::Wheel;
use crate::workers::{Back, Home, Job, Message, Workers};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// How many events are taken at a time.
const EVENTS: usize = 1_024;

/// How many clients are accepted before others have their turn.
const MAX_ACCEPTS: usize = 64;

/// How long a client must be idle before it may be closed in favour of a new one, in milliseconds. Before that, its next
/// request may well be on its way.
const MIN_IDLE: u64 = 100;

/// How long a client that is refused may take to read the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The most clients at a time that are told why they are refused.
const MAX_REFUSALS: usize = 64;

/// How long the end of a conversation may take, in milliseconds.
const LINGERING_TIME: u64 = 2_000;

/// How long to wait when the system has no more descriptors, in milliseconds.
const PAUSE: u64 = 50;

/// The most workers. Further clients that need one wait in a queue.
const MAX_WORKERS: usize = 256;

/// How many steps a client gets towards a conversation before others have their turn.
const MAX_STEPS: usize = 8;

/// How often it is looked whether all requests have been answered at a stop.
const LOOK: Duration = Duration::from_millis(5);

/// What the loops have in common.
struct Shared {
    driven: Arc<Driven>,
    workers: Arc<Workers>,
    homes: Vec<Arc<Home>>,
    /// How many clients there are.
    open: AtomicUsize,
    refusing: AtomicUsize,
    /// Since when the idlest client of each loop has been idle, in milliseconds; `u64::MAX` if none is.
    idle_since: Vec<AtomicU64>,
    start: Instant,
    /// Which loop takes the next client, where one loop accepts them all.
    next: AtomicUsize,
}

/// Answers the requests that reach a service, with this many loops, until the service is stopped. Returns whether all
/// requests were answered that had begun then.
///
/// # Errors
///
/// When the system refuses what a loop needs.
pub fn run(driven: Driven, loops: usize) -> io::Result<bool> {
    let driven = Arc::new(driven);
    let loops = loops.max(1);
    let sockets = listeners(driven.socket()?, loops)?;
    let (mut homes, mut parts) = (Vec::new(), Vec::new());
    for _ in 0..loops {
        let poll = Poll::new()?;
        let (mailbox, letters) = channel();
        let waker = Waker::new(poll.registry(), WAKER)?;
        homes.push(Arc::new(Home { mailbox, waker }));
        parts.push((poll, letters));
    }
    let most = driven.limits().max_connections.clamp(1, MAX_WORKERS);
    let shared = Arc::new(Shared {
        workers: Workers::new(Arc::clone(&driven), most),
        homes: homes.clone(),
        open: AtomicUsize::new(0),
        refusing: AtomicUsize::new(0),
        idle_since: (0..loops).map(|_| AtomicU64::new(u64::MAX)).collect(),
        start: Instant::now(),
        next: AtomicUsize::new(0),
        driven: Arc::clone(&driven),
    });
    driven.when_asked_to_stop(move || homes.iter().for_each(|home| drop(home.waker.wake())));
    let mut sockets = sockets.into_iter();
    let mut threads = Vec::new();
    for (number, (poll, letters)) in parts.into_iter().enumerate() {
        let event_loop =
            EventLoop::new(Arc::clone(&shared), number, poll, letters, sockets.next())?;
        let builder = thread::Builder::new().name(format!("loop {number}"));
        let alarm = Alarm(Arc::clone(&driven));
        threads.push(builder.spawn(move || {
            let _alarm = alarm;
            event_loop.run()
        })?);
    }
    driven.tell_of_start();
    driven.wait_for_stop();
    let ended = threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(false)));
    let has_answered_all = ended.collect::<io::Result<Vec<_>>>()?.into_iter().all(|all| all);
    driven.tell_of_end(has_answered_all);
    Ok(has_answered_all)
}

/// Stops the service when a loop ends, for whatever reason: half of the clients would not be answered any more.
struct Alarm(Arc<Driven>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.0.is_stopping() {
            self.0.stop();
        }
    }
}

struct EventLoop {
    shared: Arc<Shared>,
    number: usize,
    limits: Limits,
    poll: Poll,
    letters: Receiver<Message>,
    listener: Option<TcpListener>,
    /// Until when no client is accepted, because the system has no descriptor.
    no_accepts_until: u64,
    slots: Slots,
    /// Who is to be looked at, and for which time that was noted.
    wheel: Wheel<(Token, u64)>,
    /// The conversation of whichever client has nothing to remember.
    spare: Option<Box<Connection>>,
    /// Clients for whom more could be done at once.
    again: Vec<Token>,
    watching: Vec<Token>,
    news: Arc<AtomicBool>,
    news_waker: Arc<common::Waker>,
    /// The time, in milliseconds since the start.
    now: u64,
}

impl EventLoop {
    fn new(
        shared: Arc<Shared>,
        number: usize,
        poll: Poll,
        letters: Receiver<Message>,
        socket: Option<std::net::TcpListener>,
    ) -> io::Result<EventLoop> {
        let mut listener = socket.map(TcpListener::from_std);
        if let Some(listener) = &mut listener {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        let news = Arc::new(AtomicBool::new(false));
        let (told, home) = (Arc::clone(&news), Arc::clone(&shared.homes[number]));
        let news_waker: Arc<common::Waker> = Arc::new(move || {
            if !told.swap(true, Ordering::AcqRel) {
                let _ = home.waker.wake();
            }
        });
        Ok(EventLoop {
            limits: shared.driven.limits(),
            number,
            poll,
            letters,
            listener,
            no_accepts_until: 0,
            slots: Slots::new(),
            wheel: Wheel::new(),
            spare: None,
            again: Vec::new(),
            watching: Vec::new(),
            news,
            news_waker,
            now: 0,
            shared,
        })
    }

    /// Runs until the service is stopped. Returns whether all requests were answered that had begun then.
    fn run(mut self) -> io::Result<bool> {
        let mut events = Events::with_capacity(EVENTS);
        let mut end = None;
        loop {
            match self.poll.poll(&mut events, self.timeout(end.is_some())) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.now = self.milliseconds();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    token => self.heed(token, event),
                }
            }
            self.read_letters();
            self.go_on();
            self.tell_news();
            self.look_at_deadlines();
            self.publish_idlest();
            if !self.shared.driven.is_stopping() {
                continue;
            }
            let deadline = *end.get_or_insert_with(|| self.begin_to_stop());
            if self.has_answered_all() {
                return Ok(true);
            }
            if self.shared.driven.is_urgent() || self.now > deadline {
                return Ok(false);
            }
        }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.shared.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long to wait for events.
    fn timeout(&self, is_stopping: bool) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let paused = (self.no_accepts_until > 0).then_some(PAUSE);
        let due = self.wheel.until_next(self.now).into_iter().chain(paused).min();
        let due = due.map(Duration::from_millis);
        if is_stopping { Some(due.unwrap_or(LOOK).min(LOOK)) } else { due }
    }

    // Clients that come.

    fn accept(&mut self) {
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, peer)) => {
                    if !cfg!(target_os = "linux") {
                        let _ = stream.set_nodelay(true); // it is slower without, and that is all
                    }
                    self.deal_out(stream, peer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if self.shared.driven.is_stopping() => return,
                Err(error) => {
                    // A client that has left already is no reason to wait. Want of descriptors is.
                    if !matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                    ) {
                        self.evict_one();
                        self.no_accepts_until = self.now + PAUSE;
                        common::log(format_args!("cannot accept a client: {error}"));
                        return;
                    }
                }
            }
        }
        self.no_accepts_until = self.now.max(1); // there may be more, when others have had their turn
    }

    /// Takes a client, or gives it to another loop, if this one accepts for all.
    fn deal_out(&mut self, stream: TcpStream, peer: SocketAddr) {
        let loops = self.shared.homes.len();
        if cfg!(target_os = "linux") || loops == 1 {
            return self.admit(stream, peer);
        }
        match self.shared.next.fetch_add(1, Ordering::Relaxed) % loops {
            number if number == self.number => self.admit(stream, peer),
            number => {
                self.shared.homes[number].tell(Message::Arrived(StdStream::from(stream), peer));
            }
        }
    }

    /// Serves a client if there is a place for it, here or at the loop of the idlest client.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let open = self.shared.open.fetch_add(1, Ordering::AcqRel);
        if open < self.limits.max_connections {
            return self.serve(stream, peer);
        }
        self.publish_idlest();
        let times = self.shared.idle_since.iter().map(|since| since.load(Ordering::Acquire));
        let idlest = times.enumerate().map(|(number, since)| (since, number)).min();
        match idlest.filter(|(since, _)| self.is_long_ago(*since)) {
            Some((_, number)) if number != self.number => {
                self.shared.homes[number].tell(Message::Exchanged(StdStream::from(stream), peer));
            }
            _ => self.exchange(stream, peer),
        }
    }

    /// Gives a client the place of the idlest client here, or refuses it if nobody is idle. It counts as open already.
    fn exchange(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.evict_one() {
            self.serve(stream, peer);
        } else {
            self.shared.open.fetch_sub(1, Ordering::AcqRel);
            self.refuse(stream, peer);
        }
    }

    fn serve(&mut self, stream: TcpStream, peer: SocketAddr) {
        let index = self.add(stream, peer, self.limits.head_timeout, false);
        self.open(index);
    }

    fn add(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        time: Duration,
        is_refused: bool,
    ) -> usize {
        let line = Line { stream, filter: self.shared.driven.filter() };
        let index = self.slots.add(line, peer, is_refused);
        if let Some(slot) = self.slots.get(index) {
            slot.deadline = self.now + milliseconds(time);
        }
        index
    }

    fn is_long_ago(&self, since: u64) -> bool {
        since.saturating_add(MIN_IDLE) <= self.now
    }

    /// Closes the client that has been idle longest. Returns whether there is one.
    fn evict_one(&mut self) -> bool {
        while let Some((index, since)) = self.idlest() {
            if !self.is_long_ago(since) {
                return false;
            }
            if self.slots.get(index).is_none_or(|slot| is_silent(slot.line.as_ref())) {
                self.say_goodbye(index);
                self.remove(index); // at once: somebody else needs the place
                return true;
            }
            self.go_on_with(index); // it has sent something that no event has told of yet
        }
        false
    }

    /// Returns the client that has been idle longest, and since when, in milliseconds.
    fn idlest(&mut self) -> Option<(usize, u64)> {
        let index = self.slots.idlest()?;
        let (idle, head) = (self.idle_timeout(), milliseconds(self.limits.head_timeout));
        let slot = self.slots.get(index)?;
        let timeout = if matches!(slot.state, State::Opening) { head } else { idle };
        Some((index, slot.deadline.saturating_sub(timeout)))
    }

    /// Lets the other loops know how long the idlest client here has been idle.
    fn publish_idlest(&mut self) {
        let since = self.idlest().map_or(u64::MAX, |(_, since)| since);
        self.shared.idle_since[self.number].store(since, Ordering::Release);
    }

    fn idle_timeout(&self) -> u64 {
        milliseconds(self.limits.idle_timeout)
    }

    /// Tells a client that there are too many, unless too many are being told.
    fn refuse(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.shared.refusing.fetch_add(1, Ordering::AcqRel) >= MAX_REFUSALS {
            self.shared.refusing.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let index = self.add(stream, peer, REFUSAL_TIMEOUT, true);
        self.open(index);
    }

    fn say_refusal(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let refusal = self.shared.driven.refusal(slot.peer);
        if let Some(line) = &mut slot.line {
            let _ = line.send(&refusal); // it is the first that is sent, so there is room for it
        }
        self.close_gently(index, milliseconds(REFUSAL_TIMEOUT));
    }

    // Clients that are there.

    /// Does what a filter needs before the conversation, and begins with that.
    fn open(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let Some(line) = &mut slot.line else { return };
        let is_refused = slot.is_refused;
        let opened = open(line);
        self.slots.leave_idle(index);
        match opened {
            Ok(Opened::Whole | Opened::Refused(_)) if is_refused => self.say_refusal(index),
            Ok(Opened::Whole) => {
                let deadline = self.now + self.idle_timeout();
                self.set(index, State::Idle, deadline);
                self.advance(index, None, true);
            }
            Ok(Opened::Refused(refused)) => {
                let mut connection = self.spare();
                connection.refuse(refused);
                self.advance(index, Some(connection), false);
            }
            Ok(Opened::Some) => {
                self.look_later(index);
                self.again.extend(self.slots.token(index));
            }
            Ok(Opened::Nothing) => {
                self.look_later(index);
                if !is_refused {
                    self.slots.enter_idle(index); // it may be closed in favour of a new one
                }
                self.register(index, true);
            }
            Err(error) => self.give_up_opening(index, &error),
        }
    }

    fn give_up_opening(&mut self, index: usize, error: &io::Error) {
        let Some(slot) = self.slots.get(index) else { return };
        // Who leaves before anything has been said is worth no line.
        if error.kind() != ErrorKind::UnexpectedEof {
            self.shared.driven.tell_of_failure(slot.peer, error);
        }
        self.close_gently(index, LINGERING_TIME);
    }

    /// Does what an event asks for.
    fn heed(&mut self, token: Token, event: &Event) {
        let Some(index) = self.slots.find(token) else { return };
        let Some(slot) = self.slots.get(index) else { return };
        slot.has_ended |= event.is_read_closed();
        match &mut slot.state {
            State::Opening => self.open(index),
            State::Idle | State::Receiving(_) => self.advance(index, None, true),
            State::Sending(..) if event.is_writable() || event.is_error() => {
                self.advance(index, None, true);
            }
            State::Watching(_, remainder) => {
                if event.is_read_closed() || event.is_error() {
                    if let Ready::Events(watch) = remainder.ready() {
                        watch.probe();
                    }
                }
                self.tell_watcher(index);
            }
            State::Closing if slot.line.as_ref().is_none_or(|line| discard(&line.stream)) => {
                self.remove(index);
            }
            _ => {}
        }
    }

    /// Says what can be said to a client.
    fn advance(&mut self, index: usize, back: Option<Box<Connection>>, may_read: bool) {
        let Some(slot) = self.slots.get(index) else { return };
        let Some(mut line) = slot.line.take() else { return };
        let (peer, deadline, has_ended) = (slot.peer, slot.deadline, slot.has_ended);
        let before = mem::replace(&mut slot.state, State::Busy);
        let was_idle = matches!(before, State::Idle);
        let was_receiving = matches!(before, State::Receiving(_));
        let was_sending = matches!(before, State::Sending(..));
        let (connection, remainder) = match before {
            State::Receiving(connection) => (Some(connection), None),
            State::Sending(connection, remainder) => (Some(connection), remainder),
            _ => (back, None),
        };
        self.slots.leave_idle(index);
        let mut connection = connection.unwrap_or_else(|| self.spare());
        if line.filter.is_some() {
            connection.answer_for(line.authority());
        }
        let mut client =
            Talk { stream: &mut line, connection: &mut connection, has_ended, taken: 0 };
        let said = self
            .shared
            .driven
            .with_handler(peer, |handler| talk(&mut client, handler, remainder, may_read));
        let taken = client.taken;
        if let Some(slot) = self.slots.get(index) {
            slot.line = Some(line);
            slot.has_been_sent |= matches!(connection.closing(), Closing::Lingering);
        }
        match said {
            Err(error) => self.break_off(index, &error),
            Ok(Pause::Receive) => {
                // Bytes with which the client has said nothing yet give it no more time.
                let keeps = was_receiving || was_idle && taken == 0 && connection.is_blank();
                self.wait_for_request(index, connection, keeps.then_some(deadline));
            }
            Ok(Pause::Send(remainder)) => {
                let before = if was_sending { deadline } else { u64::MAX };
                let state = State::Sending(connection, remainder);
                self.set(index, state, self.send_deadline(before, taken));
                self.register(index, true);
            }
            Ok(Pause::Turn(None)) if connection.outbox().is_empty() => {
                // It has sent much that says nothing yet. Its time goes on.
                let keeps = was_receiving || was_idle && taken == 0;
                self.wait_for_request(index, connection, keeps.then_some(deadline));
                self.again.extend(self.slots.token(index));
            }
            Ok(Pause::Turn(remainder)) => {
                let state = State::Sending(connection, remainder);
                self.set(index, state, self.send_deadline(u64::MAX, taken));
                self.again.extend(self.slots.token(index));
            }
            Ok(Pause::Events(remainder)) => self.watch(index, connection, remainder),
            Ok(Pause::Worker(remainder)) => self.lend(index, connection, remainder),
            Ok(Pause::Nothing) => {
                let closing = connection.closing();
                self.keep(connection);
                self.say_goodbye(index);
                match closing {
                    Closing::Lingering => self.close_gently(index, LINGERING_TIME),
                    Closing::Immediate => self.remove(index),
                }
            }
        }
    }

    /// Returns a conversation for a client with nothing to remember.
    fn spare(&mut self) -> Box<Connection> {
        self.spare.take().unwrap_or_else(|| Box::new(self.shared.driven.connection()))
    }

    /// Keeps a conversation for the next client.
    fn keep(&mut self, mut connection: Box<Connection>) {
        if self.spare.is_none() {
            connection.restart();
            self.spare = Some(connection);
        }
    }

    fn set(&mut self, index: usize, state: State, deadline: u64) {
        let Some(slot) = self.slots.get(index) else { return };
        slot.state = state;
        slot.deadline = deadline;
        self.look_later(index);
    }

    /// Has a client looked at when its deadline has come, unless that happens before anyway.
    fn look_later(&mut self, index: usize) {
        let Some(token) = self.slots.token(index) else { return };
        let Some(slot) = self.slots.get(index) else { return };
        if slot.deadline < slot.looked_at {
            slot.looked_at = slot.deadline;
            self.wheel.add((token, slot.deadline), slot.deadline);
        }
    }

    fn wait_for_request(&mut self, index: usize, connection: Box<Connection>, old: Option<u64>) {
        if self.shared.driven.is_stopping() {
            self.keep(connection);
            return self.end(index);
        }
        if connection.is_blank() {
            self.keep(connection);
            self.set(index, State::Idle, old.unwrap_or(self.now + self.idle_timeout()));
            self.slots.enter_idle(index);
        } else {
            // The time of a head begins with its first byte, and no further byte makes it longer.
            let patience = self.now + milliseconds(connection.patience());
            self.set(index, State::Receiving(connection), old.unwrap_or(patience));
        }
        self.register(index, false);
    }

    /// Returns when a client that takes a response has been slow for too long. Each byte that it takes gives it a
    /// millisecond more, but never more than it had at first.
    fn send_deadline(&self, before: u64, taken: u64) -> u64 {
        let full = self.now + milliseconds(self.limits.send_timeout);
        before.saturating_add(taken).min(full)
    }

    /// Asks the system to tell when a client has sent something, and when there is room for more.
    fn register(&mut self, index: usize, is_told_of_room: bool) {
        let Some(token) = self.slots.token(index) else { return };
        let Some(slot) = self.slots.get(index) else { return };
        let Some(Line { stream, .. }) = &mut slot.line else { return };
        let both = Interest::READABLE | Interest::WRITABLE;
        let interest = if is_told_of_room { both } else { Interest::READABLE };
        let registry = self.poll.registry();
        let registered = match (slot.is_registered, slot.is_told_of_room) {
            (false, _) => registry.register(stream, token, interest),
            (true, false) if is_told_of_room => registry.reregister(stream, token, interest),
            _ => Ok(()),
        };
        slot.is_registered = true;
        slot.is_told_of_room |= is_told_of_room;
        if let Err(error) = registered {
            self.break_off(index, &error);
        }
    }

    /// Gives a client to a worker, or answers that all of them are busy.
    fn lend(&mut self, index: usize, connection: Box<Connection>, remainder: Option<Remainder>) {
        let Some(token) = self.slots.token(index) else { return };
        let Some(slot) = self.slots.get(index) else { return };
        let Some(Line { mut stream, filter }) = slot.line.take() else { return };
        if mem::take(&mut slot.is_registered) {
            let _ = self.poll.registry().deregister(&mut stream);
        }
        (slot.state, slot.is_told_of_room) = (State::Lent, false);
        let peer = slot.peer;
        let home = Arc::clone(&self.shared.homes[self.number]);
        let stream = StdStream::from(stream);
        let job = Box::new(Job { token, home, stream, filter, peer, connection, remainder });
        if let Some(job) = self.shared.workers.take(job) {
            let Job { stream, filter, mut connection, remainder, .. } = *job;
            if let Some(slot) = self.slots.get(index) {
                slot.line = Some(Line { stream: TcpStream::from_std(stream), filter });
            }
            if let Some(remainder) = remainder {
                let error = io::Error::other("all workers are busy");
                let _ = remainder.end(Err(io::Error::other("all workers are busy")));
                return self.break_off(index, &error);
            }
            connection.refuse(BUSY);
            self.advance(index, Some(connection), false);
        }
    }

    // Watchers.

    fn watch(&mut self, index: usize, mut connection: Box<Connection>, mut remainder: Remainder) {
        connection.release_memory();
        if let Ready::Events(watch) = remainder.ready() {
            watch.wake_with(&self.news_waker);
        }
        self.watching.extend(self.slots.token(index));
        self.set(index, State::Watching(connection, remainder), self.now);
        self.tell_watcher(index);
    }

    /// Sends a watcher what there is.
    fn tell_watcher(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        if !matches!(slot.state, State::Watching(..)) {
            return; // it has watched, and does something else now
        }
        let before = slot.deadline;
        let (Some(stream), State::Watching(mut connection, mut remainder)) =
            (&mut slot.line, mem::replace(&mut slot.state, State::Busy))
        else {
            return;
        };
        let was_full = !connection.outbox().is_empty() || stream.flush().is_err();
        let mut client =
            Talk { stream, connection: &mut connection, has_ended: slot.has_ended, taken: 0 };
        let told = client.tell(&mut remainder);
        let taken = client.taken;
        match told {
            Ok(Watched::Event) => {
                let heartbeat = match remainder.ready() {
                    Ready::Events(watch) => watch.heartbeat(),
                    _ => Duration::ZERO,
                };
                let deadline = self.now + milliseconds(heartbeat);
                self.set(index, State::Watching(connection, remainder), deadline);
                self.register(index, false);
            }
            Ok(Watched::Room) => {
                let before = if was_full { before } else { u64::MAX };
                let deadline = self.send_deadline(before, taken);
                self.set(index, State::Watching(connection, remainder), deadline);
                self.register(index, true);
            }
            Ok(Watched::End) => {
                connection.conclude(remainder.end(Ok(())).is_ok());
                self.advance(index, Some(connection), true);
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                let _ = remainder.end(Err(told));
                self.break_off(index, &error);
            }
        }
    }

    /// Tells all watchers what is new.
    fn tell_news(&mut self) {
        if !self.news.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut watching = mem::take(&mut self.watching);
        watching.retain(|token| {
            let Some(index) = self.slots.find(*token) else { return false };
            self.tell_watcher(index);
            let slot = self.slots.get(index);
            slot.is_some_and(|slot| matches!(slot.state, State::Watching(..)))
        });
        watching.append(&mut self.watching);
        self.watching = watching;
    }

    // Letters, turns, and time.

    fn read_letters(&mut self) {
        while let Ok(letter) = self.letters.try_recv() {
            match letter {
                Message::Arrived(..) if self.shared.driven.is_stopping() => {}
                Message::Arrived(stream, peer) => self.admit(TcpStream::from_std(stream), peer),
                Message::Exchanged(..) if self.shared.driven.is_stopping() => {
                    self.shared.open.fetch_sub(1, Ordering::AcqRel);
                }
                Message::Exchanged(stream, peer) => {
                    self.exchange(TcpStream::from_std(stream), peer);
                }
                Message::Back(token, back) => {
                    let Some(index) = self.slots.find(token) else { continue };
                    match (back, self.slots.get(index)) {
                        (Some(Back { stream, filter, connection }), Some(slot)) => {
                            slot.line = Some(Line { stream: TcpStream::from_std(stream), filter });
                            self.advance(index, Some(connection), true);
                        }
                        _ => self.remove(index),
                    }
                }
            }
        }
    }

    /// Gives those their turn who could go on at once.
    fn go_on(&mut self) {
        for token in mem::take(&mut self.again) {
            if let Some(index) = self.slots.find(token) {
                self.go_on_with(index);
            }
        }
        if (1..=self.now).contains(&self.no_accepts_until) {
            self.no_accepts_until = 0;
            self.accept();
        }
    }

    fn go_on_with(&mut self, index: usize) {
        match self.slots.get(index).map(|slot| &slot.state) {
            Some(State::Opening) => self.open(index),
            _ => self.advance(index, None, true),
        }
    }

    fn look_at_deadlines(&mut self) {
        for (token, noted) in self.wheel.advance(self.now) {
            let Some(index) = self.slots.find(token) else { continue };
            let Some(slot) = self.slots.get(index) else { continue };
            if noted != slot.looked_at {
                continue; // an earlier time was noted after this one
            }
            slot.looked_at = u64::MAX;
            if slot.deadline <= self.now {
                self.time_is_up(index);
            } else {
                self.look_later(index);
            }
        }
    }

    fn time_is_up(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        match &mut slot.state {
            // What has arrived in the meantime counts: perhaps it was the server that was slow.
            State::Opening => self.give_up_opening(index, &handshake_timeout()),
            State::Idle if is_silent(slot.line.as_ref()) => self.end(index),
            State::Idle => self.advance(index, None, true),
            State::Receiving(_) => self.give_up_request(index),
            State::Sending(..) => {
                self.advance(index, None, true);
                let now = self.now;
                let slot = self.slots.get(index);
                if slot
                    .is_some_and(|it| matches!(it.state, State::Sending(..)) && it.deadline <= now)
                {
                    self.break_off(index, &too_slow(self.limits.send_timeout));
                }
            }
            State::Watching(connection, remainder) => {
                let is_full = slot.line.as_mut().is_some_and(|line| line.flush().is_err());
                if is_full || !connection.outbox().is_empty() {
                    return self.break_off(index, &too_slow(self.limits.send_timeout));
                }
                if let Ready::Events(watch) = remainder.ready() {
                    watch.probe();
                }
                self.tell_watcher(index);
            }
            State::Closing => self.remove(index),
            State::Lent | State::Busy => {}
        }
    }

    /// Looks once more for the rest of a request, and refuses it if that has not come.
    fn give_up_request(&mut self, index: usize) {
        self.advance(index, None, true);
        let now = self.now;
        let Some(slot) = self.slots.get(index) else { return };
        if let State::Receiving(connection) = &mut slot.state {
            if slot.deadline <= now {
                connection.time_is_up();
                self.advance(index, None, false);
            }
        }
    }

    // Clients that go.

    /// Ends the connection of a client that waits for nothing.
    fn end(&mut self, index: usize) {
        self.say_goodbye(index);
        let Some(slot) = self.slots.get(index) else { return };
        if slot.has_been_sent {
            self.close_gently(index, LINGERING_TIME);
        } else {
            self.remove(index);
        }
    }

    fn say_goodbye(&mut self, index: usize) {
        if let Some(line) = self.slots.get(index).and_then(|slot| slot.line.as_mut()) {
            line.close();
        }
    }

    /// Closes our side of a connection, and waits for the client to close its own: bytes that it still sends would
    /// destroy the last response otherwise (RFC 9112, section 9.6).
    fn close_gently(&mut self, index: usize, time: u64) {
        let Some(slot) = self.slots.get(index) else { return };
        let Some(Line { stream, .. }) = &slot.line else { return };
        if stream.shutdown(Shutdown::Write).is_err() || discard(stream) {
            return self.remove(index);
        }
        self.slots.leave_idle(index);
        self.set(index, State::Closing, self.now + time);
        self.register(index, false);
    }

    /// Ends a connection on which something has gone wrong, so that the client sees that something is missing.
    fn break_off(&mut self, index: usize, error: &io::Error) {
        let Some(slot) = self.slots.get(index) else { return };
        self.shared.driven.tell_of_failure(slot.peer, error);
        if let Some(Line { stream, .. }) = &slot.line {
            reset(stream);
        }
        self.remove(index);
    }

    fn remove(&mut self, index: usize) {
        let Some(slot) = self.slots.remove(index) else { return };
        let count = if slot.is_refused { &self.shared.refusing } else { &self.shared.open };
        count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all that is left are clients to whom all has been said.
    fn has_answered_all(&mut self) -> bool {
        let all = self.slots.all();
        all.into_iter()
            .all(|it| self.slots.get(it).is_none_or(|slot| matches!(slot.state, State::Closing)))
    }

    /// Lets those go who wait for nothing. Returns when the others have to be done.
    fn begin_to_stop(&mut self) -> u64 {
        self.listener = None;
        for index in self.slots.all() {
            let slot = self.slots.get(index);
            if slot.is_some_and(|it| {
                matches!(it.state, State::Opening | State::Idle | State::Receiving(_))
            }) {
                self.end(index);
            }
        }
        self.now + milliseconds(self.limits.stop_timeout)
    }
}

/// What clients are told when no worker is free for them.
const BUSY: Refused = Refused { status: 503, why: "this server is busy; try again soon" };

/// Whether there is nothing to be read from a client, not even its end.
fn is_silent(line: Option<&Line>) -> bool {
    let peeked = line.map(|line| line.stream.peek(&mut [0]));
    matches!(peeked, Some(Err(error)) if error.kind() == ErrorKind::WouldBlock)
}

/// How far a line has been opened.
enum Opened {
    Whole,
    /// It could go on, but others should have their turn.
    Some,
    /// As far as it can be: the client has to do something.
    Nothing,
    /// The client cannot be talked to through the filter, and is told why without it.
    Refused(Refused),
}

fn open(line: &mut Line) -> io::Result<Opened> {
    for _ in 0..MAX_STEPS {
        match line.open() {
            Ok(true) => return Ok(Opened::Whole),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Opened::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Refused::inside(&error).map(Opened::Refused).ok_or(error),
        }
    }
    Ok(Opened::Some)
}

fn too_slow(time: Duration) -> io::Error {
    let sentence = format!("the client was too slow to take the response: {} s", time.as_secs());
    io::Error::new(ErrorKind::ConnectionAborted, sentence)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}
