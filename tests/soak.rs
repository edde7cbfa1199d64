//! A server under random clients for a while: slow ones, broken ones, those who ask for many things at once, who upload,
//! watch, or leave. No answer is mixed up, memory and descriptors do not grow, and a stop in the middle of it loses nothing
//! that was answered. This command takes five minutes:
//!
//! ```text
//! SOAK=300 cargo test --test soak -- --nocapture
//! ```
//!
//! Without `SOAK`, it takes some seconds. It looks at stage 22, or at the server in `SERVER`.

#![cfg(target_os = "linux")] // which shows in files what a process has

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Value, free_port, own_command};
use tempfile::TempDir;

/// How many clients there are at a time.
const CLIENTS: u64 = 12;

/// Longer than anything takes, on a machine that does much else.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The length of the file that is read slowly.
const LARGE: usize = 3_000_000;

/// How many times it is looked at what the server has, when all clients have left.
const PARTS: u64 = 4;

/// How many records a client has at most: what is stored takes memory, and is not what is looked for.
const RECORDS: usize = 50;

/// How much more memory a server may have at the end than after the first part, in KiB.
const MEMORY: u64 = 3_000;

/// How many more descriptors: files that were sent recently may be kept open.
const DESCRIPTORS: usize = 32;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(directory: &Path) -> Server {
        let mut command = match env::var("SERVER") {
            Ok(line) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exec {line} \"$@\""), "sh"]);
                command.current_dir(harness::repository());
                command
            }
            Err(_) => own_command("stage22").unwrap_or_else(|failure| panic!("{failure:?}")),
        };
        let port = free_port();
        command.arg("--directory").arg(directory.join("files"));
        command.arg("--store").arg(directory.join("store")).args(["--log", "off"]);
        command.env("PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: command.spawn().expect("it can be started"), port };
        wait_until("the server listens", || server.connect().is_ok());
        server
    }

    fn connect(&self) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    /// The memory that it has, in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.file("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib.expect("the line is there")
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(self.file("fd")).expect("it runs").count()
    }

    /// Waits until all clients have gone, and says what the server has then.
    fn quiet(&self, least: usize) -> (u64, usize) {
        wait_until("those who have left are forgotten", || self.descriptors() <= least);
        (self.memory(), self.descriptors())
    }

    fn ask_to_stop(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("there is kill").success());
    }

    /// Waits until it has ended, and ended well.
    fn wait(mut self) {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIMEOUT, "still not so after {TIMEOUT:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

/// The status of an answer, and its body.
type Answer = (u16, Vec<u8>);

impl Client {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// The status of the next answer, and the length of its body.
    fn head(&mut self) -> io::Result<(u16, usize)> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let status = line.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{line:?} is no status line"));
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", digits)) => length = digits.parse().expect("a length"),
                Some(_) => {}
                None => return Ok((status, length)),
            }
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let (status, length) = self.head()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }
}

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn pause(&mut self) {
        thread::sleep(Duration::from_millis(self.below(8)));
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let (length, seed) = (self.below(most), self.below(251));
        (0..length).map(|at| ((at * 31 + seed) % 256) as u8).collect()
    }
}

/// What the server has said yes to.
#[derive(Default)]
struct Promised {
    /// The content of files, by their name. Two contents are possible while an upload has had no answer.
    files: HashMap<String, Vec<Vec<u8>>>,
    /// The content of records, by their path; `None` while their removal has had no answer.
    records: HashMap<String, Option<String>>,
}

/// One of the clients, who are several people one after another.
struct Soaking<'s> {
    server: &'s Server,
    random: Random,
    number: u64,
    names: u64,
    promised: Promised,
    answers: &'s AtomicU64,
}

