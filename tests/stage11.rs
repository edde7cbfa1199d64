//! Stage 11 · Refuse what is wrong, limit what is too much, and give up what is too slow.
//!
//! Each refusal has a status, a body that says why, and `Connection: close` if nobody can know
//! where the request ends. The checks start the server with `--max-connections N`, `--max-body
//! BYTES` or `--head-timeout SECONDS`, where that is what they are about.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, PATIENCE, Server};

/// The pause between the bytes of a slow client.
const SLOWLY: Duration = Duration::from_millis(100);

/// Sends these lines as a head, and expects that they are refused with this status, and why.
fn expect_refusal(server: &Server, lines: &[&str], status: u16, why: &str) -> Check {
    let head = lines.concat() + "\r\n";
    let answer = server.send(head.as_bytes()).status(status).closing();
    answer.explained().because_in_any_case(why)
}

#[test]
fn demands_one_valid_host() -> Check {
    let server = Server::start("stage11")?;
    let why = "A request of HTTP/1.1 has one Host, and a valid one. Two programs that take different \
               ones for true can be played off against each other (RFC 9112, section 3.2).";
    let get = "GET / HTTP/1.1\r\n";
    for (hosts, what) in [
        ("", "There is none here."),
        ("Host: a\r\nHost: a\r\n", "There are two here, even if they agree."),
        ("Host: a b\r\n", "A space cannot be in a name."),
        ("Host: a/b\r\n", "A slash cannot be in a name."),
        ("Host: u@a\r\n", "A user does not belong into a Host."),
    ] {
        expect_refusal(&server, &[get, hosts], 400, &format!("{what} {why}"))?;
    }
    for host in ["localhost", "localhost:4221", "127.0.0.1", "[::1]:80"] {
        let request = format!("{get}Host: {host}\r\n\r\n");
        server.send(request.as_bytes()).status(200).because("This Host is valid.")?;
    }
    server.send(b"GET / HTTP/1.0\r\n\r\n").status(200).because("HTTP/1.0 needs no Host.")
}

#[test]
fn refuses_what_can_be_read_in_two_ways() -> Check {
    let server = Server::start("stage11")?;
    let start = "POST /files/a HTTP/1.1\r\nHost: a\r\n";
    for (lines, why) in [
        (
            "Content-Length : 1\r\n",
            "No white space may stand before a colon (RFC 9112, section 5.1).",
        ),
        (
            "X: a\r\n b\r\n",
            "Long ago, a line that began with white space continued the one before it.",
        ),
        ("X: a\0b\r\n", "A value has no control characters (RFC 9110, section 5.5)."),
        ("X: a\rb\r\n", "A carriage return without a line feed is a line end for some."),
        ("X: a\nY: b\r\n", "A line feed alone is a line end for some, and for others it is not."),
        ("no colon\r\n", "A header has a name, a colon and a value."),
        (": b\r\n", "A header has a name."),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", "Which of the two is the length?"),
        ("Content-Length: 1, 2\r\n", "Which of the two is the length?"),
        ("Content-Length: -1\r\n", "A length is digits."),
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Does the body end after one byte, or with its last chunk?",
        ),
    ] {
        expect_refusal(&server, &[start, lines], 400, why)?;
    }
    Ok(())
}

#[test]
fn refuses_what_it_does_not_do() -> Check {
    let server = Server::start_with_directory("stage11")?;
    for (line, field, status, why) in [
        ("BREW / HTTP/1.1", "", 501, "Nobody knows this method: 501 Not Implemented."),
        ("GET / HTTP/2.0", "", 505, "This is another protocol: 505 says so."),
        (
            "POST /files/a HTTP/1.1",
            "Transfer-Encoding: zigzag\r\n",
            501,
            "A body that is coded in a way that you do not know has no end that you can find.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nExpect: the-unexpected\r\n",
            417,
            "The client expects something that you cannot give: 417 Expectation Failed.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "",
            411,
            "Without a length there is nothing to store: 411 Length Required.",
        ),
    ] {
        expect_refusal(&server, &[line, "\r\nHost: a\r\n", field], status, why)?;
    }
    Ok(())
}

#[test]
fn limits_what_it_reads() -> Check {
    let server = Server::start_with_args("stage11", &["--max-body", "1000"])?;
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
fn knows_what_a_resource_allows() -> Check {
    let server = Server::start_with_directory("stage11")?;
    for (method, path) in
        [("POST", "/"), ("DELETE", "/echo/a"), ("PUT", "/user-agent"), ("DELETE", "/files/a")]
    {
        let answer = server.request(method, path).send().status(405).allows("GET").allows("HEAD");
        answer.explained().because(
            "The method is known, but not here: 405, and the header Allow lists those that are.",
        )?;
    }
    let answer = server.request("DELETE", "/missing").send().status(404);
    answer.because("What is not there allows nothing: 404 comes before 405.")
}

#[test]
fn answers_head_and_options_everywhere() -> Check {
    let server = Server::start_with_directory("stage11")?;
    fs::write(server.directory().join("a"), "hello")
        .map_err(|error| Failure::new(format!("this check cannot prepare its files: {error}")))?;
    for (path, length) in [("/", "0"), ("/echo/abc", "3"), ("/files/a", "5"), ("/user-agent", "0")]
    {
        let answer = server.request("HEAD", path).send().status(200);
        answer.header("Content-Length", length).because(
            "The answer to HEAD is that to GET, with all its headers and without its body.",
        )?;
    }
    for path in ["/", "/echo/abc", "/files/a", "/user-agent"] {
        let answer = server.request("OPTIONS", path).send().successful().allows("GET");
        answer.allows("OPTIONS").because("OPTIONS asks what is allowed here; Allow says it.")?;
    }
    let answer = server.request("OPTIONS", "*").send().successful().allows("GET");
    answer.because("The asterisk means the server as a whole.")
}

#[test]
fn sends_the_date() -> Check {
    let server = Server::start("stage11")?;
    for path in ["/", "/missing"] {
        server.get(path).dated().because(
            "A server that has a clock says when it answered, in exactly one form: \
             Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110, section 6.6.1).",
        )?;
    }
    server.send(b"nonsense\r\n\r\n").status(400).dated().because("A refusal has a date, too.")
}

#[test]
fn gives_up_slow_requests() -> Check {
    let server = Server::start_with_args("stage11", &["--head-timeout", "1"])?;
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
    let server = Server::start_with_args("stage11", &["--max-connections", "3"])?;
    let why = "The server was started with --max-connections 3, three clients are connected, and this is \
               the fourth. It gets 503 Service Unavailable, and Retry-After says when to come again.";
    let mut clients = (0..3).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let answer = server.answer(client).status(200);
        answer.because_in_any_case("There is room for three clients.")?;
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
    let server = Server::start_with_directory("stage11")?;
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
