//! Stage 12 · Limit sizes, times and the number of connections, and stop without losing an answer.
//!
//! The checks start the server with the limit that they are about, such as `--max-body BYTES`,
//! `--head-timeout SECONDS` or `--max-connections N`.

use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Server, TIMEOUT};

/// The pause between the bytes of a slow client.
const SLOWLY: Duration = Duration::from_millis(100);

#[test]
fn limits_what_it_reads() -> Check {
    let server = Server::start_with_args("stage12", &["--max-body", "1000"])?;
    let long = "a".repeat(20_000);
    let why = "A head without limits can fill the memory of your server. Accept 8,000 bytes (RFC 9112, section \
               3), and refuse 20,000. Answer 414 if the target is too long, and 431 if the headers are.";
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
        .because("A head of 7,000 bytes is not too large. Answer 200.")?;
    let why = "Your server was started with --max-body 1000. Refuse a body of 1,001 bytes with 413 before you \
               read it.";
    let post = b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n";
    server.send(post).status_in(&[413, 400]).because(why)?;
    let request = server.request("POST", "/files/a").body(vec![b'a'; 1000]);
    request
        .send()
        .status(201)
        .because("The limit is 1,000 bytes, and this body has exactly 1,000. Store it.")
}

#[test]
fn times_out_slow_requests() -> Check {
    let server = Server::start_with_args("stage12", &["--head-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")?;
    let start = Instant::now();
    while start.elapsed() < TIMEOUT && client.expect_silence(SLOWLY).is_ok() {
        client.send(&[b'a'; 150])?;
    }
    let why = "This client sends 150 bytes every 0.1 seconds, and never completes the head. Your server was \
               started with --head-timeout 1. Answer 408 Request Timeout one second after the first byte of the \
               request.";
    if start.elapsed() >= TIMEOUT {
        let failure =
            client.failure("your server still waits for the rest of the head after 5 seconds");
        let cause = "A timeout for each read does not help here, because each read is quick. Limit the time for \
                     the whole head.";
        return Err(server.finish(failure.cause(cause).why(why)));
    }
    server.answer(&mut client).status(408).closing().because(why)
}

#[test]
fn times_out_slow_bodies() -> Check {
    let server = Server::start_with_args("stage12", &["--body-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello")?;
    server.answer(&mut client).status(408).closing().because(
        "The client has sent 5 of 100 bytes, and then it sends nothing more. Your server was started with \
         --body-timeout 1. Answer 408 Request Timeout after one second.",
    )?;
    let mut steady = server.connect()?;
    steady.send(b"POST /files/b HTTP/1.1\r\nHost: a\r\nContent-Length: 8000\r\n\r\n")?;
    for _ in 0..8 {
        if steady.wait_for_more(SLOWLY * 2).is_ok() {
            break; // it answers already
        }
        steady.send(&[b'b'; 1000])?;
    }
    server.answer(&mut steady).status(201).because(
        "This body took 1.6 seconds to arrive, 1,000 bytes every 0.2 seconds, so it has never stopped. \
         --body-timeout 1 is for bodies that stop.",
    )
}

#[test]
fn closes_idle_connections() -> Check {
    let server = Server::start_with_args("stage12", &["--idle-timeout", "1"])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server.answer(&mut client).status(200).because("This is an ordinary request.")?;
    let why = "The client got its answer and sends nothing more, so the connection is idle. Your server was \
               started with --idle-timeout 1. Close the connection after one second.";
    client.expect_close(TIMEOUT).map_err(|failure| server.finish(failure.why(why)))
}

#[test]
fn waiting_between_requests_is_not_slow() -> Check {
    let args = ["--head-timeout", "1", "--idle-timeout", "60"];
    let server = Server::start_with_args("stage12", &args)?;
    let mut client = server.connect()?;
    let request = b"GET /echo/again HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request)?;
    server.answer(&mut client).status(200).because("This is an ordinary request.")?;
    let why = "This client waits for 1.5 seconds between two requests, which is not too long. --head-timeout 1 \
               is the time for one head, from its first byte. --idle-timeout 60 is the time between two \
               requests.";
    let paused = client.expect_idle(Duration::from_millis(1500));
    paused.map_err(|failure| server.finish(failure.why(why)))?;
    client.send(request)?;
    server.answer(&mut client).status(200).body("again").because(why)
}

#[test]
fn refuses_clients_when_it_is_full() -> Check {
    let server = Server::start_with_args("stage12", &["--max-connections", "3"])?;
    let why = "Your server was started with --max-connections 3. Three clients are in the middle of an upload, \
               and this client is the fourth. Answer 503 Service Unavailable, and say in Retry-After when to \
               try again.";
    let mut clients = (0..3).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send(
            b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )?;
        client.expect_interim(100).map_err(|failure| {
            server.finish(failure.why("--max-connections 3 allows three clients."))
        })?;
    }
    let answer = server.get("/").status(503).with("Retry-After");
    answer.because(why)?;
    drop(clients);
    let start = Instant::now();
    loop {
        let answer = server.get("/");
        if start.elapsed() > TIMEOUT || answer.has_status(200) {
            let why = "The three clients have left. Serve new clients again.";
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
    server.answer(&mut idle).status(200).because("This is an ordinary request.")?;
    let mut client = server.connect()?;
    client.send(b"POST /files/last HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")?;
    client.expect_silence(SLOWLY).map_err(|failure| server.finish(failure))?;
    let processes = server.ask_to_stop();
    let start = Instant::now();
    let mut accepts = true;
    while accepts && start.elapsed() < TIMEOUT {
        accepts = server.accepts();
        thread::sleep(SLOWLY);
    }
    if accepts {
        return Err(Failure::new("your server still accepts clients after the signal SIGTERM")
            .why("SIGTERM asks your server to stop. Close the listening socket first.")
            .read(server.chapter()));
    }
    client.send(b"world")?;
    let why = "Your server got the signal SIGTERM in the middle of this upload. Accept no new clients then. \
               Finish the requests that have begun, and end.";
    client.answer().map_err(|failure| failure.why(why).read(server.chapter()))?;
    let stored = fs::read(server.directory().join("last")).unwrap_or_default();
    if stored != b"helloworld" {
        let failure = Failure::new("your server answered the upload, but did not store it");
        return Err(failure.why(why).read(server.chapter()));
    }
    if server.all_ended_within(&processes, TIMEOUT) {
        return Ok(());
    }
    Err(Failure::new("your server does not end after its last request")
        .cause("Another client is still connected, but idle: it waits for no answer. Close idle connections \
                when your server stops.")
        .why(why)
        .read(server.chapter()))
}
