//! A server with limits on connections and times, and with a graceful stop (stage 12's lasting form).

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::message::head::Version;
use crate::message::refused::Refused;
use crate::message::response::{Recipient, Response, has_no_descriptor};
use crate::protocol::connection::{Closing, Connection, Handler, Need};
use crate::protocol::filter::Filter;
use crate::protocol::limits::Limits;
use crate::protocol::request::Request;
use crate::protocol::rules::UNKNOWN_CODING;
use crate::protocol::transport::Transport;
use crate::serve::access_log::{Lines, Logged, RequestLog, Traced};
use crate::serve::capacity;
use crate::serve::clock;
use crate::serve::helper::Helper;
use crate::serve::lending::Lending;
use crate::serve::log::{self, log};
use crate::serve::places::{Place, Places};
use crate::serve::threads::cannot_accept;
use crate::transport::listener::Listener;
use crate::transport::tcp::{self, Tcp};

/// The most clients at a time that are refused with 503. Further connections are closed without a
/// response.
const MAX_REFUSALS: usize = 64;

/// How long a client that is refused with 503 may take to read the response, and then to close the
/// connection.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The most idle threads that wait for a connection. Further ones end.
const MAX_IDLE_WORKERS: usize = 32;

/// A server that is bound to its port, with a thread for each connection and a limit on their number.
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
    /// What is called at a stop, before the requests that are being answered are waited for.
    at_stop: Vec<AtStop>,
    filters: Option<Box<NewFilter>>,
}

/// A function that is called at a stop.
pub(crate) type AtStop = Box<dyn FnOnce() + Send + Sync>;

struct Shared {
    limits: Limits,
    lines: Lines,
    request_log: Option<RequestLog>,
    unpacks: bool,
    /// `None` once the service has been stopped. Then the port is free as soon as no thread waits for a
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
    /// Signalled when the service is asked to stop.
    stops: Condvar,
    /// What is also called then.
    alarms: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

/// What makes the filter of a connection.
pub(crate) type NewFilter = dyn Fn() -> Box<dyn Filter> + Send + Sync;

/// What a service does with its connections.
struct Program {
    /// The function that answers requests.
    route: Box<Route>,
    filters: Option<Box<NewFilter>>,
}

type Route = dyn Fn(&Request) -> io::Result<Response> + Send + Sync;

impl Service {
    /// Creates a service on this listener. If the system cannot serve as many connections as the limits
    /// allow, their number is lowered, and the log says so.
    ///
    /// # Errors
    ///
    /// When the system refuses the timeouts.
    pub fn new(listener: Listener, limits: Limits) -> io::Result<Service> {
        let fitting = capacity::fitting(limits.max_connections);
        Service::serving(listener, limits, fitting)
    }

    /// Creates a service as [`Service::new`] does, whose connections have no threads of their own: more of them fit. From
    /// stage 21.
    ///
    /// # Errors
    ///
    /// As [`Service::new`].
    pub fn without_threads(listener: Listener, limits: Limits) -> io::Result<Service> {
        let fitting = capacity::fitting_without_threads(limits.max_connections);
        Service::serving(listener, limits, fitting)
    }

    fn serving(listener: Listener, limits: Limits, max_connections: usize) -> io::Result<Service> {
        listener.prepare(limits.idle_timeout)?;
        let shared = Shared {
            limits: Limits { max_connections, ..limits },
            lines: Lines::All,
            request_log: None,
            unpacks: false,
            address: listener.address(),
            listener: Mutex::new(Some(listener)),
            places: Places::new(max_connections),
            helper: Helper::default(),
            waiting: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
            stops: Condvar::new(),
            alarms: Mutex::default(),
        };
        Ok(Service { shared: Arc::new(shared), at_stop: Vec::new(), filters: None })
    }

    /// Sets whether only those requests are logged that are refused or fail.
    #[must_use]
    pub fn quiet(self, is_quiet: bool) -> Service {
        self.logging(if is_quiet { Lines::Errors } else { Lines::All })
    }

