//! TLS over sockets: on threads and on loops.

mod clients;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clients::{Pair, Server, ask, begin, client, read_answer, trusting};
use common::Limits;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};

const DRIVERS: [bool; 2] = [true, false];

#[test]
fn each_name_has_its_certificate() {
    for with_threads in DRIVERS {
        let (first, second) =
            (Pair::for_names(&["a.example", "127.0.0.1"]), Pair::for_names(&["*.b.example"]));
        let server = Server::start(&[&first, &second], Limits::default(), with_threads);
        for (name, pair) in [("a.example", &first), ("x.b.example", &second), ("127.0.0.1", &first)]
        {
            let mut stream = begin(&server, name, &trusting(pair));
            assert_eq!(ask(&mut stream, name), 200, "{name}");
        }
        // Whoever wants another name gets the first certificate, and finds that it is not for them.
        let mut tls = client("c.example", &trusting(&first));
        let failed = tls.complete_io(&mut server.connect()).expect_err("it is for a.example");
        assert!(failed.to_string().contains("not valid for name"), "{failed}");
    }
}

#[test]
fn a_request_for_another_host_is_misdirected() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example", "127.0.0.1", "::1"]);
        let server = Server::start(&[&pair], Limits::default(), with_threads);
        for (host, status) in [
            ("a.example", 200),
            ("A.Example:4221", 200),
            ("a.example.", 200),
            ("127.0.0.1:4221", 200),
            ("[::1]:4221", 200),
            ("b.example", 421),
            ("x.a.example", 421),
            ("127.0.0.2", 421),
            ("a_b", 421),
        ] {
            let mut stream = begin(&server, "a.example", &trusting(&pair));
            assert_eq!(ask(&mut stream, host), status, "{host}");
        }
        for (target, status) in [
            ("https://a.example/", 200),
            ("http://a.example:80/", 200),
            ("https://b.example/", 421),
            ("ftp://a.example/", 400),
        ] {
            let mut stream = begin(&server, "a.example", &trusting(&pair));
            let request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("it reads");
            assert_eq!(read_answer(&mut stream).0, status, "{target}");
        }
    }
}

#[test]
fn new_certificates_are_taken_and_wrong_ones_are_not() {
    let pair = Pair::for_names(&["a.example"]);
    let server = Server::start(&[&pair], Limits::default(), false);
    let (old, without_ticket) = (trusting(&pair), trusting(&pair));
    let mut before = begin(&server, "a.example", &old);
    assert_eq!(ask(&mut before, "a.example"), 200);

    let key = fs::read(pair.key()).expect("readable");
    fs::write(pair.key(), fs::read(Pair::for_names(&["a.example"]).key()).expect("readable"))
        .expect("writable");
    server.certificates.reload();
    assert_eq!(ask(&mut begin(&server, "a.example", &old), "a.example"), 200, "it does not match");
    fs::write(pair.certificate(), "nonsense").expect("writable");
    server.certificates.reload();
    assert_eq!(ask(&mut begin(&server, "a.example", &old), "a.example"), 200, "it is none");
    fs::remove_file(pair.certificate()).expect("it is there");
    server.certificates.reload();
    assert_eq!(ask(&mut begin(&server, "a.example", &old), "a.example"), 200, "it is not there");
    fs::write(pair.key(), key).expect("writable");

    pair.renew(&["a.example", "b.example"]);
    server.certificates.reload();
    let new = trusting(&pair);
    assert_eq!(ask(&mut begin(&server, "b.example", &new), "b.example"), 200);
    assert!(
        client("a.example", &without_ticket).complete_io(&mut server.connect()).is_err(),
        "the old one has gone"
    );
    assert_eq!(ask(&mut before, "a.example"), 200, "a conversation goes on");
}

#[test]
fn files_that_change_are_read_again() {
    let pair = Pair::for_names(&["a.example"]);
    let server = Server::start(&[&pair], Limits::default(), true);
    server.certificates.watch().expect("a thread");
    pair.renew(&["b.example"]);
    let new = trusting(&pair);
    let is_new = || client("b.example", &new).complete_io(&mut server.connect()).is_ok();
    assert!(clients::within_a_while(is_new), "nobody has read them");
}

