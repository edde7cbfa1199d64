//! Stage 12 · Limit what is too much, give up what is too slow, and end well.
//!
//! The checks start the server with `--max-connections N`, `--max-body BYTES` or
//! `--head-timeout SECONDS`, where that is what they are about.

use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Server, TIMEOUT};

/// The pause between the bytes of a slow client.
const SLOWLY: Duration = Duration::from_millis(100);

#[test]
fn limits_what_it_reads() -> Check {
    let server = Server::start_with_args("stage12", &["--max-body", "1000"])?;
    let long = "a".repeat(20_000);
    let why = "A head without limits fills the memory of your server. Take 8,000 bytes at least (RFC 9112, \
               section 3), and refuse 20,000: with 414 if it is the target that is too long, and with 431 if it \
               is the headers.";
    for (lines, status) in [
        (["GET /", &long, " HTTP/1.1\r\nHost: a\r\n"], 414),
        (["GET / HTTP/1.1\r\nHost: a\r\nX: ", &long, "\r\n"], 431),
        (["GET / HTTP/1.1\r\n", "Host: a\r\n", &"X: y\r\n".repeat(4_000)], 431),
    ] {
        let request = lines.concat() + "\r\n";
        server.send(request.as_bytes()).status_in(&[status, 400]).closing().because(why)?;
    }
    let enough = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", &long[..7_000]);
    server
        .send(enough.as_bytes())
        .status(200)
        .because("A head of 7,000 bytes is not too large.")?;
    let why = "The server was started with --max-body 1000. A body of 1,001 bytes is refused with 413 before \
               it is read.";
    let post = b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n";
    server.send(post).status_in(&[413, 400]).because(why)?;
    let request = server.request("POST", "/files/a").body(vec![b'a'; 1000]);
    request.send().status(201).because("The limit is 1000 bytes, and this body has 1,000.")
}

#[test]
fn gives_up_slow_requests() -> Check {
    let server = Server::start_with_args("stage12", &["--head-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")?;
    let start = Instant::now();
    while start.elapsed() < TIMEOUT && client.expect_silence(SLOWLY).is_ok() {
        client.send(b"a")?;
    }
    let why = "This client sends a byte every tenth of a second, and never comes to an end. The server was \
               started with --head-timeout 1: answer 408 Request Timeout after a second, counted from the first \
               byte of the request.";
    if start.elapsed() >= TIMEOUT {
        let failure =
            client.failure("your server still waits for the rest of the head after 5 seconds");
        let cause = "A limit for each read does not help here: each read is quick. Limit the time for the whole head.";
        return Err(server.finish(failure.cause(cause).why(why)));
    }
    server.answer(&mut client).status(408).closing().because(why)
}

#[test]
fn gives_up_slow_bodies() -> Check {
    let server = Server::start_with_args("stage12", &["--body-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello")?;
    server.answer(&mut client).status(408).closing().because(
        "The client has sent 5 bytes of 100, and no more come. The server was started with \
         --body-timeout 1: answer 408 Request Timeout after a second.",
    )
}

#[test]
fn closes_idle_connections() -> Check {
    let server = Server::start_with_args("stage12", &["--idle-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server.answer(&mut client).status(200).because("This is a request.")?;
    let why = "The client got its answer, and says nothing more. The server was started with --idle-timeout 1: \
               close the connection after a second of silence.";
    client.expect_hang_up(TIMEOUT).map_err(|failure| server.finish(failure.why(why)))
}

#[test]
fn waiting_between_requests_is_not_slow() -> Check {
    let args = ["--head-timeout", "1", "--idle-timeout", "60"];
    let server = Server::start_with_args("stage12", &args)?;
    let mut client = server.connect()?;
    let request = b"GET /echo/again HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request)?;
    server.answer(&mut client).status(200).because("This is the first request.")?;
    let why = "The client waited for a second and a half before it sent its next request. --head-timeout 1 is the \
               time for a head, from its first byte; --idle-timeout 60 is the time between two requests.";
    let paused = client.expect_silence(Duration::from_millis(1500));
    paused.map_err(|failure| server.finish(failure.why(why)))?;
    client.send(request)?;
    server.answer(&mut client).status(200).body("again").because(why)
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
        client
            .expect_interim(100)
            .map_err(|failure| server.finish(failure.why("There is room for three clients.")))?;
    }
    let answer = server.get("/").status(503).with("Retry-After");
    answer.because(why)?;
    drop(clients);
    let start = Instant::now();
    loop {
        let answer = server.get("/");
        if start.elapsed() > TIMEOUT || answer.has_status(200) {
            let why = "The three clients have left, so there is room again.";
            return answer.status(200).because(why);
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
    let mut idle = server.connect()?;
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server
        .answer(&mut idle)
        .status(200)
        .because("This client stays connected, and says no more.")?;
    let mut client = server.connect()?;
    client.send(b"POST /files/last HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")?;
    client.expect_silence(SLOWLY).map_err(|failure| server.finish(failure))?;
    let processes = server.ask_to_stop();
    let start = Instant::now();
    while server.accepts() && start.elapsed() < TIMEOUT {
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
    client.answer().map_err(|failure| failure.why(why).read(server.chapter()))?;
    let stored = fs::read(server.directory().join("last")).unwrap_or_default();
    if stored != b"helloworld" {
        let failure = Failure::new("the upload was answered, but not stored");
        return Err(failure.why(why).read(server.chapter()));
    }
    if server.all_ended_within(&processes, TIMEOUT) {
        return Ok(());
    }
    Err(Failure::new("your server does not end after its last request")
        .cause("One more client is connected, and idle: nobody waits for an answer, so close it.")
        .why(why)
        .read(server.chapter()))
}