    /// Leaves the log of what reaches the route to the route. From stage 17.
    #[must_use]
    pub fn without_request_log(self) -> Service {
        self.logging(Lines::Refusals)
    }

    /// Unpacks bodies that are compressed with gzip. Without that, they are refused with 415. From stage 18.
    #[must_use]
    pub fn unpacking(mut self) -> Service {
        self.shared().unpacks = true;
        self
    }

    /// Puts a filter between each socket and its conversation, such as TLS. From stage 22.
    #[must_use]
    pub fn through(
        self,
        new_filter: impl Fn() -> Box<dyn Filter> + Send + Sync + 'static,
    ) -> Service {
        Service { filters: Some(Box::new(new_filter)), ..self }
    }

    fn logging(mut self, lines: Lines) -> Service {
        self.shared().lines = lines;
        self
    }

    /// What is chosen before anybody else knows this service.
    fn shared(&mut self) -> &mut Shared {
        Arc::get_mut(&mut self.shared).expect("a service is complete before its stopper is made")
    }

    /// Gives each request a name, which goes into its answer as `X-Request-Id`, and writes lines in this format: when
    /// an answer has been sent, when the service starts and ends, and when something goes wrong. From stage 18.
    #[must_use]
    pub fn with_request_log(mut self, request_log: RequestLog) -> Service {
        log::set_format(request_log.format);
        self.shared().request_log = Some(request_log);
        self
    }

    /// Calls these functions when the service is asked to stop, so that answers that have no end come to one.
    #[must_use]
    pub(crate) fn calling_at_stop(self, at_stop: Vec<AtStop>) -> Service {
        Service { at_stop, ..self }
    }

    /// Returns the address that the service listens on.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Returns a function that stops the service, for a signal to call. The service must be complete: what is chosen
    /// afterwards is a mistake, and panics. A second call makes the service
    /// stop without waiting for requests. The function needs no thread and no descriptor, and does not
    /// block.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.stop()
    }

    /// Answers requests with the responses of `route`, until the service is stopped. Then it accepts no
    /// more connections, and waits up to [`Limits::stop_timeout`] for the requests that are being
    /// answered. Returns whether all of them were.
    ///
    /// A request that breaks a rule never reaches `route`. If `route` panics, its client gets a 500, and
    /// no other client is affected.
    pub fn run(
        self,
        route: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
    ) -> bool {
        let Service { shared, at_stop, filters } = self;
        shared.tell_of_start();
        let program = Arc::new(Program { route: Box::new(route), filters });
        while !shared.is_stopping.load(Ordering::Acquire) && !start_worker(&shared, &program) {
            thread::sleep(crate::serve::threads::PAUSE); // there may be a thread then
        }
        shared.wait_for_stop(at_stop);
        let is_urgent = || shared.is_urgent.load(Ordering::Relaxed);
        let has_answered_all = shared.places.close(shared.limits.stop_timeout, is_urgent);
        shared.tell_of_end(has_answered_all);
        has_answered_all
    }

    /// Hands the service to somebody else who drives its connections. `may_wait` says whether the answer to a request may
    /// take long. From stage 21.
    pub fn driven(
        self,
        route: impl Fn(&Request) -> io::Result<Response> + Send + Sync + 'static,
        may_wait: impl Fn(&Request) -> bool + Send + Sync + 'static,
    ) -> Driven {
        let Service { shared, at_stop, filters } = self;
        Driven {
            shared,
            at_stop: Mutex::new(at_stop),
            program: Arc::new(Program { route: Box::new(route), filters }),
            may_wait: Box::new(may_wait),
        }
    }
}

/// A service whose connections somebody else drives: it has the limits, the log and the route, and knows when to stop. From
/// stage 21.
pub struct Driven {
    shared: Arc<Shared>,
    at_stop: Mutex<Vec<AtStop>>,
    program: Arc<Program>,
    may_wait: Box<dyn Fn(&Request) -> bool + Send + Sync>,
}

