//! Stage 2 · Answer every request with 200.
//!
//! A request ends with a blank line. The answer is a status line, `HTTP/1.1 200 OK`, and a blank line:
//! `HTTP/1.1 200 OK\r\n\r\n`. Then the server closes the connection, because nothing else says where the
//! answer ends.

use std::time::Duration;

use harness::{Check, Failure, Server};

#[test]
fn answers_200() -> Check {
    let server = Server::start("stage02")?;
    let answer = server.get("/").if_status(
        &[400, 505],
        "The request is valid. Does your server read its version as \"HTTP/1.1\\r\"? A line ends with \\r\\n: \
         remove both bytes (docs/03-respond-404.md).",
    );
    answer.status(200).because(
        "The request ends with a blank line. When your server has read it, it must answer with the line \
         HTTP/1.1 200 OK and a blank line.",
    )
}

#[test]
fn answers_one_client_after_another() -> Check {
    let server = Server::start("stage02")?;
    for _ in 0..20 {
        server.get("/").status(200).because(
            "20 clients connect, one after another, and each of them must get an answer. Accept clients in a \
             loop. Whatever happens to one client, accept the next one.",
        )?;
    }
    Ok(())
}

#[test]
fn reads_the_request_before_it_answers() -> Check {
    let server = Server::start("stage02")?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")?;
    client.expect_silence(Duration::from_millis(300)).map_err(|failure| server.finish(failure))?;
    client.send(b"\r\n")?;
    server
        .answer(&mut client)
        .status(200)
        .because("The blank line has arrived, so the request is complete. Answer it.")
}

#[test]
fn takes_a_long_request() -> Check {
    let server = Server::start("stage02")?;
    let cookie = format!("Cookie: {}", "a".repeat(5000));
    server.request("GET", "/").header(cookie).send().status(200).because(
        "This request has a header of 5,000 bytes, and browsers send requests as long as this. Read up to the \
         blank line before you answer.",
    )
}

#[test]
fn goes_on_after_a_client_that_left_too_early() -> Check {
    let server = Server::start("stage02")?;
    server.connect()?;
    server.connect()?.send(b"GET / HTTP/1.1\r\n")?;
    server.connect()?.reset();
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")?;
    let received = client.leave().map_err(|failure| server.finish(failure))?;
    if received.starts_with(b"HTTP/1.1 200") {
        return Err(Failure::new("your server answers 200 to half a request")
            .bytes(b"GET / HTTP/1.1\r\nHost: a\r\n", &received)
            .why("The client left before the blank line, so there is no request. Close the connection, or answer \
                  400.")
            .read(server.chapter()));
    }
    server.get("/").status(200).because(
        "Three clients left before their requests were complete. When a client has left, every read returns 0 \
         bytes at once. A loop that waits for more bytes must end then. If a read fails, close that connection \
         and keep running.",
    )
}