#[test]
fn who_comes_back_has_a_ticket() {
    for with_threads in DRIVERS {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let pair = Pair::for_names(&["a.example"]);
            let server = Server::start(&[&pair], Limits::default(), with_threads);
            let mut config = clients::config(&pair, &[version]);
            config.resumption = Resumption::in_memory_sessions(4);
            config.enable_early_data = true;
            let config = Arc::new(config);
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut stream = begin(&server, "a.example", &config);
                assert_eq!(ask(&mut stream, "a.example"), 200);
                assert!(!stream.conn.is_early_data_accepted(), "a request that can be sent again");
                kinds.push(stream.conn.handshake_kind());
            }
            assert_eq!(
                kinds,
                [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)],
                "{version:?}"
            );
        }
    }
}

#[test]
fn a_handshake_that_stands_still_is_given_up() {
    for with_threads in DRIVERS {
        let limits = Limits { head_timeout: Duration::from_millis(300), ..Limits::default() };
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], limits, with_threads);
        let mut hello = Vec::new();
        client("a.example", &trusting(&pair)).write_tls(&mut hello).expect("there is room");
        let mut slow = server.connect();
        // A byte now and then does not make the time longer.
        let mut bytes = hello.iter();
        slow.set_read_timeout(Some(Duration::from_millis(20))).expect("not zero");
        while let Err(error) = slow.read(&mut [0]) {
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                break; // a reset is an end as well
            }
            let byte = bytes.next().expect("it is given up before the hello is whole");
            let _ = slow.write_all(&[*byte]); // it may just have been closed
        }
    }
}

#[test]
fn handshakes_count_as_connections() {
    for with_threads in DRIVERS {
        let limits = Limits { max_connections: 2, ..Limits::default() };
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], limits, with_threads);
        let config = trusting(&pair);
        let mut busy: Vec<_> = (0..2).map(|_| begin(&server, "a.example", &config)).collect();
        for stream in &mut busy {
            let upload = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
            stream.write_all(upload.as_bytes()).expect("it reads");
            stream.read_exact(&mut [0; 25]).expect("100 Continue");
        }
        let mut third = begin(&server, "a.example", &config);
        let (status, _) = read_answer(&mut third);
        assert_eq!(status, 503, "inside TLS");
        let mut plain = server.connect();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        let _ = plain.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[test]
fn both_directions_may_be_full_at_once() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], Limits::default(), with_threads);
        let mut stream = begin(&server, "a.example", &trusting(&pair));
        // Each request has a large answer, and the next one is sent before that has been read.
        let (body, count) = ("y".repeat(1_000_000), 20);
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.sock.set_nonblocking(true).expect("connected");
        let requests = request.repeat(count);
        let received =
            clients::send_and_receive(&mut stream, requests.as_bytes(), body.len() * count);
        assert!(received > body.len() * count, "{received} bytes have come back");
    }
}

#[test]
fn a_goodbye_is_heard_by_whoever_sends_events() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], Limits::default(), with_threads);
        let config = trusting(&pair);
        let watch = || clients::watch(&server, &config);
        let mut first = watch().expect("there is one place");
        assert!(watch().is_none());
        first.conn.send_close_notify();
        first.flush().expect("it reads");
        drop(first);
        let mut id = 0;
        let has_place = || {
            id += 1;
            server.events.send(id, "changed", "1"); // somebody has to notice
            watch().is_some()
        };
        assert!(clients::within_a_while(has_place), "the first watcher keeps its place");
    }
}

#[test]
fn a_thousand_clients_come_and_go() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let server = Arc::new(Server::start(&[&pair], Limits::default(), with_threads));
        let config: Arc<ClientConfig> = trusting(&pair);
        let threads: Vec<_> = (0..10)
            .map(|number| {
                let (server, config) = (Arc::clone(&server), Arc::clone(&config));
                thread::spawn(move || {
                    for round in 0..100 {
                        match (number + round) % 4 {
                            0 => drop(TcpStream::connect(server.address())),
                            1 => {
                                let mut stream = server.connect();
                                stream.write_all(&[22, 3, 1, 1, 0, 1]).expect("there is room");
                            }
                            _ => {
                                let mut stream = begin(&server, "a.example", &config);
                                assert_eq!(ask(&mut stream, "a.example"), 200);
                            }
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

/// Sends what the session has to send.
fn send_all(stream: &mut clients::Stream) {
    let mut bytes = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut bytes).expect("in memory");
    }
    stream.sock.write_all(&bytes).expect("it reads");
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

#[test]
fn what_comes_after_a_goodbye_is_nothing() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], Limits::default(), with_threads);
        let config = trusting(&pair);
        for _ in 0..4 {
            let mut stream = begin(&server, "a.example", &config);
            let mut bytes = Vec::new();
            stream.conn.send_close_notify();
            stream.conn.write_tls(&mut bytes).expect("in memory");
            bytes.extend_from_slice(b"\x17\x03\x03\x10\x00");
            bytes.extend_from_slice(&[b'x'; 9_000]);
            stream.sock.write_all(&bytes).expect("it reads");
            let _ = stream.sock.read_to_end(&mut Vec::new()).expect("it ends");
        }
        assert_eq!(ask(&mut begin(&server, "a.example", &config), "a.example"), 200);
    }
}

#[test]
fn a_last_request_and_a_goodbye_may_come_with_the_handshake() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let limits = Limits { idle_timeout: Duration::from_secs(600), ..Limits::default() };
        let server = Server::start(&[&pair], limits, with_threads);
        let config = trusting(&pair);
        for _ in 0..5 {
            let mut stream = clients::begin_without_last_message(&server, "a.example", &config);
            stream.conn.writer().write_all(GET).expect("in memory");
            stream.conn.send_close_notify();
            send_all(&mut stream);
            assert_eq!(read_answer(&mut stream).0, 200);
            // The client has said goodbye, and keeps its connection open: the server ends it soon, and well.
            assert_eq!(stream.read(&mut [0]).expect("a goodbye"), 0);
        }
    }
}

