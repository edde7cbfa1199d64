//! A server with limits (stage 11's lasting form): so many clients, so much time, and a good end.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::permits::Permits;
use crate::workers::Workers;
use crate::{
    Allowance, Args, Buffer, Client, Limits, Listener, Refused, Request, Response, conclude, date,
    log, refuse, rules,
};

/// How many clients at a time are told that there is no room for them. More are hung up on.
const DOORMEN: usize = 64;

/// How long a client may take to be told so.
const FAREWELL: Duration = Duration::from_secs(1);

/// The pause between two attempts to wake the loop.
const PAUSE: Duration = Duration::from_millis(50);

/// A body may be as slow as 1,000 bytes in a second, and no slower.
const TIME_PER_BYTE: Duration = Duration::from_millis(1);

/// A server that is bound to its port, with a thread for each connection and a limit for their
/// number.
#[derive(Debug)]
pub struct Service {
    listener: Listener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// One permit for each request that is being answered.
    busy: Permits,
    is_stopping: AtomicBool,
    is_urgent: AtomicBool,
}

impl Service {
    /// Binds the port that `args` asks for.
    ///
    /// # Errors
    ///
    /// As [`Args::listen`].
    pub fn bind(args: &Args) -> io::Result<Service> {
        Ok(Service::new(args.listen()?, args.limits))
    }

    fn new(listener: Listener, limits: Limits) -> Service {
        let busy = Permits::new(limits.max_connections);
        let [is_stopping, is_urgent] = [AtomicBool::new(false), AtomicBool::new(false)];
        let shared = Shared { limits, busy, is_stopping, is_urgent };
        Service { listener, shared: Arc::new(shared) }
    }

    /// A function that stops the service, for a signal to call. Called again, it makes the service
    /// wait for nobody.
    ///
    /// # Errors
    ///
    /// When the system does not tell the address that it has to wake.
    pub fn stopper(&self) -> io::Result<impl Fn() + Send + use<>> {
        let (shared, address) = (Arc::clone(&self.shared), self.listener.address()?);
        Ok(move || {
            if shared.is_stopping.swap(true, Ordering::Relaxed) {
                shared.is_urgent.store(true, Ordering::Relaxed);
            }
            // It may take a while, and whoever calls this has to be there for the next signal.
            thread::spawn(move || wake(address));
        })
    }

    /// Answers requests with what `route` makes of them, until the service is stopped. Then it
    /// takes no more connections, and waits for the requests that are being answered, for
    /// [`Limits::stop_timeout`] at most. Returns whether all of them were.
    ///
    /// A request that breaks a rule never reaches `route`. A panic in `route` costs its client a
    /// 500, and nobody else anything.
    pub fn run(self, route: impl Fn(&Request) -> Response + Send + Sync + 'static) -> bool {
        let Service { mut listener, shared } = self;
        let (permits, doormen) =
            (Permits::new(shared.limits.max_connections), Permits::new(DOORMEN));
        let (workers, route) = (Workers::default(), Arc::new(route));
        let is_stopping = || shared.is_stopping.load(Ordering::Relaxed);
        while let Some(client) = listener.next_unless(is_stopping) {
            if let Some(permit) = permits.take() {
                let (shared, route) = (Arc::clone(&shared), Arc::clone(&route));
                employ(&workers, move || {
                    attend(client, &shared, &*route);
                    drop(permit);
                });
            } else if let Some(permit) = doormen.take() {
                employ(&workers, move || {
                    turn_away(client);
                    drop(permit);
                });
            }
        }
        drop(listener); // and give the port back
        let is_urgent = || shared.is_urgent.load(Ordering::Relaxed);
        shared.busy.take_all_within(shared.limits.stop_timeout, is_urgent)
    }
}

/// Connects to the loop, which waits for a client, so that it looks around. If the system has no
/// descriptor left for that, it will have one when a client has gone.
fn wake(address: SocketAddr) {
    while let Err(error) = TcpStream::connect(address) {
        if error.kind() == ErrorKind::ConnectionRefused {
            return; // the loop has ended
        }
        thread::sleep(PAUSE);
    }
}

fn employ(workers: &Workers, job: impl FnOnce() + Send + 'static) {
    if let Err(error) = workers.employ(job) {
        log(format_args!("no thread for a client: {error}"));
    }
}

