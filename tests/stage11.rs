//! Stage 11 · Refuse what is wrong, and say why.
//!
//! Each refusal has a status, and `Connection: close` if the server cannot know where the request ends.

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
    let why = "A request of HTTP/1.1 must have exactly one Host, and it must be valid. Otherwise, answer 400 \
               (RFC 9112, section 3.2). If a proxy and your server read different Hosts, an attacker can \
               exploit that.";
    let get = "GET / HTTP/1.1\r\n";
    for (hosts, what) in [
        ("", "This request has no Host."),
        ("Host: a\r\nHost: a\r\n", "This request has two Hosts, although they are the same."),
        ("Host: a b\r\n", "This Host contains a space."),
        ("Host: a/b\r\n", "This Host contains a slash."),
        ("Host: u@a\r\n", "This Host contains a user name."),
    ] {
        send(&server, &[get, hosts]).status(400).because(&format!("{what} {why}"))?;
    }
    for host in ["localhost", "localhost:4221", "127.0.0.1", "[::1]:80"] {
        let request = format!("{get}Host: {host}\r\n\r\n");
        server.send(request.as_bytes()).status(200).because("This Host is valid. Answer 200.")?;
    }
    server
        .send(b"GET / HTTP/1.0\r\n\r\n")
        .status(200)
        .because("A request of HTTP/1.0 needs no Host. Answer 200.")
}

#[test]
fn refuses_what_can_be_read_in_two_ways() -> Check {
    let server = Server::start("stage11")?;
    let start = "POST /files/a HTTP/1.1\r\nHost: a\r\n";
    for (lines, why) in [
        (
            "Content-Length : 1\r\n",
            "This header has white space before the colon. Answer 400 (RFC 9112, section 5.1).",
        ),
        (
            "X: a\r\n b\r\n",
            "This line begins with white space. In old versions of HTTP, such a line continued the one before \
             it, and some programs still read it so. Answer 400.",
        ),
        (
            "X: a\0b\r\n",
            "This header value contains a control character. Answer 400 (RFC 9110, section 5.5).",
        ),
        (
            "X: a\rb\r\n",
            "This value contains a carriage return without a line feed. Some programs read it as a line end, \
             others do not. Answer 400.",
        ),
        (
            "X: a\nY: b\r\n",
            "This line ends with a line feed alone. Some programs read it as a line end, others do not. Answer \
             400.",
        ),
        (
            "no colon\r\n",
            "This header has no colon. A header is a name, a colon and a value. Answer 400.",
        ),
        (": b\r\n", "This header has no name. Answer 400."),
        (
            "X@: b\r\n",
            "This name contains a character that no name may have (RFC 9110, section 5.6.2). Answer 400.",
        ),
        ("X: a\x7fb\r\n", "DEL is a control character, too. Answer 400."),
    ] {
        send(&server, &[start, lines]).status(400).because(why)?;
    }
    for line in ["GET /\x01 HTTP/1.1", "GET\t/ HTTP/1.1", "GET / HTTP/1.x"] {
        send(&server, &[line, "\r\nHost: a\r\n"]).status_in(&[400, 505]).because(
            "A request line is a method, a target and a version with one space between them, and has no control \
             characters. Answer 400.",
        )?;
    }
    let close = "Your server cannot know where the next request begins, so say Connection: close, and close the \
                 connection (RFC 9112, section 6.3).";
    for (lines, why) in [
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "There are two different lengths. Answer 400.",
        ),
        ("Content-Length: 1, 2\r\n", "There are two different lengths. Answer 400."),
        ("Content-Length: -1\r\n", "Content-Length must be digits. Answer 400."),
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length says that the body ends after one byte, and Transfer-Encoding says that it ends \
             with a last chunk. Answer 400. (HTTP also allows you to believe Transfer-Encoding. To refuse the \
             request is a rule of this course.)",
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
            "Your server does not know the method BREW. Answer 501 Not Implemented.",
        ),
        (
            "GET / HTTP/2.0",
            "",
            &[505, 400],
            "HTTP/2.0 is another protocol. Answer 505 HTTP Version Not Supported.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Transfer-Encoding: zigzag\r\n",
            &[501, 400],
            "Your server does not know this transfer coding, so it cannot find the end of the body. Answer 501 \
             Not Implemented.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nExpect: the-unexpected\r\n",
            &[417],
            "The client expects something that your server does not know. Answer 417 Expectation Failed. (HTTP \
             also allows you to ignore it. To refuse the request is a rule of this course.)",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nContent-Encoding: br\r\n",
            &[415],
            "The body is compressed. If you store it as it is, the file is compressed and nothing says so. \
             Answer 415 Unsupported Media Type, a rule of this course.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nContent-Range: bytes 0-0/2\r\n",
            &[400],
            "The body is only a part of a file. If you store it, the rest of the file is lost. Answer 400 (RFC \
             9110, section 14.5).",
        ),
        (
            "POST /files/a HTTP/1.1",
            "",
            &[411, 400, 200, 201, 204],
            "This request has no Content-Length. Answer 411 Length Required, or treat the body as empty, as \
             HTTP does. Do not wait for bytes that never arrive.",
        ),
    ] {
        send(&server, &[line, "\r\nHost: a\r\n", field]).status_in(statuses).because(why)?;
    }
    Ok(())
}

