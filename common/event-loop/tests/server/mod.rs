//! A server on loops, and clients that speak with it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{App, Events, Limits, Listener, Response, Service};

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server on two loops, which ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    pub events: Events,
    stop: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<io::Result<bool>>>,
}

impl Server {
    pub fn start(limits: Limits, max_watchers: usize) -> Server {
        let events = Events::new(max_watchers, Duration::from_secs(60));
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

    pub fn connect(&self) -> BufReader<TcpStream> {
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

pub fn send(client: &mut BufReader<TcpStream>, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("it reads");
}

/// The status of the next answer, whose head is read; and its body, if that has a length.
pub fn status(client: &mut BufReader<TcpStream>) -> u16 {
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
pub fn skip_to(client: &mut BufReader<TcpStream>, wanted: &str) {
    loop {
        let mut line = String::new();
        assert!(client.read_line(&mut line).expect("it goes on") > 0, "{wanted} does not come");
        if line.trim_end() == wanted {
            return;
        }
    }
}