#[test]
fn a_goodbye_after_the_last_answer_does_not_hurt() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], Limits::default(), with_threads);
        let config = trusting(&pair);
        for _ in 0..20 {
            let mut stream = begin(&server, "a.example", &config);
            let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
            stream.write_all(request).expect("it reads");
            assert_eq!(read_answer(&mut stream).0, 200);
            stream.conn.send_close_notify();
            send_all(&mut stream);
            let ended = stream.sock.read_to_end(&mut Vec::new());
            assert!(ended.is_ok(), "the connection ends with a reset");
        }
    }
}

#[test]
fn an_unfinished_handshake_makes_room_for_others() {
    for with_threads in DRIVERS {
        let head_timeout = Duration::from_secs(600); // so that they do not go by themselves
        let limits = Limits { max_connections: 2, head_timeout, ..Limits::default() };
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], limits, with_threads);
        let config = trusting(&pair);
        let begun: Vec<_> = (0..2)
            .map(|_| {
                let mut stream = server.connect();
                stream.write_all(&[22]).expect("there is room");
                stream
            })
            .collect();
        let is_served = || ask(&mut begin(&server, "a.example", &config), "a.example") == 200;
        assert!(clients::within_a_while(is_served), "there is no room");
        drop(begun);
    }
}

#[test]
fn who_has_to_make_room_hears_a_goodbye() {
    for with_threads in DRIVERS {
        let limits = Limits { max_connections: 1, ..Limits::default() };
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], limits, with_threads);
        let config = trusting(&pair);
        let mut idle = begin(&server, "a.example", &config);
        assert_eq!(ask(&mut idle, "a.example"), 200);
        let is_served = || ask(&mut begin(&server, "a.example", &config), "a.example") == 200;
        assert!(clients::within_a_while(is_served), "there is no room");
        assert_eq!(idle.read(&mut [0]).expect("a goodbye"), 0);
    }
}

#[test]
fn a_handshake_ends_with_the_certificate_with_which_it_began() {
    for with_threads in DRIVERS {
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], Limits::default(), with_threads);
        let config = trusting(&pair);
        let mut stream = clients::begin_without_last_message(&server, "a.example", &config);
        pair.renew(&["b.example"]);
        server.certificates.reload();
        send_all(&mut stream);
        assert_eq!(ask(&mut stream, "a.example"), 200);
        assert_eq!(ask(&mut stream, "b.example"), 421);
    }
}

#[test]
fn a_watcher_that_takes_nothing_is_let_go() {
    for with_threads in DRIVERS {
        let limits = Limits { send_timeout: Duration::from_millis(500), ..Limits::default() };
        let pair = Pair::for_names(&["a.example"]);
        let server = Server::start(&[&pair], limits, with_threads);
        let config = trusting(&pair);
        let watch = || clients::watch(&server, &config);
        let first = watch().expect("there is one place");
        // More than a socket takes; and each is less than the session takes, so that nothing waits outside of it.
        let text = "x".repeat(50_000);
        (1..=400).for_each(|id| server.events.send(id, "large", &text));
        let mut id = 400;
        let has_place = || {
            id += 1;
            server.events.send(id, "small", "x"); // which gives it no more time
            watch().is_some()
        };
        assert!(clients::within_a_while(has_place), "it keeps its place");
        drop(first);
    }
}
