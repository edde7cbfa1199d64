//! Stage 10 · Answer many requests on one connection.
//!
//! After an answer the connection stays open for the next request, unless the client or the server has said
//! `Connection: close`, or the request was one of HTTP/1.0. So every answer must say where it ends, and every
//! request must be read to its end.

use std::thread;
use std::time::Duration;

use harness::{Check, Connection, Failure, Server, TIMEOUT};

/// Long enough for a server to answer a head before the body arrives.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Asks for a text on an open connection, and expects it as the body.
fn expect_echo(server: &Server, client: &mut Connection, text: &str, why: &str) -> Check {
    client.send(format!("GET /echo/{text} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    server.answer(client).status(200).body(text).because(why)
}

/// Expects that the server closes the connection, now that it has answered.
fn expect_close(server: &Server, client: Connection, why: &str) -> Check {
    let closed = client.expect_close(TIMEOUT);
    closed.map_err(|failure| server.finish(failure.why(why)))
}

#[test]
fn answers_many_requests_on_one_connection() -> Check {
    let server = Server::start("stage10")?;
    let mut client = server.connect()?;
    expect_echo(
        &server,
        &mut client,
        "one",
        "This is the first request on its connection. Answer it as before.",
    )?;
    let why = "This is not the first request on its connection, and the earlier ones were answered. In HTTP/1.1 \
               a connection stays open after an answer, unless the client or the server says Connection: close \
               (RFC 9112, section 9.3). Keep it open, and do not say Connection: close.";
    for text in ["two", "three", "four"] {
        expect_echo(&server, &mut client, text, why)?;
    }
    client.send(b"GET /missing HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    server.answer(&mut client).status(404).because(why)?;
    let why = "The request before this one was for /missing, and the answer was 404. Keep the connection open \
               after a 404, too.";
    expect_echo(&server, &mut client, "six", why)
}

#[test]
fn keeps_several_connections_side_by_side() -> Check {
    let server = Server::start("stage10")?;
    let mut clients = (0..8).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    let why = "8 clients have one connection each and take turns: each of them sends three requests. Keep every \
               connection open between its requests.";
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            expect_echo(&server, client, &format!("{number}-{round}"), why)?;
        }
    }
    Ok(())
}

#[test]
fn closes_when_the_client_asks_for_it() -> Check {
    let server = Server::start("stage10")?;
    for options in ["close", "Close", "keep-me-posted, close"] {
        let why = "The client has said Connection: close, so this is its last request. Say Connection: close in \
                   the answer, then close the connection. The header Connection is a list, and case does not \
                   matter (RFC 9110, section 7.6.1).";
        let mut client = server.connect()?;
        let request =
            format!("GET /echo/last HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
        client.send(request.as_bytes())?;
        let answer = server.answer(&mut client).status(200).body("last");
        answer.closing().because(why)?;
        expect_close(&server, client, why)?;
    }
    Ok(())
}

#[test]
fn closes_after_http_1_0() -> Check {
    let server = Server::start("stage10")?;
    let why = "This client speaks HTTP/1.0 and has not said Connection: keep-alive. For such a client, the \
               answer ends when the connection closes. Close it after the answer.";
    let mut client = server.connect()?;
    client.send(b"GET /echo/old HTTP/1.0\r\n\r\n")?;
    server.answer(&mut client).status(200).body("old").because(why)?;
    expect_close(&server, client, why)
}

#[test]
fn answers_requests_that_were_sent_at_once() -> Check {
    let server = Server::start_with_directory("stage10")?;
    let mut client = server.connect()?;
    client.send_requests(&[
        b"GET /echo/one HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /files/two HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nGET /\r\n",
        b"GET /files/two HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /missing HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /echo/five HTTP/1.1\r\nHost: a\r\n\r\n",
    ])?;
    let answers = [(200, "one"), (201, ""), (200, "GET /\r\n"), (404, ""), (200, "five")];
    for (index, (status, body)) in answers.into_iter().enumerate() {
        let why = format!(
            "Five requests arrived at once. Answer all of them, in their order. This is about answer {} of 5. \
             One read may return more than one request: the bytes after the first request belong to the next.",
            index + 1
        );
        let answer = server.answer(&mut client).status(status);
        (if status == 200 { answer.body(body) } else { answer }).because(&why)?;
    }
    Ok(())
}

#[test]
fn an_unread_body_is_not_the_next_request() -> Check {
    let server = Server::start("stage10")?;
    let body = b"GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /nowhere";
    for (request, pause) in [(post, Duration::ZERO), (post, A_MOMENT), ("GET /", Duration::ZERO)] {
        let mut client = server.connect()?;
        let length = body.len();
        client.send(
            format!("{request} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        )?;
        thread::sleep(pause);
        client.send(body)?;
        client.expect_answers(3); // two are right; a third would be the answer to the body
        let answer = server.answer(&mut client).no_server_error();
        let is_last = answer.is_last();
        answer.because(
            "This request has a body that your server does not need. It must get an answer all the same.",
        )?;
        if is_last {
            continue; // to close the connection is also right
        }
        let why = "The request before this one had a body that looks like a request, and your server did not \
                   need it. Skip the bytes of such a body, or close the connection. Otherwise, a client can \
                   smuggle a request past a proxy, which sees only a body.";
        expect_echo(&server, &mut client, "next", why)?;
    }
    Ok(())
}

#[test]
fn a_client_that_waits_is_not_kept_waiting() -> Check {
    let server = Server::start("stage10")?;
    let mut client = server.connect()?;
    client.send(
        b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    )?;
    server.answer(&mut client).refused().because(
        "There is no resource /nowhere, so refuse the request at once. The client has sent Expect: \
         100-continue, and sends its body only when your server has answered. If your server waits for the body \
         first, both wait forever.",
    )
}

#[test]
fn half_a_request_waits_for_its_other_half() -> Check {
    let server = Server::start("stage10")?;
    let mut client = server.connect()?;
    let second = "GET /echo/two HTTP/1.1\r\nHost: a\r\n\r\n";
    let (half, rest) = second.split_at(12);
    client.expect_answers(2);
    client.send(format!("GET /echo/one HTTP/1.1\r\nHost: a\r\n\r\n{half}").as_bytes())?;
    let why = "One request has arrived, together with half of the next one. Answer the first request at once, \
               and keep the connection open.";
    server.answer(&mut client).status(200).body("one").because(why)?;
    client.send(rest.as_bytes())?;
    let why = "Half of this request arrived together with the request before, and the other half later. Keep \
               the bytes that you have read until you use them.";
    server.answer(&mut client).status(200).body("two").because(why)
}

#[test]
fn an_empty_line_before_a_request_is_skipped() -> Check {
    let server = Server::start("stage10")?;
    let mut client = server.connect()?;
    expect_echo(
        &server,
        &mut client,
        "one",
        "This is the first request on its connection. Answer it as before.",
    )?;
    client.send(b"\r\n")?;
    let why = "There is an empty line before this request. Some clients send one after a body, although it \
               belongs to nothing. Skip at least one empty line before a request line (RFC 9112, section 2.2).";
    expect_echo(&server, &mut client, "two", why)
}

#[test]
fn each_request_has_its_own_headers() -> Check {
    let server = Server::start("stage10")?;
    let mut client = server.connect()?;
    let why = "The body must be the User-Agent of this request.";
    client.send(b"GET /user-agent HTTP/1.1\r\nHost: a\r\nUser-Agent: first\r\n\r\n")?;
    server.answer(&mut client).status(200).body("first").because(why)?;
    let why = "The body must be the User-Agent of this request, not that of the request before on the same \
               connection.";
    client.send(b"GET /user-agent HTTP/1.1\r\nHost: a\r\nUser-Agent: second\r\n\r\n")?;
    server.answer(&mut client).status(200).body("second").because(why)?;
    client.send(b"GET /user-agent HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let answer = server.answer(&mut client).expect("an empty body, or 400", |answer| {
        if answer.body.is_empty() || answer.status >= 400 {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&answer.body).into_owned();
        Err(Failure::new(format!("the body is \"{found}\", but the request has no User-Agent")))
    });
    answer.because(
        "Headers belong to one request only. Begin each request without the headers of the request before.",
    )
}

#[test]
fn every_answer_says_where_it_ends() -> Check {
    let server = Server::start_with_directory("stage10")?;
    let why = "The connection stays open, so every answer must say where it ends. An empty body has a length, \
               too: Content-Length: 0.";
    for path in ["/", "/missing", "/files/missing", "/user-agent"] {
        server.request("GET", path).header("User-Agent: me").send().framed().because(why)?;
    }
    let mut client = server.connect()?;
    client.send(b"POST /files/new HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na")?;
    server.answer(&mut client).status(201).framed().because(why)
}
