//! A server with limits (stage 12's lasting form): so many clients, so much time, and a good end.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::message::head::Version;
use crate::message::refused::Refused;
use crate::message::response::{Recipient, Response, has_no_descriptor};
use crate::protocol::connection::{Closing, Connection, Handler, Next};
use crate::protocol::limits::Limits;
use crate::protocol::request::Request;
use crate::protocol::transport::Transport;
use crate::serve::access_log::Logged;
use crate::serve::capacity;
use crate::serve::clock;
use crate::serve::helper::Helper;
use crate::serve::lending::Lending;
use crate::serve::log::log;
use crate::serve::places::{Place, Places};
use crate::serve::threads::cannot_accept;
use crate::transport::listener::Listener;
use crate::transport::tcp::{self, Tcp};

/// How many clients at a time are told that there is no room for them. More are hung up on.
const MOST_TURNED_AWAY: usize = 64;

/// How long a client that is turned away may take to notice.
const TURN_AWAY_TIME: Duration = Duration::from_secs(1);

/// How many threads that have nothing to do wait for a connection. More of them end.
const SPARE: usize = 32;

/// A server that is bound to its port, with a thread for each connection and a limit for their
/// number.
///
/// ```no_run
/// use common::{Limits, Listener, Response, Service};
///
/// let service = Service::new(Listener::bind(4221)?, Limits::default())?;
/// common::on_stop(service.stopper())?;
/// service.run(|_request| Ok(Response::text("hello")));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    is_quiet: bool,
    /// `None` once the service has been stopped: then the port is free as soon as nobody waits for a
    /// connection.
    listener: Mutex<Option<Listener>>,
    address: SocketAddr,
    places: Arc<Places>,
    helper: Helper,
    /// How many threads wait for a connection.
    waiting: AtomicUsize,
    turned_away: AtomicUsize,
    is_stopping: AtomicBool,
    is_urgent: AtomicBool,
    /// Signalled when it is to stop.
    stops: Condvar,
}

/// What a service does with requests.
type Route = dyn Fn(&Request) -> io::Result<Response> + Send + Sync;

impl Service {
    /// A service on this listener. If the system cannot serve as many connections as the limits allow,
    /// they are lowered, and the log says so.
    ///
    /// # Errors
    ///
    /// When the system refuses the time limits.
    pub fn new(listener: Listener, limits: Limits) -> io::Result<Service> {
        let max_connections = capacity::fitting(limits.max_connections);
        listener.prepare(limits.idle_timeout)?;
        let shared = Shared {
            limits: Limits { max_connections, ..limits },
            is_quiet: false,
            address: listener.address(),
            listener: Mutex::new(Some(listener)),
            places: Places::new(max_connections),
            helper: Helper::default(),
            waiting: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
            stops: Condvar::new(),
        };
        Ok(Service { shared: Arc::new(shared) })
    }

    /// Says whether requests are logged only when they are refused or fail.
    #[must_use]
    pub fn quiet(mut self, is_quiet: bool) -> Service {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.is_quiet = is_quiet;
        }
        self
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// A function that stops the service, for a signal to call. Called again, it makes the service
    /// wait for nobody. It needs no thread, no descriptor, and waits for nothing.
    pub fn stopper(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.stop()
    }

    /// Answers requests with what `route` makes of them, until the service is stopped. Then it
    /// takes no more connections, and waits for the requests that are being answered, for
    /// [`Limits::stop_timeout`] at most. Returns whether all of them were.
    ///
    /// A request that breaks a rule never reaches `route`. A panic in `route` costs its client a
    /// 500, and nobody else anything.
    pub fn run(
        self,
        route: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) -> bool {
        let shared = self.shared;
        let route: Arc<Route> = Arc::new(route);
        while !shared.is_stopping.load(Ordering::Acquire) && !start_worker(&shared, &route) {
            thread::sleep(crate::serve::threads::PAUSE); // perhaps there is a thread then
        }
        shared.wait_for_stop();
        let is_urgent = || shared.is_urgent.load(Ordering::Relaxed);
        shared.places.close(shared.limits.stop_timeout, is_urgent)
    }
}

