//! One thread for all clients: it asks the system who is ready, and goes on with those.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::Driven;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clients::{Client, Next};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// How often the deadlines of all clients are looked at.
const TICK: Duration = Duration::from_millis(250);

struct EventLoop {
    driven: Arc<Driven>,
    poll: Poll,
    waker: Arc<Waker>,
    listener: Option<TcpListener>,
    /// The clients. The index of each is its token; `None` while a thread waits for it.
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// Clients that could go on at once.
    again: Vec<usize>,
    /// Clients that come back from their threads; without one, it has left.
    back: (Sender<Back>, Receiver<Back>),
    last_look: Instant,
}

type Back = (usize, Option<Client>);

/// Answers the requests that reach a service, until it is stopped.
pub fn run(driven: Driven) -> io::Result<()> {
    let driven = Arc::new(driven);
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let alarm = Arc::clone(&waker);
    driven.when_asked_to_stop(move || drop(alarm.wake()));
    let mut listener = TcpListener::from_std(driven.socket()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    driven.tell_of_start();
    let event_loop = EventLoop {
        driven: Arc::clone(&driven),
        poll,
        waker,
        listener: Some(listener),
        clients: Vec::new(),
        free: Vec::new(),
        again: Vec::new(),
        back: channel(),
        last_look: Instant::now(),
    };
    let has_answered_all = event_loop.go_round()?;
    driven.tell_of_end(has_answered_all);
    Ok(())
}

impl EventLoop {
    /// Goes round until the service is stopped. Returns whether all requests were answered that had begun then.
    fn go_round(mut self) -> io::Result<bool> {
        let mut events = Events::with_capacity(1024);
        let mut deadline = None;
        loop {
            let timeout = if self.again.is_empty() { TICK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(now),
                    WAKER => {}
                    Token(index) => {
                        if let Some(Some(client)) = self.clients.get_mut(index) {
                            client.has_ended |= event.is_read_closed();
                        }
                        self.go_on(index, now);
                    }
                }
            }
            for index in std::mem::take(&mut self.again) {
                self.go_on(index, now);
            }
            while let Ok((index, client)) = self.back.1.try_recv() {
                match client {
                    Some(client) => self.put_back(index, client, now),
                    None => self.free.push(index),
                }
            }
            self.look_at_deadlines(now);
            if self.driven.is_stopping() {
                let deadline = *deadline.get_or_insert_with(|| self.begin_to_stop(now));
                let is_over = self.driven.is_urgent() || now > deadline;
                if is_over || self.free.len() == self.clients.len() {
                    return Ok(!is_over);
                }
            }
        }
    }

    /// Accepts clients until there are none. The system tells of new ones, and not again of those who still wait.
    fn accept(&mut self, now: Instant) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) if self.driven.is_stopping() => return,
                Err(error) => {
                    common::log(format_args!("cannot accept a client: {error}"));
                    self.make_room(now);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, now: Instant) {
        let _ = stream.set_nodelay(true); // it is slower without, and that is all
        let most = self.driven.limits().max_connections;
        let is_full = self.clients.len() - self.free.len() >= most && !self.make_room(now);
        let mut client = Client::new(stream, peer, &self.driven);
        if is_full {
            client.connection.send_later(&self.driven.refusal(peer));
            client.say_goodbye(now);
        }
        let index = self.free.pop().unwrap_or(self.clients.len());
        if index == self.clients.len() {
            self.clients.push(None);
        }
        self.put_back(index, client, now);
    }

    /// Closes the connection that has been idle longest. Returns whether there was one.
    fn make_room(&mut self, now: Instant) -> bool {
        let all = self.clients.iter().enumerate();
        let idle = all.filter_map(|(index, client)| {
            client.as_ref().filter(|client| client.is_idle()).map(|client| (client.deadline, index))
        });
        // A request may well be on its way to a client that has just become idle.
        let fresh = now + self.driven.limits().idle_timeout - Duration::from_millis(100);
        match idle.min().filter(|(deadline, _)| *deadline <= fresh) {
            Some((_, index)) => {
                self.remove(index);
                true
            }
            None => false,
        }
    }

    fn put_back(&mut self, index: usize, client: Client, now: Instant) {
        let is_over = self.driven.is_stopping() && client.is_idle();
        self.clients[index] = Some(client);
        match is_over {
            true => self.remove(index),
            false => self.go_on(index, now),
        }
    }

    fn remove(&mut self, index: usize) {
        if self.clients[index].take().is_some() {
            self.free.push(index);
        }
    }

    /// Goes on with a client. If an event was for another one, who had the same index, that does no harm: nothing more
    /// can be said than before.
    fn go_on(&mut self, index: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return };
        let next = client.go_on(&self.driven, now);
        self.then(index, next);
    }

    fn then(&mut self, index: usize, next: io::Result<Next>) {
        let Some(client) = self.clients[index].as_mut() else { return };
        match next.and_then(|next| register(&self.poll, client, index).map(|()| next)) {
            Ok(Next::Client) => {}
            Ok(Next::Others) => self.again.push(index),
            Ok(Next::Thread) => self.lend(index),
            Ok(Next::End) => self.remove(index),
            Err(error) => {
                self.driven.tell_of_failure(client.peer, &error);
                common::reset(&client.stream);
                self.remove(index);
            }
        }
    }

    /// Gives a client to a thread, which waits for whatever it is and gives the client back.
    fn lend(&mut self, index: usize) {
        let Some(mut client) = self.clients[index].take() else { return };
        let _ = self.poll.registry().deregister(&mut client.stream);
        let (driven, waker, back) =
            (Arc::clone(&self.driven), Arc::clone(&self.waker), self.back.0.clone());
        let lent = thread::Builder::new().spawn(move || {
            let peer = client.peer;
            let waited = wait_for(client, &driven);
            let client = waited.map_err(|error| driven.tell_of_failure(peer, &error)).ok();
            let _ = back.send((index, client)); // the loop may have ended
            let _ = waker.wake();
        });
        if let Err(error) = lent {
            common::log(format_args!("cannot wait for a client: {error}"));
            self.free.push(index);
        }
    }

    fn look_at_deadlines(&mut self, now: Instant) {
        if now < self.last_look + TICK {
            return;
        }
        self.last_look = now;
        for index in 0..self.clients.len() {
            if self.clients[index].as_ref().is_some_and(|client| client.deadline <= now) {
                self.go_on(index, now); // perhaps it was the server that was slow
                if let Some(client) = self.clients[index].as_mut().filter(|it| it.deadline <= now) {
                    let next = client.time_is_up(&self.driven, now);
                    self.then(index, next);
                }
            }
        }
    }

    /// Lets those go who wait for nothing. Returns when the others have to be done.
    fn begin_to_stop(&mut self, now: Instant) -> Instant {
        self.listener = None;
        self.driven.wait_for_stop();
        for index in 0..self.clients.len() {
            if self.clients[index].as_ref().is_some_and(Client::is_without_request) {
                self.remove(index);
            }
        }
        now + self.driven.limits().stop_timeout
    }
}

/// Asks the system to tell when a client has sent something, and, only if it is full, when it has room.
fn register(poll: &Poll, client: &mut Client, index: usize) -> io::Result<()> {
    let interest = match client.is_full {
        true => Interest::READABLE | Interest::WRITABLE,
        false => Interest::READABLE,
    };
    if client.registered == Some(interest) {
        return Ok(());
    }
    let is_new = client.registered.replace(interest).is_none();
    match is_new {
        true => poll.registry().register(&mut client.stream, Token(index), interest),
        false => poll.registry().reregister(&mut client.stream, Token(index), interest),
    }
}

/// Waits for a client: for the rest of its request, for its handler, or for a stream.
fn wait_for(client: Client, driven: &Driven) -> io::Result<Client> {
    let Client { stream, peer, mut connection, remainder, .. } = client;
    let stream = StdStream::from(stream);
    common::blocking(&stream, |transport| {
        match remainder {
            Some(remainder) => connection.write_remainder(remainder, transport),
            None => driven.with_handler(peer, |it| connection.answer(it, transport)),
        }?;
        connection.flush(transport)
    })?;
    let mut client = Client::new(TcpStream::from_std(stream), peer, driven);
    client.connection = connection;
    Ok(client)
}
