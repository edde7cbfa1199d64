//! What loops do with clients whose part changes: who watched and goes on, who was idle and begins to speak, and who comes
//! when there is no room.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{App, Events, Limits, Listener, Response, Service};

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server on two loops, which ends when this is dropped.
struct Server {
    address: SocketAddr,
    events: Events,
    stop: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<io::Result<bool>>>,
}

impl Server {
    fn start(limits: Limits) -> Server {
        let events = Events::new(10, Duration::from_secs(60));
        let mut app = App::new();
        app.get("/", |_| Ok(Response::text("hello")));
        let watched = events.clone();
        app.get("/events", move |request| {
            let watch = watched.watch(request.header("Last-Event-ID"));
            Ok(watch.map_or_else(|| Response::new(503), Response::events))
        });
        let ended = events.clone();
        app.at_stop(move || ended.close());
        let listener = Listener::bind_for_several(0).expect("a free port");
        let address = listener.address();
        let service = Service::without_threads(listener, limits).expect("a service");
        let stop = Arc::new(service.stopper());
        let driven = app.driven(service).expect("the routes are right");
        let thread = Some(thread::spawn(move || event_loop::run(driven, 2)));
        Server { address, events, stop, thread }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        BufReader::new(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        (self.stop)();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            thread::panicking() || matches!(ended, Some(Ok(Ok(true)))),
            "it has not ended well"
        );
    }
}

fn send(client: &mut BufReader<TcpStream>, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("it reads");
}

/// The status of the next answer, whose head is read; and its body, if that has a length.
fn status(client: &mut BufReader<TcpStream>) -> u16 {
    let mut line = String::new();
    client.read_line(&mut line).expect("it answers");
    let status = line.get(9..12).and_then(|digits| digits.parse().ok());
    let mut length = 0;
    loop {
        let mut line = String::new();
        client.read_line(&mut line).expect("the head has an end");
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", digits)) => length = digits.parse().expect("a length"),
            Some(_) => {}
            None => break,
        }
    }
    client.read_exact(&mut vec![0; length]).expect("the body comes");
    status.unwrap_or_else(|| panic!("{line:?} is no status line"))
}

/// Reads up to a line.
fn skip_to(client: &mut BufReader<TcpStream>, wanted: &str) {
    loop {
        let mut line = String::new();
        assert!(client.read_line(&mut line).expect("it goes on") > 0, "{wanted} does not come");
        if line.trim_end() == wanted {
            return;
        }
    }
}

#[test]
fn who_has_watched_may_ask_again() {
    let server = Server::start(Limits::default());
    let mut client = server.connect();
    send(&mut client, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&mut client), 200);
    // More than the connection takes while nobody reads.
    (1..=40).for_each(|id| server.events.send(id, "large", &"x".repeat(1_000_000)));
    skip_to(&mut client, "event: large");
    server.events.begin(100); // what comes next is forgotten, so the answer ends
    skip_to(&mut client, "0");
    skip_to(&mut client, "");
    for id in 101..110 {
        send(&mut client, GET);
        assert_eq!(status(&mut client), 200, "after event {id}");
        server.events.send(id, "later", "x");
    }
}

#[test]
fn a_head_has_its_own_time_also_after_a_long_silence() {
    let limits = Limits {
        idle_timeout: Duration::from_secs(600),
        head_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::start(limits);
    let mut client = server.connect();
    send(&mut client, GET);
    assert_eq!(status(&mut client), 200);
    let start = Instant::now();
    send(&mut client, "GET / HTTP/1.1\r\nHo");
    assert_eq!(status(&mut client), 408);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn no_more_are_served_than_there_are_places() {
    let limits = Limits { max_connections: 8, ..Limits::default() };
    let server = Server::start(limits);
    let mut first: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut first {
        send(client, GET);
        assert_eq!(status(client), 200);
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        thread::yield_now(); // all of them have been idle for long enough then
    }
    // Each of these may have the place of one who was idle, and then is in the middle of a request itself.
    let (begin, rest) = GET.split_at(10);
    let begin_again = |_| {
        let mut client = server.connect();
        send(&mut client, begin);
        client
    };
    let mut later: Vec<_> = (0..60).map(begin_again).collect();
    later.iter_mut().for_each(|client| send(client, rest));
    let served = later.iter_mut().map(status).filter(|status| *status == 200).count();
    assert!((1..=8).contains(&served), "{served} are served, and there are 8 places");
}