impl Shared {
    fn stop(&self) {
        if self.is_stopping.swap(true, Ordering::AcqRel) {
            self.is_urgent.store(true, Ordering::Relaxed);
        }
        let listener = self.lock_listener().take();
        self.stops.notify_all();
        if let Some(listener) = listener {
            listener.stopper()();
        }
    }

    fn wait_for_stop(&self) {
        let mut listener = self.lock_listener();
        while listener.is_some() {
            listener = self.stops.wait(listener).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock_listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a connection. `None` when the service has been stopped.
    fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let listener = self.lock_listener().clone()?;
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let accepted = listener.accept();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        accepted.transpose()
    }
}

/// Starts a thread that accepts connections and serves them. Returns whether there is one.
fn start_worker(shared: &Arc<Shared>, route: &Arc<Route>) -> bool {
    let (shared, route) = (Arc::clone(shared), Arc::clone(route));
    thread::Builder::new().spawn(move || work(&shared, &route)).is_ok()
}

/// Accepts a connection, serves it, and accepts the next one. Somebody else has to wait for connections
/// meanwhile; if nobody does, a new thread is started.
///
/// So a connection is never handed from one thread to another, which would take longer than to answer a
/// small request.
fn work(shared: &Arc<Shared>, route: &Arc<Route>) {
    let mut connection = Connection::new(shared.limits);
    while let Some(accepted) = shared.accept() {
        match accepted {
            Ok((stream, peer)) => {
                let nobody_waits = shared.waiting.load(Ordering::Acquire) == 0;
                let has_successor = !nobody_waits || start_worker(shared, route);
                let arrival = Arrival { stream: Arc::new(stream), peer, shared, route };
                arrival.admit(has_successor, &mut connection);
            }
            // Nobody has come for a while: the listener has the time limits of its connections.
            Err(error) if tcp::is_timeout(&error) => {}
            Err(error) => {
                if has_no_descriptor(&error) {
                    shared.places.evict_idlest();
                }
                cannot_accept(&error);
            }
        }
        if shared.waiting.load(Ordering::Acquire) >= SPARE {
            return;
        }
    }
}

/// A client, and what it is served with.
struct Arrival<'s> {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    shared: &'s Shared,
    route: &'s Arc<Route>,
}

impl Arrival<'_> {
    /// Serves the client, if there is room for it.
    fn admit(self, has_successor: bool, connection: &mut Connection) {
        let (stream, peer) = (Arc::clone(&self.stream), self.peer);
        // A thread that serves a client cannot accept others. When no thread can be had that could, this
        // client is turned away, although there may be a place for it.
        let place = if has_successor { self.shared.places.take(&stream) } else { None };
        let outcome = match place {
            Some(place) => self.serve(place, connection),
            None => self.turn_away(has_successor),
        };
        if let Err(error) = outcome {
            tcp::break_off(&stream);
            log(format_args!("{peer} {error}"));
        }
    }

    /// Tells the client that there is no room for it, unless too many are told so at this moment.
    fn turn_away(self, has_time: bool) -> io::Result<()> {
        let told = self.shared.turned_away.fetch_add(1, Ordering::AcqRel);
        let outcome = if told < MOST_TURNED_AWAY { self.say_full(has_time) } else { Ok(()) };
        self.shared.turned_away.fetch_sub(1, Ordering::AcqRel);
        outcome
    }

    fn say_full(&self, has_time: bool) -> io::Result<()> {
        let response = finish(Response::refused(FULL)).header("Retry-After", "1");
        log(format_args!("{} {}", self.peer, response.summary()));
        let recipient = Recipient { version: Version::Http11, wants_head_only: false };
        self.stream.set_write_timeout(Some(TURN_AWAY_TIME))?;
        response.write_to(recipient, "close", &mut tcp::Plain(&self.stream))?;
        tcp::close_gently(
            &self.stream,
            if has_time { TURN_AWAY_TIME } else { TURN_AWAY_TIME / 20 },
        );
        Ok(())
    }

    /// Answers the requests of the client until either side wants no more, and closes its connection.
    fn serve(self, place: Place, connection: &mut Connection) -> io::Result<()> {
        connection.restart();
        let handler = Logged {
            peer: self.peer,
            is_quiet: self.shared.is_quiet,
            answer: |request: Result<&Request, Refused>| {
                let response = finish(call(self.route, request));
                let is_stopping = self.shared.is_stopping.load(Ordering::Relaxed);
                if is_stopping { response.last() } else { response }
            },
        };
        let tcp = Tcp::prepared(&self.stream, self.shared.limits.idle_timeout);
        let mut transport = Lending::new(tcp, &self.stream, &self.shared.helper);
        if let Closing::Gentle = talk(connection, &mut transport, &handler, &place)? {
            self.shared.helper.close_gently(Arc::clone(&self.stream), place);
        }
        Ok(())
    }
}

