//! What stage 12 accepts, and what two servers accept that people trust: nginx, as a proxy, and hyper.
//! Sends each request of requests.txt to all of them and prints the answers side by side.
//!
//! Fails if stage 12 accepts something that one of them does not, unless docs/strict.md says why, and
//! if that chapter has reasons that nobody needs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{cargo, repository};
use tempfile::TempDir;

const REQUESTS: &str = include_str!("requests.txt");

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for more answers after one.
const SILENCE: Duration = Duration::from_millis(300);

/// Longer than any server takes to start.
const TIME_TO_START: Duration = Duration::from_secs(10);

struct Server {
    name: &'static str,
    port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request: what it is about, and its bytes.
struct Request {
    title: &'static str,
    bytes: Vec<u8>,
}

/// What came back.
struct Outcome {
    statuses: Vec<u16>,
    is_closed: bool,
}

fn main() -> ExitCode {
    let requests: Vec<_> = REQUESTS.lines().filter_map(Request::parse).collect();
    let directory = TempDir::new().expect("a temporary directory");
    let servers = start(directory.path());
    let outcomes = ask(&servers, &requests);
    let names: Vec<_> = servers.iter().map(|server| server.name).collect();
    println!("| request | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (request, outcomes) in requests.iter().zip(&outcomes) {
        println!("{}", row(request, outcomes));
    }
    let titles = |is_wanted: fn(usize, &[usize]) -> bool| -> BTreeSet<_> {
        let wanted = requests.iter().zip(&outcomes).filter(|(_, outcomes)| {
            let accepted: Vec<_> = outcomes.iter().map(Outcome::accepted).collect();
            is_wanted(accepted[0], &accepted[1..])
        });
        wanted.map(|(request, _)| request.title).collect()
    };
    let laxer = titles(|ours, others| others.iter().any(|&theirs| theirs < ours));
    let stricter = titles(|ours, others| others.iter().all(|&theirs| theirs > ours));
    println!("\nlaxer than one of them: {laxer:?}\n\nstricter than both: {stricter:?}");
    if servers.len() < 3 {
        return ExitCode::SUCCESS; // there is too little to compare the chapter with
    }
    let rows: Vec<_> = requests.iter().zip(&outcomes).map(|(it, they)| row(it, they)).collect();
    let complaints = complaints(&laxer, &rows);
    eprint!("{}", complaints.concat());
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What each server answers to each request, all servers at the same time.
fn ask(servers: &[Server], requests: &[Request]) -> Vec<Vec<Outcome>> {
    let mut outcomes: Vec<_> = requests.iter().map(|_| Vec::new()).collect();
    thread::scope(|scope| {
        let ask = |port| requests.iter().map(|it| it.send(port)).collect::<Vec<_>>();
        let threads: Vec<_> =
            servers.iter().map(|server| scope.spawn(move || ask(server.port))).collect();
        for thread in threads {
            let of_one = thread.join().expect("no client panics");
            outcomes.iter_mut().zip(of_one).for_each(|(all, one)| all.push(one));
        }
    });
    outcomes
}

fn row(request: &Request, outcomes: &[Outcome]) -> String {
    let cells: Vec<_> = outcomes.iter().map(Outcome::to_string).collect();
    format!("| {} | {} |", request.title, cells.join(" | "))
}

/// What is wrong in the chapter: it must have a reason for all that we accept and others do not, none
/// for anything else, and the answers that it shows must be these.
fn complaints(laxer: &BTreeSet<&str>, rows: &[String]) -> Vec<String> {
    let chapter = fs::read_to_string(repository().join("docs/strict.md")).unwrap_or_default();
    let table = |heading: &str| {
        let lines = chapter.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
        lines.take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
    };
    let title = |row: &&str| row.split('|').nth(1).unwrap_or_default().trim().to_owned();
    let explained: Vec<_> = table("| we accept").iter().map(title).collect();
    let unexplained = laxer.iter().filter(|title| !explained.iter().any(|it| it == *title));
    let needless = explained.iter().filter(|title| !laxer.contains(title.as_str()));
    let shown = table("| request ");
    let outdated = shown.iter().filter(|row| !rows.iter().any(|it| it == *row));
    unexplained
        .map(|title| format!("docs/strict.md does not say why we accept this: {title}\n"))
        .chain(needless.map(|it| format!("docs/strict.md has a reason that nobody needs: {it}\n")))
        .chain(outdated.map(|row| format!("docs/strict.md shows other answers: {row}\n")))
        .collect()
}

/// Starts ours, hyper, and nginx if it is installed.
fn start(directory: &Path) -> Vec<Server> {
    let built = cargo(&["build", "--workspace", "--bin", "stage12", "--bin", "rival-hyper"]);
    built.unwrap_or_else(|said| panic!("{said}"));
    let beside_this = |name| {
        let program = env::current_exe().expect("a program knows its name").with_file_name(name);
        Command::new(program.with_extension(env::consts::EXE_EXTENSION))
    };
    let mut servers = vec![
        run("stage 12", 14_400, beside_this("stage12"), directory),
        run("hyper", 14_401, beside_this("rival-hyper"), directory),
    ];
    fs::write(directory.join("nginx.conf"), NGINX).expect("it is writable");
    let mut nginx = Command::new("nginx");
    nginx.arg("-e").arg("stderr").arg("-p").arg(directory).arg("-c").arg("nginx.conf");
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok() {
        servers.push(run("nginx", 14_402, nginx, directory));
    } else {
        eprintln!("skipped, for want of it: nginx");
    }
    servers
}

fn run(name: &'static str, port: u16, mut command: Command, directory: &Path) -> Server {
    command.env("PORT", port.to_string());
    if name != "nginx" {
        command.arg("--directory").arg(directory);
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
    let server = Server { name, port, child };
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(start.elapsed() < TIME_TO_START, "{name} does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    server
}

/// nginx passes requests on, so that it reads their bodies; the second server answers them.
const NGINX: &str = "
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:14402;
        location / { proxy_pass http://127.0.0.1:14403; }
    }
    server {
        listen 127.0.0.1:14403;
        location / { return 200 ok; }
    }
}
";

impl Request {
    /// Parses a line of requests.txt; `None` if there is no request in it.
    fn parse(line: &'static str) -> Option<Request> {
        let (title, escaped) = line.split_once(" | ").filter(|_| !line.starts_with('#'))?;
        Some(Request { title, bytes: unescape(escaped) })
    }

    /// Sends it, and waits for what comes back.
    fn send(&self, port: u16) -> Outcome {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        let _ = stream.write_all(&self.bytes); // it may be refused before it is all there
        let mut answers = Vec::new();
        let is_closed = loop {
            let patience = if answers.is_empty() { PATIENCE } else { SILENCE };
            stream.set_read_timeout(Some(patience)).expect("not zero");
            let mut block = [0; 64 * 1024];
            match stream.read(&mut block) {
                Ok(0) => break true,
                Ok(count) => answers.extend_from_slice(&block[..count]),
                Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        };
        // No content has this in it.
        let text = String::from_utf8_lossy(&answers);
        let statuses =
            text.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)?.parse().ok());
        Outcome { statuses: statuses.collect(), is_closed }
    }
}

/// Replaces `\r`, `\n`, `\t`, `\0`, `\\`, `\xNN`, and `{text*times}`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((repeated, times, after)) = repetition(rest) {
            bytes.extend(unescape(repeated).repeat(times));
            rest = after;
        } else if let Some(hexadecimal) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&hexadecimal[..2], 16).expect("two digits"));
            rest = &hexadecimal[2..];
        } else if let Some(letter) = rest.strip_prefix('\\') {
            bytes.push(match letter.as_bytes()[0] {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                other => other,
            });
            rest = &letter[1..];
        } else {
            rest = &rest[first.len_utf8()..];
            bytes.extend_from_slice(first.to_string().as_bytes());
        }
    }
    bytes
}

/// The text, the number and what comes after them, if there is `{text*number}`.
fn repetition(text: &str) -> Option<(&str, usize, &str)> {
    let (inner, after) = text.strip_prefix('{')?.split_once('}')?;
    let (repeated, times) = inner.split_once('*')?;
    Some((repeated, times.parse().ok()?, after))
}

impl Outcome {
    /// How many requests were accepted.
    fn accepted(&self) -> usize {
        self.statuses.iter().filter(|&&status| (200..400).contains(&status)).count()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let statuses: Vec<_> = self.statuses.iter().map(u16::to_string).collect();
        let end = if self.is_closed { "closed" } else { "open" };
        match &statuses[..] {
            [] => write!(f, "nothing, {end}"),
            statuses => write!(f, "{}, {end}", statuses.join(" ")),
        }
    }
}