/// Tells a client that there is no room for it.
fn turn_away(client: Client) {
    client.allow_to_take(Allowance::new(FAREWELL));
    client.linger_no_longer_than(FAREWELL);
    let full = Refused { status: 503, why: "there are too many clients here; try again soon" };
    let response = finish(Response::refused(full)).header("Retry-After", "1");
    if let Err(error) = refuse(&client, b"", response) {
        client.log(error);
    }
}

/// Answers a client's requests one after another. Between two of them its connection holds no more
/// memory than a small buffer.
fn attend(client: Client, shared: &Shared, route: &impl Fn(&Request) -> Response) {
    client.allow_to_take(Allowance::for_each_write(shared.limits.send_timeout));
    let mut buffer = Buffer::new();
    loop {
        buffer.give_back();
        client.allow_to_send(Allowance::new(shared.limits.idle_timeout));
        while buffer.has_no_request() {
            match buffer.fill(&client) {
                Ok(()) => {}
                // It has not taken the answers that were held back for it.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                    return client.log(error);
                }
                Err(_) => return, // it has left, or has nothing to ask: it may do either
            }
        }
        match answer_next(&client, &mut buffer, shared, route) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return client.log(error),
        }
    }
}

/// Waits for the rest of a head, and answers. Returns whether there may be another request.
fn answer_next(
    client: &Client,
    buffer: &mut Buffer,
    shared: &Shared,
    route: &impl Fn(&Request) -> Response,
) -> io::Result<bool> {
    client.allow_to_send(Allowance::new(shared.limits.head_timeout));
    let refused = loop {
        match Request::parse_with_chunks(buffer.bytes(), client) {
            Ok(Some(request)) => {
                let Some(_busy) = shared.busy.take() else { return Ok(false) };
                let goes_on = answer(&request, shared, route)?;
                let unused = request.into_unused();
                buffer.go_on(unused);
                return Ok(goes_on);
            }
            Ok(None) => match buffer.fill(client) {
                Err(error) if error.kind() == ErrorKind::TimedOut => break TOO_SLOW,
                filled => filled?,
            },
            Err(refused) => break refused,
        }
    };
    refuse(client, buffer.bytes(), finish(Response::refused(refused)))?;
    Ok(false)
}

const TOO_SLOW: Refused = Refused { status: 408, why: "the request took too long to arrive" };

fn answer(
    request: &Request,
    shared: &Shared,
    route: &impl Fn(&Request) -> Response,
) -> io::Result<bool> {
    let client = request.client();
    client.allow_to_send(Allowance::new(shared.limits.body_timeout).and_per_byte(TIME_PER_BYTE));
    request.limit_body(shared.limits.max_body);
    let response = match rules::check(request, &shared.limits) {
        Ok(()) => panic::catch_unwind(AssertUnwindSafe(|| route(request))).unwrap_or_else(|_| {
            Response::refused(Refused { status: 500, why: "this server has made a mistake" })
        }),
        Err(refused) => Response::refused(refused),
    };
    // The next answer may come with this one, unless somebody watches it come. If the server is stopped
    // in between, both are lost: that is no harm for requests that can be repeated.
    let can_be_repeated = matches!(request.method(), "GET" | "HEAD");
    client.hold(can_be_repeated && request.is_followed() && !response.is_stream());
    conclude(request, finish(response), shared.is_stopping.load(Ordering::Relaxed))
}

/// Adds what every response has.
fn finish(response: Response) -> Response {
    date::with_now(|date| response.explained().header("Date", date.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::io::{Read, Write};
    use std::thread::JoinHandle;

    /// A service that echoes bodies, and panics when it is asked to.
    fn start(limits: Limits) -> (SocketAddr, impl Fn() + Send + 'static, JoinHandle<()>) {
        let service = Service::new(Listener::bind(0).expect("a free port"), limits);
        let address = service.listener.address().expect("it is bound");
        let stop = service.stopper().expect("it has an address");
        let route = |request: &Request| match request.path() {
            "/panic" => panic::resume_unwind(Box::new("on purpose")), // without a message
            "/quick" => Response::ok(),
            "/endless" => Response::stream("text/plain", (&b"begin"[..]).chain(Silence)),
            _ => {
                let mut text = Vec::new();
                let read = request
                    .body()
                    .map_err(io::Error::from)
                    .and_then(|mut body| body.read_to_end(&mut text));
                read.map_or_else(Response::failed, |_| Response::text(text))
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