impl Driven {
    /// Returns the limits for clients.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Returns the socket that listens, to be used without waiting.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor for it.
    pub fn socket(&self) -> io::Result<TcpListener> {
        match &*self.shared.lock_listener() {
            Some(listener) => listener.socket(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Creates the conversation with a client.
    pub fn connection(&self) -> Connection {
        self.shared.connection()
    }

    /// Creates the filter of a connection, if it needs one. From stage 22.
    pub fn filter(&self) -> Option<Box<dyn Filter>> {
        self.program.filter()
    }

    /// Calls a function with what answers the requests of this client.
    pub fn with_handler<T>(&self, peer: SocketAddr, call: impl FnOnce(&dyn Handler) -> T) -> T {
        self.shared.with_handler(peer, &self.program, &self.may_wait, call)
    }

    /// Returns the answer to a client for whom there is no place, and writes a line about it.
    pub fn refusal(&self, peer: SocketAddr) -> Vec<u8> {
        refusal_when_full(peer)
    }

    /// Calls a function each time the service is asked to stop, in the thread that asks.
    pub fn when_asked_to_stop(&self, call: impl Fn() + Send + 'static) {
        self.shared.alarms.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(call));
    }

    /// Asks the service to stop.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Whether the service has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Acquire)
    }

    /// Whether it has been asked twice, and should not wait for requests.
    pub fn is_urgent(&self) -> bool {
        self.shared.is_urgent.load(Ordering::Relaxed)
    }

    /// Writes in the log that the service begins.
    pub fn tell_of_start(&self) {
        self.shared.tell_of_start();
    }

    /// Waits until the service is asked to stop, says so in the log, and ends the answers that would go on forever.
    pub fn wait_for_stop(&self) {
        let at_stop =
            std::mem::take(&mut *self.at_stop.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wait_for_stop(at_stop);
    }

    /// Writes in the log that the service has ended.
    pub fn tell_of_end(&self, has_answered_all: bool) {
        self.shared.tell_of_end(has_answered_all);
    }

    /// Writes a line about a connection that has ended badly.
    pub fn tell_of_failure(&self, peer: SocketAddr, error: &io::Error) {
        self.shared.tell_of_failure(peer, error);
    }
}

impl Program {
    fn filter(&self) -> Option<Box<dyn Filter>> {
        self.filters.as_ref().map(|new_filter| new_filter())
    }
}

impl Shared {
    fn tell_of_failure(&self, peer: SocketAddr, error: &io::Error) {
        log(format_args!("{peer} {error}"));
    }

    fn stop(&self) {
        if self.is_stopping.swap(true, Ordering::AcqRel) {
            self.is_urgent.store(true, Ordering::Relaxed);
        }
        let listener = self.lock_listener().take();
        self.stops.notify_all();
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|call| call());
        if let Some(listener) = listener {
            listener.stopper()();
        }
    }

    /// Writes a line about the service itself, if it is one that does so.
    fn tell(&self, text: impl Display) {
        if self.request_log.is_some() {
            log(text);
        }
    }

    fn tell_of_start(&self) {
        let (address, most) = (self.address, self.limits.max_connections);
        self.tell(format_args!("serving on {address}, {most} clients at most"));
    }

    fn tell_of_end(&self, has_answered_all: bool) {
        self.tell(match has_answered_all {
            true => "stopped",
            false => "stopped, and not all requests were answered",
        });
    }

    fn wait_for_stop(&self, at_stop: Vec<AtStop>) {
        let mut listener = self.lock_listener();
        while listener.is_some() {
            listener = self.stops.wait(listener).unwrap_or_else(PoisonError::into_inner);
        }
        drop(listener);
        self.tell("stopping, after the requests that are being answered");
        at_stop.into_iter().for_each(|call| call());
    }

    fn connection(&self) -> Connection {
        match self.unpacks {
            true => Connection::unpacking(self.limits),
            false => Connection::new(self.limits),
        }
    }

    /// Calls a function with what answers the requests of this client.
    fn with_handler<T>(
        &self,
        peer: SocketAddr,
        program: &Arc<Program>,
        may_wait: &dyn Fn(&Request) -> bool,
        use_it: impl FnOnce(&dyn Handler) -> T,
    ) -> T {
        let answer = |request: Result<&Request, Refused>| {
            let response = finish(call(program, request));
            let is_stopping = self.is_stopping.load(Ordering::Relaxed);
            if is_stopping { response.last() } else { response }
        };
        match &self.request_log {
            Some(log) => use_it(&Traced { peer, log, may_wait, answer }),
            None => use_it(&Logged { peer, lines: self.lines, may_wait, answer }),
        }
    }

    fn lock_listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a connection. Returns `None` when the service has been stopped.
    fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let listener = self.lock_listener().clone()?;
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let accepted = listener.accept();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        accepted.transpose()
    }
}

