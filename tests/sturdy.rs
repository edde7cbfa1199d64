//! Conditions of the system that must not stop a server, nor make it refuse clients without a reason: a log
//! that no program reads, an ignored signal, too few file descriptors, too little disk space.

#![cfg(target_os = "linux")] // the tests use signals, limits and /dev/full

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{free_port, own_command};
use tempfile::TempDir;

/// Longer than any step of these tests takes.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A server that was started by a shell, from which it inherits a limit or a signal setting.
struct Server {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Server {
    /// Starts a stage with these arguments, after a shell command such as `ulimit -n 256`.
    fn start(stage: &'static str, before: &str, args: &[&str]) -> Server {
        Server::start_with(stage, before, args, Stdio::null())
    }

    fn start_with(stage: &'static str, before: &str, args: &[&str], stderr: Stdio) -> Server {
        let program = own_command(stage).unwrap_or_else(|failure| panic!("{failure:?}"));
        let directory = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}\nexec \"$@\""), "sh"]).arg(program.get_program());
        if stage >= "stage07" {
            command.arg("--directory").arg(directory.path());
        }
        let child = command
            .args(args)
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("there is a shell");
        let server = Server { child, port, directory };
        wait_until(
            || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
            "the server listens",
        );
        server
    }

    fn connect(&self) -> TcpStream {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server listens");
        stream.set_read_timeout(Some(TIME_LIMIT)).expect("the timeout is not zero");
        stream.set_write_timeout(Some(TIME_LIMIT)).expect("the timeout is not zero");
        stream
    }

    /// Sends a request on a connection of its own, and returns the whole answer.
    fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(request.as_ref()); // the server may answer before it has read everything
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers and closes the connection");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// Asks the server to stop, and waits until it has ended.
    fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut status = None;
        wait_until(
            || {
                status = self.child.try_wait().expect("the server is a child process");
                status.is_some()
            },
            "the server ends",
        );
        status.expect("the server has ended")
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("the directory exists").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(mut is_so: impl FnMut() -> bool, what: &str) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIME_LIMIT, "still not true after a minute: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

const GET: &str = "GET /echo/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const STAYING: &str = "GET /echo/hello HTTP/1.1\r\nHost: a\r\n\r\n";

/// Reads one answer on a connection that stays open. Its body must be `hello`.
fn read_answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn an_unread_log_does_not_block() {
    for stage in ["stage06", "stage10", "stage13", "stage22"] {
        let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
        let mut server = Server::start_with(stage, "", &[], OwnedFd::from(writer).into());
        let stream = server.connect();
        if stage == "stage06" {
            for _ in 0..1_500 {
                assert!(server.ask(GET).ends_with("hello"));
            }
        } else {
            // Some megabytes of log, much more than a socket's buffer holds.
            let mut requests = stream.try_clone().expect("a second handle");
            let writing = thread::spawn(move || {
                let line =
                    format!("GET /echo/hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(400));
                (0..5_000).try_for_each(|_| requests.write_all(line.as_bytes()))
            });
            let mut stream = stream;
            for _ in 0..5_000 {
                read_answer(&mut stream).expect("each request is answered");
            }
            writing
                .join()
                .expect("the thread does not panic")
                .expect("the server reads all requests");
        }
        server.stop();
        drop(reader);
    }
}

#[test]
fn lines_that_were_dropped_are_counted() {
    let (mut reader, writer) = UnixStream::pair().expect("a pair of sockets");
    let mut server = Server::start_with("stage13", "", &[], OwnedFd::from(writer).into());
    let mut stream = server.connect();
    let request = format!("GET /echo/hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(400));
    for _ in 0..2_000 {
        stream.write_all(request.as_bytes()).expect("the server reads");
        read_answer(&mut stream).expect("each request is answered");
    }
    let reading = thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).map(|_| log)
    });
    let mut stream = server.connect();
    let mut asked = 0;
    // The server logs the number of dropped lines with the first line after the log is read again.
    wait_until(
        || {
            stream.write_all(STAYING.as_bytes()).expect("the server reads");
            read_answer(&mut stream).expect("the server answers");
            asked += 1;
            asked > 50
        },
        "the server still answers",
    );
    server.stop();
    let log = reading.join().expect("the thread does not panic").expect("the log is text");
    let counted: usize = log
        .lines()
        .filter_map(|line| {
            line.strip_suffix(" lines of this log were dropped")?.parse::<usize>().ok()
        })
        .sum();
    let written = log.lines().filter(|line| line.contains("\"GET /echo/hello")).count();
    assert!(
        counted > 0 && written + counted == 2_000 + asked,
        "{written} lines written, {counted} dropped"
    );
}

#[test]
fn what_was_ignored_stays_ignored() {
    for stage in ["stage06", "stage12", "stage13", "stage22"] {
        let mut server = Server::start(stage, "trap '' HUP", &[]);
        server.signal("HUP");
        for _ in 0..50 {
            assert!(server.ask(GET).ends_with("hello"), "{stage} is still running");
        }
        server.stop();
    }
}

