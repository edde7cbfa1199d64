//! A client, and servers that answer in all ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Answer, App, Call, HttpClient, Limits, Listener, NotAnswered, Refused, Response, Service,
    read_answer,
};
use pretty_assertions::assert_eq;
use proptest::prelude::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

const GET: Call = Call { method: "GET", target: "/", fields: &[], body: b"" };

/// A server that gives each connection to this function, one after another.
fn serve(talk: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || listener.incoming().flatten().for_each(talk));
    address
}

/// Reads a head, and answers with these bytes.
fn answer(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    stream.write_all(bytes).is_ok()
}

fn client(address: SocketAddr) -> HttpClient {
    HttpClient::new(address.to_string(), LONG, 1_000_000)
}

fn unknown(outcome: Result<Answer, NotAnswered>) -> std::io::Error {
    match outcome {
        Err(NotAnswered::Unknown(error)) => error,
        other => panic!("the outcome should be unknown: {other:?}"),
    }
}

#[test]
fn it_talks_to_our_own_server() {
    let mut app = App::new();
    app.get("/hello", |_| Ok(Response::text("hello")));
    app.get("/stream", |_| Ok(Response::stream("text/plain", std::io::repeat(b'x').take(300_000))));
    app.post("/echo", |request| {
        let mut body = Vec::new();
        request.body()?.read_to_end(&mut body)?;
        Ok(Response::text(body))
    });
    let service = Service::new(Listener::bind(0).expect("a free port"), Limits::default())
        .expect("a service")
        .quiet(true);
    let (address, stop) = (service.address(), service.stopper());
    let running = thread::spawn(move || app.run(service));
    let client = Arc::new(client(address));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                for round in 0..50 {
                    let body = format!("{number} {round}");
                    let echo =
                        Call { method: "POST", target: "/echo", body: body.as_bytes(), ..GET };
                    let answer = client.call(&echo).expect("it answers");
                    assert_eq!((answer.status, answer.body), (200, body.into_bytes()));
                    let stream =
                        client.call(&Call { target: "/stream", ..GET }).expect("it answers");
                    assert_eq!(stream.body.len(), 300_000);
                    let nothing =
                        client.call(&Call { target: "/nothing", ..GET }).expect("it answers");
                    assert_eq!(nothing.status, 404);
                    let head = Call { method: "HEAD", target: "/hello", ..GET };
                    assert!(client.call(&head).expect("it answers").body.is_empty());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    drop(client);
    stop();
    assert!(running.join().expect("no panic").expect("the routes are right"));
}

#[test]
fn connections_are_used_again_when_nothing_speaks_against_it() {
    for (text, is_kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", true),
        (
            "HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nhi", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and something that nobody has asked for",
            false,
        ),
    ] {
        let mut connections = 0;
        let address = serve(move |mut stream| {
            connections += 1;
            while answer(&mut stream, text.replace("hi", &format!("h{connections}")).as_bytes()) {}
        });
        let client = client(address);
        let ask = || String::from_utf8(client.call(&GET).expect("it answers").body).expect("text");
        let second = if is_kept { "h1" } else { "h2" };
        assert_eq!((ask(), ask()), ("h1".to_owned(), second.to_owned()), "{text}");
    }
}

#[test]
fn a_connection_that_the_server_has_closed_is_not_used() {
    let (closed, is_closed) = channel();
    let address = serve(move |mut stream| {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        drop(stream);
        let _ = closed.send(());
    });
    let client = client(address);
    for _ in 0..20 {
        assert_eq!(client.call(&GET).expect("a new connection").status, 200);
        is_closed.recv_timeout(LONG).expect("the server closes it");
    }
}

#[test]
fn a_body_may_go_on_to_the_end_of_the_connection() {
    let address = serve(|mut stream| {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nall that comes");
    });
    assert_eq!(client(address).call(&GET).expect("it answers").body, b"all that comes");
}

#[test]
fn what_is_cut_off_or_wrong_is_no_answer() {
    for text in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        &"HTTP/1.1 103 Early\r\n\r\n".repeat(100),
        &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
    ] {
        let sent = text.to_owned();
        let address = serve(move |mut stream| {
            answer(&mut stream, sent.as_bytes());
        });
        let error = unknown(client(address).call(&GET));
        let is_expected = Refused::inside(&error).is_some_and(|it| it.status == 502)
            || matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
        assert!(is_expected, "{text:?}: {error}");
    }
}

#[test]
fn an_answer_that_is_too_large_is_given_up() {
    let address = serve(|mut stream| {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"4\r\nmore\r\n").is_ok() {}
    });
    let client = HttpClient::new(address.to_string(), LONG, 1_000);
    let error = unknown(client.call(&GET));
    assert_eq!(Refused::inside(&error).map(|it| it.status), Some(502), "{error}");
}

#[test]
fn nobody_is_waited_for_forever() {
    let silent = serve(|mut stream| {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20)); // each byte comes in time, and all of them do not
        }
    });
    let client = HttpClient::new(silent.to_string(), Duration::from_millis(200), 1_000_000);
    let start = Instant::now();
    assert_eq!(unknown(client.call(&GET)).kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < LONG);
}

#[test]
fn what_was_not_sent_can_be_tried_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let client = client(address);
    assert!(matches!(client.call(&GET), Err(NotAnswered::Unsent(_))));
    let nowhere = HttpClient::new("no such name:1", LONG, 1_000);
    assert!(matches!(nowhere.call(&GET), Err(NotAnswered::Unsent(_))));
}

#[test]
fn a_stream_is_read_as_it_comes() {
    let address = serve(|mut stream| {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n");
        // The second part comes when the first one has been read, and somebody says so.
        let _ = stream.read(&mut [0]);
        let _ = stream.write_all(b"2\r\nb\n\r\n0\r\n\r\n");
    });
    let client = client(address);
    let mut incoming = client.begin(&GET).expect("it answers");
    let mut line = [0; 2];
    incoming.read_exact(&mut line).expect("a line");
    assert_eq!((incoming.status, &line), (200, b"a\n"));
    incoming.stream().expect("a descriptor").write_all(b"!").expect("connected");
    let mut rest = String::new();
    incoming.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "b\n");
}

/// Gives its bytes in pieces of these lengths, again and again.
struct Pieces<'p> {
    bytes: &'p [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'p, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let most = self.lengths.next().copied().unwrap_or(1).min(room.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(most);
        room[..most].copy_from_slice(now);
        self.bytes = later;
        Ok(most)
    }
}

proptest! {
    #[test]
    fn however_an_answer_arrives_it_is_the_same(
        body in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1..50usize, 1..10),
        lengths in prop::collection::vec(1..40usize, 1..6),
        framing in 0..3,
        cut in 0..400usize,
    ) {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        match framing {
            0 => bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes()),
            1 => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
            _ => bytes.extend_from_slice(b"X: y\r\n\r\n"),
        }
        if framing == 1 {
            let mut rest = &body[..];
            for size in sizes.iter().cycle() {
                let (chunk, later) = rest.split_at((*size).min(rest.len()));
                if chunk.is_empty() {
                    break;
                }
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
                rest = later;
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&body);
        }
        let pieces = |bytes| Pieces { bytes, lengths: lengths.iter().cycle() };
        let whole = read_answer(pieces(&bytes), "GET").expect("it is whole");
        prop_assert_eq!(&whole.body, &body);
        // What is cut off is no answer, unless nothing but the end of the connection ends it.
        if cut < bytes.len() && framing < 2 {
            prop_assert!(read_answer(pieces(&bytes[..cut]), "GET").is_err());
        }
    }
}