/// Starts a thread that accepts connections and serves them. Returns whether it was started.
fn start_worker(shared: &Arc<Shared>, program: &Arc<Program>) -> bool {
    let (shared, program) = (Arc::clone(shared), Arc::clone(program));
    thread::Builder::new().spawn(move || work(&shared, &program)).is_ok()
}

/// Accepts a connection, serves it, and accepts the next one. While this thread serves, another one has
/// to wait for connections. If none does, a new thread is started.
///
/// So a connection is never handed from one thread to another, which would take longer than to answer a
/// small request.
fn work(shared: &Arc<Shared>, program: &Arc<Program>) {
    let mut connection = shared.connection();
    while let Some(accepted) = shared.accept() {
        match accepted {
            Ok((stream, peer)) => {
                let none_waiting = shared.waiting.load(Ordering::Acquire) == 0;
                let has_successor = !none_waiting || start_worker(shared, program);
                let arrival = Arrival { stream: Arc::new(stream), peer, shared, program };
                arrival.admit(has_successor, &mut connection);
            }
            // No client has connected in time: the listener has the timeouts of its connections.
            Err(error) if tcp::is_timeout(&error) => {}
            Err(error) => {
                if has_no_descriptor(&error) {
                    shared.places.evict_idlest();
                }
                cannot_accept(&error);
            }
        }
        if shared.waiting.load(Ordering::Acquire) >= MAX_IDLE_WORKERS {
            return;
        }
    }
}

/// A client that has connected, and what is needed to serve it.
struct Arrival<'s> {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    shared: &'s Shared,
    program: &'s Arc<Program>,
}