#[test]
fn a_file_that_may_not_grow_is_the_error_of_one_upload() {
    for stage in ["stage08", "stage09", "stage10", "stage11", "stage12", "stage13", "stage22"] {
        let mut server = Server::start(stage, "ulimit -f 8", &[]); // 4 or 8 KiB, depending on the shell
        let body = "x".repeat(100_000);
        let answer = server.ask(format!(
            "POST /files/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n{body}"
        ));
        assert!(answer.starts_with("HTTP/1.1 507 "), "{stage}: {answer}");
        assert_eq!(server.files(), [""; 0], "{stage}");
        assert!(server.ask(GET).ends_with("hello"), "{stage}");
        server.stop();
    }
}

#[test]
fn a_log_file_that_may_not_grow_stops_nothing() {
    let log = tempfile::tempfile().expect("a temporary file");
    let mut server = Server::start_with("stage13", "ulimit -f 1", &[], log.into());
    for _ in 0..100 {
        assert!(server.ask(GET).ends_with("hello"));
    }
    server.stop();
}

#[test]
fn without_a_stdout_it_says_nothing_and_serves() {
    for stage in ["stage01", "stage06", "stage13", "stage22"] {
        for redirection in ["exec >&-", "exec >/dev/full"] {
            let program = own_command(stage).unwrap_or_else(|failure| panic!("{failure:?}"));
            let port = free_port();
            let mut child = Command::new("sh")
                .args(["-c", &format!("{redirection}\nexec \"$0\"")])
                .arg(program.get_program())
                .env("PORT", port.to_string())
                .stderr(Stdio::null())
                .spawn()
                .expect("there is a shell");
            wait_until(
                || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
                &format!("{stage} listens after {redirection}"),
            );
            child.kill().and_then(|()| child.wait()).expect("the server can be stopped");
        }
    }
}

#[test]
fn more_clients_than_descriptors_are_all_served() {
    let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
    let mut server =
        Server::start_with("stage13", "ulimit -n 256", &[], OwnedFd::from(writer).into());
    fs::write(server.directory.path().join("a"), "hello").expect("the file can be written");
    let mut clients: Vec<_> = (0..400).map(|_| server.connect()).collect();
    drop(clients.drain(..)); // they had sent no request, so the server may have evicted them
    while clients.len() < 400 {
        let mut client = server.connect();
        let request = "GET /files/a HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut status = [0; 12];
        let asked = client.write_all(request.as_bytes());
        match asked.and_then(|()| client.read_exact(&mut status)).map(|()| &status) {
            Ok(b"HTTP/1.1 200") => clients.push(client),
            Ok(b"HTTP/1.1 503") => {} // no client has been idle for long enough to be evicted
            Ok(_) => panic!("{}", status.escape_ascii()),
            // More clients are being refused at this moment than are told so.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server does not answer: {error}"),
        }
    }
    drop(clients);
    assert!(server.ask(GET).ends_with("hello"));
    server.stop();
    let log = io::read_to_string(reader).expect("the log is text");
    assert!(log.contains("serving 66 connections at most, not 400"), "{log}");
}

#[test]
fn a_stop_needs_no_descriptor() {
    for stage in ["stage12", "stage13", "stage22"] {
        let mut server = Server::start(stage, "ulimit -n 40", &["--max-connections", "400"]);
        let clients: Vec<_> = (0..60).map(|_| server.connect()).collect();
        server.stop();
        drop(clients);
    }
}

#[test]
fn many_clients_at_once_may_wait_to_be_accepted() {
    let mut server = Server::start("stage13", "", &[]);
    server.signal("STOP");
    let clients: Vec<_> = (0..1_000).map(|_| server.connect()).collect();
    server.signal("CONT");
    drop(clients);
    server.stop();
}

#[test]
fn a_paused_server_does_not_time_out_clients() {
    for stage in ["stage12", "stage13", "stage22"] {
        let mut server = Server::start(stage, "", &["--head-timeout", "1", "--idle-timeout", "1"]);
        let mut client = server.connect();
        client.write_all(b"GET /echo/hello HTTP/1.1\r\nHo").expect("the server reads");
        thread::sleep(Duration::from_millis(100)); // the server has probably read the bytes then
        server.signal("STOP");
        let start = Instant::now();
        wait_until(|| start.elapsed() > Duration::from_secs(2), "the timeouts have passed");
        client.write_all(b"st: a\r\n\r\n").expect("the system accepts the bytes");
        server.signal("CONT");
        let answer = read_answer(&mut client).expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{stage}: {answer}");
        server.stop();
    }
}

