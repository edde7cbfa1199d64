//! Stage 2 · Answer every request with 200.
//!
//! A request ends with a blank line. The answer is a status line, `HTTP/1.1 200 OK`, and a blank
//! line too: `HTTP/1.1 200 OK\r\n\r\n`, seventeen characters and two line ends. Then the
//! connection is closed, for nothing else says where the answer ends.

use std::time::Duration;

use harness::{Check, Server};

#[test]
fn answers_200() -> Check {
    let server = Server::start("stage02")?;
    let answer = server.get("/").if_status(
        &[400, 505],
        "The request is in order. If your server looks at the version already, does it see \"HTTP/1.1\" or \
         \"HTTP/1.1\\r\"? A line ends with \\r\\n: cut off both (docs/03-respond-404.md).",
    );
    answer.status(200).because(
        "The request ends with its blank line. Then the answer is due: HTTP/1.1 200 OK, and a blank \
         line.",
    )
}

#[test]
fn answers_one_client_after_another() -> Check {
    let server = Server::start("stage02")?;
    for _ in 0..20 {
        server.get("/").status(200).because(
            "Twenty clients come, one after another, and each wants an answer. Accept in a loop, and take \
             the next client, whatever happened to the last one.",
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
    server.answer(&mut client).status(200).because("Now the request is complete.")
}

#[test]
fn takes_a_long_request() -> Check {
    let server = Server::start("stage02")?;
    let cookie = format!("Cookie: {}", "a".repeat(5000));
    server.request("GET", "/").header(cookie).send().status(200).because(
        "Browsers send several thousand bytes. What is left unread when the connection is closed \
         makes the kernel reset it, and the answer is lost.",
    )
}

#[test]
fn goes_on_after_a_client_that_left_too_early() -> Check {
    let server = Server::start("stage02")?;
    server.connect()?;
    server.connect()?.send(b"GET / HTTP/1.1\r\n")?;
    server.connect()?.reset();
    server.get("/").status(200).because(
        "Three clients left before their request was complete. A read of 0 bytes says that a client has \
         left, and each later read says so again: a loop that waits for more must end. A read that \
         fails ends one connection, never the server.",
    )
}