impl Arrival<'_> {
    /// Serves the client if a place is free, or else refuses it with 503.
    fn admit(self, has_successor: bool, connection: &mut Connection) {
        let (stream, peer) = (Arc::clone(&self.stream), self.peer);
        // A thread that serves a client cannot accept others. If no other thread can, this client is
        // refused with 503, even if a place is free for it.
        let has_filter = self.program.filters.is_some();
        let take = || self.shared.places.take(&stream, has_filter);
        let place = if has_successor { take() } else { None };
        let outcome = match place {
            Some(place) => self.serve(place, connection),
            None => self.refuse(has_successor),
        };
        if let Err(error) = outcome {
            tcp::reset(&stream);
            log(format_args!("{peer} {error}"));
        }
    }

    /// Refuses the client with 503. If too many clients are being refused at this moment, closes the
    /// connection without a response.
    fn refuse(self, has_time: bool) -> io::Result<()> {
        let told = self.shared.turned_away.fetch_add(1, Ordering::AcqRel);
        let outcome = if told < MAX_REFUSALS { self.send_503(has_time) } else { Ok(()) };
        self.shared.turned_away.fetch_sub(1, Ordering::AcqRel);
        outcome
    }

    fn send_503(&self, has_time: bool) -> io::Result<()> {
        let time = if has_time { REFUSAL_TIMEOUT } else { REFUSAL_TIMEOUT / 20 };
        let mut filter = self.program.filter();
        let mut tcp = Tcp::new(&self.stream).through(borrowed(&mut filter));
        match tcp.open(time) {
            Err(error) if Refused::inside(&error).is_none() => return Err(error),
            _ => {}
        }
        // It is the first that is sent, so there is room for it.
        tcp.send(&refusal_when_full(self.peer), REFUSAL_TIMEOUT)?;
        tcp.close();
        tcp::close_gently(&self.stream, time);
        Ok(())
    }

    /// Answers the requests of the client until either side ends the conversation, then closes the
    /// connection.
    fn serve(self, place: Place, connection: &mut Connection) -> io::Result<()> {
        connection.restart();
        let mut filter = self.program.filter();
        let mut tcp = Tcp::prepared(&self.stream).through(borrowed(&mut filter));
        if let Some(closing) = self.open(&mut tcp, connection, &place) {
            if closing == Closing::Lingering {
                self.shared.helper.close_gently(Arc::clone(&self.stream), place);
            }
            return Ok(());
        }
        let mut transport = Lending::new(tcp, &self.stream, &self.shared.helper);
        let talk = |handler: &dyn Handler| talk(connection, &mut transport, handler, &place);
        let ended = self.shared.with_handler(self.peer, self.program, &|_| true, talk)?;
        transport.tcp().close();
        if let Closing::Lingering = ended {
            self.shared.helper.close_gently(Arc::clone(&self.stream), place);
        }
        Ok(())
    }
}

impl Arrival<'_> {
    /// Lets the filter, if there is one, do what it needs before the conversation. If that cannot begin, returns how the
    /// connection should be closed.
    fn open(&self, tcp: &mut Tcp, connection: &mut Connection, place: &Place) -> Option<Closing> {
        if !tcp.has_filter() {
            return None;
        }
        place.mark_idle(); // it may be evicted in favour of a new client
        match tcp.open(self.shared.limits.head_timeout) {
            Ok(authority) => connection.answer_for(authority),
            Err(error) => match Refused::inside(&error) {
                Some(refused) => connection.refuse(refused),
                // Who leaves before anything has been said is worth no line.
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Some(Closing::Immediate);
                }
                None => {
                    self.shared.tell_of_failure(self.peer, &error);
                    return Some(Closing::Lingering);
                }
            },
        }
        None
    }
}

/// The filter in a box, if there is one, for a while.
fn borrowed(filter: &mut Option<Box<dyn Filter>>) -> Option<&mut dyn Filter> {
    match filter {
        Some(filter) => Some(filter.as_mut()),
        None => None,
    }
}

const FULL: Refused =
    Refused { status: 503, why: "there are too many clients here; try again soon" };

/// The answer to a client for whom there is no place. Writes a line about it.
fn refusal_when_full(peer: SocketAddr) -> Vec<u8> {
    let response = finish(Response::refused(FULL)).header("Retry-After", "1");
    log(format_args!("{peer} {}", response.summary()));
    let recipient = Recipient { version: Version::Http11, wants_head_only: false };
    let mut bytes = Vec::new();
    let _ = response.begin(recipient, "close", &mut bytes).end(Ok(()));
    bytes
}

/// Drives a connection, and tells its place at each step whether it may be evicted in favour of a new
/// client: it may while it is idle between two requests.
fn talk(
    connection: &mut Connection,
    transport: &mut dyn Transport,
    handler: &dyn Handler,
    place: &Place,
) -> io::Result<Closing> {
    loop {
        match connection.advance() {
            Need::Bytes => {
                connection.flush(transport)?; // before it may be evicted: unsent bytes would be lost
                let may_stay =
                    if connection.is_idle() { place.mark_idle() } else { place.mark_receiving() };
                if !may_stay {
                    return Ok(Closing::Immediate);
                }
                connection.receive(transport)?;
            }
            Need::Answer if !place.mark_busy() => return Ok(Closing::Immediate),
            Need::Answer => connection.answer(handler, transport)?,
            Need::Close => return connection.finish(transport),
        }
    }
}