#[test]
fn an_idle_client_leaves_its_place_to_a_new_one() {
    let long_timeouts = ["--max-connections", "3", "--idle-timeout", "600"];
    let mut server = Server::start("stage13", "", &long_timeouts);
    let ask_and_stay = |client: &mut TcpStream| {
        client.write_all(STAYING.as_bytes()).expect("the server reads");
        read_answer(client).expect("the server answers");
    };
    let mut idle = server.connect();
    let mut others = [server.connect(), server.connect()];
    ask_and_stay(&mut idle);
    // The others keep asking, so that `idle` is the one who has been idle longest, however slow the server is.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        others.iter_mut().for_each(ask_and_stay);
    }
    let is_room = || {
        others.iter_mut().for_each(ask_and_stay);
        server.ask(GET).starts_with("HTTP/1.1 200 ")
    };
    wait_until(is_room, "there is room for one more client");
    assert_eq!(idle.read(&mut [0]).expect("the server closed the connection"), 0);
    others.iter_mut().for_each(ask_and_stay);
    server.stop();
}

#[test]
fn a_large_answer_arrives_whatever_the_client_still_says() {
    for stage in ["stage07", "stage10", "stage11", "stage12", "stage13", "stage22"] {
        let mut server = Server::start(stage, "", &[]);
        fs::write(server.directory.path().join("a"), vec![b'x'; 3_000_000])
            .expect("the file can be written");
        let mut client = server.connect();
        let request = "GET /files/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).expect("the server reads");
        client.read_exact(&mut [0; 1_000]).expect("the server answers");
        client.write_all(b"\r\n").expect("the server still reads");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap_or_else(|error| panic!("{stage}: {error}"));
        assert!(rest.len() > 2_999_000, "{stage}: only {} bytes have arrived", rest.len());
        server.stop();
    }
}

#[test]
fn what_was_answered_before_a_stop_is_sent() {
    let mut server = Server::start("stage13", "", &[]);
    let mut client = server.connect();
    let upload = "POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh";
    client.write_all(format!("{STAYING}{STAYING}{upload}").as_bytes()).expect("the server reads");
    read_answer(&mut client).expect("the server answers");
    server.signal("TERM");
    wait_until(
        || TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).is_err(),
        "the server accepts no more clients",
    );
    client.write_all(b"i").expect("the server still reads");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("the server answers and closes the connection");
    assert_eq!(rest.matches("HTTP/1.1 200 ").count(), 1, "{rest}");
    assert!(rest.contains("HTTP/1.1 201 ") && rest.contains("Connection: close"), "{rest}");
    server.stop();
}

#[test]
fn what_a_killed_server_has_left_is_removed_by_the_next() {
    let mut server = Server::start("stage13", "", &[]);
    let root = server.directory.path().to_owned();
    fs::create_dir(root.join("sub")).expect("the file can be written");
    for name in ["a", "sub/a"] {
        let mut client = server.connect();
        let upload = format!(
            "POST /files/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        );
        client.write_all(upload.as_bytes()).expect("the server reads");
        client.read_exact(&mut [0; 25]).expect("the server answers 100 Continue");
        client.write_all(b"half").expect("the server reads");
        wait_until(
            || has_upload(root.join(name).parent().expect("a directory")),
            "the upload has begun",
        );
        client.shutdown(Shutdown::Read).expect("the client is connected");
        std::mem::forget(client); // the connection must not close before the server is killed
    }
    server.child.kill().and_then(|()| server.child.wait()).expect("the server can be killed");
    assert!(has_upload(&root) && has_upload(&root.join("sub")));
    let program = own_command("stage13").unwrap_or_else(|failure| panic!("{failure:?}"));
    let port = free_port();
    let child = Command::new(program.get_program())
        .arg("--directory")
        .arg(&root)
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server can be started");
    let mut next =
        Server { child, port, directory: TempDir::new().expect("a temporary directory") };
    wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(), "the server listens");
    assert!(!has_upload(&root), "the next server removes uploads when it starts");
    let upload =
        "POST /files/sub/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
    assert!(next.ask(upload).starts_with("HTTP/1.1 201 "));
    assert!(
        !has_upload(&root.join("sub")),
        "the next server removes uploads in a folder when it stores there"
    );
    next.stop();
}

fn has_upload(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).expect("the directory exists").flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".upload-"))
}

#[test]
fn a_name_that_is_no_text_is_found_and_stored_byte_for_byte() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for stage in
        ["stage07", "stage08", "stage09", "stage10", "stage11", "stage12", "stage13", "stage22"]
    {
        let mut server = Server::start(stage, "", &[]);
        let path = server.directory.path().join(OsStr::from_bytes(b"caf\xe9"));
        fs::write(&path, "hello").expect("the file can be written");
        let get = "GET /files/caf%E9 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(server.ask(get).ends_with("\r\n\r\nhello"), "{stage}");
        for target in ["/files%2Fcaf%E9", "/files/sub%2F..%2Fcaf%E9"] {
            let get = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert!(server.ask(get).starts_with("HTTP/1.1 404 "), "{stage}: {target}");
        }
        if stage > "stage07" {
            let post = "POST /files/caf%E9 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                        Content-Length: 3\r\n\r\nnew";
            assert!(server.ask(post).starts_with("HTTP/1.1 201 "), "{stage}");
            assert_eq!(fs::read(&path).expect("the file exists"), b"new", "{stage}");
        }
        server.stop();
    }
}
