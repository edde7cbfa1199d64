//! Stage 11: clients that are wrong, slow, or too many. Chapter: docs/11-hostile-clients.md

mod date;
mod permits;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Allowance, Buffer, Client, Directory, Limits, Refused, Request, Response, Version};
use permits::Permits;

const TOO_SLOW: Refused = Refused { status: 408, why: "the request took too long to arrive" };

/// How many clients at a time are told that there is no room for them.
const DOORMEN: usize = 64;

/// A body may be as slow as 1,000 bytes in a second, and no slower.
const TIME_PER_BYTE: Duration = Duration::from_millis(1);

/// The methods that HTTP defines. Any other is not implemented here, and perhaps nowhere.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What all threads share.
struct Server {
    files: Directory,
    limits: Limits,
    /// One permit for each request that is being answered.
    busy: Arc<Permits>,
    is_stopping: AtomicBool,
}

fn main() -> ExitCode {
    common::run_with_limits(|args| {
        let server = Arc::new(Server {
            files: args.files(),
            limits: args.limits,
            busy: Permits::new(args.limits.max_connections),
            is_stopping: AtomicBool::new(false),
        });
        let listener = args.listen()?;
        stop_at_a_signal(&server, listener.address()?)?;
        let (permits, doormen) = (Permits::new(args.limits.max_connections), Permits::new(DOORMEN));
        for client in listener {
            if server.is_stopping.load(Ordering::Relaxed) {
                break; // here the listener is dropped, and the port is free again
            }
            if let Some(permit) = permits.take() {
                let server = Arc::clone(&server);
                spawn(move || {
                    attend(client, &server);
                    drop(permit);
                });
            } else if let Some(permit) = doormen.take() {
                spawn(move || {
                    turn_away(client);
                    drop(permit);
                });
            }
        }
        server.busy.take_all_within(args.limits.stop_timeout);
        server.files.abandon_uploads();
        Ok(())
    })
}

/// On Ctrl-C, or when the system asks the program to end: no new clients, and a last answer for
/// those who are here.
fn stop_at_a_signal(server: &Arc<Server>, address: SocketAddr) -> io::Result<()> {
    let server = Arc::clone(server);
    let stop = move || {
        if server.is_stopping.swap(true, Ordering::Relaxed) {
            server.files.abandon_uploads();
            process::exit(130); // it is the second signal: somebody is in a hurry
        }
        let _ = TcpStream::connect(address); // the loop in `main` waits for a client: here is one
    };
    ctrlc::set_handler(stop).map_err(io::Error::other)
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().spawn(work) {
        common::log(format!("no thread for a client: {error}"));
    }
}

/// Answers a client's requests one after another.
fn attend(client: Client, server: &Server) {
    client.allow_to_take(Allowance::for_each_write(server.limits.send_timeout));
    let mut buffer = Buffer::new();
    loop {
        client.allow_to_send(Allowance::new(server.limits.idle_timeout));
        while buffer.has_no_request() {
            if buffer.fill(&client).is_err() {
                return; // it has left, or has nothing to ask
            }
        }
        match answer_next(&client, &mut buffer, server) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return client.log(error),
        }
    }
}

/// Waits for the rest of a head, and answers. Returns whether there may be another request.
fn answer_next(client: &Client, buffer: &mut Buffer, server: &Server) -> io::Result<bool> {
    client.allow_to_send(Allowance::new(server.limits.head_timeout));
    let refused = loop {
        match Request::parse(buffer.bytes(), client) {
            Ok(Some(request)) => {
                let Some(_busy) = server.busy.take() else { return Ok(false) };
                let goes_on = answer(&request, server)?;
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
    common::refuse(client, buffer.bytes(), finish(Response::refused(refused)))?;
    Ok(false)
}

fn answer(request: &Request, server: &Server) -> io::Result<bool> {
    let client = request.client();
    client.allow_to_send(Allowance::new(server.limits.body_timeout).and_per_byte(TIME_PER_BYTE));
    request.limit_body(server.limits.max_body);
    // What a panic leaves behind is used no more: the connection ends.
    let route = AssertUnwindSafe(|| route(request, server).unwrap_or_else(Response::failed));
    let response = panic::catch_unwind(route).unwrap_or_else(|_| {
        Response::refused(Refused { status: 500, why: "this server has made a mistake" })
    });
    common::conclude(request, finish(response), server.is_stopping.load(Ordering::Relaxed))
}

fn turn_away(client: Client) {
    client.allow_to_take(Allowance::new(Duration::from_secs(1)));
    let full = Refused { status: 503, why: "there are too many clients here; try again soon" };
    let response = finish(Response::refused(full)).header("Retry-After", "1");
    if let Err(error) = common::refuse(&client, b"", response) {
        client.log(error);
    }
}

/// Adds what every response has.
fn finish(response: Response) -> Response {
    response.explained().header("Date", date::now())
}

fn route(request: &Request, server: &Server) -> io::Result<Response> {
    check(request, &server.limits)?;
    let parts: Vec<_> = request.path().splitn(3, '/').collect();
    let allowed = match parts[..] {
        ["", ""] | ["", "echo", _] | ["", "user-agent"] => "GET, HEAD, OPTIONS",
        ["", "files", _] | ["*"] => "GET, HEAD, OPTIONS, POST",
        _ => return Ok(Response::not_found()),
    };
    if !allowed.split(", ").any(|method| method == request.method()) {
        return Ok(Response::new(405).header("Allow", allowed));
    }
    match (request.method(), &parts[..]) {
        ("OPTIONS", _) => Ok(Response::ok().header("Allow", allowed)),
        ("POST", ["", "files", name]) => store(request, server, name),
        (_, ["", "files", name]) => server.files.open(name).and_then(Response::file),
        (_, ["", "echo", text]) => echo(request, text),
        (_, ["", "user-agent"]) => {
            Ok(Response::text(request.header("User-Agent").unwrap_or_default()))
        }
        _ => Ok(Response::ok()),
    }
}

/// Refuses what no resource needs to see.
fn check(request: &Request, limits: &Limits) -> Result<(), Refused> {
    let mut hosts = request.headers().all("Host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if common::is_authority(host) => {}
        (None, _) if request.version() == Version::Http10 => {}
        _ => return Err(Refused { status: 400, why: "a request has one Host, and a valid one" }),
    }
    if !METHODS.contains(&request.method()) {
        return Err(Refused { status: 501, why: "this server does not know the method" });
    }
    if request.headers().list("Expect").any(|it| !it.eq_ignore_ascii_case("100-continue")) {
        return Err(Refused { status: 417, why: "100-continue is all that can be expected here" });
    }
    if request.content_length() > Some(limits.max_body) {
        return Err(Refused { status: 413, why: "the body is larger than this server takes" });
    }
    Ok(())
}

fn store(request: &Request, server: &Server, name: &str) -> io::Result<Response> {
    server.files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn echo(request: &Request, text: &str) -> io::Result<Response> {
    let response = if common::accepts_gzip(request.headers()) {
        Response::text(common::gzip(text.as_bytes())?).header("Content-Encoding", "gzip")
    } else {
        Response::text(text)
    };
    Ok(response.header("Vary", "Accept-Encoding"))
}
