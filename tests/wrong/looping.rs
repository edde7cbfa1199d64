//! Stage 22 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is. The mistakes are those of loops: what is done with an event, and what is not.

mod mistake;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as StdStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{AtOnce, Closing, Connection, Driven, Events as Changes, Need, Ready, Remainder};
use json::{Memory, Rules, Store};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use mistake::is;
use store::Disk;

fn main() -> ExitCode {
    common::run_driven(|args| {
        let files = args.files();
        let changes = Changes::new(args.max_watchers, args.heartbeat);
        let observer = Arc::new(changes.clone());
        let store: Arc<dyn Store> = match &args.store {
            Some(path) => Arc::new(Disk::open(path)?.observed_by(observer)),
            None => Arc::new(Memory::default().observed_by(observer)),
        };
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        json::add_events(&mut app, &changes);
        Looping::new(Arc::new(args.driven(app)?))?.run()
    })
}

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    connection: Connection,
    remainder: Option<Remainder>,
    deadline: Instant,
    is_ending: bool,
    is_full: bool,
    has_ended: bool,
}

struct Looping {
    driven: Arc<Driven>,
    poll: Poll,
    waker: Arc<Waker>,
    listener: Option<TcpListener>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    again: Vec<usize>,
    sender: Sender<(usize, Option<Client>)>,
    receiver: Receiver<(usize, Option<Client>)>,
}

enum Next {
    Client,
    Others,
    Thread,
    End,
}

impl Looping {
    fn new(driven: Arc<Driven>) -> io::Result<Looping> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let alarm = Arc::clone(&waker);
        driven.when_asked_to_stop(move || drop(alarm.wake()));
        let mut listener = TcpListener::from_std(driven.socket()?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (sender, receiver) = channel();
        let (clients, free, again, listener) = (Vec::new(), Vec::new(), Vec::new(), Some(listener));
        Ok(Looping { driven, poll, waker, listener, clients, free, again, sender, receiver })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut is_stopping = false;
        loop {
            let hurries = !self.again.is_empty() || is("asks-again-and-again");
            let timeout = Duration::from_millis(if hurries { 0 } else { 200 });
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(index) => {
                        if let Some(Some(client)) = self.clients.get_mut(index) {
                            let has_ended = event.is_read_closed();
                            client.has_ended |= has_ended && !is("misses-the-end");
                        }
                        self.go_on(index);
                    }
                }
            }
            std::mem::take(&mut self.again).into_iter().for_each(|index| self.go_on(index));
            while let Ok((index, client)) = self.receiver.try_recv() {
                self.clients[index] = client;
                if let Some(client) = self.clients[index].as_mut() {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let _ = self.poll.registry().register(&mut client.stream, Token(index), both);
                }
                match self.clients[index].as_ref().is_none_or(|_| is_stopping) {
                    true => self.remove(index),
                    false => self.go_on(index),
                }
            }
            self.look_at_deadlines();
            if self.driven.is_stopping() {
                if !std::mem::replace(&mut is_stopping, true) {
                    self.listener = None;
                    self.driven.wait_for_stop();
                    for index in 0..self.clients.len() {
                        let client = self.clients[index].as_ref();
                        if client.is_some_and(|it| it.is_ending || it.connection.is_blank()) {
                            self.remove(index);
                        }
                    }
                }
                if self.free.len() == self.clients.len() {
                    return Ok(());
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, peer))) = self.listener.as_ref().map(TcpListener::accept) {
            let _ = stream.set_nodelay(true);
            let limits = self.driven.limits();
            let is_full = self.clients.len() - self.free.len() >= limits.max_connections;
            let mut client = Client {
                stream,
                peer,
                connection: self.driven.connection(),
                remainder: None,
                deadline: Instant::now() + limits.idle_timeout,
                is_ending: is_full,
                is_full: false,
                has_ended: false,
            };
            if is_full {
                let _ = client.stream.write(&self.driven.refusal(peer));
                let _ = client.stream.shutdown(Shutdown::Write);
            }
            let index = self.free.pop().unwrap_or(self.clients.len());
            if index == self.clients.len() {
                self.clients.push(None);
            }
            let both = Interest::READABLE | Interest::WRITABLE;
            let _ = self.poll.registry().register(&mut client.stream, Token(index), both);
            self.clients[index] = Some(client);
            self.go_on(index);
            if is("accepts-once-for-an-event") {
                return;
            }
        }
    }

    fn remove(&mut self, index: usize) {
        self.clients[index] = None;
        self.free.push(index);
    }

    fn go_on(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return };
        match client.go_on(&self.driven) {
            Ok(Next::Client) => {}
            Ok(Next::Others) => self.again.push(index),
            Ok(Next::Thread) => self.lend(index),
            Ok(Next::End) | Err(_) => self.remove(index),
        }
        if is("has-one-deadline-for-all") {
            let deadline = Instant::now() + self.driven.limits().idle_timeout;
            self.clients.iter_mut().flatten().for_each(|client| client.deadline = deadline);
        }
    }

    fn lend(&mut self, index: usize) {
        let Some(mut client) = self.clients[index].take() else { return };
        let _ = self.poll.registry().deregister(&mut client.stream);
        let (driven, waker, sender) =
            (Arc::clone(&self.driven), Arc::clone(&self.waker), self.sender.clone());
        let wait = move || {
            let client = wait_for(client, &driven).ok();
            let _ = sender.send((index, client));
            let _ = waker.wake();
        };
        match is("waits-in-the-loop") {
            true => wait(),
            false => drop(thread::spawn(wait)),
        }
    }

    fn look_at_deadlines(&mut self) {
        for index in 0..self.clients.len() {
            let now = Instant::now();
            let is_due = |client: &Client| client.deadline <= now;
            if !self.clients[index].as_ref().is_some_and(is_due) {
                continue;
            }
            self.go_on(index);
            let Some(client) = self.clients[index].as_mut().filter(|it| is_due(it)) else {
                continue;
            };
            match client.is_ending || client.is_full {
                true => self.remove(index),
                false => {
                    client.connection.time_is_up();
                    self.go_on(index);
                }
            }
        }
    }
}

