//! Everything that a client sends in one connection to a whole server.

#![no_main]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use common::{Args, Decoder, Limits, Request, Response, Service};
use libfuzzer_sys::fuzz_target;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

fuzz_target!(|bytes: &[u8]| {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    let address = *ADDRESS.get_or_init(start);
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    // It may have been answered and closed before all of it was sent.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    } else {
        check(&answers, bytes.windows(5).any(|it| it == b"HEAD "));
    }
});

/// Starts a server that reads bodies and tells how long they are, or does not, if the path says so.
fn start() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    let address = free.expect("a free port");
    let limits = Limits { max_body: 1000, ..Limits::default() };
    let args = Args { port: address.port(), directory: None, limits, quiet: true };
    let service = Service::bind(&args).expect("the port is still free");
    thread::spawn(move || service.run(|request| route(request).unwrap_or_else(Response::failed)));
    address
}

fn route(request: &Request) -> io::Result<Response> {
    if request.path().starts_with("/unread") {
        return Ok(Response::text(request.path()));
    }
    let length = match request.body() {
        Ok(mut body) => io::copy(&mut body, &mut io::sink())?,
        Err(_) => 0, // it has none
    };
    if request.path().starts_with("/stream") {
        return Ok(Response::stream("text/plain", io::repeat(b'x').take(length)));
    }
    Ok(Response::text(length.to_string()))
}

/// Goes from answer to answer, by what they say about their length. An answer to HEAD says it, too, but
/// has no content.
fn check(mut answers: &[u8], asks_for_heads: bool) {
    let all = answers.escape_ascii();
    while !answers.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 20];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(answers);
        let Ok(httparse::Status::Complete(start)) = parsed else { panic!("{parsed:?} in {all}") };
        assert_ne!(response.code, Some(500), "{all}");
        answers = &answers[start..];
        let is_head = asks_for_heads && (answers.is_empty() || answers.starts_with(b"HTTP/1.1 "));
        let field = |name: &str| {
            let mut fields = response.headers.iter();
            fields.find(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value)
        };
        if response.code == Some(100) || is_head {
            continue;
        }
        if field("Transfer-Encoding").is_some() {
            let (mut decoder, mut content) = (Decoder::new(), [0; 64 * 1024]);
            let decoded = decoder.decode(answers, &mut content);
            let (used, _) = decoded.unwrap_or_else(|refused| panic!("{refused} in {all}"));
            assert!(decoder.is_done(), "{all}");
            answers = &answers[used..];
        } else if let Some(length) = field("Content-Length") {
            let length = String::from_utf8_lossy(length).parse::<usize>().expect("a number");
            assert!(length <= answers.len(), "{all}");
            answers = &answers[length..];
        } else {
            return; // up to the end of the connection
        }
    }
}
