//! What the framework of part four does beyond the checks: behind a proxy that is trusted, and in the log about what never
//! reaches a handler.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Background, Server, Stage, Value, cargo, free_port, own_command, repository};
use pretty_assertions::assert_eq;

/// How long to wait for a line of the log.
const TIMEOUT: Duration = Duration::from_secs(20);

fn start(args: &[&str]) -> Server {
    let latest: &'static str = Stage::all().last().expect("there are stages").name().leak();
    let server = Server::start_own_with_args(latest, args);
    let server = server.unwrap_or_else(|failure| panic!("{failure:?}"));
    server.connect().unwrap_or_else(|failure| panic!("{failure:?}"));
    server
}

/// The status of the answer to a request with these header lines.
fn status(server: &Server, path: &str, lines: &[&str]) -> u16 {
    let request =
        lines.iter().fold(server.request("GET", path), |request, line| request.header(line));
    request.send().answer().unwrap_or_else(|failure| panic!("{failure:?}")).status
}

/// The first line of the log in which this text occurs, as JSON.
fn entry(server: &Server, text: &str) -> Value {
    let start = Instant::now();
    loop {
        let output = server.output();
        if let Some(line) = output.lines().find(|line| line.contains(text)) {
            return serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(start.elapsed() < TIMEOUT, "no line of the log has {text}:\n{output}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_trusted_proxy_says_who_asks() {
    let server = start(&["--log", "json", "--trusted-proxy", "127.0.0.0/8", "--rate", "1"]);
    let from = |address: &str| format!("X-Forwarded-For: 198.51.100.9, {address}");
    let ask = |path: &str, lines: &[&str]| status(&server, path, lines);
    assert_eq!(ask("/echo/a", &[&from("192.0.2.1"), "X-Request-Id: proxy-7"]), 200);
    assert_eq!(ask("/echo/b", &[&from("192.0.2.1")]), 429); // the same client
    assert_eq!(ask("/echo/c", &[&from("192.0.2.2"), "X-Request-Id: not an id"]), 200); // another one
    assert_eq!(ask("/echo/d", &["Forwarded: for=\"[2001:db8::1]\"", &from("192.0.2.1")]), 200);
    let first = entry(&server, "/echo/a");
    assert_eq!((&first["client"], &first["request_id"]), (&"192.0.2.1".into(), &"proxy-7".into()));
    assert!(first["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    let third = entry(&server, "/echo/c");
    assert_eq!(third["client"], "192.0.2.2");
    assert_ne!(third["request_id"], "not an id");
    assert_eq!(entry(&server, "/echo/d")["client"], "2001:db8::1");
}

#[test]
fn without_trust_a_header_is_only_a_header() {
    let server = start(&["--log", "json", "--trusted-proxy", "192.0.2.0/24", "--rate", "1"]);
    let lines = ["X-Forwarded-For: 192.0.2.1", "X-Request-Id: mine"];
    assert_eq!(status(&server, "/echo/a", &lines), 200);
    assert_eq!(status(&server, "/echo/b", &["X-Forwarded-For: 192.0.2.2"]), 429);
    let first = entry(&server, "/echo/a");
    assert_eq!(first["client"], "127.0.0.1");
    assert_ne!(first["request_id"], "mine");
}

#[test]
fn what_never_reaches_a_handler_has_a_line_too() {
    let server = start(&["--log", "json"]);
    for (request, expected) in [
        (&b"GET /refused-1 HTTP/1.1\r\n\r\n"[..], 400),
        (b"BREW /refused-2 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET /refused-3\" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01 refused-4 \xff\x1b[2J\r\n\r\n", 400),
    ] {
        let answer = server.send(request).answer().unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(answer.status, expected);
        assert!(answer.header("X-Request-Id").is_some());
    }
    for (text, status) in
        [("refused-1", 400), ("refused-2", 501), ("refused-3", 400), ("refused-4", 400)]
    {
        let entry = entry(&server, text);
        assert_eq!(entry["status"], status);
        assert!(entry["error"].is_string(), "{entry}");
    }
    assert!(entry(&server, "serving on")["message"].is_string());
    status(&server, "/fail", &[]);
    assert_eq!(entry(&server, "\"/fail\"")["status"], 500);
    assert!(entry(&server, "on purpose")["message"].is_string());
}

#[test]
fn the_line_of_a_download_says_what_became_of_it() {
    let server = start(&["--log", "json"]);
    let file = server.directory().join("large");
    std::fs::write(file, vec![b'x'; 20_000_000]).expect("writable");
    assert_eq!(status(&server, "/files/large?whole", &[]), 200);
    assert_eq!(entry(&server, "/files/large?whole")["bytes"], 20_000_000);
    let mut client = server.connect().unwrap_or_else(|failure| panic!("{failure:?}"));
    client.send(b"GET /files/large?broken HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    client.wait_for_more(TIMEOUT).expect("the answer begins");
    client.reset();
    let broken = entry(&server, "/files/large?broken");
    assert_eq!((&broken["status"], &broken["bytes"]), (&200.into(), &Value::Null));
    assert!(broken["error"].is_string(), "{broken}");
}

#[test]
fn what_cannot_be_meant_is_refused_at_the_start() {
    for (args, sentence) in [
        (&["--allow-origin", "*", "--allow-credentials"][..], "name the origins"),
        (&["--allow-origin", "null"], "write it as browsers do"),
        (&["--allow-origin", "http://a.example/"], "write it as browsers do"),
        (&["--trusted-proxy", "localhost"], "is no address"),
        (&["--rate", "0"], "--rate"),
        (&["--log", "xml"], "--log"),
    ] {
        let latest: &'static str = Stage::all().last().expect("there are stages").name().leak();
        let server = Server::start_own_with_args(latest, args);
        let server = server.unwrap_or_else(|failure| panic!("{failure:?}"));
        let failure =
            server.connect().err().map(|failure| format!("{failure:?}")).unwrap_or_default();
        assert!(failure.contains(sentence), "{args:?}: {failure}");
    }
}

/// The answer to a request on a connection of its own, as text.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers, and closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_program_of_twenty_lines_has_it_all() {
    let built = cargo(&["build", "--quiet", "--package", "json", "--example", "app"]);
    built.unwrap_or_else(|said| panic!("{said}"));
    let stage = own_command("stage19").unwrap_or_else(|failure| panic!("{failure:?}"));
    let program = Path::new(stage.get_program()).with_file_name("examples").join("app");
    let port = free_port();
    let mut command = Command::new(program);
    command.env("PORT", port.to_string()).current_dir(repository());
    let _running = Background::start(&mut command, port).expect("it starts");
    let get = |path: &str, lines: &str| {
        ask(port, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"))
    };
    assert!(get("/hello/Ann", "").ends_with("Hello, Ann."));
    assert!(get("/search?word=a&word=b+c", "").ends_with(r#"{"words":["a","b c"]}"#));
    let page = get("/book/17-router.md", "");
    assert!(page.contains("Content-Type: text/markdown") && page.contains("# Stage 17"), "{page}");
    let tag = page.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a tag");
    assert!(get("/book/17-router.md", &format!("If-None-Match: {tag}\r\n")).contains(" 304 "));
    assert!(get("/book/../README.md", "").contains(" 404 "));
    assert!(get("/book/%2e%2e/README.md", "").contains(" 404 "));
    assert!(get("/book/other-languages", "").contains("Location: /book/other-languages/\r\n"));
    assert!(get("/data", "Origin: http://localhost:3000\r\n").contains("Allow-Origin: http://loc"));
    let post = |body: &str| {
        let length = body.len();
        let head = "POST /orders HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json";
        ask(port, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    assert!(post(r#"{"item": "tea"}"#).ends_with("\"tea\""));
    assert!(post("{").contains("application/problem+json"));
}
