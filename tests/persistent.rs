//! Problems that persistent connections must not cause: bytes of a body that are read as a request, endless
//! waiting, needless lines in the log.

use std::thread;
use std::time::Duration;

use harness::{Check, Failure, Server};

/// The stages that keep connections open.
const PERSISTENT: [&str; 5] = ["stage10", "stage11", "stage12", "stage13", "stage22"];

/// Longer than the idle timeout.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs a check on each of these stages.
fn on_each(check: impl Fn(&Server) -> Check + Sync) -> Check {
    thread::scope(|scope| {
        let check = &check;
        let run = |stage: &'static str| {
            // Two seconds are long enough to see that the server closes an idle connection.
            let option = if stage < "stage12" { "--timeout" } else { "--idle-timeout" };
            scope.spawn(move || check(&Server::start_own_with_args(stage, &[option, "2"])?))
        };
        let runs: Vec<_> = PERSISTENT.into_iter().map(run).collect();
        runs.into_iter().try_for_each(|run| run.join().expect("no check panics"))
    })
}

#[test]
fn an_idle_connection_is_closed_quietly() -> Check {
    on_each(|server| {
        let silent = server.connect()?;
        let mut idle = server.connect()?;
        idle.send(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n")?;
        server.answer(&mut idle).status(200).because("This is an ordinary request.")?;
        silent.expect_close(TIME_LIMIT)?;
        idle.expect_close(TIME_LIMIT)?;
        let log = server.output();
        let about_clients = log.lines().filter(|line| !line.contains("serving on"));
        if about_clients.count() != 2 {
            return Err(Failure::new("the log should have two lines").output(&log));
        }
        Ok(())
    })
}

#[test]
fn http_1_0_persists_if_it_asks_for_it() -> Check {
    on_each(|server| {
        let mut client = server.connect()?;
        for text in ["one", "two"] {
            let request = format!("GET /echo/{text} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
            client.send(request.as_bytes())?;
            let answer = server.answer(&mut client).status(200).body(text);
            answer
                .header("Connection", "keep-alive")
                .because("A client of HTTP/1.0 must be told that the connection stays open.")?;
        }
        client.send(b"GET /echo/three HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n")?;
        server.answer(&mut client).closing().because("If Connection lists both, close wins.")?;
        client.expect_close(TIME_LIMIT)
    })
}

#[test]
fn a_thousand_requests_may_be_pipelined() -> Check {
    on_each(|server| {
        let mut client = server.connect()?;
        let requests: Vec<_> = (0..1000)
            .map(|number| format!("GET /echo/{number} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes())
            .collect();
        client.send_requests(&requests.iter().map(|request| &request[..]).collect::<Vec<_>>())?;
        for number in 0..1000 {
            let answer = server.answer(&mut client).status(200).body(number.to_string());
            answer.because("The answers must be in the order of the requests.")?;
        }
        Ok(())
    })
}

#[test]
fn a_body_that_is_too_large_to_skip_ends_the_connection() -> Check {
    on_each(|server| {
        let mut client = server.connect()?;
        client.send(b"POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")?;
        server
            .answer(&mut client)
            .status(404)
            .closing()
            .because("The body is too large to skip.")?;
        client.expect_close(TIME_LIMIT)
    })
}

#[test]
fn a_body_that_may_never_come_ends_the_connection() -> Check {
    on_each(|server| {
        let mut client = server.connect()?;
        client.send(
            b"POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
              Expect: 100-continue\r\n\r\n",
        )?;
        let answer = server.answer(&mut client).status(404).closing();
        answer.because("A refused client may send its body or not.")?;
        client.expect_close(TIME_LIMIT)
    })
}

#[test]
fn nothing_after_a_refused_request_is_answered() -> Check {
    on_each(|server| {
        let mut client = server.connect()?;
        client.send_requests(&[
            b"GET /echo/one HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /echo/two HTTP/1.1\r\nHost : a\r\n\r\n",
        ])?;
        server.answer(&mut client).status(200).because("The first request is valid.")?;
        let answer = server.answer(&mut client).status(400).closing();
        answer.because("The server cannot know where a malformed request ends.")?;
        client.send(b"GET /echo/three HTTP/1.1\r\nHost: a\r\n\r\n")?;
        client.expect_close(TIME_LIMIT)?;
        if server.output().contains("three") {
            return Err(Failure::new("the server read a request after a refused one"));
        }
        Ok(())
    })
}

#[test]
fn an_upload_is_followed_by_the_next_request() -> Check {
    on_each(|server| {
        let mut client = server.connect()?;
        let body = vec![b'a'; 300_000];
        for _ in 0..3 {
            let head = b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n";
            client.send_requests(&[
                &[head, &body[..]].concat(),
                b"GET /files/a HTTP/1.1\r\nHost: a\r\n\r\n",
            ])?;
            server.answer(&mut client).status(201).because("The body is complete. Store it.")?;
            let answer = server.answer(&mut client).status(200).body(&body);
            answer.because("This request followed the body immediately.")?;
        }
        Ok(())
    })
}