#[test]
fn knows_what_a_resource_allows() -> Check {
    let server = Server::start_with_directory("stage11")?;
    let why = "This resource does not allow this method. Answer 405, and list the methods that it allows in the \
               header Allow.";
    server.request("POST", "/").send().status(405).allows("GET").allows("HEAD").because(why)?;
    for (method, path) in [("DELETE", "/echo/a"), ("PUT", "/user-agent"), ("DELETE", "/files/a")] {
        let answer = server.request(method, path).send().status_in(&[405, 501]);
        let answer =
            if answer.has_status(405) { answer.allows("GET").allows("HEAD") } else { answer };
        answer.because(why)?; // 501 if the server does not know the method at all
    }
    let answer = server.request("DELETE", "/missing").send().status(404);
    answer.because("There is no resource /missing. Answer 404, not 405.")
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
                    "Content-Length is {found}, but it is {expected} in the answer to GET"
                ))),
                _ => Ok(()),
            }
        });
        answer.because(
            "Answer HEAD as you answer GET: with the same status and headers, but without the body.",
        )?;
    }
    for path in ["/", "/echo/abc", "/files/a", "/user-agent"] {
        let answer = server.request("OPTIONS", path).send().successful().allows("GET");
        answer.allows("OPTIONS").because(
            "OPTIONS asks which methods a resource allows. List them in the header Allow.",
        )?;
    }
    let answer = server.request("OPTIONS", "*").send().successful().allows("GET");
    answer.because(
        "The target * means the server as a whole. List the methods that it knows in the header Allow.",
    )?;
    server.send_head(b"HEAD / HTTP/1.1\r\n\r\n").status(400).because(
        "This request has no Host, so the answer is 400. It is a HEAD, so the answer has no body.",
    )
}

#[test]
fn takes_a_whole_url() -> Check {
    let server = Server::start("stage11")?;
    let request = b"GET http://localhost/echo/whole HTTP/1.1\r\nHost: localhost\r\n\r\n";
    server.send(request).status(200).body("whole").because(
        "This target is a whole URL, as clients send it to proxies. Every server must accept it (RFC 9112, section \
         3.2.2): leave out the scheme and the host.",
    )
}

#[test]
fn sends_the_date() -> Check {
    let server = Server::start("stage11")?;
    for path in ["/", "/missing"] {
        server.get(path).dated().because(
            "A server with a clock must send the time of the answer in the header Date. Only one form is valid: \
             Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110, section 6.6.1).",
        )?;
    }
    server.send(b"nonsense\r\n\r\n").status(400).dated().because("A refusal must have a Date, too.")
}

#[test]
fn the_date_goes_on() -> Check {
    let server = Server::start("stage11")?;
    let date = || server.get("/").answer().map(|answer| answer.header("Date").map(str::to_owned));
    let (first, start) = (date()?, Instant::now());
    while date()? == first {
        if start.elapsed() > TIMEOUT {
            let why = "Date must be the time of the answer, not the time when your server started.";
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
    let date = date.map_or("no Date".to_owned(), |date| format!("the same Date: {date}"));
    Err(Failure::new(format!("for {} seconds, all answers had {date}", TIMEOUT.as_secs())))
}
