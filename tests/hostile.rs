//! Clients that no stage may fail with: clients that are silent, never stop sending, send nonsense, or leave.

use std::env;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, Server, TIMEOUT};

/// The stages that answer.
const ANSWERING: [&str; 13] = [
    "stage02", "stage03", "stage04", "stage05", "stage06", "stage07", "stage08", "stage09",
    "stage10", "stage11", "stage12", "stage13", "stage22",
];

/// Longer than the servers' own timeouts. They are 2 seconds here for each read and each write, of which a block
/// of a file may need several, and 2 seconds for the lingering close.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A little less than the time that a server gives a client.
const PROMISED: Duration = Duration::from_millis(1_900);

/// Whether the server in `SERVER` is looked at, as if it were stage 22, instead of the stages.
fn is_chosen() -> bool {
    env::var_os("SERVER").is_some()
}

/// Runs a check on each of these stages, at the same time.
fn on_each(stages: &[&'static str], check: impl Fn(&Server) -> Check + Sync) -> Check {
    thread::scope(|scope| {
        let check = &check;
        let stages = stages.iter().filter(|stage| !is_chosen() || **stage == "stage22");
        let runs: Vec<_> = stages.map(|stage| scope.spawn(move || check(&start(stage)?))).collect();
        runs.into_iter().try_for_each(|run| run.join().expect("no check panics"))
    })
}

/// Starts a stage with timeouts of two seconds.
fn start(stage: &'static str) -> Result<Server, Failure> {
    let args: &[&str] = match stage {
        "stage12" | "stage13" | "stage22" => {
            &["--idle-timeout", "2", "--head-timeout", "2", "--body-timeout", "2"]
        }
        _ => &["--timeout", "2"],
    };
    match is_chosen() {
        true => Server::start_with_args(stage, args),
        false => Server::start_own_with_args(stage, args),
    }
}

/// Expects that the server answers the next client.
fn expect_service(server: &Server) -> Check {
    server
        .get("/")
        .status(200)
        .because("The client before this one was hostile. The server must still answer.")
}

/// Waits until the server's log contains a text.
fn expect_log(server: &Server, text: &str) -> Check {
    expect_one_in_log(server, &[text])
}

/// Waits until the server's log contains one of these texts.
fn expect_one_in_log(server: &Server, texts: &[&str]) -> Check {
    let start = Instant::now();
    while !texts.iter().any(|text| server.output().contains(text)) {
        if start.elapsed() > TIME_LIMIT {
            return Err(Failure::new(format!("the log does not contain {texts:?}"))
                .output(&server.output()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn an_empty_connection_is_nothing_special() -> Check {
    on_each(&ANSWERING, |server| {
        server.connect()?.leave()?;
        server.connect()?.reset();
        expect_service(server)
    })
}

#[test]
fn an_empty_connection_is_logged_until_connections_persist() -> Check {
    on_each(&ANSWERING[..8], |server| {
        server.connect()?.leave()?;
        expect_log(server, "left")
    })
}

#[test]
fn noise_is_survived() -> Check {
    let tls_hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0xa5; 500]].concat();
    let noises =
        [&tls_hello[..], b"\0", b"\r\n\r\n", b"\r\n\r\n\r\n\r\n", b"\xff\xfe \xfd\r\n\r\n"];
    on_each(&ANSWERING, |server| {
        for noise in noises {
            let mut client = server.connect()?;
            client.send(noise)?;
            client.leave()?;
        }
        expect_service(server)
    })
}

#[test]
fn noise_is_refused_at_once_from_stage_4_on() -> Check {
    on_each(&ANSWERING[2..], |server| {
        for noise in [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rHost"] {
            server.send(noise).status(400).because("No request can begin like this.")?;
        }
        expect_service(server)
    })
}

#[test]
fn a_head_without_end_is_cut() -> Check {
    on_each(&ANSWERING, |server| {
        let mut client = server.connect()?;
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        for number in 0..5000 {
            let _ = write!(head, "X-{number}: {number}\r\n");
        }
        client.send(&head)?;
        client.leave()?;
        expect_service(server)
    })
}

#[test]
fn heads_and_targets_have_limits_from_stage_4_on() -> Check {
    on_each(&ANSWERING[2..], |server| {
        let many = "A: b\r\n".repeat(101);
        let large = format!("A: {}\r\n", "a".repeat(17_000));
        for fields in [many, large] {
            let request = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            server.send(request.as_bytes()).status(431).because("The head is too large.")?;
        }
        let path = format!("/{}", "a".repeat(9_000));
        server.get(&path).status(414).because("The target is too long.")
    })
}

/// Expects that the server closes the connection of a client that stops in the middle of its head, and that the
/// log says why.
fn expect_to_be_given_up(server: &Server, log: &str) -> Check {
    let mut client = server.connect()?;
    let start = Instant::now();
    client.send(b"GET / HTTP/1.1\r\nHost:")?;
    client.expect_close(TIME_LIMIT)?;
    expect_service(server)?;
    expect_log(server, log)?;
    if start.elapsed() < PROMISED {
        return Err(Failure::new("the server closed the connection too early"));
    }
    Ok(())
}

#[test]
fn a_client_that_stops_talking_is_given_up() -> Check {
    let (early, late) = ANSWERING.split_at(9);
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            on_each(late, |server| expect_to_be_given_up(server, "\" 408 ")) // from stage 11 on
        });
        on_each(early, |server| expect_to_be_given_up(server, "said nothing for too long"))?;
        late.join().expect("no check panics")
    })
}