impl Soaking<'_> {
    /// A name that no other request has.
    fn name(&mut self) -> String {
        self.names += 1;
        format!("client-{}-request-{}", self.number, self.names)
    }

    fn count(&self, answers: u64) {
        self.answers.fetch_add(answers, Ordering::Relaxed);
    }

    /// Is somebody else for a moment.
    fn act(&mut self) -> io::Result<()> {
        match self.random.below(9) {
            0 => self.ask_one_by_one(),
            1 => self.ask_at_once(),
            2 => self.ask_slowly(),
            3 => self.upload(),
            4 => self.break_off_an_upload(),
            5 => self.leave(),
            6 => self.talk_nonsense(),
            7 => self.read_slowly(),
            _ => self.add_records(),
        }
    }

    fn ask_one_by_one(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        for _ in 0..=self.random.below(20) {
            let name = self.name();
            assert_eq!(client.get(&format!("/echo/{name}"))?, (200, name.into_bytes()));
            self.count(1);
        }
        Ok(())
    }

    fn ask_at_once(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        let names: Vec<_> = (0..=self.random.below(60)).map(|_| self.name()).collect();
        let request = |name| format!("GET /echo/{name} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(names.iter().map(request).collect::<String>().as_bytes())?;
        self.count(names.len() as u64);
        for name in names {
            assert_eq!(client.answer()?, (200, name.into_bytes()));
        }
        Ok(())
    }

    fn ask_slowly(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        let name = self.name();
        let body = format!("GET /echo/{name} HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n");
        for piece in body.as_bytes().chunks(1 + self.random.below(30) as usize) {
            client.send(piece)?;
            self.random.pause();
        }
        assert_eq!(client.answer()?, (200, name.into_bytes()));
        self.count(1);
        Ok(())
    }

    /// Uploads a file, with a length or in chunks, and reads it again.
    fn upload(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        let name = format!("{}-{}", self.number, self.random.below(4));
        let content = self.random.bytes(200_000);
        let head = format!("POST /files/{name} HTTP/1.1\r\nHost: a\r\n");
        // If the answer does not come, nobody knows which of both it is.
        self.promised.files.entry(name.clone()).or_default().push(content.clone());
        if self.random.below(2) == 0 {
            client.send(format!("{head}Content-Length: {}\r\n\r\n", content.len()).as_bytes())?;
            client.send(&content)?;
        } else {
            client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            for chunk in content.chunks(1 + self.random.below(50_000) as usize) {
                client.send(
                    &[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat(),
                )?;
            }
            client.send(b"0\r\n\r\n")?;
        }
        assert_eq!(client.answer()?.0, 201);
        self.promised.files.insert(name.clone(), vec![content.clone()]);
        assert!(client.get(&format!("/files/{name}"))? == (200, content), "{name} has changed");
        self.count(2);
        Ok(())
    }

    /// Leaves in the middle of an upload. The file stays as it was.
    fn break_off_an_upload(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        let name = format!("{}-{}", self.number, self.random.below(4));
        let head =
            format!("POST /files/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
        client.send(head.as_bytes())?;
        client.send(&self.random.bytes(200_000))?;
        drop(client);
        self.random.pause();
        let answer = self.server.connect()?.get(&format!("/files/{name}"))?;
        match self.promised.files.get(&name) {
            None => assert_eq!(answer.0, 404),
            Some(contents) => assert!(contents.contains(&answer.1), "{name} has changed"),
        }
        self.count(1);
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        if self.random.below(2) == 0 {
            client.send(b"GET /data/events HTTP/1.1\r\nHost: a\r\n\r\n")?;
            self.random.pause();
        } else {
            client.send(
                &b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n"[..self.random.below(30) as usize],
            )?;
        }
        self.random.pause();
        Ok(())
    }

    fn talk_nonsense(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        client.send(
            [&b"\x16\x03\x01"[..], b"GET  /\r\n\r\n", b" : \n"][self.random.below(3) as usize],
        )?;
        assert_eq!(client.answer()?.0, 400);
        self.count(1);
        Ok(())
    }

    fn read_slowly(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        client.send(b"GET /files/large HTTP/1.1\r\nHost: a\r\n\r\n")?;
        assert_eq!(client.head()?, (200, LARGE));
        let most = self.random.below(LARGE as u64) as usize;
        let mut piece = vec![0; 100_000];
        let mut count = 0;
        while count < most {
            self.random.pause();
            let read = client.stream.read(&mut piece)?;
            assert!(read > 0 && piece[..read].iter().all(|byte| *byte == b'l'));
            count += read;
        }
        self.count(1);
        Ok(()) // perhaps before the end
    }

    fn add_records(&mut self) -> io::Result<()> {
        let mut client = self.server.connect()?;
        for _ in 0..=self.random.below(3) {
            let body = format!("{{\"name\":\"{}\"}}", self.name());
            let head = "POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length";
            client.send(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes())?;
            let (status, record) = client.answer()?;
            let record = String::from_utf8_lossy(&record).into_owned();
            assert_eq!(status, 201, "{record}");
            let parsed: Value = serde_json::from_str(&record).expect("it is JSON");
            let path = format!("/data/{}", parsed["id"]);
            let whole = format!("{{\"data\":{body},\"id\":{}}}", parsed["id"]);
            self.promised.records.insert(path, Some(whole));
            self.count(1);
        }
        while let Some(path) = self.promised.records.keys().next().cloned() {
            if self.promised.records.len() <= RECORDS {
                break;
            }
            self.remove_record(&mut client, &path)?;
        }
        Ok(())
    }

    fn remove_record(&mut self, client: &mut Client, path: &str) -> io::Result<()> {
        self.promised.records.insert(path.to_owned(), None);
        client.send(format!("DELETE {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
        assert_eq!(client.answer()?.0, 204);
        self.promised.records.remove(path);
        assert_eq!(client.get(path)?.0, 404);
        self.count(2);
        Ok(())
    }
}

/// Lets all clients act until `is_over`, and returns what they have been promised. Errors of a connection are right when the
/// server has been asked to stop, and only then.
fn soak(
    server: &Server,
    mut before: Vec<Promised>,
    round: u64,
    (answers, may_break): (&AtomicU64, &AtomicBool),
    is_over: &(dyn Fn() -> bool + Sync),
) -> Vec<Promised> {
    before.resize_with(CLIENTS as usize, Promised::default);
    thread::scope(|scope| {
        let clients = (1u64..).zip(before).map(|(number, promised)| {
            scope.spawn(move || {
                let random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round);
                let names = round * 1_000_000_000;
                let mut client = Soaking { server, random, number, names, promised, answers };
                while !is_over() {
                    if let Err(error) = client.act() {
                        assert!(may_break.load(Ordering::Acquire), "client {number}: {error}");
                        break;
                    }
                }
                client.promised
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().expect("no client fails")).collect()
    })
}

/// Compares what is there with what was promised.
fn expect_all(server: &Server, promised: &[Promised]) {
    let mut client = server.connect().expect("it listens");
    let mut get = |path: &str| client.get(path).expect("it answers");
    let mut count = 0;
    for promised in promised {
        for (path, record) in &promised.records {
            let (status, content) = get(path);
            match record {
                Some(record) => assert_eq!((status, content), (200, record.clone().into_bytes())),
                None => assert!(status == 200 || status == 404, "{path}"),
            }
        }
        for (name, contents) in &promised.files {
            let (status, content) = get(&format!("/files/{name}"));
            let is_unanswered = contents.len() == 1 && status == 404;
            assert!(contents.contains(&content) || is_unanswered, "{name} has changed");
        }
        count += promised.records.len() + promised.files.len();
    }
    println!("after a stop and a new start, {count} files and records are as promised");
}

#[test]
fn a_server_endures() {
    let seconds = env::var("SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let directory = TempDir::new().expect("a temporary directory");
    fs::create_dir(directory.path().join("files")).expect("it is writable");
    fs::write(directory.path().join("files/large"), vec![b'l'; LARGE]).expect("it is writable");
    let server = Server::start(directory.path());
    let at_first = server.descriptors() + DESCRIPTORS;
    let (answers, may_break) = (AtomicU64::new(0), AtomicBool::new(false));
    let shared = (&answers, &may_break);
    let part = |number: u64, share: f64, promised: Vec<Promised>| {
        let end = Instant::now() + Duration::from_secs_f64(seconds * share);
        let promised = soak(&server, promised, number, shared, &|| Instant::now() >= end);
        let (memory, descriptors) = server.quiet(at_first);
        let sum = answers.load(Ordering::Relaxed);
        println!("{sum} answers: {memory} KiB of memory, {descriptors} descriptors");
        (promised, memory)
    };
    let (mut promised, mut memory) = (Vec::new(), Vec::new());
    for number in 1..=PARTS {
        let (next, used) = part(number, 1.0 / PARTS as f64, promised);
        promised = next;
        memory.push(used);
    }
    // After the first part, all has happened that happens once.
    assert!(memory[PARTS as usize - 1] <= memory[0] + MEMORY, "{memory:?} KiB");
    // A stop in the middle of it.
    let wanted = answers.load(Ordering::Relaxed) + 500;
    let promised = thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("clients are busy again", || answers.load(Ordering::Relaxed) >= wanted);
            may_break.store(true, Ordering::Release);
            server.ask_to_stop();
        });
        soak(&server, promised, PARTS + 1, shared, &|| false)
    });
    server.wait();
    expect_all(&Server::start(directory.path()), &promised);
}
