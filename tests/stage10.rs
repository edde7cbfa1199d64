//! Stage 10 · Answer many requests on one connection.
//!
//! After an answer the connection stays open, and the next request may come on it: unless one of
//! the two has said `Connection: close`, or the request was HTTP/1.0. So every answer has to say
//! where it ends, and every request has to be read to its end.

use std::thread;
use std::time::Duration;

use harness::{Check, Connection, PATIENCE, Server};

/// Long enough for a server to answer a head before its body comes.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Asks for a text on a connection that is open, and expects it.
fn expect_echo(server: &Server, client: &mut Connection, text: &str, why: &str) -> Check {
    client.send(format!("GET /echo/{text} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    server.answer(client).status(200).body(text).because_in_any_case(why)
}

/// Expects that the server closes the connection, now that it has answered.
fn expect_close(server: &Server, client: Connection, why: &str) -> Check {
    let closed = client.expect_hang_up(PATIENCE);
    closed.map_err(|failure| server.finish(failure.because(why)))
}

#[test]
fn answers_many_requests_on_one_connection() -> Check {
    let server = Server::start("stage10")?;
    let mut client = server.connect()?;
    expect_echo(&server, &mut client, "one", "This is the first request on its connection.")?;
    let why = "This is not the first request on its connection, and the ones before were answered. In \
               HTTP/1.1 a connection stays open after an answer, unless one side has said \
               Connection: close. Your server need not say it (RFC 9112, section 9.3).";
    for text in ["two", "three", "four"] {
        expect_echo(&server, &mut client, text, why)?;
    }
    client.send(b"GET /missing HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    server.answer(&mut client).status(404).because_in_any_case(why)?;
    let why = "The request before this one was for /missing, and got 404. That is no reason to close \
               the connection.";
    expect_echo(&server, &mut client, "six", why)
}

#[test]
fn keeps_several_connections_side_by_side() -> Check {
    let server = Server::start("stage10")?;
    let mut clients = (0..8).map(|_| server.connect()).collect::<Result<Vec<_>, _>>()?;
    let why = "Eight clients have a connection each, and ask in turn, three times. Each connection \
               has its own requests and answers, and stays open between them.";
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
        let why = "The client has said close: this is its last request. The answer says so, too, and \
                   then the connection is closed. Connection is a list, and upper and lower case are \
                   the same (RFC 9110, section 7.6.1).";
        let mut client = server.connect()?;
        let request =
            format!("GET /echo/last HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
        client.send(request.as_bytes())?;
        let answer = server.answer(&mut client).status(200).body("last");
        answer.closing().because_in_any_case(why)?;
        expect_close(&server, client, why)?;
    }
    Ok(())
}

#[test]
fn closes_after_http_1_0() -> Check {
    let server = Server::start("stage10")?;
    let why = "A client of HTTP/1.0 takes the end of the connection for the end of the answer, \
               unless it says Connection: keep-alive.";
    let mut client = server.connect()?;
    client.send(b"GET /echo/old HTTP/1.0\r\n\r\n")?;
    server.answer(&mut client).status(200).body("old").because_in_any_case(why)?;
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
            "Five requests came at once, and each gets its answer, in their order. This is about \
             answer {} of 5. One read may return more than one request: what comes after the first \
             belongs to the next.",
            index + 1
        );
        let answer = server.answer(&mut client).status(status);
        (if status == 200 { answer.body(body) } else { answer }).because_in_any_case(&why)?;
    }
    Ok(())
}

#[test]
fn a_body_that_nobody_reads_is_not_the_next_request() -> Check {
    let server = Server::start("stage10")?;
    let body = b"GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let head =
        format!("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    for pause in [Duration::ZERO, A_MOMENT] {
        let mut client = server.connect()?;
        client.send(head.as_bytes())?;
        thread::sleep(pause);
        client.send(body)?;
        client.expect_answers(3); // there should be two, and the third is that to the body
        let answer = server.answer(&mut client).refused();
        let is_last = answer.is_last();
        answer.because("There is nothing at /nowhere to POST to.")?;
        if is_last {
            continue; // the other way to be rid of a body
        }
        let why = "The request before this one had a body that looks like a request, and no part of \
                   your server wanted it. Skip its bytes, or close the connection: otherwise a \
                   client can slip in requests that a proxy before your server takes for a body.";
        expect_echo(&server, &mut client, "next", why)?;
    }
    Ok(())
}

#[test]
fn every_answer_says_where_it_ends() -> Check {
    let server = Server::start_with_directory("stage10")?;
    let mut client = server.connect()?;
    let why = "The connection stays open, so its end cannot be the end of the answer. An empty body \
               has a length, too: Content-Length: 0.";
    for path in ["/", "/missing", "/files/missing", "/user-agent"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
        server.answer(&mut client).framed().because_in_any_case(why)?;
    }
    client.send(b"POST /files/new HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na")?;
    server.answer(&mut client).status(201).framed().because_in_any_case(why)
}