const FULL: Refused =
    Refused { status: 503, why: "there are too many clients here; try again soon" };

/// Drives a connection, and tells its place at each step whether it may be closed in favour of a new
/// client: while it rests between two requests it may.
fn talk(
    connection: &mut Connection,
    transport: &mut dyn Transport,
    handler: &dyn Handler,
    place: &Place,
) -> io::Result<Closing> {
    loop {
        match connection.advance() {
            Next::Bytes => {
                connection.flush(transport)?; // before it rests: what is not sent would be lost
                let may_stay = if connection.is_idle() { place.rest() } else { place.begin() };
                if !may_stay {
                    return Ok(Closing::AtOnce);
                }
                connection.receive(transport)?;
            }
            Next::Answer if !place.work() => return Ok(Closing::AtOnce),
            Next::Answer => connection.answer(handler, transport)?,
            Next::Close => return connection.finish(transport),
        }
    }
}

/// What the route makes of a request, or what a refusal looks like.
fn call(route: &Arc<Route>, request: Result<&Request, Refused>) -> Response {
    let request = match request {
        Ok(request) => request,
        Err(refused) => return Response::refused(refused),
    };
    // What a panic leaves behind is used no more: the connection ends.
    let answered = panic::catch_unwind(AssertUnwindSafe(|| route(request)));
    answered
        .map(|response| response.unwrap_or_else(Response::failed))
        .unwrap_or_else(|_| Response::refused(MISTAKE))
}

const MISTAKE: Refused = Refused { status: 500, why: "this server has made a mistake" };