impl Client {
    fn go_on(&mut self, driven: &Driven) -> io::Result<Next> {
        let (mut has_more, mut has_answered) = (true, self.is_full);
        for _ in 0..16 {
            if self.is_ending {
                return match self.stream.read(&mut [0; 4096]) {
                    Ok(1..) => Ok(Next::Others),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Next::Client),
                    _ => Ok(Next::End),
                };
            }
            if let Some(next) = self.send(driven)? {
                return Ok(next);
            }
            match self.connection.advance() {
                Need::Answer => {
                    has_answered = true;
                    let connection = &mut self.connection;
                    match driven.with_handler(self.peer, |it| connection.answer_at_once(it)) {
                        AtOnce::Whole => {}
                        AtOnce::Begun(remainder) => self.remainder = Some(remainder),
                        AtOnce::MustWait => return Ok(Next::Thread),
                    }
                }
                Need::Bytes if has_more => has_more = self.read(driven)?,
                Need::Bytes => {
                    if has_answered {
                        self.deadline = Instant::now() + self.connection.patience();
                    }
                    return Ok(Next::Client);
                }
                Need::Close if self.connection.closing() == Closing::Immediate => {
                    return Ok(Next::End);
                }
                Need::Close => {
                    self.is_ending = true;
                    self.deadline = Instant::now() + Duration::from_secs(2);
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
            }
        }
        Ok(Next::Others)
    }

    fn read(&mut self, driven: &Driven) -> io::Result<bool> {
        let was_idle = self.connection.is_idle();
        let room = self.connection.room();
        let most = room.len();
        match self.stream.read(room) {
            Ok(count) => {
                self.connection.received(count)?;
                if was_idle {
                    self.deadline = Instant::now() + driven.limits().head_timeout;
                }
                Ok((count == most || self.has_ended) && !is("reads-once-for-an-event"))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends what there is. Returns what must be waited for, if anything must.
    fn send(&mut self, driven: &Driven) -> io::Result<Option<Next>> {
        loop {
            let mut from_outbox = !self.connection.outbox().is_empty();
            let sent = match self.remainder.as_mut().map(Remainder::ready) {
                _ if from_outbox => self.stream.write(self.connection.outbox()),
                None => return Ok(None),
                Some(Ready::Nothing) => {
                    let sent = self.remainder.take().map_or(Ok(()), |it| it.end(Ok(())));
                    self.connection.conclude(sent.is_ok());
                    continue;
                }
                Some(Ready::File(part)) => {
                    let mut block = [0; 64 * 1024];
                    let count = part.read(&mut block)?;
                    self.connection.send_later(&block[..count]);
                    from_outbox = true;
                    if is("waits-until-it-is-taken") {
                        self.write_all()?;
                        continue;
                    }
                    self.stream.write(self.connection.outbox())
                }
                Some(_) => return Ok(Some(Next::Thread)),
            };
            match sent {
                Ok(count) if from_outbox => {
                    let all = self.connection.outbox().len();
                    self.connection.sent(if is("forgets-the-rest") { all } else { count });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if is("forgets-the-rest") {
                        self.connection.sent(self.connection.outbox().len());
                    }
                    self.is_full = true;
                    return Ok(Some(Next::Client));
                }
                Err(error) => return Err(error),
            }
            self.is_full = false;
            self.deadline = Instant::now() + driven.limits().send_timeout;
        }
    }

    /// Tries until all has been taken.
    fn write_all(&mut self) -> io::Result<()> {
        while !self.connection.outbox().is_empty() {
            match self.stream.write(self.connection.outbox()) {
                Ok(count) => self.connection.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

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
    let deadline = Instant::now() + connection.patience();
    let stream = TcpStream::from_std(stream);
    let (remainder, is_ending, is_full, has_ended) = (None, false, false, false);
    Ok(Client { stream, peer, connection, remainder, deadline, is_ending, is_full, has_ended })
}
