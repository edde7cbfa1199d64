//! Stage 11 · Refuse what is wrong, and say why.
//!
//! Each refusal has a status, and `Connection: close` if nobody can know where the request ends.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Exchange, Failure, Server, TIMEOUT};

/// Sends these lines as a head.
fn send(server: &Server, lines: &[&str]) -> Exchange {
    server.send((lines.concat() + "\r\n").as_bytes())
}

#[test]
fn demands_one_valid_host() -> Check {
    let server = Server::start("stage11")?;
    let why = "A request of HTTP/1.1 has one Host, and a valid one. If two programs believe different \
               Hosts, an attacker can use one against the other (RFC 9112, section 3.2).";
    let get = "GET / HTTP/1.1\r\n";
    for (hosts, what) in [
        ("", "There is none here."),
        ("Host: a\r\nHost: a\r\n", "There are two here, even if they agree."),
        ("Host: a b\r\n", "A space cannot be in a name."),
        ("Host: a/b\r\n", "A slash cannot be in a name."),
        ("Host: u@a\r\n", "A Host has no user name."),
    ] {
        send(&server, &[get, hosts]).status(400).because(&format!("{what} {why}"))?;
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
    ] {
        send(&server, &[start, lines]).status(400).because(why)?;
    }
    let close = "Nobody knows where the next request begins, so say Connection: close, and close (RFC 9112, \
                 section 6.3).";
    for (lines, why) in [
        ("Content-Length: 1\r\nContent-Length: 2\r\n", "Which of the two is the length?"),
        ("Content-Length: 1, 2\r\n", "Which of the two is the length?"),
        ("Content-Length: -1\r\n", "A length is digits."),
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Does the body end after one byte, or with its last chunk? (The RFC lets you believe the \
             chunks. That it is refused is a rule of this course.)",
        ),
    ] {
        let answer = send(&server, &[start, lines]).status(400).closing();
        answer.because(&format!("{why} {close}"))?;
    }
    Ok(())
}

#[test]
fn refuses_what_it_does_not_do() -> Check {
    let server = Server::start_with_directory("stage11")?;
    for (line, field, statuses, why) in [
        (
            "BREW / HTTP/1.1",
            "",
            &[501, 405, 400][..],
            "Nobody knows this method: 501 Not Implemented.",
        ),
        ("GET / HTTP/2.0", "", &[505, 400], "This is another protocol: 505 says so."),
        (
            "POST /files/a HTTP/1.1",
            "Transfer-Encoding: zigzag\r\n",
            &[501, 400],
            "You do not know how this body is coded, so you cannot find its end: 501 Not Implemented.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nExpect: the-unexpected\r\n",
            &[417],
            "The client expects something that you cannot give: 417 Expectation Failed. (HTTP would let \
             you ignore it. Not to do so is a rule of this course.)",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nContent-Encoding: gzip\r\n",
            &[415],
            "The body is compressed. If you store it as it is, nobody will know: 415 Unsupported Media \
             Type, a rule of this course.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nContent-Range: bytes 0-0/2\r\n",
            &[400],
            "The body is a part of something. If you store it, the rest of the file is lost: 400 \
             (RFC 9110, section 14.5).",
        ),
        (
            "POST /files/a HTTP/1.1",
            "",
            &[411, 400, 200, 201, 204],
            "There is no length. Either say 411 Length Required, or take the body for empty, as HTTP does; \
             but do not wait for bytes that never come.",
        ),
    ] {
        send(&server, &[line, "\r\nHost: a\r\n", field]).status_in(statuses).because(why)?;
    }
    Ok(())
}

#[test]
fn knows_what_a_resource_allows() -> Check {
    let server = Server::start_with_directory("stage11")?;
    let why = "The method is known, but not here: 405, and the header Allow lists those that are.";
    server.request("POST", "/").send().status(405).allows("GET").allows("HEAD").because(why)?;
    for (method, path) in [("DELETE", "/echo/a"), ("PUT", "/user-agent"), ("DELETE", "/files/a")] {
        let answer = server.request(method, path).send().status_in(&[405, 501]);
        let answer =
            if answer.has_status(405) { answer.allows("GET").allows("HEAD") } else { answer };
        answer.because(why)?; // 501 if the server does not know the method at all
    }
    let answer = server.request("DELETE", "/missing").send().status(404);
    answer.because("What is not there allows nothing: 404 comes before 405.")
}

#[test]
fn answers_head_and_options_everywhere() -> Check {
    let server = Server::start_with_directory("stage11")?;
    fs::write(server.directory().join("a"), "hello")
        .map_err(|error| Failure::new(format!("this check cannot prepare its files: {error}")))?;
    for path in ["/", "/echo/abc", "/files/a", "/user-agent", "/missing"] {
        let ask = |method| server.request(method, path).header("User-Agent: me").send();
        let get = ask("GET").answer()?;
        let answer = ask("HEAD").status(get.status).expect("the Content-Length of GET", |head| {
            match (head.header("Content-Length"), get.header("Content-Length")) {
                (Some(found), Some(expected)) if found != expected => Err(Failure::new(format!(
                    "Content-Length is {found}, and {expected} in the answer to GET"
                ))),
                _ => Ok(()),
            }
        });
        answer.because(
            "The answer to HEAD is that to GET, with its status and its headers, and without its body.",
        )?;
    }
    for path in ["/", "/echo/abc", "/files/a", "/user-agent"] {
        let answer = server.request("OPTIONS", path).send().successful().allows("GET");
        answer
            .allows("OPTIONS")
            .because("OPTIONS asks what is allowed here, and Allow says it.")?;
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
fn the_date_goes_on() -> Check {
    let server = Server::start("stage11")?;
    let date = || server.get("/").answer().map(|answer| answer.header("Date").map(str::to_owned));
    let (first, start) = (date()?, Instant::now());
    while date()? == first {
        if start.elapsed() > TIMEOUT {
            let why = "The date is that of the answer, not that of the start of the server.";
            return server
                .get("/")
                .expect("another Date", |_| unchanged(first.as_deref()))
                .because(why);
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn unchanged(date: Option<&str>) -> Check {
    let date = date.map_or("no Date".to_owned(), |date| format!("the Date {date}"));
    Err(Failure::new(format!("all answers of {} seconds have {date}", TIMEOUT.as_secs())))
}