/// Adds what every response has.
fn finish(response: Response) -> Response {
    response.explained().dated(&clock::date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::io::{Read, Write};
    use std::thread::JoinHandle;

    /// A service that echoes bodies, and panics when it is asked to.
    fn start(limits: Limits) -> (SocketAddr, impl Fn() + Send + 'static, JoinHandle<()>) {
        let listener = Listener::bind(0).expect("a free port");
        let service = Service::new(listener, limits).expect("the system takes time limits");
        let address = service.address();
        let stop = service.stopper();
        let route = |request: &Request| match request.path().0 {
            "panic" => panic::resume_unwind(Box::new("on purpose")), // without a message
            "quick" => Ok(Response::ok()),
            "endless" => Ok(Response::stream("text/plain", (&b"begin"[..]).chain(Silence))),
            "slow" => {
                thread::sleep(Duration::from_secs(600));
                Ok(Response::ok())
            }
            _ => {
                let mut text = Vec::new();
                request.body()?.read_to_end(&mut text)?;
                Ok(Response::text(text))
            }
        };
        (
            address,
            stop,
            thread::spawn(move || {
                service.run(route);
            }),
        )
    }

    /// A stream of which nothing comes for a while.
    struct Silence;

    impl Read for Silence {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_secs(600));
            Ok(0)
        }
    }

    /// Sends a request that is the last on its connection, and returns the answer's status line.
    fn ask(address: SocketAddr, line: &str, fields_and_body: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request = format!("{line}\r\nHost: a\r\nConnection: close\r\n{fields_and_body}");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Sends the head of a request, and waits until the service waits for the body.
    fn begin_upload(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(request).expect("it reads");
        stream.read_exact(&mut [0; 25]).expect("it says 100 Continue");
        stream
    }

    const GOOD: (&str, &str) = ("POST / HTTP/1.1", "Content-Length: 2\r\n\r\nhi");

    #[test]
    fn a_panic_costs_its_client_a_500_and_nobody_else_anything() {
        let (address, stop, running) = start(Limits::default());
        assert_eq!(
            ask(address, "GET /panic HTTP/1.1", "\r\n"),
            "HTTP/1.1 500 Internal Server Error"
        );
        assert_eq!(ask(address, GOOD.0, GOOD.1), "HTTP/1.1 200 OK");
        stop();
        running.join().expect("it ends");
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn chunks_are_put_together_and_the_next_request_is_found() {
        let (address, stop, running) = start(Limits { max_body: 10, ..Limits::default() });
        let chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let mut stream = TcpStream::connect(address).expect("it listens");
        let first = format!("POST /a HTTP/1.1\r\nHost: a\r\n{chunks}");
        let last = format!("POST /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{chunks}");
        stream.write_all((first + &last).as_bytes()).expect("it reads");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("it answers");
        assert_eq!(answers.matches("\r\n\r\nabcde").count(), 2, "{answers}");
        let too_large = "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
        assert_eq!(ask(address, GOOD.0, too_large), "HTTP/1.1 413 Content Too Large");
        stop();
        running.join().expect("it ends");
    }

    #[test]
    fn what_is_held_does_not_wait_for_a_stream() {
        for version in ["1.0", "1.1"] {
            let (address, _, _running) = start(Limits::default());
            let mut stream = TcpStream::connect(address).expect("it listens");
            let requests = format!(
                "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n\
                 GET /endless HTTP/{version}\r\nHost: a\r\n\r\n\r\n"
            );
            stream.write_all(requests.as_bytes()).expect("it reads");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
            let mut answers = Vec::new();
            while !answers.windows(5).any(|it| it == b"begin") {
                let mut block = [0; 1000];
                let count = stream.read(&mut block).expect("it sends what there is");
                assert!(count > 0, "it has not ended");
                answers.extend_from_slice(&block[..count]);
            }
        }
    }

    #[test]
    fn what_is_ready_does_not_wait_for_a_slow_handler() {
        let (address, _, _running) = start(Limits::default());
        let mut stream = TcpStream::connect(address).expect("it listens");
        let quick = "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n";
        let requests = format!("{quick}{quick}GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(requests.as_bytes()).expect("it reads");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        let mut answers = String::new();
        while answers.matches("HTTP/1.1 200").count() < 2 {
            let mut block = [0; 1000];
            let count = stream.read(&mut block).expect("it sends what there is");
            answers.push_str(&String::from_utf8_lossy(&block[..count]));
        }
    }

    #[test]
    fn a_line_end_after_the_body_costs_nobody_the_answer() {
        let (address, stop, running) = start(Limits { max_body: 1_000_000, ..Limits::default() });
        let body = "x".repeat(100_000);
        for _ in 0..20 {
            let rest = format!("Content-Length: 100000\r\n\r\n{body}\r\n");
            assert_eq!(ask(address, GOOD.0, &rest), "HTTP/1.1 200 OK");
        }
        stop();
        running.join().expect("it ends");
    }

    #[test]
    fn a_slow_body_is_given_up() {
        let limits = Limits { body_timeout: Duration::from_millis(300), ..Limits::default() };
        let (address, stop, running) = start(limits);
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n";
        stream.write_all(head).expect("it reads");
        let mut answer = [0; 12];
        while stream.read(&mut answer).is_err() {
            stream.write_all(b"a").expect("it has not answered yet"); // twenty bytes in a second
        }
        assert_eq!(&answer, b"HTTP/1.1 408");
        assert_eq!(ask(address, GOOD.0, GOOD.1), "HTTP/1.1 200 OK");
        stop();
        running.join().expect("it ends");
    }

    #[test]
    fn a_second_stop_waits_for_nobody() {
        let limits = Limits { stop_timeout: Duration::from_secs(600), ..Limits::default() };
        let (address, stop, running) = start(limits);
        let _client = begin_upload(address);
        stop();
        stop();
        running.join().expect("it ends, though the request has not");
    }

    #[test]
    fn an_empty_line_between_requests_is_no_request() {
        let limits = Limits {
            idle_timeout: Duration::from_millis(200),
            head_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        let (address, stop, running) = start(limits);
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n";
        stream.write_all(request).expect("it reads");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("it closes the connection in the end");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        stop();
        running.join().expect("it ends");
    }

    #[test]
    fn a_stop_does_not_wait_for_longer_than_it_should() {
        let limits = Limits { stop_timeout: Duration::from_millis(50), ..Limits::default() };
        let (address, stop, running) = start(limits);
        let _client = begin_upload(address);
        stop();
        running.join().expect("it ends, though the request has not");
    }
}