#[test]
fn a_body_that_nobody_wants_is_not_waited_for_forever() -> Check {
    for stage in ["stage12", "stage13", "stage22"] {
        let server = Server::start_own_with_args(stage, &["--body-timeout", "1"])?;
        let mut client = server.connect()?;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")?;
        let start = Instant::now();
        while !server.output().contains("too long to arrive") {
            if start.elapsed() > TIME_LIMIT {
                return Err(Failure::new(format!("{stage} is still waiting for the body")));
            }
            let _ = client.send(b"x"); // the server may have closed the connection already
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

#[test]
fn a_client_that_stops_reading_is_given_up() -> Check {
    on_each(&["stage07", "stage08", "stage09"], |server| {
        std::fs::File::create(server.directory().join("large"))
            .and_then(|file| file.set_len(100_000_000))
            .map_err(|error| {
                Failure::new(format!("this check cannot prepare its files: {error}"))
            })?;
        let mut deaf = server.connect()?;
        deaf.shrink_receive_buffer();
        deaf.send(b"GET /files/large HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut gone = server.connect()?;
        gone.send(b"GET /files/large HTTP/1.1\r\nHost: a\r\n\r\n")?;
        gone.reset();
        expect_service(server)?;
        expect_log(server, "took nothing for too long")
    })
}

#[test]
fn an_answer_is_not_lost_when_the_request_was_not_read_to_its_end() -> Check {
    on_each(&ANSWERING, |server| {
        for _ in 0..20 {
            let request = server.request("POST", "/").body([b'x'; 300_000]);
            let answer = request.send().no_server_error();
            answer.because(
                "The answer must arrive, although the server did not read the whole body.",
            )?;
        }
        Ok(())
    })
}

#[test]
fn each_request_is_logged_on_one_line() -> Check {
    on_each(&ANSWERING, |server| {
        server.get("/?a=%22b").status(200).because("The path is /.")?;
        expect_log(server, "127.0.0.1:")?;
        expect_log(server, "\"GET /?a=%22b HTTP/1.1\" 200")
    })
}

#[test]
fn malformed_requests_get_their_status_from_stage_4_on() -> Check {
    let table = [
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("GET  / HTTP/1.1\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\n\r\n", 400),
        ("GET /echo/%ff HTTP/1.1\r\n\r\n", 400),
        ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /echo%2Fx HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /echo/a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /echo/[a]|^{}\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /echo/\\ HTTP/1.1\r\n\r\n", 400),
        ("GET /echo/<a> HTTP/1.1\r\n\r\n", 400),
        ("GET /echo/a#b HTTP/1.1\r\n\r\n", 400),
        ("GET nothing HTTP/1.1\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\n\r\n", 400),
        ("GET http:///a HTTP/1.1\r\n\r\n", 400),
        ("GET /\"a HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nA\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nA: \u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("\r\nGET http://localhost/?q HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ];
    on_each(&ANSWERING[2..], |server| {
        for (request, status) in table {
            server
                .send(request.as_bytes())
                .status(status)
                .because("This is the status that RFC 9112 asks for.")?;
        }
        Ok(())
    })
}

#[test]
fn lengths_that_contradict_each_other_are_refused_from_stage_4_on() -> Check {
    on_each(&ANSWERING[2..], |server| {
        for (fields, status) in [
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: five\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: gzip\r\n", 501),
        ] {
            for method in ["GET /", "POST /files/a"] {
                let request = format!("{method} HTTP/1.1\r\n{fields}\r\nhello");
                server.send(request.as_bytes()).status(status).because("RFC 9112, section 6.3.")?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_body_needs_a_length_that_can_be_stored() -> Check {
    on_each(
        &["stage08", "stage09", "stage10", "stage11", "stage12", "stage13", "stage22"],
        |server| {
            let why = "RFC 9110, sections 15.5.12 and 15.5.14.";
            server.send(b"POST /files/a HTTP/1.1\r\nHost: a\r\n\r\n").status(411).because(why)?;
            for length in ["8589934593", "99999999999999999999999"] {
                let request = format!(
                    "POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
                );
                server.send(request.as_bytes()).status(413).because(why)?;
            }
            Ok(())
        },
    )
}

#[test]
fn sends_100_continue_only_when_expected() -> Check {
    on_each(
        &["stage08", "stage09", "stage10", "stage11", "stage12", "stage13", "stage22"],
        |server| {
            let mut client = server.connect()?;
            client
            .send(b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")?;
            client.expect_interim(100)?;
            client.send(b"hello")?;
            server
                .answer(&mut client)
                .status(201)
                .because("The client has sent its body after 100 Continue.")?;
            let mut old = server.connect()?;
            old.send(
                b"POST /files/b HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            )?;
            old.expect_silence(Duration::from_millis(50))?;
            old.send(b"hello")?;
            server.answer(&mut old).status(201).because("HTTP/1.0 has no 100 Continue.")
        },
    )
}

#[test]
fn an_answer_to_head_has_no_body_from_stage_5_on() -> Check {
    on_each(&ANSWERING[3..], |server| {
        for target in ["/echo/abc", "/%zz", "/missing"] {
            let answer = server.request("HEAD", target).send().answer()?;
            assert!(answer.raw.ends_with(b"\r\n\r\n"), "{answer:?}");
            let length = answer.header("Content-Length").map(str::len);
            assert!(length.is_some(), "{answer:?}");
        }
        Ok(())
    })
}

#[test]
fn every_answer_of_stages_5_to_10_is_framed() -> Check {
    on_each(&ANSWERING[3..9], |server| {
        for request in ["GET / HTTP/1.1", "GET /echo/a HTTP/1.1", "GET /x HTTP/1.0", "nonsense"] {
            server
                .send(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes())
                .closing()
                .framed()
                .no_header("Date")
                .no_header("Server")
                .because(
                    "The chapters require this. The challenge does not accept Date and Server.",
                )?;
        }
        Ok(())
    })
}

#[test]
fn a_client_that_goes_on_sending_still_gets_its_answer() -> Check {
    on_each(&ANSWERING, |server| {
        let mut client = server.connect()?;
        client.send(b"POST /missing HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            client.send(b"one more piece")?; // for longer than the server's timeout
            thread::sleep(Duration::from_millis(100));
        }
        server
            .answer(&mut client)
            .no_server_error()
            .because("The client keeps sending, but must get its answer.")
    })
}

#[test]
fn a_log_line_cannot_be_forged() -> Check {
    on_each(&ANSWERING[3..], |server| {
        // The log of stage 18 and later escapes all that is not plain in one way.
        server.get("/?\"200").answer()?;
        let quoted = [r#""GET /?\"200 HTTP/1.1" "#, r#""GET /?\x22200 HTTP/1.1" "#];
        expect_one_in_log(server, &quoted)?;
        server.send(b"GET /\x1b[2J HTTP/1.1\r\n\r\n").answer()?;
        let refused = [r#""GET /\x1b[2J HTTP/1.1" 400"#, r#""GET /\x1B[2J HTTP/1.1" 400"#];
        expect_one_in_log(server, &refused)
    })
}

#[test]
fn interrupted_uploads_leave_nothing() -> Check {
    on_each(
        &["stage08", "stage09", "stage10", "stage11", "stage12", "stage13", "stage22"],
        |server| {
            let mut clients = Vec::new();
            for _ in 0..20 {
                let mut client = server.connect()?;
                client.send(b"POST /files/a HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhalf")?;
                clients.push(client);
            }
            clients.into_iter().for_each(|client| client.reset());
            let start = Instant::now();
            let is_empty =
                || std::fs::read_dir(server.directory()).is_ok_and(|mut it| it.next().is_none());
            // Wait until an upload has ended: before, the directory may be empty because no upload has begun.
            expect_log(server, "POST")?;
            while !is_empty() {
                if start.elapsed() > TIMEOUT {
                    return Err(Failure::new("an interrupted upload left a file behind"));
                }
                thread::sleep(Duration::from_millis(5));
            }
            expect_service(server)
        },
    )
}
