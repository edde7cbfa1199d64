//! Stage 12 · Limit what is too much, give up what is too slow, and end well.
//!
//! The checks start the server with `--max-connections N`, `--max-body BYTES` or
//! `--head-timeout SECONDS`, where that is what they are about.

use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, PATIENCE, Server};

/// The pause between the bytes of a slow client.
const SLOWLY: Duration = Duration::from_millis(100);

/// Sends these lines as a head, and expects that they are refused with this status, and why.
fn expect_refusal(server: &Server, lines: &[&str], status: u16, why: &str) -> Check {
    let head = lines.concat() + "\r\n";
    let answer = server.send(head.as_bytes()).status(status).closing();
    answer.explained().because_in_any_case(why)
}

#[test]
fn limits_what_it_reads() -> Check {
    let server = Server::start_with_args("stage12", &["--max-body", "1000"])?;
    let long = "a".repeat(20_000);
    let why = "A head without limits fills the memory of your server. Here the target, or the headers, \
               have more than 12,000 bytes: 414 for the one, 431 for the other. (Take 8,000 bytes at \
               least: RFC 9112, section 3.)";
    expect_refusal(&server, &["GET /", &long, " HTTP/1.1\r\nHost: a\r\n"], 414, why)?;
    expect_refusal(&server, &["GET / HTTP/1.1\r\nHost: a\r\nX: ", &long, "\r\n"], 431, why)?;
    let many = "X: y\r\n".repeat(2_000);
    expect_refusal(&server, &["GET / HTTP/1.1\r\nHost: a\r\n", &many], 431, why)?;
    let why =
        "The server was started with --max-body 1000: more is refused with 413 before it is read.";
    let post = "POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: ";
    expect_refusal(&server, &[post, "1001\r\n"], 413, why)?;
    let request = server.request("POST", "/files/a").body(vec![b'a'; 1000]);
    request.send().status(201).because("1000 bytes are not too many.")
}

#[test]
fn gives_up_slow_requests() -> Check {
    let server = Server::start_with_args("stage12", &["--head-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE && client.expect_silence(SLOWLY).is_ok() {
        client.send(b"a")?;
    }
    server.answer(&mut client).status(408).closing().because_in_any_case(
        "This client sends a byte every tenth of a second, and the server was started with \
         --head-timeout 1. Each of its reads is quick: a limit for each read never strikes. Limit the \
         time of the whole head, and answer 408 Request Timeout.",
    )
}

#[test]
fn turns_clients_away_when_it_is_full() -> Check {
    let server = Server::start_with_args("stage12", &["--max-connections", "3"])?;
    let why = "The server was started with --max-connections 3. Three clients are in the middle of an \
               upload, and this is the fourth. It gets 503 Service Unavailable, and Retry-After says \
               when to come again.";
    let mut clients = (0..3).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send(
            b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )?;
        client.expect_interim(100).map_err(|failure| {
            server.finish(failure.because("There is room for three clients."))
        })?;
    }
    let answer = server.get("/").status(503).closing().with("Retry-After");
    answer.because_in_any_case(why)?;
    drop(clients);
    let start = Instant::now();
    loop {
        let answer = server.get("/");
        if start.elapsed() > PATIENCE || answer.has_status(200) {
            let why = "The three clients have left, so there is room again.";
            return answer.status(200).because_in_any_case(why);
        }
        thread::sleep(SLOWLY);
    }
}

#[cfg(unix)]
#[test]
fn finishes_its_work_when_it_is_stopped() -> Check {
    use harness::Failure;
    use std::fs;

    let server = Server::start_with_directory("stage12")?;
    let mut client = server.connect()?;
    client.send(b"POST /files/last HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")?;
    client.expect_silence(SLOWLY).map_err(|failure| server.finish(failure))?;
    server.ask_to_stop();
    let start = Instant::now();
    while server.accepts() && start.elapsed() < PATIENCE {
        thread::sleep(SLOWLY);
    }
    if server.accepts() {
        return Err(Failure::new("your server still accepts clients after the signal SIGTERM")
            .why("It was asked to stop. Close the listening socket first.")
            .read(server.chapter()));
    }
    client.send(b"world")?;
    let why = "The server got the signal SIGTERM in the middle of this upload. It takes no new clients \
               then, and finishes what it has begun.";
    client.answer().map_err(|failure| failure.because(why).read(server.chapter()))?;
    let stored = fs::read(server.directory().join("last")).unwrap_or_default();
    if stored != b"helloworld" {
        return Err(Failure::new("the upload was answered, but not stored").why(why));
    }
    match server.ended_within(PATIENCE) {
        Some(_) => Ok(()),
        None => Err(Failure::new("your server does not end after its last request").why(why)),
    }
}