/// Returns the route's response to a request, or the response to a refusal.
fn call(program: &Arc<Program>, request: Result<&Request, Refused>) -> Response {
    let request = match request {
        Ok(request) => request,
        Err(refused) => return refusal(refused),
    };
    // What a panic leaves behind is not used again: the connection ends.
    let answered = panic::catch_unwind(AssertUnwindSafe(|| (program.route)(request)));
    answered
        .map(|response| response.unwrap_or_else(Response::failed))
        .unwrap_or_else(|_| Response::refused(MISTAKE))
}

/// The response to a request that breaks a rule. If it is the content coding, the client is told which one is known
/// (RFC 9110, section 12.5.3).
fn refusal(refused: Refused) -> Response {
    let response = Response::refused(refused);
    if refused == UNKNOWN_CODING {
        response.header("Accept-Encoding", "gzip, identity")
    } else {
        response
    }
}

const MISTAKE: Refused = Refused { status: 500, why: "this server has made a mistake" };

/// Adds what every response has: the date and, to an error, a body.
fn finish(response: Response) -> Response {
    response.explained().dated("Date", &clock::date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::io::{Read, Write};
    use std::thread::JoinHandle;

    /// Starts a service that echoes bodies, and panics when it is asked to.
    fn start(limits: Limits) -> (SocketAddr, impl Fn() + Send + 'static, JoinHandle<()>) {
        let listener = Listener::bind(0).expect("a free port");
        let service = Service::new(listener, limits).expect("the system accepts timeouts");
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

    /// A stream that gives nothing for ten minutes.
    struct Silence;

    impl Read for Silence {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_secs(600));
            Ok(0)
        }
    }

    /// Sends a request that is the last on its connection, and returns the answer's status line.
    fn ask(address: SocketAddr, line: &str, fields_and_body: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("the service listens");
        let request = format!("{line}\r\nHost: a\r\nConnection: close\r\n{fields_and_body}");
        stream.write_all(request.as_bytes()).expect("the service reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the service answers");
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Sends the head of a request, and returns when the service waits for the body.
    fn begin_upload(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("the service listens");
        let request =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(request).expect("the service reads");
        stream.read_exact(&mut [0; 25]).expect("100 Continue arrives");
        stream
    }

    const GOOD: (&str, &str) = ("POST / HTTP/1.1", "Content-Length: 2\r\n\r\nhi");

    #[test]
    fn a_client_that_connects_before_the_service_begins_is_closed_when_idle() {
        let listener = Listener::bind(0).expect("a free port");
        let mut early = TcpStream::connect(listener.address()).expect("the socket listens");
        let limits = Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() };
        let service = Service::new(listener, limits).expect("the system accepts timeouts");
        let stop = service.stopper();
        let running = thread::spawn(move || service.run(|_| Ok(Response::ok())));
        early.set_read_timeout(Some(Duration::from_secs(60))).expect("connected");
        assert_eq!(early.read(&mut [0]).expect("it is closed in time"), 0);
        stop();
        running.join().expect("no panic");
    }

    #[test]
    fn a_panic_affects_only_its_client() {
        let (address, stop, running) = start(Limits::default());
        assert_eq!(
            ask(address, "GET /panic HTTP/1.1", "\r\n"),
            "HTTP/1.1 500 Internal Server Error"
        );
        assert_eq!(ask(address, GOOD.0, GOOD.1), "HTTP/1.1 200 OK");
        stop();
        running.join().expect("the service ends");
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn chunks_are_put_together_and_the_next_request_is_found() {
        let (address, stop, running) = start(Limits { max_body: 10, ..Limits::default() });
        let chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let mut stream = TcpStream::connect(address).expect("the service listens");
        let first = format!("POST /a HTTP/1.1\r\nHost: a\r\n{chunks}");
        let last = format!("POST /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{chunks}");
        stream.write_all((first + &last).as_bytes()).expect("the service reads");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("the service answers");
        assert_eq!(answers.matches("\r\n\r\nabcde").count(), 2, "{answers}");
        let too_large = "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
        assert_eq!(ask(address, GOOD.0, too_large), "HTTP/1.1 413 Content Too Large");
        stop();
        running.join().expect("the service ends");
    }

    #[test]
    fn pending_answers_do_not_wait_for_a_stream() {
        for version in ["1.0", "1.1"] {
            let (address, _, _running) = start(Limits::default());
            let mut stream = TcpStream::connect(address).expect("the service listens");
            let requests = format!(
                "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n\
                 GET /endless HTTP/{version}\r\nHost: a\r\n\r\n\r\n"
            );
            stream.write_all(requests.as_bytes()).expect("the service reads");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
            let mut answers = Vec::new();
            while !answers.windows(5).any(|it| it == b"begin") {
                let mut block = [0; 1000];
                let count = stream.read(&mut block).expect("it sends what is ready");
                assert!(count > 0, "the stream has not ended");
                answers.extend_from_slice(&block[..count]);
            }
        }
    }

    #[test]
    fn pending_answers_do_not_wait_for_a_slow_handler() {
        let (address, _, _running) = start(Limits::default());
        let mut stream = TcpStream::connect(address).expect("the service listens");
        let quick = "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n";
        let requests = format!("{quick}{quick}GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(requests.as_bytes()).expect("the service reads");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        let mut answers = String::new();
        while answers.matches("HTTP/1.1 200").count() < 2 {
            let mut block = [0; 1000];
            let count = stream.read(&mut block).expect("it sends what is ready");
            answers.push_str(&String::from_utf8_lossy(&block[..count]));
        }
    }

    #[test]
    fn a_line_end_after_the_body_does_not_lose_the_answer() {
        let (address, stop, running) = start(Limits { max_body: 1_000_000, ..Limits::default() });
        let body = "x".repeat(100_000);
        for _ in 0..20 {
            let rest = format!("Content-Length: 100000\r\n\r\n{body}\r\n");
            assert_eq!(ask(address, GOOD.0, &rest), "HTTP/1.1 200 OK");
        }
        stop();
        running.join().expect("the service ends");
    }

    #[test]
    fn a_slow_body_is_given_up() {
        let limits = Limits { body_timeout: Duration::from_millis(300), ..Limits::default() };
        let (address, stop, running) = start(limits);
        let mut stream = TcpStream::connect(address).expect("the service listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n";
        stream.write_all(head).expect("the service reads");
        let mut answer = [0; 12];
        while stream.read(&mut answer).is_err() {
            stream.write_all(b"a").expect("there is no answer yet"); // twenty bytes per second
        }
        assert_eq!(&answer, b"HTTP/1.1 408");
        assert_eq!(ask(address, GOOD.0, GOOD.1), "HTTP/1.1 200 OK");
        stop();
        running.join().expect("the service ends");
    }

    #[test]
    fn a_second_stop_does_not_wait() {
        let limits = Limits { stop_timeout: Duration::from_secs(600), ..Limits::default() };
        let (address, stop, running) = start(limits);
        let _client = begin_upload(address);
        stop();
        stop();
        running.join().expect("the service ends before the request");
    }

    #[test]
    fn an_empty_line_between_requests_is_no_request() {
        let limits = Limits {
            idle_timeout: Duration::from_millis(200),
            head_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        let (address, stop, running) = start(limits);
        let mut stream = TcpStream::connect(address).expect("the service listens");
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n";
        stream.write_all(request).expect("the service reads");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("the service closes the connection");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        stop();
        running.join().expect("the service ends");
    }

    #[test]
    fn a_stop_does_not_wait_for_longer_than_it_should() {
        let limits = Limits { stop_timeout: Duration::from_millis(50), ..Limits::default() };
        let (address, stop, running) = start(limits);
        let _client = begin_upload(address);
        stop();
        running.join().expect("the service ends before the request");
    }
}
