//! Stage 11 · Refuse what is wrong, and say why.
//!
//! Each refusal has a status, a body that says why, and `Connection: close` if nobody can know
//! where the request ends.

use std::fs;

use harness::{Check, Failure, Server};

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
            "Content-Length: 1\r\nContent-Encoding: gzip\r\n",
            415,
            "The body is compressed. If you store it as it is, nobody will know: 415 Unsupported Media \
             Type.",
        ),
        (
            "POST /files/a HTTP/1.1",
            "Content-Length: 1\r\nContent-Range: bytes 0-0/2\r\n",
            400,
            "The body is a part of something. If you store it, the rest of the file is lost: 400 \
             (RFC 9110, section 14.5).",
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
